#include "runtime/platform/facility.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

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

// getdents64(2); libc has no declaration of what it fills in.
struct Dirent64 {
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[];
};

int NumberOf(const char* name) {
  int n = 0;
  if (*name < '0' || *name > '9') return -1;
  for (; *name >= '0' && *name <= '9'; ++name) n = n * 10 + (*name - '0');
  return n;
}

// Closes whatever `dir`, an open /proc/.../fd, lists but itself. True: something was closed.
bool CloseListed(int dir) {
  alignas(Dirent64) char buffer[2048];
  bool closed = false;
  for (;;) {
    const long n = base::Sys(SYS_getdents64, dir, buffer, sizeof(buffer));
    if (n <= 0) return closed;
    for (long at = 0; at < n;) {
      const auto* const entry = reinterpret_cast<const Dirent64*>(buffer + at);
      const int fd = NumberOf(entry->name);
      if (fd >= 0 && fd != dir && base::Sys(SYS_close, fd) == 0) closed = true;
      at += entry->length;
    }
  }
}

long OpenList() {
  return base::Sys(SYS_openat, AT_FDCWD, "/proc/thread-self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                   0);
}

// For Linux before 5.9. The copy holds everything of the program's until it is closed here, so it
// is only made when a list of it can be had.
int CopyAndEmpty() {
  const long probe = OpenList();
  if (probe < 0) return static_cast<int>(probe);
  base::SysClose(static_cast<int>(probe));
  const long err = base::Sys(SYS_unshare, CLONE_FILES);
  if (err != 0) return static_cast<int>(err);
  base::SysClose(0);  // the table may be full
  const long list = OpenList();
  if (list < 0) return 0;  // no memory: what the program closes now stays open until it ends
  while (CloseListed(static_cast<int>(list))) base::Sys(SYS_lseek, list, 0L, SEEK_SET);
  base::SysClose(static_cast<int>(list));
  return 0;
}

}  // namespace

// The slice (0.1 ms): a yield moves a thread's deadline on by its slice divided by its weight,
// which is 3/1024 here. With the default slice a canary that was picked beside a running worker
// would not be picked again for a second, nor could it die before that.
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
  if (base::Sys(SYS_close_range, 0, ~0u, CLOSE_RANGE_UNSHARE) == 0) return 0;
  return CopyAndEmpty();
}

int OpenTaskFile(int tid, const char* file) {
  char path[48];
  base::RawFormat(path, sizeof(path), "/proc/self/task/%d/%s", tid, file);
  return static_cast<int>(base::Sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0));
}

}  // namespace cmwq::platform
