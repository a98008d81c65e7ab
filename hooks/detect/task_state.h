// Is a thread of this process off the CPU of its own will?

#ifndef CMWQ_HOOKS_DETECT_TASK_STATE_H_
#define CMWQ_HOOKS_DETECT_TASK_STATE_H_

#include <cstdint>

namespace cmwq::detect {

enum class TaskState : uint8_t {
  kRunnable,  // state R: running, or preempted and waiting for a CPU
  kAsleep,    // any other state
  kUnknown,   // cannot be told (no /proc, no descriptors)
};

// Reads /proc/self/task/<tid>/stat through descriptors that it keeps. One per detector thread; not
// thread-safe. Where a descriptor cannot be had it falls back to the thread's CPU clock: a runnable
// thread on a CPU that is otherwise idle makes progress between two looks.
class TaskStateReader {
 public:
  // Costs 3 us with a kept descriptor, 7 us for a thread seen first.
  TaskState Read(int tid);
  void CloseAll();
  // A thread that exists had to be told by its clock.
  bool by_clock() const { return by_clock_; }

 private:
  static constexpr int kCached = 64;
  struct Entry {
    int tid = 0;
    int fd = -1;
    uint64_t last_cpu_ns = 0;
    int unchanged = 0;  // looks in a row without progress
  };
  Entry& EntryFor(int tid);
  TaskState ReadClock(Entry& e);

  Entry entries_[kCached];  // S
  int next_ = 0;            // S: next victim
  bool by_clock_ = false;   // S
};

}  // namespace cmwq::detect

#endif  // CMWQ_HOOKS_DETECT_TASK_STATE_H_
