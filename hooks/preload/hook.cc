// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers.

#include "hooks/preload/hook.h"

namespace cmwq::preload {

constinit bool g_active = false;

namespace {

// AT(ResetIdentity): the process this memory belongs to; 0 until somebody asks.
constinit pid_t g_pid = 0;

}  // namespace

bool IsNonBlocking(int fd) {
  const int saved = errno;
  const int flags = CMWQ_REAL(fcntl)(fd, F_GETFL);
  errno = saved;
  return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

bool InSharedChild() {
  const pid_t owner = __atomic_load_n(&g_pid, __ATOMIC_RELAXED);
  return owner != 0 && owner != getpid();
}

void ResetIdentity() { __atomic_store_n(&g_pid, getpid(), __ATOMIC_RELAXED); }

}  // namespace cmwq::preload
