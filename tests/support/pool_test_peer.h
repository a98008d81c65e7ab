// PoolTestPeer: the one door to the inside of pools and rescuers.

#ifndef CMWQ_TESTS_SUPPORT_POOL_TEST_PEER_H_
#define CMWQ_TESTS_SUPPORT_POOL_TEST_PEER_H_

#include <cstddef>
#include <cstdint>

#include "runtime/base/annotations.h"
#include "runtime/base/intrusive_list.h"
#include "runtime/platform/cpu_set.h"
#include "runtime/platform/timer.h"
#include "runtime/pool/pool.h"
#include "runtime/pool/rescuer.h"

namespace cmwq::pool {

class PoolTestPeer {
 public:
  static bool Managing(WorkerPool& pool) {
    sync::MutexLock hold(pool.lock);
    return pool.managing_;
  }
  static TrusteeState State(WorkerPool& pool) {
    sync::MutexLock hold(pool.lock);
    return pool.trustee_.state();
  }
  // When the trustee looks again, or kNever.
  static uint64_t TrusteeDue(WorkerPool& pool) { return Due(pool, &pool.trustee_calls_.look.timer); }
  // Some worker has one of these flags. Every worker has.
  static bool AnyFlag(WorkerPool& pool, uint32_t flags) { return NrFlagged(pool, flags, true) > 0; }
  static bool AllFlags(WorkerPool& pool, uint32_t flags) { return NrFlagged(pool, flags, false) == 0; }
  // Where the pool's workers belong.
  static const platform::CpuSet& Place(const WorkerPool& pool) { return pool.place_; }
  static size_t Pending(WorkerPool& pool) {
    sync::MutexLock hold(pool.lock);
    return pool.nr_pending_;
  }
  // Queues, and calls to rescuers that have not ended.
  static int Users(WorkerPool& pool) {
    sync::MutexLock hold(pool.lock);
    return pool.nr_users_;
  }
  // When the pool's timer fires, or kNever.
  static uint64_t CullDue(WorkerPool& pool) { return Due(pool, &pool.cull_timer_.timer); }
  static uint64_t ManageDue(WorkerPool& pool) { return Due(pool, &pool.manage_timer_.timer); }
  // Every worker is idle and asleep, nothing is pending, and who went idle last has armed the timer for
  // it if there are too many: that comes after the idle list, without the lock. A worker that was just
  // made is idle before its thread runs, and takes a look once it does.
  static bool Settled(WorkerPool& pool) {
    sync::MutexLock timers(pool.events_->mu);
    sync::MutexLock hold(pool.lock);
    for (base::ListNode* node = pool.idle_list_.front(); node != nullptr;
         node = pool.idle_list_.next(node)) {
      if (!base::ListOwner<Worker>(node, offsetof(Worker, entry))->parker.parked()) return false;
    }
    return pool.nr_workers_ > 0 && pool.nr_idle_ == pool.nr_workers_ && pool.nr_pending_ == 0 &&
           CullSettledLocked(pool);
  }
  // The same of the timer alone, while some are busy.
  static bool CullSettled(WorkerPool& pool) {
    sync::MutexLock timers(pool.events_->mu);
    sync::MutexLock hold(pool.lock);
    return CullSettledLocked(pool);
  }
  // Objects of workers that have ended.
  static int FreeSlots(WorkerPool& pool) {
    sync::MutexLock hold(pool.lock);
    int n = 0;
    for (base::ListNode* node = pool.free_slots_.front(); node != nullptr;
         node = pool.free_slots_.next(node)) {
      ++n;
    }
    return n;
  }
  static bool SetFlags(WorkerPool& pool, Worker* w, uint32_t flags) {
    return pool.conc_.SetFlags(*w->word, flags);
  }
  static void ReplaceFlags(WorkerPool& pool, Worker* w, uint32_t clear, uint32_t set) {
    pool.conc_.ReplaceFlags(*w->word, clear, set);
  }
  // Makes nr_running wrong, as a skipped hook would.
  static void Skew(WorkerPool& pool, int by) { pool.conc_.Repair(by); }
  static bool TickArmed(WorkerPool& pool) {
    sync::MutexLock hold(pool.lock);
    return pool.tick_armed_;
  }
  static bool StallArmed(WorkerPool& pool) {
    sync::MutexLock hold(pool.lock);
    return pool.stall_armed_;
  }
  static int RawRunning(WorkerPool& pool) { return pool.conc_.RawRunning(); }
  // As WorkerPool::Presume, by a detector that then loses the CPU: nobody is woken.
  static bool PresumeOnly(WorkerPool& pool, const Suspect& suspect) {
    return pool.conc_.Presume(pool.words_[suspect.slot], suspect.word);
  }
  static bool Stopping(Rescuer& rescuer) {
    sync::MutexLock hold(rescuer.mayday_lock_);
    return rescuer.stop_;
  }
  static size_t Maydays(Rescuer& rescuer) {
    sync::MutexLock hold(rescuer.mayday_lock_);
    size_t n = 0;
    for (base::ListNode* node = rescuer.maydays_.front(); node != nullptr;
         node = rescuer.maydays_.next(node)) {
      ++n;
    }
    return n;
  }
  // With the lock: a worker that looks whether there is work is off the idle list for a moment.
  static bool Wants(WorkerPool& pool) {
    sync::MutexLock hold(pool.lock);
    return pool.WantsWatch();
  }
  // For tests that break something while they hold the lock, and mend it.
  static int& NrIdle(WorkerPool& pool) CMWQ_NO_TSA { return pool.nr_idle_; }
  static int& NrWorkers(WorkerPool& pool) CMWQ_NO_TSA { return pool.nr_workers_; }
  static uint32_t& NrPending(WorkerPool& pool) CMWQ_NO_TSA { return pool.nr_pending_; }
  static Concurrency& Conc(WorkerPool& pool) { return pool.conc_; }
  static Worker*& Manager(WorkerPool& pool) CMWQ_NO_TSA { return pool.manager_; }
  static base::List& IdleList(WorkerPool& pool) CMWQ_NO_TSA { return pool.idle_list_; }
  static base::List& Worklist(WorkerPool& pool) CMWQ_NO_TSA { return pool.worklist_; }
  static Worker* Executing(WorkerPool& pool, struct cmwq_work* work) CMWQ_NO_TSA {
    return pool.FindExecuting(work, work->fn_);
  }
  static void HashInsert(WorkerPool& pool, Worker* w) CMWQ_NO_TSA { pool.HashInsert(w); }
  static void HashRemove(WorkerPool& pool, Worker* w) CMWQ_NO_TSA { pool.HashRemove(w); }

 private:
  static bool CullSettledLocked(WorkerPool& pool) CMWQ_NO_TSA {
    return pool.cull_armed_ ? platform::TimerHeap::Armed(&pool.cull_timer_.timer)
                            : !pool.cull_wanted_;
  }
  // Workers with a thread that have one of the flags, or none.
  static int NrFlagged(WorkerPool& pool, uint32_t flags, bool has) {
    sync::MutexLock hold(pool.lock);
    int n = 0;
    for (int i = 0; i < pool.slots_used_.load(); ++i) {
      const Worker* const w = pool.slots_[i].load();
      if (w != nullptr && w->tid.load() != 0 && ((pool.words_[i].Load() & flags) != 0) == has) ++n;
    }
    return n;
  }
  static uint64_t Due(WorkerPool& pool, const platform::Timer* t) {
    sync::MutexLock hold(pool.events_->mu);
    return platform::TimerHeap::Armed(t) ? t->deadline : base::kNever;
  }
};

}  // namespace cmwq::pool

#endif  // CMWQ_TESTS_SUPPORT_POOL_TEST_PEER_H_
