// Is a thread of this process off the CPU?

#ifndef CMWQ_HOOKS_DETECT_TASK_STATE_H_
#define CMWQ_HOOKS_DETECT_TASK_STATE_H_

#include <cstdint>

namespace cmwq::detect {

enum class TaskState : uint8_t {
  kRunnable,  // running, or preempted and waiting for a CPU
  kAsleep,    // anything else: waiting (interruptibly or not), stopped by a tracer, ended
  kUnknown,   // cannot be told
};

// What the text of a thread's file `syscall` says: the word "running", or the number of the system
// call (-1: none, a page fault) with its arguments.
constexpr TaskState StateOfSyscall(const char* text) {
  return text[0] == 'r' ? TaskState::kRunnable : TaskState::kAsleep;
}

// Asks /proc/self/task/<tid>. Preferred is the file `syscall`: half the price of `stat`, and it
// makes sure that the thread has really left its CPU, whereas `stat` says S from the moment at
// which a thread announces its sleep to the kernel. A process that changed its user may not open
// `syscall`; then `stat`. Without either (no /proc, no descriptor) the thread's CPU clock: a
// runnable thread on a CPU that is otherwise idle makes progress between two looks.
//
// One per detector thread; not thread-safe.
class TaskStateReader {
 public:
  // keep: descriptors stay open between looks. Only for a thread with a descriptor table of its
  // own: a program that closes everything would close ours, and we later what has got the number
  // since. quiet_looks: so many looks in a row without progress on the CPU clock mean asleep.
  explicit constexpr TaskStateReader(bool keep = false, int quiet_looks = 3)
      : quiet_looks_(quiet_looks), keep_(keep) {}

  // Costs 1.5 us with a kept descriptor, 6 us otherwise.
  TaskState Read(int tid);
  void CloseAll();
  // Forgets the descriptors without closing them: they are another process's.
  void Forget();
  void set_keep(bool keep) { keep_ = keep; }
  // A thread that exists had to be told by its clock.
  bool by_clock() const { return by_clock_; }

 private:
  static constexpr int kCached = 64;
  struct Entry {
    int tid = 0;
    int fd = -1;
    bool stat = false;  // only `stat` will do; the descriptor is of it
    int unchanged = 0;  // looks in a row without progress
    uint64_t last_cpu_ns = 0;
  };
  Entry& EntryFor(int tid);
  bool Open(Entry& e);
  void Close(Entry& e);
  TaskState ReadClock(Entry& e);

  Entry entries_[kCached];  // S
  int next_ = 0;            // S: next victim
  const int quiet_looks_;   // I
  bool keep_;               // S
  bool by_clock_ = false;   // S
};

}  // namespace cmwq::detect

#endif  // CMWQ_HOOKS_DETECT_TASK_STATE_H_
