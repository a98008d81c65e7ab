// Queueing, cancelling, disabling.

#include "runtime/base/test_point.h"
#include "runtime/wq/work_word.h"
#include "runtime/wq/workqueue.h"

namespace cmwq::wq {

// Draining queues take only what their own items queue; dying ones nothing (kernel: is_chained_work).
bool Refused(Workqueue* wq) {
  const WqState state = wq->state.load(std::memory_order_relaxed);
  if (state == WqState::kLive && wq->nr_drainers.load(std::memory_order_relaxed) == 0) return false;
  const pool::Worker* const w = pool::CurrentWorker();
  const bool chained = w != nullptr && w->current_pwq != nullptr &&
                       static_cast<Pwq*>(w->current_pwq)->wq == wq;
  if (chained && state != WqState::kDead) return false;
  CMWQ_WARN_ONCE("queue %s is %s: queueing from outside was refused", wq->name,
                 state == WqState::kLive ? "draining" : "being destroyed");
  return true;
}

namespace {

// Locks the pool that must take the item and returns its pwq (kernel: __queue_work). If the item still
// runs on another pool for the same queue, it goes there: one item is never executed twice at once.
// Locks: returns with pwq->pool->lock held.
Pwq* LockTarget(Workqueue* wq, Pwq* target, struct cmwq_work* work, uint64_t word) CMWQ_NO_TSA {
  const uint16_t last_id = Word::Pool(word);
  pool::WorkerPool* const last =
      last_id != Word::kNoPool && last_id < wq->pools->nr_pools ? wq->pools->by_id[last_id] : nullptr;
  if (last != nullptr && last != target->pool && !wq->ordered) {
    last->lock.Lock();
    const pool::Worker* const w = last->FindExecuting(work, work->fn_);
    if (w != nullptr && static_cast<Pwq*>(w->current_pwq)->wq == wq) {
      return static_cast<Pwq*>(w->current_pwq);
    }
    last->lock.Unlock();
  }
  target->pool->lock.Lock();
  return target;
}

// Puts an item that the caller has just claimed on the right list. Locks: pool held.
pool::Worker* Enqueue(Pwq* pwq, struct cmwq_work* work, bool inactive)
    CMWQ_REQUIRES(pwq->pool->lock) {
  work->pwq_ = pwq;
  work->on_worker_ = nullptr;
  base::ListInit(&work->entry_);
  ++pwq->nr_in_flight[pwq->colour];
  if (inactive) {
    pwq->inactive.PushBack(&work->entry_);
    return nullptr;
  }
  ++pwq->nr_active;
  return pwq->pool->Insert(&work->entry_, pwq->pool->worklist_head());
}

bool MustWait(const Pwq* pwq) CMWQ_REQUIRES(pwq->pool->lock) {
  // Also while older items wait, or raising the limit would reorder.
  return pwq->nr_active >= pwq->max_active || !pwq->inactive.empty();
}

}  // namespace

Pwq* LivePwq(Workqueue* wq, int cpu) {
  Pwq* const wanted = wq->PwqFor(cpu);
  if (wanted->pool->GoLive()) return wanted;
  Pwq* found = wanted;
  wq->ForEachPwq([&found](Pwq* pwq) {
    if (pwq->pool->served()) found = pwq;
  });
  return found;
}

// Context: any thread. Locks: takes kPool of the target, and of the last pool before it.
bool QueueWork(Workqueue* wq, int cpu, struct cmwq_work* work) {
  const auto ref = WordOf(work);
  Pwq* const target = LivePwq(wq, cpu);
  for (;;) {
    uint64_t word = ref.load(std::memory_order_relaxed);
    if ((word & Word::kPending) != 0 || Word::Disabled(word)) {
      // A refusal must be as ordered as a success: the execution that is still to come has to see the
      // caller's stores. Pairs with the fetch_and in Pwq::Started.
      word = ref.fetch_or(0, std::memory_order_seq_cst);
      if ((word & Word::kPending) != 0 || Word::Disabled(word)) return false;
    }
    if (Refused(wq)) return false;
    Pwq* const pwq = LockTarget(wq, target, work, word);
    pwq->pool->lock.AssertHeld();
    const bool inactive = MustWait(pwq);
    const uint64_t queued = Word::Queued(word, pwq->pool->attrs().id, pwq->colour, inactive);
    CMWQ_TEST_POINT("queue.before_claim");
    // The generation in `word` makes this fail if the item was queued and run since it was read.
    if (!ref.compare_exchange_strong(word, queued, std::memory_order_seq_cst)) {
      pwq->pool->lock.Unlock();
      continue;
    }
    pool::Worker* const wake = Enqueue(pwq, work, inactive);
    pwq->pool->lock.Unlock();
    pool::WorkerPool::Wake(wake);
    return true;
  }
}

void QueueFromTimer(Workqueue* wq, int cpu, struct cmwq_work* work) {
  const auto ref = WordOf(work);
  Pwq* const target = wq->PwqFor(cpu);
  if (Refused(wq)) {
    // The token must not leak: a leaked PENDING hangs the next cancel for ever.
    ref.fetch_and(Word::kLeaveMask, std::memory_order_seq_cst);
    return;
  }
  uint64_t word = ref.load(std::memory_order_relaxed);
  Pwq* const pwq = LockTarget(wq, target, work, word);
  pwq->pool->lock.AssertHeld();
  const bool inactive = MustWait(pwq);
  // Only the disable depth can change under us: the timer lock, which we hold, owns the rest.
  while (!ref.compare_exchange_weak(
      word, Word::Queued(word, pwq->pool->attrs().id, pwq->colour, inactive),
      std::memory_order_seq_cst)) {
  }
  pool::Worker* const wake = Enqueue(pwq, work, inactive);
  pwq->pool->lock.Unlock();
  pool::WorkerPool::Wake(wake);
}

namespace {

// Takes a queued item off its list. Locks: pool of `pwq` held.
void Dequeue(Pwq* pwq, struct cmwq_work* work, uint64_t word) CMWQ_REQUIRES(pwq->pool->lock) {
  const bool inactive = (word & Word::kInactive) != 0;
  if (!inactive) {
    pwq->pool->Remove(&work->entry_);
  } else {
    // Barriers behind a waiting item must not wait for its slot: they go to the worklist now.
    base::ListNode* node = pwq->inactive.next(&work->entry_);
    bool linked = (word & Word::kLinked) != 0;
    base::ListUnlink(&work->entry_);
    while (linked && node != nullptr) {
      base::ListNode* const next = pwq->inactive.next(node);
      linked = pool::work::IsLinked(
          base::ListOwner<struct cmwq_work>(node, offsetof(struct cmwq_work, entry_)));
      base::ListUnlink(node);
      pool::WorkerPool::Wake(pwq->pool->Insert(node, pwq->pool->worklist_head()));
      node = next;
    }
  }
  WordOf(work).fetch_and(Word::kLeaveMask, std::memory_order_seq_cst);
  // Last: may start waiting items and settle flushes. An inactive item had no slot to give back.
  pwq->Leave(Word::Colour(word), !inactive);
}

}  // namespace

// Steals the PENDING instance, wherever it is (kernel: try_to_grab_pending). True if there was one.
bool CancelWork(struct cmwq_work* work, PoolTable* pools, platform::EventThread* events) {
  const auto ref = WordOf(work);
  for (;;) {
    uint64_t word = ref.load(std::memory_order_acquire);
    if ((word & Word::kPending) == 0) return false;
    if ((word & Word::kTimer) != 0) {
      auto* const d = reinterpret_cast<struct cmwq_delayed_work*>(work);
      sync::MutexLock hold(events->mu);
      if ((ref.load(std::memory_order_relaxed) & Word::kTimer) == 0) continue;
      events->DisarmLocked(&d->timer_);
      ref.fetch_and(Word::kLeaveMask, std::memory_order_seq_cst);
      return true;
    }
    pool::WorkerPool* const pool = pools->by_id[Word::Pool(word)];
    sync::MutexLock hold(pool->lock);
    word = ref.load(std::memory_order_relaxed);
    // Under the lock of the pool that the word names, "queued here" cannot change.
    if ((word & Word::kQueued) == 0 || pools->by_id[Word::Pool(word)] != pool) continue;
    Pwq* const pwq = static_cast<Pwq*>(work->pwq_);
    pwq->pool->lock.AssertHeld();
    Dequeue(pwq, work, word);
    return true;
  }
}

bool DisableWork(struct cmwq_work* work, PoolTable* pools, platform::EventThread* events,
                 bool sync) {
  const auto ref = WordOf(work);
  uint64_t word = ref.load(std::memory_order_relaxed);
  do {
    if (Word::DisableDepth(word) == 0xffff) {
      CMWQ_WARN_ONCE("work %p was disabled 65535 times; further calls do not count",
                     static_cast<void*>(work));
      break;
    }
  } while (!ref.compare_exchange_weak(word, word + Word::kDisableOne, std::memory_order_seq_cst));
  const bool pending = CancelWork(work, pools, events);
  if (sync) WaitForRunning(work, pools);
  return pending;
}

bool EnableWork(struct cmwq_work* work) {
  const auto ref = WordOf(work);
  uint64_t word = ref.load(std::memory_order_relaxed);
  do {
    if (!Word::Disabled(word)) {
      CMWQ_WARN_ONCE("work %p was enabled without having been disabled", static_cast<void*>(work));
      return false;
    }
  } while (!ref.compare_exchange_weak(word, word - Word::kDisableOne, std::memory_order_seq_cst));
  return Word::DisableDepth(word) == 1;
}

}  // namespace cmwq::wq
