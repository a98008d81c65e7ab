// NodeLimit: how many items of one unbound queue may be active on one NUMA node, whichever pools they
// are in (kernel: wq_node_nr_active). Counting is lock-free; a pwq that got no slot waits in line.
//
//   waiting side                               releasing side
//   1. join the line, nr_waiting += 1 (lock)   1. nr -= 1                    (seq_cst)
//      nr_waiting is stored seq_cst
//   2. try once more to get a slot (seq_cst)   2. read nr_waiting            (seq_cst)
//                                              3. not zero: give the slot to the first in line
//
// At least one side sees the other's step 1. With anything weaker both may read the old value: the
// waiter finds the node full, the releaser finds nobody waiting, and the item waits for ever.

#ifndef CMWQ_RUNTIME_WQ_NODE_LIMIT_H_
#define CMWQ_RUNTIME_WQ_NODE_LIMIT_H_

#include <cstdint>

#include "runtime/base/intrusive_list.h"
#include "runtime/sync/mutex.h"
#include "runtime/sync/sync.h"

namespace cmwq::wq {

template <class Sync>
class BasicNodeCount {
 public:
  // Takes a slot if one is free.
  bool TryGet() {
    int32_t n = nr_.load(std::memory_order_seq_cst);
    do {
      if (n >= max_.load(std::memory_order_relaxed)) return false;
      // seq_cst: step 2 of the waiting side; pairs with Put.
    } while (!nr_.compare_exchange_weak(n, n + 1, std::memory_order_seq_cst));
    return true;
  }
  // Gives a slot back. True: somebody may wait for it.
  bool Put() {
    nr_.fetch_sub(1, std::memory_order_seq_cst);  // step 1; pairs with TryGet
    return nr_waiting_.load(std::memory_order_seq_cst) != 0;  // step 2; pairs with SetWaiting
  }
  // The line has so many now. Under the lock of the line.
  void SetWaiting(int32_t n) { nr_waiting_.store(n, std::memory_order_seq_cst); }
  int32_t waiting() const { return nr_waiting_.load(std::memory_order_relaxed); }

  // A higher limit takes effect when somebody asks: the caller activates what waits.
  void SetMax(int32_t max) { max_.store(max, std::memory_order_relaxed); }
  int32_t max() const { return max_.load(std::memory_order_relaxed); }
  int32_t nr() const { return nr_.load(std::memory_order_relaxed); }
  // Child of fork.
  void Reset() {
    nr_.store(0, std::memory_order_relaxed);
    nr_waiting_.store(0, std::memory_order_relaxed);
  }

 private:
  typename Sync::template Atomic<int32_t> nr_{0};          // AT(TryGet, Put)
  typename Sync::template Atomic<int32_t> nr_waiting_{0};  // AT(SetWaiting, Put)
  typename Sync::template Atomic<int32_t> max_{0};         // AT(SetMax, TryGet): relaxed, a limit
};

struct NodeLimit {
  BasicNodeCount<sync::RealSync> count;                    // AT: see above
  sync::Mutex lock{sync::Rank::kNode};
  base::List line CMWQ_GUARDED_BY(lock);                   // pwqs with waiting items, by line_entry
};

}  // namespace cmwq::wq

#endif  // CMWQ_RUNTIME_WQ_NODE_LIMIT_H_
