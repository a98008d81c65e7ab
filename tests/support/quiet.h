// Waits until the process does nothing.

#ifndef CMWQ_TESTS_SUPPORT_QUIET_H_
#define CMWQ_TESTS_SUPPORT_QUIET_H_

#include <dirent.h>
#include <sched.h>

#include <cstdint>
#include <cstdlib>

#include "hooks/detect/task_state.h"
#include "runtime/base/sys.h"
#include "tests/support/gate.h"

namespace cmwq::test {

// Every thread but the calling one is asleep, seen twice in a row, or it is `deadline_ns`. Before a fork: the
// locks of a sanitizer that a thread holds while it starts or allocates stay locked in the child for ever.
inline void AwaitOthersAsleep(uint64_t deadline_ns = base::kNever) {
  int quiet = 0;
  Eventually([&quiet, deadline_ns] {
    if (base::MonotonicNs() >= deadline_ns) return true;
    bool asleep = true;
    DIR* const tasks = opendir("/proc/self/task");
    if (tasks == nullptr) return true;  // cannot be told
    detect::TaskStateReader reader;
    while (const struct dirent* const entry = readdir(tasks)) {
      const int tid = atoi(entry->d_name);
      if (tid == 0 || tid == base::Tid()) continue;
      // Canaries allocate nothing, and their folder in /proc must stay unknown (Canary::Settle).
      if (sched_getscheduler(tid) == SCHED_IDLE) continue;
      if (reader.Read(tid) != detect::TaskState::kAsleep) asleep = false;
    }
    reader.CloseAll();
    closedir(tasks);
    quiet = asleep ? quiet + 1 : 0;
    return quiet == 2;
  });
}

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_SUPPORT_QUIET_H_
