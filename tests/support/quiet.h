// Waits until the process does nothing.

#ifndef CMWQ_TESTS_SUPPORT_QUIET_H_
#define CMWQ_TESTS_SUPPORT_QUIET_H_

#include <dirent.h>

#include <cstdlib>

#include "hooks/detect/task_state.h"
#include "runtime/base/sys.h"
#include "tests/support/gate.h"

namespace cmwq::test {

// Every thread but the calling one is asleep, seen twice in a row. Before a fork: the locks of a sanitizer
// and of libc that a thread holds while it starts stay locked in the child for ever.
inline void AwaitOthersAsleep() {
  int quiet = 0;
  Eventually([&quiet] {
    bool asleep = true;
    DIR* const tasks = opendir("/proc/self/task");
    if (tasks == nullptr) return true;  // cannot be told
    detect::TaskStateReader reader;
    while (const struct dirent* const entry = readdir(tasks)) {
      const int tid = atoi(entry->d_name);
      if (tid == 0 || tid == base::Tid()) continue;
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
