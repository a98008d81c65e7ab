#include "runtime/platform/facility.h"

#include <fcntl.h>
#include <sched.h>

#include <cstdint>

#include "runtime/base/raw_log.h"
#include "runtime/base/sys.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

namespace cmwq::platform {
namespace {

// sched_setattr(2); libc has no wrapper for it.
struct SchedAttr {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

}  // namespace

// The slice (0.1 ms): a yield moves a thread's deadline on by its slice divided by its weight, which is
// 3/1024 here. With the default slice a canary that was picked beside a running worker would not be
// picked again for a second, nor could it die before that.
int EnterIdleClass(int* slice) {
  SchedAttr attr = {};
  attr.size = sizeof(attr);
  attr.policy = SCHED_IDLE;
  attr.runtime = 100'000;
  const int refused = static_cast<int>(base::Sys(SYS_sched_setattr, 0, &attr, 0));
  if (slice != nullptr) *slice = refused;
  if (refused == 0) return 0;
  struct sched_param param = {};
  return static_cast<int>(base::Sys(SYS_sched_setscheduler, 0, SCHED_IDLE, &param));
}

int UnshareDescriptors() {
  return static_cast<int>(base::Sys(SYS_close_range, 3, ~0u, CLOSE_RANGE_UNSHARE));
}

int OpenTaskStat(int tid) {
  char path[48];
  base::RawFormat(path, sizeof(path), "/proc/self/task/%d/stat", tid);
  return static_cast<int>(base::Sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0));
}

}  // namespace cmwq::platform
