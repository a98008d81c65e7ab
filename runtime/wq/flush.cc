// Waiting: for one item (barriers), for a queue (colours), until a queue is empty (drain).

#include "runtime/pool/sched_hooks.h"
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

bool IsSelf(const struct cmwq_work* work) {
  const pool::Worker* const w = pool::CurrentWorker();
  return w != nullptr && w->current_work == work;
}

// Plants a barrier behind `work`; false if it is idle. queued: consider the pending instance too.
bool StartFlush(struct cmwq_work* work, PoolTable* pools, Barrier* barrier, bool queued) {
  const auto ref = WordOf(work);
  for (;;) {
    const uint64_t word = ref.load(std::memory_order_acquire);
    const uint16_t id = Word::Pool(word);
    if (id == Word::kNoPool) return false;
    pool::WorkerPool* const pool = pools->by_id[id];
    pool::Worker* wake = nullptr;
    {
      sync::MutexLock hold(pool->lock);
      const uint64_t now = ref.load(std::memory_order_relaxed);
      if (Word::Pool(now) != id) continue;
      if (queued && (now & Word::kQueued) != 0) {
        Pwq* const pwq = static_cast<Pwq*>(work->pwq_);
        pwq->pool->lock.AssertHeld();
        wake = InsertBarrier(pwq, barrier, work, nullptr);
      } else if (pool::Worker* const running = pool->FindExecuting(work, work->fn_)) {
        Pwq* const pwq = static_cast<Pwq*>(running->current_pwq);
        pwq->pool->lock.AssertHeld();
        wake = InsertBarrier(pwq, barrier, work, running);
      } else {
        return false;
      }
    }
    pool::WorkerPool::Wake(wake);
    return true;
  }
}

void WaitFlush(Workqueue* wq, uint64_t sequence) {
  pool::WorkerSleeping();
  for (;;) {
    // Acquire pairs with the release in ColourDone. The futex word is read before `done`, so that a
    // change in between makes the wait return.
    const int32_t seen = wq->flush.wake.load(std::memory_order_acquire);
    if (wq->flush.done.load(std::memory_order_acquire) > sequence) break;
    sync::RealSync::FutexWait(&wq->flush.wake, seen);
  }
  pool::WorkerRunning();
}

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

bool FlushWork(struct cmwq_work* work, PoolTable* pools) {
  if (IsSelf(work)) {
    base::RawLog(base::LogLevel::kError,
                 "flush of work %p called from itself: it would wait for itself; ignored",
                 static_cast<void*>(work));
    return false;
  }
  Barrier barrier{};
  if (!StartFlush(work, pools, &barrier, true)) return false;
  WaitBarrier(&barrier);
  return true;
}

bool WaitForRunning(struct cmwq_work* work, PoolTable* pools) {
  if (IsSelf(work)) return false;
  Barrier barrier{};
  if (!StartFlush(work, pools, &barrier, false)) return false;
  WaitBarrier(&barrier);
  return true;
}

// One pwq (or the flusher's own bias) is through with `colour`.
// Context: worker, canceller, flusher. Locks: any pool's may be held; takes none.
void ColourDone(Workqueue* wq, int colour) {
  FlushState& f = wq->flush;
  // seq_cst, here and below: the last ones of two colours may come at once, each changing its own count
  // and then reading the other's. One of them must see both at zero, or nobody advances past the second.
  if (f.nr_pwqs[colour].fetch_sub(1, std::memory_order_seq_cst) != 1) return;
  // Colours complete in order: a flush also waits for the items of the flushes before it. Several
  // callers may advance at once; each step is taken by one.
  bool advanced = false;
  uint64_t done = f.done.load(std::memory_order_seq_cst);
  while (done < f.current.load(std::memory_order_acquire) &&
         f.nr_pwqs[done % kColours].load(std::memory_order_seq_cst) == 0) {
    if (f.done.compare_exchange_strong(done, done + 1, std::memory_order_seq_cst)) {
      ++done;
      advanced = true;
    }
  }
  if (!advanced) return;
  f.wake.fetch_add(1, std::memory_order_release);  // pairs with the acquire in WaitFlush
  sync::RealSync::FutexWake(&f.wake, INT32_MAX);
}

// Waits for everything queued before the call. Not live-lockable: items queued later have another
// colour. Locks: takes kWorkqueue and each pool's in turn, holds none while waiting.
void FlushWorkqueue(Workqueue* wq) {
  if (CalledFromOwnItem(wq, "flush")) return;
  FlushState& f = wq->flush;
  uint64_t sequence;
  for (;;) {
    wq->mutex.Lock();
    sequence = f.current.load(std::memory_order_relaxed);
    // One colour is open, at most kColours - 1 are closed and unfinished.
    if (sequence - f.done.load(std::memory_order_acquire) < kColours - 1) break;
    wq->mutex.Unlock();
    WaitFlush(wq, sequence - (kColours - 1));
  }
  const int old = static_cast<int>(sequence % kColours);
  const int next = static_cast<int>((sequence + 1) % kColours);
  // Own bias: the colour is not done before every pwq was asked.
  f.nr_pwqs[old].store(1, std::memory_order_relaxed);
  f.current.store(sequence + 1, std::memory_order_release);
  wq->ForEachPwq([&f, old, next](Pwq* pwq) {
    sync::MutexLock hold(pwq->pool->lock);
    pwq->colour = next;
    if (pwq->nr_in_flight[old] > 0) f.nr_pwqs[old].fetch_add(1, std::memory_order_relaxed);
  });
  wq->mutex.Unlock();
  ColourDone(wq, old);
  WaitFlush(wq, sequence);
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
    }
  }
  wq->nr_drainers.fetch_sub(1, std::memory_order_release);
}

}  // namespace cmwq::wq
