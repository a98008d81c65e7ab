#include "tools/doctor/attempt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/common/text.h"

namespace cmwq::tools::doctor {
namespace {

// An attempt that hangs is no grant; every one is over in milliseconds on a busy machine.
constexpr unsigned kLimitSeconds = 20;

struct Answer {
  int error;
  int detail;
};

}  // namespace

Attempt TryInChild(const std::function<int(int* detail)>& body) {
  Attempt attempt;
  int ends[2];
  if (pipe(ends) != 0) {
    attempt.error = errno;
    return attempt;
  }
  const pid_t pid = fork();
  if (pid == 0) {
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    alarm(kLimitSeconds);
    Answer answer = {0, 0};
    answer.error = -body(&answer.detail);
    (void)!write(ends[1], &answer, sizeof answer);
    _exit(0);
  }
  const int fork_error = errno;
  close(ends[1]);
  Answer answer;
  const bool answered = pid > 0 && read(ends[0], &answer, sizeof answer) == sizeof answer;
  close(ends[0]);
  if (pid < 0) {
    attempt.error = fork_error;
    return attempt;
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (answered) {
    attempt.error = answer.error;
    attempt.detail = answer.detail;
  } else {
    attempt.error = EIO;
    attempt.killed_by = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }
  return attempt;
}

std::string OutputOf(const std::vector<std::string>& argv,
                     const std::vector<std::pair<std::string, std::string>>& variables) {
  std::string output;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return output;
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    for (const auto& [name, value] : variables) {
      if (value.empty()) {
        unsetenv(name.c_str());
      } else {
        setenv(name.c_str(), value.c_str(), 1);
      }
    }
    alarm(kLimitSeconds);
    execv(words[0], words.data());
    _exit(127);
  }
  close(ends[1]);
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) {
    output.append(buffer, static_cast<size_t>(n));
  }
  close(ends[0]);
  while (pid > 0 && waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return output;
}

std::string Describe(const Attempt& attempt) {
  if (attempt.killed_by != 0) {
    return StrPrintf("killed by signal %d (%s)", attempt.killed_by, strsignal(attempt.killed_by));
  }
  const char* const name = strerrorname_np(attempt.error);
  return StrPrintf("%s (%s)", name != nullptr ? name : "?", strerror(attempt.error));
}

}  // namespace cmwq::tools::doctor
