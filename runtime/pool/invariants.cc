#include "runtime/pool/invariants.h"

#include "runtime/base/test_point.h"
#include "runtime/pool/pwq_base.h"
#include "runtime/pool/work_link.h"

namespace cmwq::pool {

const char* Inspector::BrokenIdleList(WorkerPool* pool) {
  int idle = 0;
  for (base::ListNode* n = pool->idle_list_.front(); n != nullptr; n = pool->idle_list_.next(n)) {
    const Worker* const w = base::ListOwner<Worker>(n, offsetof(Worker, entry));
    if (!w->idle || w->pool != pool) return "I1: on the idle list, but not idle";
    if (StateWord::Counted(w->word->Load())) return "I2: an idle worker counts";
    ++idle;
  }
  if (idle != pool->nr_idle_) return "I1: nr_idle";
  return nullptr;
}

const char* Inspector::BrokenWorkers(WorkerPool* pool) {
  const char* broken = nullptr;
  int slots = 0, idle = 0, dying = 0;
  ForEachWorker(pool, [&](Worker* w) {
    slots += w->is_rescuer ? 0 : 1;
    idle += w->idle ? 1 : 0;
    dying += w->die ? 1 : 0;
    if (pool->disassociated() && StateWord::Counted(w->word->Load())) {
      broken = "I2: a worker counts, but its CPU has left";
    }
    if (w->idle && w->current_work != nullptr) broken = "I1: idle and busy";
    if (w->idle && !w->scheduled.empty()) broken = "I8: an idle worker has items of its own";
    if (w->die && (w->idle || w->current_work != nullptr || !w->scheduled.empty())) {
      broken = "I9: told to exit while it has something to do";
    }
  });
  if (broken != nullptr) return broken;
  if (idle != pool->nr_idle_) return "I1: idle, but not on the idle list";
  int free = 0;
  for (base::ListNode* n = pool->free_slots_.front(); n != nullptr; n = pool->free_slots_.next(n)) {
    ++free;
  }
  // One slot may be taken by whoever is creating.
  const int alive = slots - free - dying;
  if (alive < pool->nr_workers_ || alive > pool->nr_workers_ + 1) return "I1: nr_workers";
  // A hook lowers the counter a moment after its word, but its worker is not idle meanwhile.
  const int busy = pool->nr_workers_ - pool->nr_idle_;
  if (pool->conc_.nr_running() > busy) return "I2: more run than are not idle";
  if (pool->manager_ != nullptr && (!pool->managing_ || pool->manager_->idle)) {
    return "I4: the manager is idle, or has no role";
  }
  return nullptr;
}

const char* Inspector::BrokenBusyHash(WorkerPool* pool) {
  int busy = 0, hashed = 0;
  ForEachWorker(pool, [&](Worker* w) { busy += w->current_work != nullptr ? 1 : 0; });
  for (Worker* head : pool->busy_) {
    for (Worker* w = head; w != nullptr; w = w->hash_next) {
      if (w->current_work == nullptr || w->idle) return "I1: in the busy hash without an item";
      ++hashed;
    }
  }
  return busy != hashed ? "I1: busy, but not in the busy hash" : nullptr;
}

const char* Inspector::BrokenWorklist(WorkerPool* pool) {
  uint32_t pending = 0;
  for (base::ListNode* n = pool->worklist_.front(); n != nullptr; n = pool->worklist_.next(n)) {
    ++pending;
  }
  if (pending != pool->nr_pending_) return "P1: nr_pending";
  if (pool->conc_.nr_pending() != pending) return "P1: what sleepers see of nr_pending";
  const char* broken = nullptr;
  ForEachItem(pool, [&broken, pool](const HeldItem& item) {
    if (item.pwq == nullptr || item.pwq->pool != pool) broken = "L2: item of another pool";
    if (item.running || !work::IsLinked(item.work)) return;
    if (item.next == nullptr || item.next->pwq_ != item.pwq) {
      broken = "I15: nothing behind a linked item";
    }
  });
  return broken;
}

uint32_t Inspector::NrItems(WorkerPool* pool) {
  uint32_t n = pool->nr_pending_;
  for (Worker* head : pool->busy_) {
    for (Worker* w = head; w != nullptr; w = w->hash_next) {
      w->current_pwq->pool->lock.AssertHeld();
      n += static_cast<uint32_t>(w->current_pwq->InFlight());
    }
  }
  return n;
}

const char* Inspector::BrokenInPool(WorkerPool* pool) {
  if (const char* const broken = BrokenIdleList(pool)) return broken;
  if (const char* const broken = BrokenWorkers(pool)) return broken;
  if (const char* const broken = BrokenBusyHash(pool)) return broken;
  return BrokenWorklist(pool);
}

const char* Inspector::Broken(WorkerPool* pool) {
  if (const char* const broken = BrokenInPool(pool)) return broken;
  constexpr int kMost = 16;  // queues; enough to look at, at a test point
  PwqBase* seen[kMost];
  int n = 0;
  ForEachItem(pool, [&seen, &n](const HeldItem& item) {
    for (int i = 0; i < n; ++i) {
      if (seen[i] == item.pwq) return;
    }
    if (n < kMost) seen[n++] = item.pwq;
  });
  for (int i = 0; i < n; ++i) {
    seen[i]->pool->lock.AssertHeld();
    if (const char* const broken = seen[i]->BrokenInvariant()) return broken;
  }
  return nullptr;
}

void Inspector::Check(WorkerPool* pool, const char* where) {
  const char* const broken = Broken(pool);
  if (broken == nullptr) return;
  base::RawLog(base::LogLevel::kError, "pool %u at %s: %s", pool->attrs().id, where, broken);
  CMWQ_CHECK(broken == nullptr);
}

void WorkerPool::CheckInvariants() {
  sync::MutexLock hold(lock);
  Inspector::Check(this, "CheckInvariants");
}

#if defined(CMWQ_TEST_POINTS)
void VerifyAtTestPoint(const char* where, void* locked) {
  WorkerPool* pool = static_cast<WorkerPool*>(locked);
  if (pool == nullptr) {
    // Somebody who holds a lock may hold it in the middle of a change, or in the wrong rank for this.
    if (sync::RanksHeld() != 0) return;
    const Worker* const w = CurrentWorker();
    pool = w != nullptr ? w->pool : nullptr;
    // Not Lock: a test may hold up the owner of the lock until this very thread has gone on.
    if (pool == nullptr || !pool->lock.TryLock()) return;
  }
  // Each look walks all lists: with very many items only now and then.
  constexpr uint32_t kMany = 1000, kEvery = 1024;
  static constinit std::atomic<uint32_t> visits{0};
  if (Inspector::NrItems(pool) < kMany ||
      visits.fetch_add(1, std::memory_order_relaxed) % kEvery == 0) {
    Inspector::Check(pool, where);
  }
  if (locked == nullptr) pool->lock.Unlock();
}
#endif

}  // namespace cmwq::pool
