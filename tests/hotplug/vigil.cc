#include "tests/hotplug/vigil.h"

#include <cmwq/cmwq.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "tests/hotplug/load.h"

namespace cmwq::hotplug {
namespace {

constexpr unsigned kLookUs = 500'000;
// Counted in looks, not by the clock: a machine that stands still as a whole, because its host has other
// things to do, is not stuck.
constexpr int kStuckLooks = 60;
constexpr uint64_t kStuckRounds = 20 * Rounds::kPerSecond;  // others get on that far meanwhile
constexpr int kStillLooks = 180;                            // or nobody does
constexpr int kAgainLooks = 10;  // what has moved by then is not what is stuck
constexpr unsigned kAliveLooks = 20;

std::string Read(const std::filesystem::path& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "?";
  char text[2048];
  const ssize_t n = read(fd, text, sizeof(text) - 1);
  close(fd);
  if (n <= 0) return "-";
  std::string s(text, static_cast<size_t>(n));
  while (!s.empty() && s.back() == '\n') s.pop_back();
  return s;
}

// The fields of `stat` behind the name: state, and the CPU and the time used so far.
void ShowThread(const std::string& pid, const std::filesystem::path& task) {
  const std::string stat = Read(task / "stat");
  const size_t end = stat.rfind(')');
  std::string field[50];
  size_t n = 0;
  for (size_t at = end == std::string::npos ? 0 : end + 2; at < stat.size() && n < 50;) {
    const size_t space = std::min(stat.find(' ', at), stat.size());
    field[n++] = stat.substr(at, space - at);
    at = space + 1;
  }
  std::string allowed = Read(task / "status");
  const size_t list = allowed.find("Cpus_allowed_list:\t");
  allowed = list == std::string::npos ? "?" : allowed.substr(list + 19, allowed.find('\n', list) - list - 19);
  printf("  %s/%s %-16s %s cpu %s of %s utime %s stime %s wchan %s syscall %s\n", pid.c_str(),
         task.filename().c_str(), Read(task / "comm").c_str(), field[0].c_str(), field[36].c_str(),
         allowed.c_str(), field[11].c_str(), field[12].c_str(), Read(task / "wchan").c_str(),
         Read(task / "syscall").c_str());
  if (field[0] == "D") printf("%s\n", Read(task / "stack").c_str());
}

void ShowThreads() {
  std::error_code gone;
  for (const auto& process : std::filesystem::directory_iterator("/proc", gone)) {
    const std::string pid = process.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    std::error_code ended;
    for (const auto& task : std::filesystem::directory_iterator(process.path() / "task", ended)) {
      // Of the kernel's own only those that wait for something that does not come.
      if (Read(task.path() / "stat").find(") I ") == std::string::npos) ShowThread(pid, task.path());
    }
  }
  fflush(stdout);
}

void Sysrq(char key) {
  const int fd = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  [[maybe_unused]] const ssize_t n = write(fd, &key, 1);
  close(fd);
}

// Not by stdio, whose lock somebody may hold for good.
void SayAlive(uint64_t steps) {
  char text[80];
  const int n = snprintf(text, sizeof(text), "ALIVE step %lu round %lu\n",
                         static_cast<unsigned long>(steps), static_cast<unsigned long>(Rounds::Now()));
  [[maybe_unused]] const ssize_t written = write(STDOUT_FILENO, text, static_cast<size_t>(n));
}

}  // namespace

Vigil::Vigil() : thread_([this] { Watch(); }) { thread_.detach(); }

void Vigil::Watch() {
  const sched_param first = {.sched_priority = 1};
  if (sched_setscheduler(0, SCHED_FIFO, &first) != 0) printf("the vigil has no real-time priority\n");
  uint64_t seen = 0, round = 0;
  int shown = 0, looks = 0;
  for (unsigned look = 0;; ++look) {
    if (look % kAliveLooks == 0) SayAlive(steps_.load(std::memory_order_relaxed));
    SleepUs(kLookUs);
    const uint64_t steps = steps_.load(std::memory_order_relaxed);
    if (steps != seen) {
      seen = steps;
      round = Rounds::Now();
      shown = looks = 0;
      continue;
    }
    ++looks;
    const bool others_get_on = Rounds::Now() - round >= kStuckRounds;
    if (looks < (others_get_on ? kStuckLooks : kStillLooks) + shown * kAgainLooks) continue;
    if (shown == 2) {
      // Not reboot(): it waits for CPUs that are on their way.
      Sysrq('b');
    }
    const bool kernel = waits_.load(std::memory_order_relaxed) == Waits::kKernel;
    printf("STUCK for %d looks and %lu rounds at: %s%s\nCPUs online %s\n", looks,
           static_cast<unsigned long>(Rounds::Now() - round), kernel ? "the kernel's " : "",
           what_.load(std::memory_order_relaxed), Read("/sys/devices/system/cpu/online").c_str());
    ShowThreads();
    if (shown++ == 0) continue;
    // Last, for it takes the engine's locks and may not come back.
    std::thread([] { cmwq_show_all_workqueues(1); }).detach();
    Sysrq('w');
    Sysrq('l');
  }
}

}  // namespace cmwq::hotplug
