// Who waits for whom among items and queues, and whether that can end.
//
// Three checks, all made when an item is about to wait for another item or a queue; a wait from outside
// costs nothing.
//   1. A queue with a rescuer must not depend on one without (kernel: check_flush_dependency).
//   2. Cycles of waits that exist at this moment: found always, a wait blocks anyway.
//   3. Cycles that the same functions and queues could get into (kernel: lockdep maps of queues and items):
//      debug builds only. Classes are functions and queues, so it may report what the program excludes
//      by other means.
// Each only reports. What the user's own locks contribute is not known.

#ifndef CMWQ_RUNTIME_WQ_DEPENDENCY_H_
#define CMWQ_RUNTIME_WQ_DEPENDENCY_H_

#include <cmwq/cmwq.h>

#include <cstddef>
#include <cstdint>

namespace cmwq::wq {

class Workqueue;

// What is waited for, copied under the locks that keep it alive.
struct WaitTarget {
  const Workqueue* wq = nullptr;  // for comparing only
  char queue[32] = {};
  unsigned flags = 0;
  bool one_at_a_time = false;     // it cannot run beside the item that waits, if of the same queue
  bool no_slot = false;           // it waits for a slot of max_active; else it can start, or runs
  uint64_t sequence = 0;          // a flush covers items queued with this flush sequence or before
  const struct cmwq_work* work = nullptr;  // null: the whole queue; for comparing only
  cmwq_work_fn fn = nullptr;

  // Context: any. Locks: whatever keeps `queue` alive.
  void Set(const Workqueue* queue, const struct cmwq_work* item);
};

// The calling thread executes an item that now waits for `target`, until Done. From outside of items it
// does nothing.
class Waiting {
 public:
  // cancel: exempt from check 1. Context: any. Locks: none held.
  Waiting(const WaitTarget& target, bool cancel);
  ~Waiting();
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  // Whether the caller needs to fill a target at all.
  static bool Wanted();

 private:
  int slot_ = -1;  // in the table of waits
};

// The queue is gone: its address may name another one next.
void ForgetDependencies(const Workqueue* wq);
// Child of fork: whoever waited is gone.
void ResetDependenciesAfterFork();

// Check 3, on its own for tests: classes by key, edges "while executing a, b was waited for".
class WaitGraph {
 public:
  static constexpr int kClasses = 192;  // further ones are not checked
  static constexpr int kMaxChain = 8;   // classes shown of a cycle

  struct Class {
    const void* key = nullptr;
    char queue[32] = {};  // empty: a function
  };
  // Adds the edge. Returns the length of the cycle that it closes, at most kMaxChain, and the classes in
  // order, beginning and ending with those of the edge; 0: none, or the edge was there already.
  int Add(const Class& from, const Class& to, Class* chain);
  void Forget(const void* key);

 private:
  int Find(const Class& of);
  bool Edge(int a, int b) const { return (edges_[a][b / 64] >> (b % 64) & 1) != 0; }
  int Path(int from, int to, int* path) const;

  Class classes_[kClasses];
  uint64_t edges_[kClasses][(kClasses + 63) / 64] = {};
};

}  // namespace cmwq::wq

#endif  // CMWQ_RUNTIME_WQ_DEPENDENCY_H_
