#include "runtime/base/check.h"

#include <signal.h>

#include "runtime/base/sys.h"

namespace cmwq::base {

void CheckFailed(const char* file, int line, const char* what, long a, long b) {
  RawLog(LogLevel::kError, "%s:%d: check failed: %s (%ld, %ld)", file, line, what, a, b);
  // tgkill instead of abort(): abort takes a libc lock that a hooked caller may hold.
  Sys(SYS_tgkill, Pid(), Tid(), SIGABRT);
  Sys(SYS_exit_group, 134);
  __builtin_unreachable();
}

}  // namespace cmwq::base
