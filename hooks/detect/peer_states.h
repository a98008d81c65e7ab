// Is another worker of this CPU asleep? Asked by a worker, on the application's descriptor table.
//
// The canary reads through a table of its own; a worker shares its table with the program, which
// may close what is not its own and use the number for something else. So a kept descriptor is
// looked at before each use: only the file that was opened is read, and only that is closed.
// (Between the two calls another thread would have to close it and to open something under its
// number.) They are few, and never 0, 1 or 2.
//
// Not thread-safe. Context: workers, no locks of the engine held; makes system calls.

#ifndef CMWQ_HOOKS_DETECT_PEER_STATES_H_
#define CMWQ_HOOKS_DETECT_PEER_STATES_H_

#include <sys/types.h>

#include "hooks/detect/task_state.h"

namespace cmwq::detect {

class PeerStates {
 public:
  // From /proc/self/task/<tid>/syscall and nothing else: while the caller has the CPU, the clock of
  // a runnable peer stands still as well. Costs 1.8 us with a kept descriptor, 6 us otherwise.
  TaskState Read(int tid);
  // The thread has ended.
  void Drop(int tid);
  void DropAll();

 private:
  static constexpr int kMaxKept = 32;  // of one CPU
  static constexpr int kShare = 16;    // at most one of so many of all descriptors
  struct Entry {
    int tid = 0;  // 0: free
    int fd = -1;
    dev_t device = 0;
    ino_t inode = 0;
  };
  TaskState ReadKept(Entry* e, bool* stale);
  void Keep(int tid, int fd);
  static bool Ours(const Entry& e);
  static void Close(Entry* e);

  Entry entries_[kMaxKept];  // S: one worker at a time
  int next_ = 0;             // S: as entries_; next victim
};

}  // namespace cmwq::detect

#endif  // CMWQ_HOOKS_DETECT_PEER_STATES_H_
