// Runs a function in a forked child and waits for it. The child reports by its exit status; what it
// writes to standard error can be kept.

#ifndef CMWQ_TESTS_SUPPORT_CHILD_H_
#define CMWQ_TESTS_SUPPORT_CHILD_H_

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "runtime/base/sys.h"
#include "tests/support/quiet.h"
#include "tests/support/sanitizer.h"

namespace cmwq::test {

inline constexpr unsigned kChildSeconds = 60;

// In the child: ends it with a message if `condition` does not hold.
#define CHILD_CHECK(condition)                                                       \
  do {                                                                               \
    if (!(condition)) {                                                              \
      dprintf(2, "%s:%d: child: %s\n", __FILE__, __LINE__, #condition);              \
      _exit(1);                                                                      \
    }                                                                                \
  } while (0)

struct ChildResult {
  int status = -1;     // exit status; 128 + signal if one ended it
  std::string errors;  // standard error
};

inline int WaitFor(pid_t pid) {
  int status = 0;
  if (waitpid(pid, &status, 0) != pid) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// fork(), where a sanitizer's locks allow it: libc takes its own before a fork, AddressSanitizer does not.
// A thread that the test keeps busy all the while is not waited for any longer than 5 s.
inline pid_t ForkQuietly() {
  fflush(nullptr);
  if (kSanitized) AwaitOthersAsleep(base::MonotonicNs() + 5 * base::kNsPerSec);
  return fork();
}

// The exit status of a child that runs `body`; standard error is ours.
template <class Body>
int InChild(Body body) {
  const pid_t pid = ForkQuietly();
  if (pid == 0) {
    alarm(kChildSeconds);
    body();
    _exit(0);
  }
  return WaitFor(pid);
}

// The same, and keeps what it writes to standard error.
template <class Body>
ChildResult InQuietChild(Body body) {
  ChildResult result;
  int ends[2];
  if (pipe(ends) != 0) return result;
  const pid_t pid = ForkQuietly();
  if (pid == 0) {
    alarm(kChildSeconds);
    dup2(ends[1], 2);
    close(ends[0]);
    close(ends[1]);
    body();
    _exit(0);
  }
  close(ends[1]);
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof(buffer))) > 0;) {
    result.errors.append(buffer, static_cast<size_t>(n));
  }
  close(ends[0]);
  result.status = WaitFor(pid);
  return result;
}

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_SUPPORT_CHILD_H_
