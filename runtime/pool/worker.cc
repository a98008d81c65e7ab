// The life of a worker: idle, started, executing, idle again, dead.
//
// Locks: pool.lock, dropped around the work function and while parked. Threads: workers of the pool.

#include "runtime/pool/worker.h"

#include <cerrno>

#include "runtime/base/test_point.h"
#include "runtime/pool/leak_check.h"
#include "runtime/pool/pool.h"
#include "runtime/pool/pwq_base.h"
#include "runtime/pool/sched_hooks.h"
#include "runtime/pool/switch_audit.h"
#include "runtime/pool/unplaced.h"
#include "runtime/pool/work_link.h"

namespace cmwq::pool {
namespace {

thread_local constinit Worker* t_worker __attribute__((tls_model("initial-exec"))) = nullptr;

using work::WorkOf;

// Not counted up: a region that was left open does not stay one for ever.
void EndBlock(Worker* w) {
  w->stats->unblocks.store(w->nr_sleeps.load(std::memory_order_relaxed), std::memory_order_relaxed);
}

// The call with a look at what it leaves behind.
void CallChecked(PwqBase* pwq, cmwq_work_fn fn, struct cmwq_work* work) {
  const Worker* const w = CurrentWorker();
  ThreadAttributes attributes;
  const uint32_t places = w->pool->places();
  attributes.Read();
  fn(work);
  if (CurrentWorker() != w) return;
  const char* what = attributes.Restore();
  if (attributes.OnOtherCpus() && w->pool->PutBack(places, attributes.cpus())) {
    what = "its thread's CPU affinity changed";
  }
  if (what != nullptr) ReportLeak(fn, pwq->name(), what);
}

// The function forked and its child came back: there is no pool and no worker here to go on with.
[[noreturn]] void ReturnedInForkChild() {
  base::RawLog(base::LogLevel::kError,
               "a work function forked and returned in the child; it must call exec or _exit there");
  base::Sys(SYS_exit_group, 1);
  __builtin_unreachable();
}

}  // namespace

constinit Callback g_worker_start = nullptr;

// The call with everything around it that costs time.
void WorkerPool::Call(Worker* w, PwqBase* pwq, cmwq_work_fn fn, struct cmwq_work* work) {
  if (w->audit != nullptr) w->audit->Enter(Phase::kItem, fn);
  if (leak_check_) {
    CallChecked(pwq, fn, work);
  } else {
    fn(work);
  }
  // In the child of a fork the audit is the parent's.
  if (w->audit != nullptr && CurrentWorker() == w) w->audit->Enter(Phase::kEngine, nullptr);
}

Worker* CurrentWorker() { return t_worker; }
void SetCurrentWorker(Worker* worker) { t_worker = worker; }

void WorkerSleeping() {
  Worker* const w = t_worker;
  if (w == nullptr || sync::t_locks_held > 0) return;
  if (w->block_depth++ == 0) w->pool->Sleeping(w);
}

void WorkerRunning() {
  Worker* const w = t_worker;
  if (w == nullptr || sync::t_locks_held > 0 || w->block_depth == 0) return;
  if (--w->block_depth == 0) w->pool->Running(w);
}

void SayUnplaced(int cpu, int err) {
  CMWQ_WARN_ONCE("cannot place a worker on CPU %d (errno %d): its workers run anywhere", cpu, err);
}

void WorkerPool::PlaceSelf(const Worker* w) {
  char name[16];
  // A thread inherits place and priority of whoever created it: a worker of another pool, perhaps.
  if (!bound()) {
    base::RawFormat(name, sizeof(name), "wq/u%u:%d", attrs_.id, w->slot);
    env_->BindSelf(where_);
  } else {
    base::RawFormat(name, sizeof(name), "wq/%d:%d%s", attrs_.cpu, w->slot,
                    attrs_.nice < 0 ? "H" : "");
    const int err = env_->BindSelf(where_);
    if (err < 0) SayUnplaced(attrs_.cpu, -err);
  }
  platform::NameSelf(name);
  const int nice = attrs_.nice != 0 ? attrs_.nice : base_nice_;
  if (platform::SelfNice() != nice) platform::NiceSelf(nice);
}

// A worker that strayed out of its pod starts the next items inside it; afterwards the scheduler may
// move it again (kernel: kick_pool sets the CPU of a worker that it wakes).
void WorkerPool::Repatriate() {
  sync::MutexLock hold(attach);
  env_->BindSelf(attrs_.pod);
  env_->BindSelf(where_);
  nr_repatriated_.fetch_add(1, std::memory_order_relaxed);
}

void* WorkerPool::WorkerMain(void* arg) {
  Worker* const w = static_cast<Worker*>(arg);
  CMWQ_JITTER(false);
  {
    sync::MutexLock hold(w->pool->attach);
    w->pool->PlaceSelf(w);
    w->tid.store(base::Tid(), std::memory_order_release);  // pairs with the load in ListSuspects
    w->stats->tid.store(static_cast<uint32_t>(base::Tid()), std::memory_order_relaxed);
  }
  SetCurrentWorker(w);
  if (g_worker_start != nullptr) g_worker_start();
  if (w->pool->audited_) w->audit = OpenSwitchAudit(w->pool->attrs_.cpu);
  w->pool->WorkerLoop(w);
  SetCurrentWorker(nullptr);
  if (w->audit != nullptr) w->audit->End();
  w->audit = nullptr;
  w->pool->Retire(w);
  return nullptr;
}

// Context: worker. Locks: drops and retakes `lock` while parked; every predicate is asked again after.
void WorkerPool::WorkerLoop(Worker* w) {
  for (;;) {
    // Whoever put this worker on the idle list, itself or its creator, did so before the token or
    // before Park: a wake-up in between is kept.
    CMWQ_JITTER(false);
    w->parker.Park();
    CMWQ_TEST_POINT("worker.woken");
    if (steers_ && !attrs_.pod.Has(env_->Cpu())) Repatriate();
    {
      sync::MutexLock hold(lock);
      if (w->die) return;
      // A waker without the lock (Nudge, or Wake after the lock was dropped) may have meant the thread
      // that had this object before. Its creator wakes it once it is on the idle list.
      if (!w->idle) continue;
      LeaveIdle(w);
      w->batch_ns = env_->NowNs();
      w->batch_executed = w->nr_executed.load(std::memory_order_relaxed);
      WorkUntilDone(w);
      if (nr_users_ == 0) {
        --nr_workers_;
        ++stats_.destroyed;
        w->die = true;  // until Retire: as if somebody had told it
        return;
      }
      EnterIdle(w);
      WentIdle();
    }
    ArmCullIfWanted();
  }
}

// Those who keep this worker from its next item may sleep without a word. The detector would find that
// once this worker is parked and the CPU idle, and would wake it again.
// Context: worker between two items, which counts. Locks: drops and retakes `lock` if it returns true;
// the caller must ask every predicate again.
bool WorkerPool::LookAtPeers(const Worker* w) {
  BlockingSource* const detector = detector_.load(std::memory_order_acquire);  // pairs: FindDetector
  if (nr_pending_ == 0 || detector == nullptr || !detector->WorthALook() || disassociated()) {
    return false;
  }
  lock.Unlock();
  CMWQ_TEST_POINT("worker.look");
  detector->LookForWorker(this, w->tid.load(std::memory_order_relaxed));
  lock.Lock();
  return true;
}

// One cycle between two idle periods (kernel: worker_thread after woke_up).
// Context: worker, in PREP. Locks: drops and retakes `lock`.
void WorkerPool::WorkUntilDone(Worker* w) {
  do {
    if (!NeedMoreWorker(Counts())) return;
    CMWQ_TEST_POINT("worker.may_start");  // with the lock
    // A worker may start only while another one is idle or somebody manages; having managed, it asks
    // everything again.
    if (!MayStartWorking(Counts()) && ManageWorkers(w)) continue;

    // I6: a spare exists, or somebody makes one.
    CMWQ_ASSERT(nr_idle_ > 0 || managing_);
    conc_.Running(*w->word);
    conc_.ClearFlags(*w->word, WorkerFlag::kPrep | WorkerFlag::kRebound);
    do {
      base::ListNode* const node = worklist_.front();
      if (node == nullptr) break;
      ++progress_;
      if (AssignWork(WorkOf(node), w)) ProcessScheduled(w);
      // It is on its CPU by now: whoever places workers does so before he sets this flag.
      if ((w->word->Load() & WorkerFlag::kRebound) != 0) {
        conc_.ClearFlags(*w->word, WorkerFlag::kRebound);
      }
    } while (KeepWorking(Counts()) || (LookAtPeers(w) && KeepWorking(Counts())));
    CMWQ_TEST_POINT_LOCKED("worker.before_prep", this);
    // If the others blocked since KeepWorking was asked, this was the last one: go round again, for
    // nobody else will be woken.
  } while (conc_.SetFlags(*w->word, WorkerFlag::kPrep) || NeedMoreWorker(Counts()));
}

// Moves `work` (and the barriers linked behind it) from the worklist to the worker that must run it.
// False: another worker is executing the item, it went there.
bool WorkerPool::AssignWork(struct cmwq_work* work, Worker* w) {
  // An item that was initialised since its memory was that of one which still runs is another item. A
  // function that frees its own item and goes on may wait for the one that has the memory now.
  Worker* const executing = work::IsFresh(work) ? nullptr : FindExecuting(work, work->fn_);
  Worker* const to = executing != nullptr ? executing : w;
  base::ListNode* node = &work->entry_;
  for (;;) {
    base::ListNode* const next = worklist_.next(node);
    const bool linked = work::IsLinked(WorkOf(node));
    Remove(node);
    WorkOf(node)->on_worker_ = to;
    to->scheduled.PushBack(node);
    if (!linked || next == nullptr) break;
    node = next;
  }
  return executing == nullptr;
}

void WorkerPool::ProcessScheduled(Worker* w) {
  while (base::ListNode* const node = w->scheduled.front()) ProcessOneWork(w, WorkOf(node));
}

void WorkerPool::BeginExecution(Worker* w, struct cmwq_work* work) {
  w->current_work = work;
  w->current_fn = work->fn_;
  w->current_pwq = static_cast<PwqBase*>(work->pwq_);
#if defined(CMWQ_DEBUG)
  w->current_fresh = work::IsFresh(work);
#endif
  w->stats->function.store(reinterpret_cast<uintptr_t>(work->fn_), std::memory_order_relaxed);
  if (__builtin_expect(work->queued_ns_ != 0, 0)) NoteDelay(work->queued_ns_);
  HashInsert(w);
}

void WorkerPool::EndExecution(Worker* w) {
  HashRemove(w);
  w->current_work = nullptr;
  w->current_fn = nullptr;
  w->current_pwq = nullptr;
  w->described = false;
  const uint64_t executed = w->nr_executed.load(std::memory_order_relaxed) + 1;
  w->nr_executed.store(executed, std::memory_order_relaxed);
  w->stats->executed.store(executed, std::memory_order_relaxed);
  w->stats->function.store(0, std::memory_order_relaxed);
}

// Runs one item. Context: worker or rescuer of this pool. Locks: drops `lock` around the function.
// After Started() returns the item may be queued again elsewhere; after the function it may be gone.
// fail: the queue's fail callback, called instead of the function; see fail.cc.
void WorkerPool::ProcessOneWork(Worker* w, struct cmwq_work* work, cmwq_work_fail_fn fail) {
  PwqBase* const pwq = static_cast<PwqBase*>(work->pwq_);
  const cmwq_work_fn fn = work->fn_;
  BeginExecution(w, work);
  base::ListUnlink(&work->entry_);

  Worker* wake = nullptr;
  if (pwq->cpu_intensive && !w->is_rescuer) {
    conc_.SetFlags(*w->word, WorkerFlag::kCpuIntensive);
  }
  // Workers that do not count would start one after the other otherwise; for counted ones this is
  // never true, nr_running is at least one.
  if (NeedMoreWorker(Counts())) wake = NeedWake();
  pwq->pool->lock.AssertHeld();  // this pool's: an item is only ever on a list of its pwq's pool
  const uint32_t cookie = w->current_cookie = pwq->Started(work);
  // Should the function block without a word, only a detector can know that others wait.
  if (nr_pending_ > 0) {
    ArmDetector();
    ArmTick();
  }
  lock.Unlock();
  Wake(wake);

  CMWQ_TEST_POINT("worker.before_fn");
  if (__builtin_expect(fail == nullptr && !leak_check_ && !audited_, 1)) {
    fn(work);
  } else {
    fail != nullptr ? fail(work, EAGAIN) : Call(w, pwq, fn, work);
  }
  CMWQ_TEST_POINT("worker.after_fn");

  if (w->block_depth != 0) {
    ReportLeak(fn, pwq->name(), "a blocking region open");
    w->block_depth = 0;
    EndBlock(w);
  }
  CMWQ_ASSERT(sync::t_locks_held == 0);  // none of ours is ever held over the end of a public call
  if (CurrentWorker() != w) ReturnedInForkChild();
  lock.Lock();
  // Work boundary: whatever a detector thought of this worker, waiting for the lock included, it runs.
  conc_.Running(*w->word);
  // Set for the queue, or by the tick for this item.
  if ((w->word->Load() & WorkerFlag::kCpuIntensive) != 0) {
    conc_.ClearFlags(*w->word, WorkerFlag::kCpuIntensive);
  }
  EndExecution(w);
  pwq->pool->lock.AssertHeld();
  // What this lets onto the worklist the worker itself takes next, or finds when it goes idle.
  at_boundary_ = !w->is_rescuer;
  pwq->Finished(cookie);
  at_boundary_ = false;
  CMWQ_TEST_POINT_LOCKED("worker.finished", this);
}

void WorkerPool::EnterIdle(Worker* w) {
  CMWQ_ASSERT(!w->idle && w->scheduled.empty());
  w->idle = true;
  w->last_active_ns = env_->NowNs();
  idle_list_.PushFront(&w->entry);
  ++nr_idle_;
  PublishFirstIdle();
  // A detector sleeps while nobody could be started: now somebody can. What this worker let onto the
  // list at its boundary may wait behind one that sleeps without a word, and no tick was asked for then.
  if (nr_pending_ > 0) {
    ArmDetector();
    if (conc_.RawRunning() > 0) ArmTick();
  }
  if (!cull_armed_ && TooManyWorkers(Counts(), static_cast<int>(conf_->idle_ratio))) {
    cull_wanted_ = true;
  }
}

void WorkerPool::LeaveIdle(Worker* w) {
  CMWQ_ASSERT(w->idle);
  w->idle = false;
  base::ListUnlink(&w->entry);
  --nr_idle_;
  PublishFirstIdle();
}

// Detectors poke the first idle worker without the lock. A stale hint wakes a worker that looks and
// goes back to sleep; Nudge repeats until somebody acted.
void WorkerPool::PublishFirstIdle() {
  base::ListNode* const node = idle_list_.front();
  Worker* const w =
      node != nullptr ? base::ListOwner<Worker>(node, offsetof(Worker, entry)) : nullptr;
  // seq_cst: also pairs with WantsWatch. EnterIdle goes on to ask whether the detector is dormant, and
  // one of the two must see the other.
  first_idle_.store(w, std::memory_order_seq_cst);
}

void WorkerPool::HashInsert(Worker* w) {
  Worker*& bucket = busy_[Bucket(w->current_work)];
  w->hash_next = bucket;
  bucket = w;
}

void WorkerPool::HashRemove(Worker* w) {
  Worker** link = &busy_[Bucket(w->current_work)];
  while (*link != w) link = &(*link)->hash_next;
  *link = w->hash_next;
  w->hash_next = nullptr;
}

Worker* WorkerPool::FindExecuting(const struct cmwq_work* work, cmwq_work_fn fn) {
  for (Worker* w = busy_[Bucket(work)]; w != nullptr; w = w->hash_next) {
    if (w->current_work == work && w->current_fn == fn) return w;
  }
  return nullptr;
}

// Last act of a culled worker: its object may be used by a new thread at once.
void WorkerPool::Retire(Worker* w) {
  pthread_detach(pthread_self());
  BlockingSource* const detector = detector_.load(std::memory_order_acquire);  // pairs: FindDetector
  if (detector != nullptr) detector->WorkerEnds(w->tid.load(std::memory_order_relaxed));
  {
    sync::MutexLock hold(attach);
    w->tid.store(0, std::memory_order_relaxed);
    w->stats->tid.store(0, std::memory_order_relaxed);
  }
  sync::MutexLock hold(lock);
  w->die = false;
  --nr_threads_;
  free_slots_.PushBack(&w->entry);
}

// Hook: the calling worker is back. Never kicks: the count only rises.
void WorkerPool::Running(Worker* w) {
  EndBlock(w);
  conc_.Running(*w->word);
  if (__builtin_expect(audited_, 0) && w->audit != nullptr) {
    w->audit->Enter(w->current_fn != nullptr ? Phase::kItem : Phase::kEngine, w->current_fn);
  }
}

// Hook: the calling worker blocks.
void WorkerPool::Sleeping(Worker* w) {
  const uint64_t sleeps = w->nr_sleeps.load(std::memory_order_relaxed) + 1;
  w->nr_sleeps.store(sleeps, std::memory_order_relaxed);
  w->stats->blocks.store(sleeps, std::memory_order_relaxed);
  // First: should Kick have to wait for the lock, that is part of the announced block.
  if (__builtin_expect(audited_, 0) && w->audit != nullptr) {
    w->audit->Enter(Phase::kAnnounced, nullptr);
  }
  if (conc_.Sleeping(*w->word)) Kick();
}

}  // namespace cmwq::pool
