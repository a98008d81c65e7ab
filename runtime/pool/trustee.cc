// The trustee at work in a pool: see trustee.h. And where threads of a pool are placed.
//
// Locks: `attach` over placings, then `lock`; the event thread's timer lock is held by timers on entry and
// is never taken here.

#include "runtime/pool/trustee.h"

#include <cerrno>

#include "runtime/base/test_point.h"
#include "runtime/pool/pool.h"
#include "runtime/pool/unplaced.h"

namespace cmwq::pool {

// Locks: the protocol pairs them, which the analysis cannot follow.
struct WorkerPool::TrusteeHost {
  WorkerPool* const pool;
  const platform::CpuSet* const elsewhere;  // null: Place is not called

  void LockAttach() CMWQ_NO_TSA { pool->attach.Lock(); }
  void UnlockAttach() CMWQ_NO_TSA { pool->attach.Unlock(); }
  void Lock() CMWQ_NO_TSA { pool->lock.Lock(); }
  void Unlock() CMWQ_NO_TSA {
    // seq_cst: pairs with the load in WantsWatch. Who counts from now on asks whether the detector is
    // dormant, and one of the two must see the other.
    pool->away_.store(pool->trustee_.disassociated(), std::memory_order_seq_cst);
    CMWQ_TEST_POINT_LOCKED("trustee.step", pool);
    pool->lock.Unlock();
  }
  // Slots without a thread, and those of threads in the making, have PREP: their flags make no edge.
  void ReplaceFlags(uint32_t clear, uint32_t set) CMWQ_NO_TSA {
    const int used = pool->slots_used_.load(std::memory_order_acquire);  // pairs with TakeSlot
    for (int i = 0; i < used; ++i) pool->conc_.ReplaceFlags(pool->words_[i], clear, set);
  }
  bool Managed() const CMWQ_NO_TSA { return pool->managing_; }
  void TakeRole() CMWQ_NO_TSA { pool->HoldRole(true, nullptr); }
  bool HasWorkers() const CMWQ_NO_TSA { return pool->nr_workers_ > 0; }
  bool AllIdle() const CMWQ_NO_TSA {
    return pool->nr_workers_ == pool->nr_idle_ && pool->nr_pending_ == 0 && !pool->managing_;
  }
  void LetIdleGo() CMWQ_NO_TSA {
    pool->LetIdleGo();
    pool->BeginAnew();
  }
  Worker* NeedWake() CMWQ_NO_TSA { return pool->NeedWake(); }
  static void Wake(Worker* w) { WorkerPool::Wake(w); }
  void CallSoon() CMWQ_NO_TSA {
    if (pool->trustee_calls_.asked) return;
    pool->trustee_calls_.asked = true;
    pool->events_->ArmSoon(&pool->trustee_calls_.soon.soon, 0);
  }
  bool Place(bool back) CMWQ_NO_TSA {
    CMWQ_TEST_POINT(back ? "trustee.place_back" : "trustee.place_away");
    const int err = pool->PlaceAll(back ? pool->place_ : *elsewhere);
    if (back && err != 0 && err != -EINVAL) SayUnplaced(pool->attrs_.cpu, -err);
    return err != -EINVAL;
  }
  uint64_t Now() { return pool->env_->NowNs(); }
};

// Puts every thread of the pool on `cpus`, those that are still to come as well. 0, or -errno of the last
// one that could not be placed. Those that were refused stay where the scheduler has put them.
int WorkerPool::PlaceAll(const platform::CpuSet& cpus) {
  where_ = cpus;
  int err = 0;
  const auto place = [&](const Worker* w) {
    const int tid = w->tid.load(std::memory_order_relaxed);
    const int result = tid != 0 ? env_->BindThread(tid, cpus) : 0;
    if (result != 0) err = result;
  };
  // Before and after: who has read his place in between is found by one of the two. See PutBack.
  nr_places_.fetch_add(1, std::memory_order_acq_rel);
  const int used = slots_used_.load(std::memory_order_acquire);  // pairs with TakeSlot
  for (int i = 0; i < used; ++i) {
    const Worker* const w = slots_[i].load(std::memory_order_acquire);  // pairs with TakeSlot
    if (w != nullptr) place(w);
  }
  for (base::ListNode* n = rescuers_.front(); n != nullptr; n = rescuers_.next(n)) {
    place(base::ListOwner<Worker>(n, offsetof(Worker, entry)));
  }
  nr_places_.fetch_add(1, std::memory_order_acq_rel);
  return err;
}

// Leak check: the calling thread is on other CPUs than before its item, which were `cpus`, when so many
// placings had been. False: it was the engine that moved it.
bool WorkerPool::PutBack(uint32_t places, const platform::CpuSet& cpus) {
  sync::MutexLock hold(attach);
  const bool moved = nr_places_.load(std::memory_order_relaxed) != places;
  const platform::CpuSet& right = moved ? where_ : cpus;
  right.StoreAffinity(0);
  return !moved;
}

void WorkerPool::AttachRescuer(Worker* w) {
  sync::MutexLock hold(attach);
  const int err = env_->BindSelf(where_);
  if (err < 0 && bound()) {
    // The CPU is gone from this process: serving elsewhere is better than not at all.
    CMWQ_WARN_ONCE("rescuer: cannot go to CPU %d (errno %d); serving from elsewhere", attrs_.cpu, -err);
  }
  rescuers_.PushBack(&w->entry);
}

void WorkerPool::DetachRescuer(Worker* w) {
  sync::MutexLock hold(attach);
  base::ListUnlink(&w->entry);
}

// Context: as Trustee::Leave.
void WorkerPool::LeaveCpu(const platform::CpuSet& cpus) CMWQ_NO_TSA {
  TrusteeHost host{this, &cpus};
  trustee_.Leave(host);
}

// Context: as Trustee::Return; may create a detector's thread.
bool WorkerPool::ReturnCpu() CMWQ_NO_TSA {
  const platform::CpuSet anywhere = [this] {
    sync::MutexLock hold(attach);
    return where_;
  }();
  TrusteeHost host{this, &anywhere};
  if (!trustee_.Return(host)) return false;
  // Nobody counts yet; who starts to do so arms it, if something is pending behind him.
  if (served()) FindDetector();
  return true;
}

void WorkerPool::PlaceUnbound(const platform::CpuSet& cpus) {
  sync::MutexLock hold(attach);
  const platform::CpuSet left = place_ & cpus;
  PlaceAll(left.Empty() ? cpus : left);
}

void WorkerPool::WentIdle() {
  TrusteeHost host{this, nullptr};
  trustee_.WentIdle(host);
}

// A pool that has been butchered, or never had a worker, and nobody is bringing it up: whoever would do
// that from here may hold locks. The event thread does.
void WorkerPool::CallForWorker() {
  TrusteeHost host{this, nullptr};
  trustee_.NoWorkers(host);
  tried_ = true;  // who comes to make the first worker leaves it to the event thread
}

// Context: event thread. Locks: kTimer held, takes kPool.
void WorkerPool::TrusteeTick(bool asked) {
  Trustee::Next next;
  {
    sync::MutexLock hold(lock);
    if (asked) trustee_calls_.asked = false;
    TrusteeHost host{this, nullptr};
    next = trustee_.Tick(host, {conf_->mayday_interval_ms * base::kNsPerMs,
                                conf_->idle_timeout_ms * base::kNsPerMs});
    CMWQ_TEST_POINT_LOCKED("trustee.tick", this);
  }
  if (next.call_help) SendMaydays();
  if (next.manage && !platform::TimerHeap::Armed(&manage_timer_.timer)) {
    events_->ArmLocked(&manage_timer_.timer, env_->NowNs());
  }
  events_->DisarmLocked(&trustee_calls_.look.timer);
  if (next.at_ns != base::kNever) events_->ArmLocked(&trustee_calls_.look.timer, next.at_ns);
}

void WorkerPool::TrusteeSoonFire(platform::Timer* t) {
  reinterpret_cast<WatchTimer*>(t)->pool->TrusteeTick(true);
}

void WorkerPool::TrusteeLookFire(platform::Timer* t) { PoolOf(t)->TrusteeTick(false); }

}  // namespace cmwq::pool
