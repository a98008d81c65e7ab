// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers.

#include "hooks/preload/report.h"

#include <limits.h>
#include <string.h>

#include "hooks/preload/hook.h"

namespace cmwq::preload {
namespace {

// I: the environment's string may be gone by the time of the report.
constinit char g_pattern[PATH_MAX] = {};
constinit char g_path[PATH_MAX] = {};
// AT(ReportAtExit): a report is still owed.
constinit bool g_owed = false;
// I: the process asked for reports, so a fork's child owes one too.
constinit bool g_wanted = false;

// Appends the decimal form of `value`; returns the new end.
char* AppendNumber(char* to, const char* end, unsigned value) {
  char digits[12];
  int n = 0;
  do {
    digits[n++] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  while (n > 0 && to < end) *to++ = digits[--n];
  return to;
}

void ExpandPath() {
  char* to = g_path;
  const char* const end = g_path + sizeof(g_path) - 1;
  for (const char* from = g_pattern; *from != '\0' && to < end; ++from) {
    if (from[0] == '%' && from[1] == 'p') {
      to = AppendNumber(to, end, static_cast<unsigned>(getpid()));
      ++from;
    } else {
      *to++ = *from;
    }
  }
  *to = '\0';
}

}  // namespace

void SetUpReport() {
  const char* wanted = secure_getenv("CMWQ_REPORT");
  if (wanted == nullptr || strcmp(wanted, "1") != 0) return;
  const char* pattern = secure_getenv("CMWQ_REPORT_FILE");
  if (pattern != nullptr && strlen(pattern) < sizeof(g_pattern)) strcpy(g_pattern, pattern);
  g_wanted = true;
  g_owed = true;
}

void ReportAtExit() {
  if (!Active() || InSharedChild()) return;
  if (!__atomic_exchange_n(&g_owed, false, __ATOMIC_RELAXED)) return;
  const int saved = errno;
  int fd = STDERR_FILENO;
  if (g_pattern[0] != '\0') {
    ExpandPath();
    fd = CMWQ_REAL(open)(g_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  }
  if (fd >= 0) gate::Report(fd);
  if (fd > STDERR_FILENO) CMWQ_REAL(close)(fd);
  errno = saved;
}

void RearmReport() { g_owed = g_wanted; }

}  // namespace cmwq::preload
