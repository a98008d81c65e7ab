// When no thread can be made: items of queues with a fail callback are handed back to their owners
// (io-wq's policy) instead of waiting (the kernel workqueue's).
//
// The event thread takes such items as a rescuer would and calls the callback where a worker calls the
// function. So everything that knows about executions holds here too: PENDING is cleared before, a
// cancel or flush of the item waits for the callback, barriers follow, slots and colours are settled
// after it, and the item may be queued again or freed meanwhile.

#include <cerrno>

#include "runtime/base/test_point.h"
#include "runtime/pool/pool.h"
#include "runtime/pool/pwq_base.h"
#include "runtime/pool/work_link.h"

namespace cmwq::pool {

// The first item on the worklist whose queue has a callback. *budget grows by what a queue has in flight
// when the pass meets it first: a callback that queues its item again cannot keep the pass going.
// *fail: the callback. Null for a barrier that stands alone, its item having been cancelled: it is run.
struct cmwq_work* WorkerPool::NextToFail(uint64_t pass, int64_t* budget, cmwq_work_fail_fn* fail) {
  for (base::ListNode* n = worklist_.front(); n != nullptr; n = worklist_.next(n)) {
    auto* const work = work::WorkOf(n);
    PwqBase* const pwq = static_cast<PwqBase*>(work->pwq_);
    // Read once: who takes the callback back a moment later must not make the item disappear.
    *fail = pwq->fail();
    if (*fail == nullptr) continue;
    pwq->pool->lock.AssertHeld();  // this pool's: the item is on its list
    if (pwq->IsBarrier(work)) *fail = nullptr;
    if (pwq->fail_pass != pass) {
      pwq->fail_pass = pass;
      *budget += pwq->InFlight();
    }
    return (*budget)-- > 0 ? work : nullptr;
  }
  return nullptr;
}

// What is left behind a failed item: its barriers are run. The item itself, if it was queued again and a
// worker found it executing here, goes back: its function must not run on the event thread.
void WorkerPool::SettleFailed(Worker* w) {
  while (base::ListNode* const node = w->scheduled.front()) {
    auto* const work = work::WorkOf(node);
    const PwqBase* const pwq = static_cast<PwqBase*>(work->pwq_);
    pwq->pool->lock.AssertHeld();  // this pool's
    if (pwq->IsBarrier(work)) {
      ProcessOneWork(w, work);
      continue;
    }
    base::ListNode* const where =
        worklist_.empty() ? worklist_.head() : worklist_.front();
    for (bool linked = true; linked;) {
      struct cmwq_work* const next = work::WorkOf(w->scheduled.front());
      linked = work::IsLinked(next);
      Remove(&next->entry_);
      Wake(Insert(&next->entry_, where));
    }
  }
}

// After a further attempt to create a worker has failed.
// Context: event thread. Locks: takes kPool, dropped around each callback; kTimer is not held.
void WorkerPool::FailPending() {
  Worker* const w = &fail_worker_;
  Worker* const outer = CurrentWorker();
  SetCurrentWorker(w);
  w->tid.store(base::Tid(), std::memory_order_relaxed);
  ++fail_pass_;
  int64_t budget = 0;
  lock.Lock();
  // Asked again for each item: a worker may have come back meanwhile. At the cap, the user's own limit,
  // items wait for the workers that there are.
  while (NeedToCreateWorker(Counts()) && create_err_ != 0 && create_err_ != ENFILE) {
    cmwq_work_fail_fn fail = nullptr;
    struct cmwq_work* const work = NextToFail(fail_pass_, &budget, &fail);
    if (work == nullptr) break;
    ++progress_;
    if (!AssignWork(work, w)) continue;
    if (fail != nullptr) ++stats_.failed;
    CMWQ_TEST_POINT_LOCKED("fail.decided", this);
    ProcessOneWork(w, work, fail);
    SettleFailed(w);
  }
  Worker* const wake = NeedWake();
  lock.Unlock();
  Wake(wake);
  SetCurrentWorker(outer);
}

}  // namespace cmwq::pool
