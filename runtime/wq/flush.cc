// Waiting: for one item (barriers), for a queue (colours), until a queue is empty (drain).

#include "runtime/base/test_point.h"
#include "runtime/pool/sched_hooks.h"
#include "runtime/wq/dependency.h"
#include "runtime/wq/ownership.h"
#include "runtime/wq/show.h"
#include "runtime/wq/work_word.h"
#include "runtime/wq/workqueue.h"

namespace cmwq::wq {
namespace {

// A work item on the waiter's stack that runs right behind the one waited for (kernel: wq_barrier).
struct Barrier {
  struct cmwq_work work;  // first: BarrierFn finds the rest behind it
  sync::Parker done;
};

void BarrierFn(struct cmwq_work* work) {
  // The waiter may be gone the moment the token is given; the pool does not touch the item again.
  reinterpret_cast<Barrier*>(work)->done.Unpark();
}

// Locks: pool of `pwq` held. `target` is queued there, or `running` executes it.
pool::Worker* InsertBarrier(Pwq* pwq, Barrier* barrier, struct cmwq_work* target,
                            pool::Worker* running) CMWQ_REQUIRES(pwq->pool->lock) {
  int colour;
  bool linked = false;
  pool::Worker* wake = nullptr;
  barrier->work.fn_ = &BarrierFn;
  barrier->work.pwq_ = pwq;
  barrier->work.queued_ns_ = 0;
  base::ListInit(&barrier->work.entry_);
  if (running != nullptr) {
    // Colour of the execution is not kept; the current one makes a flush that starts now wait too.
    colour = pwq->colour;
    barrier->work.on_worker_ = running;
    running->scheduled.PushFront(&barrier->work.entry_);
  } else {
    const uint64_t old =
        WordOf(target).fetch_or(Word::kLinked, std::memory_order_relaxed);
    colour = Word::Colour(old);
    linked = (old & Word::kLinked) != 0;
    if ((old & Word::kInactive) != 0 || target->on_worker_ != nullptr) {
      barrier->work.on_worker_ = target->on_worker_;
      base::ListInsertBefore(target->entry_.next, &barrier->work.entry_);
    } else {
      wake = pwq->pool->Insert(&barrier->work.entry_, target->entry_.next);
    }
  }
  // INACTIVE on a barrier: it has no max_active slot.
  barrier->work.word_ = Word::Queued(Word::kIdle, pwq->pool->attrs().id, colour, true) |
                        (linked ? Word::kLinked : 0);
  ++pwq->nr_in_flight[colour];
  return wake;
}

void WaitBarrier(Barrier* barrier) {
  pool::WorkerSleeping();
  barrier->done.Park();
  pool::WorkerRunning();
}

// Address and function: an item may free itself, and another one be queued at its place and waited for
// by the function that still runs.
bool IsSelf(const struct cmwq_work* work) {
  const pool::Worker* const w = pool::CurrentWorker();
  return w != nullptr && w->current_work == work && w->current_fn == work->fn_;
}

// The items of `pwq` run one after the other, and the calling one is one of them if it is of that queue.
bool OneAtATime(const Pwq* pwq) CMWQ_REQUIRES(pwq->pool->lock) {
  if (pwq->wq->ordered) return true;
  if (pwq->node != nullptr) return pwq->node->count.max() == 1 && pwq->wq->nr_nodes == 1;
  const pool::Worker* const w = pool::CurrentWorker();
  return pwq->max_active == 1 && w->current_pwq == pwq;
}

// An item of `pwq` waits for a slot that the calling item may have: of an ordered queue, or counted in
// the same place.
bool WaitsForOwnSlot(const Pwq* pwq, uint64_t word) CMWQ_REQUIRES(pwq->pool->lock) {
  const auto* const own = static_cast<Pwq*>(pool::CurrentWorker()->current_pwq);
  return (word & Word::kInactive) != 0 && (pwq->wq->ordered || own->node == pwq->node);
}

// What the PENDING protocol (ownership.h) needs to plant a barrier.
struct BarrierHost {
  struct cmwq_work* const work;
  PoolTable* const pools;
  Barrier* const barrier;
  const bool queued;  // consider the pending instance too
  WaitTarget target = {};
  pool::Worker* wake = nullptr;

  pool::WorkerPool* PoolOf(uint64_t word) { return pools->ById(Word::Pool(word)); }
  // The protocol pairs them, which the analysis cannot follow.
  static void Lock(pool::WorkerPool* pool) CMWQ_NO_TSA { pool->lock.Lock(); }
  static void Unlock(pool::WorkerPool* pool) CMWQ_NO_TSA { pool->lock.Unlock(); }
  bool Plant(pool::WorkerPool* pool, uint64_t word) {
    pool->lock.AssertHeld();
    pool::Worker* running = nullptr;
    Pwq* pwq;
    if (queued && (word & Word::kQueued) != 0) {
      pwq = static_cast<Pwq*>(work->pwq_);
    } else {
      running = pool->FindExecuting(work, work->fn_);
      if (running == nullptr) return false;
      pwq = static_cast<Pwq*>(running->current_pwq);
    }
    pwq->pool->lock.AssertHeld();
    wake = InsertBarrier(pwq, barrier, work, running);
    CMWQ_TEST_POINT_LOCKED("flush.planted", pool);
    // From here on until the lock is dropped the item and its queue are there for certain.
    if (Waiting::Wanted()) {
      target.Set(pwq->wq, work);
      target.one_at_a_time = OneAtATime(pwq);
      target.no_slot = running == nullptr && WaitsForOwnSlot(pwq, word);
    }
    return true;
  }
};

// Waits behind `work`; false if it is idle. queued: consider the pending instance too, else the wait is
// part of a cancellation.
bool WaitBehind(struct cmwq_work* work, PoolTable* pools, bool queued) {
  Barrier barrier{};
  BarrierHost host{work, pools, &barrier, queued};
  if (!PlantBehind(WordOf(work), host)) return false;
  pool::WorkerPool::Wake(host.wake);
  const Waiting waiting(host.target, !queued);
  WaitBarrier(&barrier);
  return true;
}

// What FlushState needs of a queue.
struct FlushHost {
  Workqueue* const wq;

  // The protocol pairs them.
  void Lock() CMWQ_NO_TSA { wq->mutex.Lock(); }
  void Unlock() CMWQ_NO_TSA { wq->mutex.Unlock(); }
  static void Sleeping() { pool::WorkerSleeping(); }
  static void Running() { pool::WorkerRunning(); }
  void Close(int old, int next) {
    wq->ForEachPwq([this, old, next](Pwq* pwq) {
      sync::MutexLock hold(pwq->pool->lock);
      pwq->colour = next;
      if (pwq->nr_in_flight[old] > 0) wq->flush.Join(old);
    });
  }
};

bool CalledFromOwnItem(const Workqueue* wq, const char* what) {
  const pool::Worker* const w = pool::CurrentWorker();
  if (w == nullptr || w->current_pwq == nullptr) return false;
  if (static_cast<Pwq*>(w->current_pwq)->wq != wq) return false;
  base::RawLog(base::LogLevel::kError,
               "%s of queue %s called from one of its own items: it would wait for itself; ignored",
               what, wq->name);
  return true;
}

}  // namespace

bool IsBarrier(cmwq_work_fn fn) { return fn == &BarrierFn; }

bool FlushWork(struct cmwq_work* work, PoolTable* pools) {
  if (IsSelf(work)) {
    base::RawLog(base::LogLevel::kError,
                 "flush of work %p called from itself: it would wait for itself; ignored",
                 static_cast<void*>(work));
    return false;
  }
  return WaitBehind(work, pools, true);
}

bool WaitForRunning(struct cmwq_work* work, PoolTable* pools) {
  if (IsSelf(work)) {
    CMWQ_WARN_ONCE("cancel_sync or disable_sync of work %p called from itself: it would wait for itself; "
                   "it was cancelled without waiting", static_cast<void*>(work));
    return false;
  }
  return WaitBehind(work, pools, false);
}

// Waits for everything queued before the call. Context: may block, not from an item of `wq`.
// Locks: takes kWorkqueue and each pool's in turn, holds none while waiting.
void FlushWorkqueue(Workqueue* wq) {
  if (CalledFromOwnItem(wq, "flush")) return;
  WaitTarget target;
  if (Waiting::Wanted()) target.Set(wq, nullptr);
  const Waiting waiting(target, false);
  FlushHost host{wq};
  wq->flush.Flush(host);
}

bool WorkqueueEmpty(Workqueue* wq) {
  bool empty = true;
  wq->ForEachPwq([&empty](Pwq* pwq) {
    sync::MutexLock hold(pwq->pool->lock);
    if (!pwq->Empty()) empty = false;
  });
  return empty;
}

void DrainWorkqueue(Workqueue* wq) {
  if (CalledFromOwnItem(wq, "drain")) return;
  wq->nr_drainers.fetch_add(1, std::memory_order_seq_cst);
  for (int pass = 1;; ++pass) {
    FlushWorkqueue(wq);
    if (WorkqueueEmpty(wq)) break;
    // Kernel: the 10th pass and each 100th up to 1000.
    if (pass == 10 || (pass % 100 == 0 && pass <= 1000)) {
      base::RawLog(base::LogLevel::kWarn, "queue %s: not empty after %d drain passes", wq->name,
                   pass);
      pool::LogWriter log;
      ShowWorkqueue(wq, &log);
    }
  }
  wq->nr_drainers.fetch_sub(1, std::memory_order_release);
}

}  // namespace cmwq::wq
