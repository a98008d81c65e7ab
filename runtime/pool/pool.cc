// WorkerPool: worklist, counts, wake-ups, and the view that detectors have of it.

#include "runtime/pool/pool.h"

#include <sys/mman.h>

#include "runtime/base/test_point.h"
#include "runtime/platform/stats_page.h"
#include "runtime/pool/invariants.h"
#include "runtime/pool/pwq_base.h"
#include "runtime/pool/work_link.h"

namespace cmwq::pool {
namespace {

// Zero pages, touched when used: an array for thousands of workers costs nothing until they exist.
void* ZeroPages(size_t bytes) {
  const long p = base::Sys(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CMWQ_CHECK_OP(p, >, 0);
  return reinterpret_cast<void*>(p);
}

using work::WorkOf;

platform::StatsPool* RowOf(uint32_t id, platform::StatsPool* own) {
  platform::StatsPool* const row = platform::g_stats_page.PoolRow(id);
  return row != nullptr ? row : own;
}

}  // namespace

// See core: a forked child has to bring back the event thread and the rescuers before its first pool.
constinit Callback g_before_live = nullptr;

WorkerPool::WorkerPool(const Attrs& attrs, platform::Env* env, platform::EventThread* events,
                       const base::Conf* conf, int base_nice)
    : base_nice_(base_nice),
      env_(env),
      events_(events),
      conf_(conf),
      leak_check_(conf->leak_check != 0),
      audited_(conf->switches != base::kSwitchesOff),
      next_sample_(conf->stats != 0 ? 1 : 0),
      words_(static_cast<StateWord*>(ZeroPages(sizeof(StateWord) * conf->max_workers))),
      slots_(static_cast<std::atomic<Worker*>*>(
          ZeroPages(sizeof(std::atomic<Worker*>) * conf->max_workers))),
      trustee_calls_{{}, {{0, nullptr, nullptr, nullptr, &TrusteeLookFire}, this}},
      manage_timer_{{0, nullptr, nullptr, nullptr, &ManageFire}, this},
      cull_timer_{{0, nullptr, nullptr, nullptr, &CullFire}, this},
      row_(RowOf(attrs.id, &own_row_)) {
#if defined(CMWQ_TEST_POINTS)
  base::g_verify.store(&VerifyAtTestPoint, std::memory_order_release);  // pairs with AtTestPoint
#endif
  fail_worker_.word = &fail_word_;
  fail_worker_.is_rescuer = fail_worker_.fails = true;
  fail_worker_.pool = this;
  watch_.tick.pool = watch_.stall.pool = trustee_calls_.soon.pool = this;
  trustee_calls_.soon.soon.timer.fire = &TrusteeSoonFire;
  watch_.tick.soon.timer.fire = &TickFire;
  watch_.tick.soon.align_ns = conf->tick_ms * base::kNsPerMs;
  watch_.stall.soon.timer.fire = &StallFire;
  sync::MutexLock place(attach);
  sync::MutexLock hold(lock);
  SetAttrs(attrs);
}

void WorkerPool::SetAttrs(const Attrs& attrs) {
  attrs_ = attrs;
  if (attrs.cpu >= 0) {
    where_ = place_ = platform::CpuSet::Of(attrs.cpu);
    return;
  }
  where_ = place_ = attrs.strict ? attrs.pod : attrs.mask;
  steers_ = !place_.SubsetOf(attrs.pod);
}

void WorkerPool::AddUser() {
  // The last thread left with the last user: the next item needs a first worker again.
  if (nr_users_++ == 0 && nr_workers_ == 0 && !managing_) BeginAnew();
}

// The next item needs a first worker.
void WorkerPool::BeginAnew() {
  served_.store(false, std::memory_order_relaxed);
  tried_ = false;
  going_live_.store(false, std::memory_order_relaxed);
}

void WorkerPool::DropUser() {
  CMWQ_ASSERT(nr_users_ > 0);
  if (--nr_users_ == 0) LetIdleGo();
}

void WorkerPool::LetIdleGo() {
  while (base::ListNode* const node = idle_list_.front()) {
    Worker* const w = base::ListOwner<Worker>(node, offsetof(Worker, entry));
    LeaveIdle(w);
    --nr_workers_;
    ++stats_.destroyed;
    w->die = true;
    Wake(w);
  }
}

void WorkerPool::Reuse(const Attrs& attrs) {
  CMWQ_ASSERT(Reusable() && attrs.id == attrs_.id);
  SetAttrs(attrs);
  next_create_ns_ = 0;
}

bool WorkerPool::GoLiveSlow() {
  if (!going_live_.load(std::memory_order_relaxed) && g_before_live != nullptr) g_before_live();
  CMWQ_TEST_POINT("pool.go_live");
  // One caller brings the pool up. The others wait those microseconds: an item queued to a pool that then
  // gets no worker would have to wait until a thread can be made. Meanwhile the pool may lose its users
  // and begin again, if the caller's queue no longer uses it: then any of those who wait does it anew.
  for (;; base::SchedYield()) {
    sync::MutexLock hold(lock);
    if (tried_) return served();
    if (going_live_.load(std::memory_order_relaxed)) continue;
    // With the role, in one section: AddUser does not begin anew while somebody creates.
    going_live_.store(true, std::memory_order_relaxed);
    HoldRole(true, nullptr);
    break;
  }
  const bool created = CreateWorker(true);
  if (!created) ArmManageTimer();  // the role stays with the event thread
  FindDetector();  // after the worker: if the system grants one thread more, it must be that one
  return created;
}

// Context: GoLive, then the event thread; may be asked twice. May create a thread. Locks: none held.
void WorkerPool::FindDetector() {
  if (!bound() || disassociated() || detector_.load(std::memory_order_relaxed) != nullptr) return;
  BlockingSource* const detector = AttachDetector(attrs_.cpu, this);
  detector_.store(detector, std::memory_order_release);  // pairs with the load in ArmDetector
  sync::MutexLock hold(lock);
  if (nr_pending_ > 0) ArmDetector();  // for what began without it
}

void WorkerPool::ArmDetector() {
  if (disassociated()) return;  // nobody counts
  BlockingSource* const detector = detector_.load(std::memory_order_acquire);  // pairs: FindDetector
  if (detector != nullptr) detector->Arm();
}

Worker* WorkerPool::Insert(base::ListNode* node, base::ListNode* where) {
  base::ListInsertBefore(where, node);
  WorkOf(node)->on_worker_ = nullptr;
  if (nr_pending_ == 0) ++progress_;
  ArmStall();
  if (conc_.SetPending(++nr_pending_)) {
    if (nr_workers_ == 0 && !managing_) CallForWorker();
    CMWQ_TEST_POINT("pool.insert_kick");  // with the lock
    // One snapshot: who comes back between two looks is as if he had never been away.
    const PoolCounts counts = Counts();
    if (counts.nr_running == 0) return NeedWake(counts);
  }
  // Somebody runs. Should it block without a word, only a detector can know. A worker between two
  // items arms it before it runs the next: waking it for each item that max_active lets in would cost
  // more switches than the items do.
  if (!at_boundary_) {
    ArmDetector();
    ArmTick();
  }
  return nullptr;
}

void WorkerPool::Remove(base::ListNode* node) {
  base::ListUnlink(node);
  if (WorkOf(node)->on_worker_ == nullptr) conc_.LowerPending(--nr_pending_);
}

Worker* WorkerPool::NeedWake(const PoolCounts& counts) {
  if (!NeedMoreWorker(counts)) return nullptr;
  // No idle worker: then somebody manages, and will look again before it sleeps (I4).
  base::ListNode* const node = idle_list_.front();
  return node != nullptr ? base::ListOwner<Worker>(node, offsetof(Worker, entry)) : nullptr;
}

void WorkerPool::Kick() {
  Worker* wake;
  {
    sync::MutexLock hold(lock);
    wake = NeedWake();
  }
  Wake(wake);
}

bool WorkerPool::WantsWatch() const {
  if (conc_.nr_pending() == 0 || disassociated()) return false;
  // seq_cst, twice: pairs with the stores that precede ArmDetector in EnterIdle and ManageFire.
  if (first_idle_.load(std::memory_order_seq_cst) != nullptr) return true;
  // Nobody can be started, but rescuers can help; they are called only once nobody counts as running.
  return short_handed_.load(std::memory_order_seq_cst) && conc_.nr_running() > 0;
}

int WorkerPool::ListSuspects(Suspect* out, int max) {
  const int used = slots_used_.load(std::memory_order_acquire);  // pairs with the store in TakeSlot
  int n = 0;
  for (int i = 0; i < used && n < max; ++i) {
    const uint32_t word = words_[i].Load();
    if (!StateWord::Counted(word)) continue;
    Worker* const w = slots_[i].load(std::memory_order_acquire);
    const int tid = w != nullptr ? w->tid.load(std::memory_order_acquire) : 0;
    if (tid != 0) out[n++] = {i, tid, word};
  }
  return n;
}

bool WorkerPool::Presume(const Suspect& suspect) {
  if (!conc_.Presume(words_[suspect.slot], suspect.word)) return false;
  nr_presumed_.fetch_add(1, std::memory_order_relaxed);
  if (conc_.nr_running() == 0) Nudge();
  return true;
}

// Pokes an idle worker, which takes the lock and decides. The hint may be stale; the detector asks
// WantsWatch again and repeats.
void WorkerPool::Nudge() {
  Wake(first_idle_.load(std::memory_order_acquire));  // pairs with the store in PublishFirstIdle
}

// What nr_running would have to rise by to be the sum of the words, at this moment.
int WorkerPool::Drift() {
  int counted = 0;
  const int used = slots_used_.load(std::memory_order_relaxed);
  for (int i = 0; i < used; ++i) counted += StateWord::Counted(words_[i].Load()) ? 1 : 0;
  return counted - conc_.RawRunning();
}

int WorkerPool::Resync() {
  sync::MutexLock hold(lock);
  int counted = 0;
  const int used = slots_used_.load(std::memory_order_relaxed);
  for (int i = 0; i < used; ++i) counted += StateWord::Counted(words_[i].Load()) ? 1 : 0;
  // A hook between its word and its counter makes a difference that is gone a moment later; only a
  // difference that stays is drift.
  for (int tries = 0; tries < 3; ++tries) {
    const int drift = counted - conc_.RawRunning();
    if (drift == 0) return 0;
    int again = 0;
    for (int i = 0; i < used; ++i) again += StateWord::Counted(words_[i].Load()) ? 1 : 0;
    if (again != counted) return 0;
    if (tries == 2) {
      conc_.Repair(drift);
      return drift;
    }
    base::SchedYield();
  }
  return 0;
}

bool WorkerPool::Holds(const base::ListNode* node) {
  for (base::ListNode* n = worklist_.front(); n != nullptr; n = worklist_.next(n)) {
    if (n == node) return true;
  }
  for (Worker* head : busy_) {
    for (Worker* w = head; w != nullptr; w = w->hash_next) {
      for (base::ListNode* n = w->scheduled.front(); n != nullptr; n = w->scheduled.next(n)) {
        if (n == node) return true;
      }
    }
  }
  return false;
}

PoolStats WorkerPool::Stats() {
  sync::MutexLock hold(lock);
  PoolStats s = stats_;
  s.nr_workers = nr_workers_;
  s.nr_idle = nr_idle_;
  s.nr_running = conc_.nr_running();
  s.repatriated = nr_repatriated_.load(std::memory_order_relaxed);
  s.presumed = nr_presumed_.load(std::memory_order_relaxed);
  const int used = slots_used_.load(std::memory_order_acquire);  // pairs with the store in TakeSlot
  for (int i = 0; i < used; ++i) {
    const Worker* const w = slots_[i].load(std::memory_order_acquire);
    if (w == nullptr) continue;
    s.executed += w->nr_executed.load(std::memory_order_relaxed);
    s.sleeps += w->nr_sleeps.load(std::memory_order_relaxed);
  }
  return s;
}

// The objects of the parent's workers stay behind: one of them may be executing this very code.
void WorkerPool::DropWorkersAfterFork(void (*drop)(struct cmwq_work* work)) {
  const int used = slots_used_.load(std::memory_order_relaxed);
  for (int i = 0; i < used; ++i) {
    words_[i].Reset(WorkerFlag::kPrep);
    Worker* const w = slots_[i].exchange(nullptr, std::memory_order_relaxed);
    if (w == nullptr) continue;
    while (base::ListNode* const node = w->scheduled.PopFront()) drop(WorkOf(node));
  }
  slots_used_.store(0, std::memory_order_relaxed);
  while (idle_list_.PopFront() != nullptr) {
  }
  while (free_slots_.PopFront() != nullptr) {
  }
}

void WorkerPool::ResetAfterFork(void (*drop)(struct cmwq_work* work)) {
  lock.ResetAfterFork();
  conc_.Reset();
  nr_pending_ = 0;
  while (base::ListNode* const node = worklist_.PopFront()) drop(WorkOf(node));
  DropWorkersAfterFork(drop);
  for (Worker*& bucket : busy_) bucket = nullptr;
  nr_workers_ = nr_idle_ = nr_threads_ = 0;
  HoldRole(false, nullptr);
  create_err_ = 0;
  while (base::ListNode* const node = fail_worker_.scheduled.PopFront()) drop(WorkOf(node));
  fail_worker_.current_work = nullptr;
  fail_worker_.current_fn = nullptr;
  fail_worker_.current_pwq = nullptr;
  fail_worker_.block_depth = 0;  // its callback may have been inside a region
  fail_worker_.described = false;
  fail_word_.Reset(WorkerFlag::kPrep);
  next_create_ns_ = 0;  // the limit that the parent met may not be ours
  cull_armed_ = cull_wanted_ = false;
  manage_timer_.timer.prev = cull_timer_.timer.prev = nullptr;
  ResetWatchAfterFork();
  stats_ = {};
  nr_queued_ = sampled_ns_ = 0;
  if (next_sample_ != 0) next_sample_ = sample_step_ = 1;
  first_idle_.store(nullptr, std::memory_order_relaxed);
  detector_.store(nullptr, std::memory_order_relaxed);
  BeginAnew();
  attach.ResetAfterFork();
  base::ListInit(rescuers_.head());
  trustee_.ResetAfterFork();
  trustee_calls_.asked = false;
  trustee_calls_.soon.soon.timer.prev = trustee_calls_.look.timer.prev = nullptr;
}

}  // namespace cmwq::pool
