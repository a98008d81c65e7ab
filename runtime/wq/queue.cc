// Queueing, cancelling, disabling.

#include "runtime/base/test_point.h"
#include "runtime/wq/ownership.h"
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

// Over its limit, or behind older items: raising the limit must not reorder. What an unbound queue may
// still start is only known when the slot is taken: Enqueue asks.
bool MayHaveToWait(const Pwq* pwq) CMWQ_REQUIRES(pwq->pool->lock) {
  return pwq->node != nullptr || pwq->nr_active >= pwq->max_active || !pwq->inactive.empty();
}

// Puts an item that the caller has just claimed on the right list. Locks: pool held.
pool::Worker* Enqueue(Pwq* pwq, struct cmwq_work* work, bool inactive)
    CMWQ_REQUIRES(pwq->pool->lock) {
  work->pwq_ = pwq;
  work->on_worker_ = nullptr;
  base::ListInit(&work->entry_);
  pwq->pool->Stamp(work);
  ++pwq->nr_in_flight[pwq->colour];
  if (!inactive) {
    ++pwq->nr_active;
  } else if (pwq->node != nullptr && pwq->inactive.empty() && pwq->TryGetSlot(false)) {
    WordOf(work).fetch_and(~Word::kInactive, std::memory_order_relaxed);
  } else {
    pwq->inactive.PushBack(&work->entry_);
    return nullptr;
  }
  return pwq->pool->Insert(&work->entry_, pwq->pool->worklist_head());
}

// What the PENDING protocol (ownership.h) needs for a queueing to `target`, or to the pwq of `cpu` that
// has taken its place.
struct QueueHost {
  Workqueue* const wq;
  const int cpu;
  Pwq* target;
  struct cmwq_work* const work;
  Pwq* chosen = nullptr;
  bool inactive = false;
  pool::Worker* wake = nullptr;
  bool accepted = false;  // before the queue began to drain

  bool Refused() {
    if (accepted) return wq->state.load(std::memory_order_relaxed) == WqState::kDead;
    return wq::Refused(wq);
  }
  pool::WorkerPool* TargetPool() { return target->pool; }
  pool::WorkerPool* LastPool(uint64_t word) {
    // Order implies it: the items of an ordered queue run one at a time, wherever.
    return wq->ordered ? nullptr : wq->pools->ById(Word::Pool(word));
  }
  // Locks: the protocol pairs them, which the analysis cannot follow.
  static void Lock(pool::WorkerPool* pool) CMWQ_NO_TSA { pool->lock.Lock(); }
  static void Unlock(pool::WorkerPool* pool) CMWQ_NO_TSA { pool->lock.Unlock(); }
  bool RunsOn(pool::WorkerPool* pool) {
    pool->lock.AssertHeld();
    const pool::Worker* const w = pool->FindExecuting(work, work->fn_);
    if (w == nullptr || static_cast<Pwq*>(w->current_pwq)->wq != wq) return false;
    chosen = static_cast<Pwq*>(w->current_pwq);
    return true;
  }
  void Redirect(pool::WorkerPool*) {}  // RunsOn has found the pwq
  bool GoTo(pool::WorkerPool*) {
    target->pool->lock.AssertHeld();
    chosen = target;
    if (target->current) return true;
    target = wq->PwqFor(cpu);  // the attributes have just been changed
    return false;
  }
  uint64_t QueuedWord(uint64_t word) {
    chosen->pool->lock.AssertHeld();
    inactive = MayHaveToWait(chosen);
    CMWQ_TEST_POINT_LOCKED("queue.before_claim", chosen->pool);
    return Word::Queued(word, chosen->pool->attrs().id, chosen->colour, inactive);
  }
  void Enqueue() {
    chosen->pool->lock.AssertHeld();
    wake = wq::Enqueue(chosen, work, inactive);
    CMWQ_TEST_POINT_LOCKED("queue.queued", chosen->pool);
  }
  void UnlockChosen() { Unlock(chosen->pool); }
  void UnlockAndWake() {
    Unlock(chosen->pool);
    pool::WorkerPool::Wake(wake);
  }
};

}  // namespace

Pwq* LivePwq(Workqueue* wq, int cpu) {
  Pwq* wanted = wq->PwqFor(cpu);
  if (__builtin_expect(wanted == nullptr, 0)) wanted = wq->first_pwq.load(std::memory_order_acquire);
  return wanted->pool->GoLive() ? wanted : ServedPwq(wq, wanted);
}

Pwq* ServedPwq(Workqueue* wq, Pwq* wanted) {
  // An ordered queue has one pwq that may be chosen; in the middle of Commit another may still be seen.
  if (wanted->pool->served() || wq->ordered) return wanted;
  Pwq* gone = nullptr;
  for (int cpu = 0; cpu < wq->pools->nr_cpu_ids; ++cpu) {
    Pwq* const other = wq->PwqFor(cpu);
    if (other == nullptr || !other->pool->served()) continue;
    if (!other->pool->disassociated()) return other;
    gone = other;
  }
  return gone != nullptr ? gone : wanted;
}

namespace {

// `cpu` is usable. The CPU whose entry in cpu_pwq counts. All of an ordered queue's are equal, but Commit changes one after
// the other: whoever queued behind the change must not be overtaken by what is queued from another CPU.
int CpuFor(Workqueue* wq, int cpu) {
  if (wq->ordered) return 0;
  return wq->unbound() ? wq->pools->PickUnboundCpu(cpu) : cpu;
}

}  // namespace

// Context: any thread. Locks: takes kPool of the target, and of the last pool before it.
bool QueueWork(Workqueue* wq, int cpu, struct cmwq_work* work) {
  cpu = CpuFor(wq, cpu);
  QueueHost host{wq, cpu, LivePwq(wq, cpu), work};
  return ClaimQueued(WordOf(work), host);
}

void QueueFromTimer(Workqueue* wq, int cpu, struct cmwq_work* work) {
  // The CPU may have left since the timer was armed.
  cpu = CpuFor(wq, wq->pools->UsableCpu(cpu));
  // No threads are made under the timer lock: the pool came up when the timer was armed, or, if the
  // attributes were changed since then, before they were. If none has workers, Insert asks for one.
  QueueHost host{wq, cpu, ServedPwq(wq, wq->PwqFor(cpu)), work};
  TimerToQueued(WordOf(work), host);
}

void BringUp(Workqueue* wq, int cpu) { LivePwq(wq, CpuFor(wq, cpu)); }

// Context: any thread. Locks: kTimer at most held; takes kPool of the target, and of the last pool before.
bool QueueAccepted(Workqueue* wq, int cpu, struct cmwq_work* work) {
  cpu = CpuFor(wq, cpu);
  QueueHost host{wq, cpu, ServedPwq(wq, wq->PwqFor(cpu)), work};
  host.accepted = true;
  return ClaimQueued(WordOf(work), host);
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
          pool::work::WorkOf(node));
      base::ListUnlink(node);
      pool::WorkerPool::Wake(pwq->pool->Insert(node, pwq->pool->worklist_head()));
      node = next;
    }
  }
}

// What the PENDING protocol needs for a cancellation.
struct StealHost {
  struct cmwq_work* const work;
  PoolTable* const pools;
  platform::EventThread* const events;
  Pwq* pwq = nullptr;  // kept: once the item is left, somebody may queue it elsewhere

  // Locks: the protocol pairs them, which the analysis cannot follow.
  void LockTimer() CMWQ_NO_TSA { events->mu.Lock(); }
  void UnlockTimer() CMWQ_NO_TSA { events->mu.Unlock(); }
  void Disarm() CMWQ_NO_TSA {
    events->DisarmLocked(&reinterpret_cast<struct cmwq_delayed_work*>(work)->timer_);
  }
  pool::WorkerPool* PoolOf(uint64_t word) { return pools->ById(Word::Pool(word)); }
  static void Lock(pool::WorkerPool* pool) CMWQ_NO_TSA { pool->lock.Lock(); }
  static void Unlock(pool::WorkerPool* pool) CMWQ_NO_TSA { pool->lock.Unlock(); }
  void Dequeue(uint64_t word) {
    pwq = static_cast<Pwq*>(work->pwq_);
    pwq->pool->lock.AssertHeld();
    wq::Dequeue(pwq, work, word);
  }
  void Dequeued(uint64_t word) {
    pwq->pool->lock.AssertHeld();
    // May start waiting items and settle flushes. An inactive item had no slot to give back.
    pwq->Leave(Word::Colour(word), (word & Word::kInactive) == 0);
    CMWQ_TEST_POINT_LOCKED("queue.cancelled", pwq->pool);
  }
};

}  // namespace

bool CancelWork(struct cmwq_work* work, PoolTable* pools, platform::EventThread* events) {
  StealHost host{work, pools, events};
  return Steal(WordOf(work), host);
}

bool DisableWork(struct cmwq_work* work, PoolTable* pools, platform::EventThread* events,
                 bool sync) {
  if (!RaiseDisable(WordOf(work))) {
    CMWQ_WARN_ONCE("work %p was disabled 65535 times; further calls do not count",
                   static_cast<void*>(work));
  }
  const bool pending = CancelWork(work, pools, events);
  if (sync) WaitForRunning(work, pools);
  return pending;
}

bool EnableWork(struct cmwq_work* work) {
  const int left = LowerDisable(WordOf(work));
  if (left < 0) {
    CMWQ_WARN_ONCE("work %p was enabled without having been disabled", static_cast<void*>(work));
  }
  return left == 0;
}

}  // namespace cmwq::wq
