#include "tools/common/process.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <system_error>

#include "tools/common/text.h"

namespace cmwq::tools {
namespace {

using Clock = std::chrono::steady_clock;

// How often a wait looks at its child and at Interrupted().
constexpr long kPollNs = 5'000'000;

std::atomic<bool> g_interrupted = false;

void OnInterrupt(int) { g_interrupted.store(true, std::memory_order_relaxed); }

void ShortSleep() {
  const timespec pause = {0, kPollNs};
  nanosleep(&pause, nullptr);
}

Clock::time_point DeadlineIn(double seconds) {
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// What every child does first. Async-signal-safe apart from the caller's own body.
void PrepareChild(pid_t parent, const cpu_set_t* cpus) {
  setpgid(0, 0);
  // Even a parent that is killed leaves nothing behind.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kill(getpid(), SIGKILL));
  if (cpus != nullptr) sched_setaffinity(0, sizeof *cpus, cpus);
  const int null = open("/dev/null", O_RDONLY);
  if (null > 0) {
    dup2(null, STDIN_FILENO);
    close(null);
  }
}

const cpu_set_t* ToCpuSet(const std::vector<int>& cpus, cpu_set_t* set) {
  if (cpus.empty()) return nullptr;
  CPU_ZERO(set);
  for (const int cpu : cpus) CPU_SET(cpu, set);
  return set;
}

}  // namespace

void CatchInterrupts() {
  struct sigaction action {};
  action.sa_handler = OnInterrupt;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
}

bool Interrupted() { return g_interrupted.load(std::memory_order_relaxed); }

bool SleepUnlessInterrupted(double seconds) {
  for (const auto deadline = DeadlineIn(seconds); Clock::now() < deadline; ShortSleep()) {
    if (Interrupted()) return false;
  }
  return true;
}

bool Child::Spawn(const SpawnOptions& options, std::string* error) {
  std::vector<char*> argv;
  for (const std::string& word : options.argv) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  cpu_set_t cpus;
  const cpu_set_t* const cpu_set = ToCpuSet(options.cpus, &cpus);
  int report[2];  // closed by a successful exec, else carries errno
  if (pipe2(report, O_CLOEXEC) != 0) {
    *error = StrPrintf("pipe: %s", strerror(errno));
    return false;
  }
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    PrepareChild(parent, cpu_set);
    if (!options.output_path.empty()) {
      const int log = open(options.output_path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      dup2(log, STDOUT_FILENO);
      dup2(log, STDERR_FILENO);
      if (log > STDERR_FILENO) close(log);
    }
    if (options.stdout_fd >= 0) dup2(options.stdout_fd, STDOUT_FILENO);
    execvp(argv[0], argv.data());
    const int code = errno;
    (void)!write(report[1], &code, sizeof code);
    _exit(127);
  }
  const int fork_error = errno;
  close(report[1]);
  int code = pid < 0 ? fork_error : 0;
  if (pid > 0) (void)!read(report[0], &code, sizeof code);
  close(report[0]);
  if (code == 0) {
    pid_ = pid;
    return true;
  }
  if (pid > 0) waitpid(pid, nullptr, 0);
  *error = StrPrintf("%s: %s", options.argv[0].c_str(), strerror(code));
  return false;
}

bool Child::Fork(const std::vector<int>& cpus, const std::function<int()>& body,
                 std::string* error) {
  cpu_set_t cpus_storage;
  const cpu_set_t* const cpu_set = ToCpuSet(cpus, &cpus_storage);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    PrepareChild(parent, cpu_set);
    _exit(body());
  }
  if (pid < 0) {
    *error = StrPrintf("fork: %s", strerror(errno));
    return false;
  }
  pid_ = pid;
  return true;
}

std::string Child::DescribeStatus() const {
  if (WIFEXITED(status_)) return StrPrintf("exit code %d", WEXITSTATUS(status_));
  const int signal = WTERMSIG(status_);
  return StrPrintf("signal %d (%s)", signal, strsignal(signal));
}

bool Child::Wait(double seconds, bool stubborn) {
  for (const auto deadline = DeadlineIn(seconds);; ShortSleep()) {
    if (pid_ < 0) return true;
    if (waitpid(pid_, &status_, WNOHANG) == pid_) {
      pid_ = -1;
      return true;
    }
    if (Clock::now() >= deadline || (!stubborn && Interrupted())) return false;
  }
}

bool Child::Terminate(double seconds) {
  if (pid_ > 0) kill(pid_, SIGTERM);
  return Wait(seconds, true);
}

void Child::Kill() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

std::vector<int> AllowedCpus() {
  std::vector<int> cpus;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

long RaiseOpenFiles(long wanted) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t target = static_cast<rlim_t>(wanted);
  if (limit.rlim_max < target) {
    // Only the privileged may raise the hard limit; the others make do with it.
    const rlimit raised = {target, target};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  if (limit.rlim_cur < target) {
    limit.rlim_cur = std::min(limit.rlim_max, target);
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<long>(limit.rlim_cur);
}

std::string FindProgram(const std::vector<std::string>& names) {
  const char* path = getenv("PATH");
  std::vector<std::string> dirs = Split(path != nullptr ? path : "/bin:/usr/bin", ':');
  // A user's PATH does not have the folders where servers live.
  for (const char* dir : {"/usr/local/sbin", "/usr/sbin", "/sbin"}) dirs.push_back(dir);
  for (const std::string& name : names) {
    for (const std::string& dir : dirs) {
      const std::string candidate = dir + '/' + name;
      if (access(candidate.c_str(), X_OK) == 0) return candidate;
    }
  }
  return {};
}

bool TempDir::Create(std::string* error) {
  const char* base = getenv("TMPDIR");
  std::string pattern = base != nullptr && base[0] == '/' ? base : "/tmp";
  // A socket's path has room for 107 characters; a deep TMPDIR would leave none for its name.
  if (pattern.size() > 60) pattern = "/tmp";
  pattern += "/cmwq-demo-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) {
    *error = StrPrintf("%s: %s", pattern.c_str(), strerror(errno));
    return false;
  }
  path_ = pattern;
  return true;
}

TempDir::~TempDir() {
  if (path_.empty() || keep_) return;
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace cmwq::tools
