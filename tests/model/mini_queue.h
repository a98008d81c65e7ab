// MiniQueue: pools, workers and a timer cut down to what the PENDING protocol (wq/ownership.h) touches.
// The protocol's functions are the product's; lists, locks and threads are the model's. There is one
// worker per pool, so that an item can only run twice at once on two pools.
//
// Defects can be planted, to show that a run notices them.

#ifndef CMWQ_TESTS_MODEL_MINI_QUEUE_H_
#define CMWQ_TESTS_MODEL_MINI_QUEUE_H_

#include <algorithm>
#include <cstdint>

#include "runtime/wq/ownership.h"
#include "tests/model/explore.h"
#include "tests/model/mini_queue_pool.h"
#include "tests/model/mutant_ref.h"

namespace cmwq::model {

template <QueueDefect kDefect = QueueDefect::kNone>
class MiniQueue {
 public:
  static constexpr int kPools = 2;
  static constexpr int kItems = 2;
  static constexpr int kWriters = MiniItem::kWriters;
  using Ref = ModelRef<kDefect>;
  using Barrier = MiniBarrier;

  using Item = MiniItem;
  using Pool = MiniQueuePool;

  MiniQueue() {
    for (int i = 0; i < kPools; ++i) pools_[i].id = i;
  }
  void AddThreads(World& world, bool timer = false) {
    static const char* const kNames[kPools] = {"worker-0", "worker-1"};
    for (int i = 0; i < kPools; ++i) world.Daemon(kNames[i], [this, i] { WorkerLoop(&pools_[i]); });
    if (timer) world.Daemon("timer", [this] { TimerLoop(); });
  }
  // Writer `w` writes `value` and queues; true if the item was claimed.
  bool Queue(int item, int pool, int w = -1, int32_t value = 0) {
    if (w >= 0) items[item].data[w].store(value, std::memory_order_relaxed);
    QueueHost host{this, &items[item], &pools_[pool]};
    return wq::ClaimQueued(RefOf(item), host);
  }
  bool QueueDelayed(int item, int pool) {
    bool claimed;
    {
      ModelLock hold(&timer_lock_);
      claimed = wq::ClaimTimer(RefOf(item));
      if (claimed) {
        ++items[item].queued;
        items[item].timer_target = pool;
      }
    }
    if (claimed) timer_parker_.Unpark();
    return claimed;
  }
  bool Cancel(int item) {
    StealHost host{this, &items[item]};
    const bool pending = wq::Steal(RefOf(item), host);
    if (pending) ++items[item].cancelled;
    return pending;
  }
  bool DisableSync(int item) {
    MODEL_CHECK(wq::RaiseDisable(RefOf(item)));
    const bool pending = Cancel(item);
    Wait(item, false);
    return pending;
  }
  int Enable(int item) { return wq::LowerDisable(RefOf(item)); }
  bool Flush(int item) { return Wait(item, true); }

  // The pool takes no new items from now on; what it runs may still be queued to it.
  void Retire(int pool) {
    ModelLock hold(&pools_[pool].lock);
    pools_[pool].retired = true;
  }

  void CheckEnd() {
    for (Item& item : items) {
      const uint64_t word = item.word.load();
      MODEL_CHECK((word & ~Word::kLeaveMask) == 0);
      MODEL_CHECK(!Word::Disabled(word));
      MODEL_CHECK(item.running == 0 && item.timer_target < 0);
      MODEL_CHECK(item.queued == item.executed + item.cancelled);
    }
  }
  // Without cancellers: every writer's last value has reached an execution.
  void CheckSeen(int item) {
    for (int w = 0; w < kWriters; ++w) {
      MODEL_CHECK(items[item].seen[w] == items[item].data[w].load());
    }
  }

  Item items[kItems];
  bool refuse = false;  // plain: in the product a relaxed look at the queue's state

 private:
  struct QueueHost {
    MiniQueue* const q;
    Item* const item;
    Pool* target;
    Pool* chosen = nullptr;

    bool Refused() { return q->refuse; }
    Pool* TargetPool() { return target; }
    Pool* LastPool(uint64_t word) {
      const uint16_t id = Word::Pool(word);
      if (kDefect == QueueDefect::kNoRedirect || id == Word::kNoPool) return nullptr;
      return &q->pools_[id];
    }
    static void Lock(Pool* pool) { pool->lock.Lock(); }
    static void Unlock(Pool* pool) { pool->lock.Unlock(); }
    bool RunsOn(Pool* pool) { return pool->executing == item; }
    void Redirect(Pool* pool) { chosen = pool; }
    bool GoTo(Pool* pool) {
      if (!pool->retired || kDefect == QueueDefect::kRetiredTarget) {
        chosen = pool;
        return true;
      }
      target = &q->pools_[1 - pool->id];
      return false;
    }
    uint64_t QueuedWord(uint64_t word) {
      const uint64_t queued = Word::Queued(word, static_cast<uint16_t>(chosen->id), 0, false);
      return kDefect == QueueDefect::kNoGeneration ? queued & (Word::kGenerationOne - 1) : queued;
    }
    void Enqueue() {
      if (item->timer_target < 0) ++item->queued;  // else QueueDelayed has counted it
      item->timer_target = -1;
      MODEL_CHECK(!chosen->retired || chosen->executing == item);
      if (kDefect != QueueDefect::kEnqueueLate) chosen->Insert(chosen->length, {item, nullptr});
    }
    void UnlockChosen() { chosen->lock.Unlock(); }
    void UnlockAndWake() {
      chosen->lock.Unlock();
      if (kDefect == QueueDefect::kEnqueueLate) {
        ModelLock hold(&chosen->lock);
        chosen->Insert(chosen->length, {item, nullptr});
      }
      chosen->parker.Unpark();
    }
  };

  struct StealHost {
    MiniQueue* const q;
    Item* const item;

    void LockTimer() { q->timer_lock_.Lock(); }
    void UnlockTimer() { q->timer_lock_.Unlock(); }
    void Disarm() {
      MODEL_CHECK(item->timer_target >= 0);
      if (kDefect != QueueDefect::kNoDisarm) item->timer_target = -1;
    }
    Pool* PoolOf(uint64_t word) { return &q->pools_[Word::Pool(word)]; }
    static void Lock(Pool* pool) {
      if (kDefect != QueueDefect::kStealUnlocked) pool->lock.Lock();
    }
    static void Unlock(Pool* pool) {
      if (kDefect != QueueDefect::kStealUnlocked) pool->lock.Unlock();
    }
    void Dequeue(uint64_t word) {
      Pool* const pool = PoolOf(word);
      const int at = pool->Find(item);
      if (at < 0) Fail("QUEUED, but not on the list");
      pool->Take(at);
    }
    void Dequeued(uint64_t) {}
  };

  struct FlushHost {
    MiniQueue* const q;
    Item* const item;
    Barrier* const barrier;
    const bool queued;

    Pool* PoolOf(uint64_t word) { return &q->pools_[Word::Pool(word)]; }
    static void Lock(Pool* pool) { pool->lock.Lock(); }
    static void Unlock(Pool* pool) { pool->lock.Unlock(); }
    bool Plant(Pool* pool, uint64_t word) {
      if (queued && (word & Word::kQueued) != 0) {
        const int at = pool->Find(item);
        if (at < 0) Fail("QUEUED, but not on the list");
        pool->Insert(at + 1, {nullptr, barrier});
        return true;
      }
      if (pool->executing != item) return false;
      MODEL_CHECK(pool->nr_after < 4);
      pool->after[pool->nr_after++] = barrier;
      return true;
    }
  };

  Ref RefOf(int item) { return Ref(&items[item].word); }
  Ref RefOf(Item* item) { return Ref(&item->word); }

  bool Wait(int item, bool queued) {
    Barrier* const barrier = &barriers_[nr_barriers_++];
    MODEL_CHECK(nr_barriers_ <= kMaxBarriers);
    FlushHost host{this, &items[item], barrier, queued};
    if (!wq::PlantBehind(RefOf(item), host)) return false;
    barrier->Park();
    return true;
  }

  void Execute(Item* item) {
    MODEL_CHECK(!item->quiet);
    if (++item->running != 1) Fail("runs twice at once");
    for (int w = 0; w < kWriters; ++w) {
      item->seen[w] = item->data[w].load(std::memory_order_relaxed);
    }
    if (item->requeue > 0) {
      --item->requeue;
      Queue(static_cast<int>(item - items), 1 - item->requeue % 2);
    }
    --item->running;
    ++item->executed;
  }

  void WorkerLoop(Pool* pool) {
    for (;;) {
      pool->lock.Lock();
      if (pool->length == 0) {
        pool->lock.Unlock();
        pool->parker.Park();
        continue;
      }
      const Pool::Entry next = pool->Take(0);
      if (next.item == nullptr) {
        pool->lock.Unlock();
        next.barrier->Unpark();
        continue;
      }
      pool->executing = next.item;
      if (kDefect != QueueDefect::kLeaveAfter) wq::Leave(RefOf(next.item));
      pool->lock.Unlock();
      Execute(next.item);
      pool->lock.Lock();
      if (kDefect == QueueDefect::kLeaveAfter) wq::Leave(RefOf(next.item));
      pool->executing = nullptr;
      const int waiters = pool->nr_after;
      Barrier* after[4];
      std::copy(pool->after, pool->after + waiters, after);
      pool->nr_after = 0;
      pool->lock.Unlock();
      for (int i = 0; i < waiters; ++i) after[i]->Unpark();
    }
  }

  void TimerLoop() {
    for (;;) {
      timer_parker_.Park();
      ModelLock hold(&timer_lock_);
      for (Item& item : items) {
        if (item.timer_target < 0) continue;
        if (refuse && kDefect == QueueDefect::kLeakOnRefusal) {
          item.timer_target = -1;
          continue;
        }
        QueueHost host{this, &item, &pools_[item.timer_target]};
        const bool refused = refuse;
        wq::TimerToQueued(RefOf(&item), host);
        if (refused) {
          item.timer_target = -1;
          ++item.cancelled;
        }
      }
    }
  }

  static constexpr int kMaxBarriers = 4;
  Pool pools_[kPools];
  ModelMutex timer_lock_;
  Barrier timer_parker_;
  Barrier barriers_[kMaxBarriers];
  int nr_barriers_ = 0;
};

}  // namespace cmwq::model

#endif  // CMWQ_TESTS_MODEL_MINI_QUEUE_H_
