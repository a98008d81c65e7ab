// The manager role: keeping one worker idle, calling for help when none can be made, letting go of
// those that were idle for long.
//
// The role belongs to the pool (managing_): one worker has it, or, after a failed creation, the event
// thread (manager_ is null then). The manager drops the lock to create, so that everybody else goes on;
// whoever finds no idle worker and a manager at work may start.

#include <cerrno>

#include "runtime/base/test_point.h"
#include "runtime/platform/stats_page.h"
#include "runtime/pool/pool.h"
#include "runtime/pool/pwq_base.h"
#include "runtime/pool/rescuer.h"
#include "runtime/pool/work_link.h"

namespace cmwq::pool {

// A free slot with its worker object, or null at the cap or without memory.
Worker* WorkerPool::TakeSlot() {
  {
    sync::MutexLock hold(lock);
    if (base::ListNode* const node = free_slots_.PopFront()) {
      return base::ListOwner<Worker>(node, offsetof(Worker, entry));
    }
  }
  // Only the manager, GoLive and the retry timer create, one at a time: the mark is ours to raise.
  const int slot = slots_used_.load(std::memory_order_relaxed);
  if (slot >= conf_->max_workers) return nullptr;
  Worker* const w = new (std::nothrow) Worker;
  if (w == nullptr) return nullptr;
  w->slot = slot;
  w->pool = this;
  w->word = &words_[slot];
  if (platform::StatsWorker* const row = platform::g_stats_page.TakeWorker()) w->stats = row;
  w->stats->pool.store(attrs_.id, std::memory_order_relaxed);
  slots_[slot].store(w, std::memory_order_release);           // pairs with ListSuspects
  slots_used_.store(slot + 1, std::memory_order_release);     // pairs with ListSuspects
  return w;
}

void WorkerPool::ReportCreateFailure(int err) {
  if (err == EAGAIN) {
    CMWQ_WARN_ONCE("cannot create a worker (EAGAIN: limit of threads reached; see ulimit -u, "
                   "pids.max): pending work waits, trying again every %ld ms",
                   static_cast<long>(conf_->create_cooldown_ms));
  } else if (err == ENFILE) {
    CMWQ_WARN_ONCE("pool of CPU %d has max_workers=%ld workers: more work waits for them",
                   attrs_.cpu, static_cast<long>(conf_->max_workers));
  } else {
    CMWQ_WARN_ONCE("cannot create a worker (errno %d): trying again every %ld ms", err,
                   static_cast<long>(conf_->create_cooldown_ms));
  }
}

// Context: manager, GoLive, event thread; never two at once per pool. Locks: none held.
// give_up_role: the caller holds the role without being a worker. It must end in the same section that
// makes the new worker visible: later, that worker might start without a spare, trusting in a manager
// that will not look again, and block.
bool WorkerPool::CreateWorker(bool give_up_role) {
  CMWQ_TEST_POINT("manager.create");
  Worker* const w = TakeSlot();
  int err = w != nullptr ? 0 : ENFILE;
  if (err == 0) {
    w->word->Reset(WorkerFlag::kPrep | (bound() && !disassociated() ? 0 : WorkerFlag::kUnbound));
    w->parker.Reset();
    pthread_t thread;
    err = env_->CreateThread(&WorkerMain, w, static_cast<size_t>(conf_->worker_stack_kb) * 1024,
                             &thread);
  }
  if (err != 0) {
    ReportCreateFailure(err);
    sync::MutexLock hold(lock);
    ++stats_.create_failures;
    create_err_ = err;
    tried_ = true;
    next_create_ns_ = env_->NowNs() + conf_->create_cooldown_ms * base::kNsPerMs;
    if (w != nullptr) free_slots_.PushFront(&w->entry);
    return false;
  }
  {
    sync::MutexLock hold(lock);
    ++stats_.created;
    ++nr_workers_;
    ++nr_threads_;
    // The CPU may have left, or come back, while the thread was being made. No edge: it is in PREP.
    if (bound()) conc_.ReplaceFlags(*w->word, WorkerFlag::kUnbound, trustee_.AttachFlags());
    if (static_cast<uint64_t>(nr_workers_) > stats_.peak_workers) stats_.peak_workers = nr_workers_;
    EnterIdle(w);
    create_err_ = 0;
    if (give_up_role) HoldRole(false, nullptr);
    tried_ = true;
    // In the same section: without users the worker ends at once, and the next user's pool is not served.
    served_.store(true, std::memory_order_release);  // pairs with the load in served
  }
  // Let it look once: work may have come while it was being made.
  Wake(w);
  CMWQ_TEST_POINT("manager.created");
  return true;
}

// Changes whenever a worker of the pool blocks, returns, begins or ends.
uint64_t WorkerPool::Moves() {
  uint64_t sum = 0;
  const int used = slots_used_.load(std::memory_order_relaxed);
  for (int i = 0; i < used; ++i) sum += words_[i].Load();
  return sum;
}

// Whether one more worker is still needed after CreationDelay's wait.
// Context: manager. Locks: drops and retakes `lock` each time the CPU is given away; the caller must ask
// every predicate again.
bool WorkerPool::NeedLasts() {
  const auto idle_limit = static_cast<uint64_t>(conf_->create_idle_us) * 1000;
  if (idle_limit == 0 || !bound()) return true;  // in an unbound pool nobody counts
  const auto total_limit = static_cast<uint64_t>(conf_->create_wait_ms) * base::kNsPerMs;
  uint64_t away;
  delay_.Begin(env_->NowNs(), progress_, Moves());
  do {
    lock.Unlock();
    away = env_->YieldCpu();
    lock.Lock();
    if (!NeedToCreateWorker(Counts())) return false;
  } while (!delay_.Lasted(env_->NowNs(), Moves(), away, idle_limit, total_limit));
  return true;
}

// Takes the role if nobody has it and makes one worker if the need lasts (kernel: manage_workers, which
// makes it at once). When that fails the role passes to the event thread, which calls for help and tries
// again; the caller may then start with the workers that there are: a pool that cannot grow degrades to a
// fixed one instead of standing still.
// Context: worker in PREP. Locks: drops and retakes `lock`. Returns false only if somebody else
// manages: the caller may then start. After true the caller must ask every predicate again.
bool WorkerPool::ManageWorkers(Worker* w) {
  if (managing_) return false;
  HoldRole(true, w);
  const bool cooling = env_->NowNs() < next_create_ns_;
  if (!cooling && !NeedLasts()) {
    ++stats_.avoided;
    HoldRole(false, nullptr);
    return true;
  }
  lock.Unlock();
  // The mayday timer runs beside the attempt, because the attempt itself may take long.
  ArmManageTimer();
  const bool created = !cooling && CreateWorker(false);
  if (created) events_->Disarm(&manage_timer_.timer);
  lock.Lock();
  HoldRole(!created, nullptr);
  return true;
}

void WorkerPool::ArmManageTimer() {
  sync::MutexLock hold(events_->mu);
  if (platform::TimerHeap::Armed(&manage_timer_.timer)) return;
  events_->ArmLocked(&manage_timer_.timer,
                     env_->NowNs() + conf_->mayday_initial_ms * base::kNsPerMs);
}

// While a creation takes long, or has failed: maydays, and further attempts once it failed.
// Context: event thread. Locks: kTimer held on entry and exit, dropped for a creation.
void WorkerPool::ManageFire(platform::Timer* t) {
  WorkerPool* const pool = PoolOf(t);
  const uint64_t now = pool->env_->NowNs();
  pool->lock.Lock();
  const bool ours = pool->managing_ && pool->manager_ == nullptr;
  // Whoever wanted the pool may be gone since the creation failed.
  const bool relieved = ours && (pool->nr_idle_ > 0 || pool->nr_users_ == 0);
  if (relieved) pool->HoldRole(false, nullptr);
  // The workers that there are may block without a word; nobody else arms the detector then.
  if (ours && !relieved && pool->nr_pending_ > 0 && pool->conc_.RawRunning() > 0) {
    pool->ArmDetector();
    pool->ArmTick();
  }
  const bool attempt = ours && !relieved && now >= pool->next_create_ns_;
  pool->lock.Unlock();
  if (relieved) return;
  pool->SendMaydays();
  if (attempt) {
    pool->events_->mu.Unlock();
    const bool created = pool->CreateWorker(true);
    // What kept the first worker from being made kept the detector as well.
    if (created) pool->FindDetector();
    if (!created) pool->FailPending();
    pool->events_->mu.Lock();
    if (created) return;
  }
  if (!platform::TimerHeap::Armed(t)) {
    pool->events_->ArmLocked(t, now + pool->conf_->mayday_interval_ms * base::kNsPerMs);
  }
}

// Calls the rescuer of every queue that has an item waiting here, once each: a rescuer may take a call
// off its list while this goes on, and a second one would put this pool in front of others that wait.
// Locks: takes kPool, kMayday.
void WorkerPool::SendMaydays() {
  sync::MutexLock hold(lock);
  if (!NeedToCreateWorker(Counts())) return;
  ++mayday_round_;
  for (base::ListNode* n = worklist_.front(); n != nullptr; n = worklist_.next(n)) {
    struct cmwq_work* const work = work::WorkOf(n);
    PwqBase* const pwq = static_cast<PwqBase*>(work->pwq_);
    if (pwq->rescuer == nullptr || pwq->mayday_round == mayday_round_) continue;
    pwq->mayday_round = mayday_round_;
    if (!pwq->rescuer->Mayday(pwq)) continue;
    ++stats_.maydays;
    // The queue may leave this pool before the rescuer comes: it must still find what it was called to.
    ++pwq->mayday_users;
    AddUser();
  }
}

void WorkerPool::ArmCullIfWanted() {
  {
    sync::MutexLock hold(lock);
    if (!cull_wanted_ || cull_armed_) return;
    cull_wanted_ = false;
    cull_armed_ = true;
  }
  events_->Arm(&cull_timer_.timer, env_->NowNs() + conf_->idle_timeout_ms * base::kNsPerMs);
}

// Context: event thread, kTimer held.
void WorkerPool::CullFire(platform::Timer* t) {
  WorkerPool* const pool = PoolOf(t);
  const uint64_t next = pool->CullIdle();
  if (next != base::kNever) pool->events_->ArmLocked(t, next);
}

// Lets the oldest idle workers go while there are too many and they are old enough. Returns when to
// look again, or kNever.
uint64_t WorkerPool::CullIdle() {
  sync::MutexLock hold(lock);
  const uint64_t now = env_->NowNs();
  const uint64_t timeout = conf_->idle_timeout_ms * base::kNsPerMs;
  while (TooManyWorkers(Counts(), static_cast<int>(conf_->idle_ratio))) {
    Worker* const w = base::ListOwner<Worker>(idle_list_.back(), offsetof(Worker, entry));
    if (now < w->last_active_ns + timeout) return w->last_active_ns + timeout;
    LeaveIdle(w);
    --nr_workers_;
    ++stats_.destroyed;
    w->die = true;
    Wake(w);  // it takes the lock, sees `die`, and retires
  }
  cull_armed_ = false;
  return base::kNever;
}

}  // namespace cmwq::pool
