// What must hold of a pool and of its queues' halves whenever its lock is free. Debug builds ask at every
// test point; tests ask when they like.
//
// Names are those of HACKING.md, section "Invariants". Locks: pool.lock held by the caller.

#ifndef CMWQ_RUNTIME_POOL_INVARIANTS_H_
#define CMWQ_RUNTIME_POOL_INVARIANTS_H_

#include "runtime/pool/pool.h"
#include "runtime/pool/work_link.h"

namespace cmwq::pool {

// An item that a pool has. A running one may be gone: only its address is known.
struct HeldItem {
  struct cmwq_work* work;
  struct cmwq_work* next;  // behind it on the same list, or null
  cmwq_work_fn fn;
  PwqBase* pwq;
  bool running;
  bool fresh = false;      // running: the first execution since the item was initialised
};

class Inspector {
 public:
  // The name of an invariant that is broken, or null.
  static const char* BrokenInPool(WorkerPool* pool) CMWQ_REQUIRES(pool->lock);
  // The same for the pool and every queue that has an item in it.
  static const char* Broken(WorkerPool* pool) CMWQ_REQUIRES(pool->lock);
  // Items on the worklist, and those that the queues of running items have here: what a look costs.
  static uint32_t NrItems(WorkerPool* pool) CMWQ_REQUIRES(pool->lock);
  // Ends the process if anything is broken. `where`: for the message.
  static void Check(WorkerPool* pool, const char* where) CMWQ_REQUIRES(pool->lock);

  // Calls visit(const HeldItem&) for what is on the worklist, on workers' own lists, and running.
  template <class F>
  static void ForEachItem(WorkerPool* pool, F visit) CMWQ_REQUIRES(pool->lock) {
    VisitList(&pool->worklist_, visit);
    ForEachWorker(pool, [&visit](Worker* w) { VisitList(&w->scheduled, visit); });
    for (Worker* head : pool->busy_) {
      for (Worker* w = head; w != nullptr; w = w->hash_next) {
        visit(HeldItem{w->current_work, nullptr, w->current_fn, w->current_pwq, true,
                       w->current_fresh});
      }
    }
  }
  template <class F>
  static void VisitList(base::List* list, F visit) {
    for (base::ListNode* node = list->front(); node != nullptr; node = list->next(node)) {
      struct cmwq_work* const work = work::WorkOf(node);
      base::ListNode* const next = list->next(node);
      visit(HeldItem{work, next != nullptr ? work::WorkOf(next) : nullptr, work->fn_,
                     static_cast<PwqBase*>(work->pwq_), false});
    }
  }

 private:
  // Those with a slot, and rescuers that serve the pool now.
  template <class F>
  static void ForEachWorker(WorkerPool* pool, F visit) CMWQ_REQUIRES(pool->lock) {
    const int used = pool->slots_used_.load(std::memory_order_acquire);  // pairs with TakeSlot
    for (int i = 0; i < used; ++i) {
      Worker* const w = pool->slots_[i].load(std::memory_order_acquire);
      if (w != nullptr) visit(w);
    }
    for (Worker* head : pool->busy_) {
      for (Worker* w = head; w != nullptr; w = w->hash_next) {
        if (w->is_rescuer) visit(w);
      }
    }
    // Between two items, with the lock held all the while, a rescuer is not in the hash.
    Worker* const self = CurrentWorker();
    if (self != nullptr && self->is_rescuer && self->pool == pool && self->current_work == nullptr) {
      visit(self);
    }
  }
  static const char* BrokenIdleList(WorkerPool* pool) CMWQ_REQUIRES(pool->lock);
  static const char* BrokenWorkers(WorkerPool* pool) CMWQ_REQUIRES(pool->lock);
  static const char* BrokenBusyHash(WorkerPool* pool) CMWQ_REQUIRES(pool->lock);
  static const char* BrokenWorklist(WorkerPool* pool) CMWQ_REQUIRES(pool->lock);
};

#if defined(CMWQ_TEST_POINTS)
// For base::g_verify. `locked`: the pool whose lock the caller holds, or null: the calling worker's.
void VerifyAtTestPoint(const char* where, void* locked) CMWQ_NO_TSA;
#endif

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_INVARIANTS_H_
