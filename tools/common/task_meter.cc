#include "tools/common/task_meter.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <string>

#include "tools/common/text.h"

namespace cmwq::tools {
namespace {

// Reads a small /proc file below `dir` as a C string.
bool ReadSmall(int dir, const std::string& name, char* buffer, size_t size) {
  const int fd = openat(dir, name.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t got = read(fd, buffer, size - 1);
  close(fd);
  if (got <= 0) return false;
  buffer[got] = '\0';
  return true;
}

uint64_t NumberAfter(const char* text, const char* label) {
  const char* at = strstr(text, label);
  return at != nullptr ? strtoull(at + strlen(label), nullptr, 10) : 0;
}

// Of all threads of the process, also those that have ended.
double ProcessCpuSeconds(pid_t pid) {
  clockid_t clock;
  timespec time{};
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

// The time that all CPUs together have not been idle since boot.
double BusySeconds() {
  unsigned long long user, nice, system, idle, iowait, irq, softirq, steal;
  const std::string stat = ReadFile("/proc/stat");
  if (sscanf(stat.c_str(), "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system,
             &idle, &iowait, &irq, &softirq, &steal) != 8) {
    return TaskRates::kUnknown;
  }
  const unsigned long long ticks = user + nice + system + irq + softirq + steal;
  return static_cast<double>(ticks) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

bool TaskMeter::ReadThread(int task_dir, const char* tid, Counters* counters) {
  char buffer[4096];
  counters->when = Clock::now();
  if (!ReadSmall(task_dir, std::string(tid) + "/status", buffer, sizeof buffer)) return false;
  counters->voluntary = NumberAfter(buffer, "\nvoluntary_ctxt_switches:");
  counters->involuntary = NumberAfter(buffer, "\nnonvoluntary_ctxt_switches:");
  if (ReadSmall(task_dir, std::string(tid) + "/schedstat", buffer, sizeof buffer)) {
    counters->has_times =
        sscanf(buffer, "%" SCNu64 " %" SCNu64, &counters->run_ns, &counters->wait_ns) == 2;
  }
  return true;
}

TaskMeter::TaskMeter() {
  const sched_param lowest_fifo{sched_get_priority_min(SCHED_FIFO)};
  is_first_ = sched_getscheduler(0) == SCHED_OTHER &&
              sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &lowest_fifo) == 0;
}

TaskMeter::~TaskMeter() {
  const sched_param normal{0};
  if (is_first_) sched_setscheduler(0, SCHED_OTHER, &normal);
}

TaskMeter::Pass TaskMeter::TakePass() const {
  Pass pass;
  pass.when = Clock::now();
  pass.cpu_seconds = ProcessCpuSeconds(pid_);
  pass.load_cpu_seconds = ProcessCpuSeconds(load_);
  pass.busy_seconds = BusySeconds();
  DIR* dir = opendir(StrPrintf("/proc/%d/task", pid_).c_str());
  if (dir == nullptr) return pass;
  while (const dirent* entry = readdir(dir)) {
    Counters counters;
    if (entry->d_name[0] != '.' && ReadThread(dirfd(dir), entry->d_name, &counters)) {
      pass.threads.emplace(atoi(entry->d_name), counters);
    }
  }
  closedir(dir);
  return pass;
}

double TaskMeter::PassedSeconds() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

void TaskMeter::Start(pid_t pid, pid_t load, double seconds) {
  pid_ = pid;
  load_ = load;
  seconds_ = seconds;
  start_ = Clock::now();
  phase_ = Phase::kBeforeFirst;
}

void TaskMeter::Step() {
  // Connections are opened and closed at the edges.
  const double margin = std::min(0.2, seconds_ / 4);
  if (phase_ == Phase::kBeforeFirst && PassedSeconds() >= margin) {
    const double begin = PassedSeconds();
    first_ = TakePass();
    // The second pass will take about as long.
    const double length = PassedSeconds() - begin;
    second_at_ = seconds_ - std::max(margin, 1.5 * length);
    phase_ = second_at_ > PassedSeconds() ? Phase::kBeforeSecond : Phase::kDone;
  } else if (phase_ == Phase::kBeforeSecond && PassedSeconds() >= second_at_) {
    const Pass second = TakePass();
    if (PassedSeconds() <= seconds_ + margin) Compare(second);
    phase_ = Phase::kDone;
  }
}

void TaskMeter::Compare(const Pass& second) {
  const double length = std::chrono::duration<double>(second.when - first_.when).count();
  rates_.cpus = (second.cpu_seconds - first_.cpu_seconds) / length;
  const double load = (second.load_cpu_seconds - first_.load_cpu_seconds) / length;
  const double busy = (second.busy_seconds - first_.busy_seconds) / length;
  rates_.other_cpus = std::max(0.0, busy - rates_.cpus - load);
  rates_.voluntary_switches = rates_.involuntary_switches = rates_.runnable = 0;
  bool has_times = false;
  for (const auto& [tid, now] : second.threads) {
    const auto found = first_.threads.find(tid);
    if (found == first_.threads.end()) continue;
    const Counters& before = found->second;
    const double seconds = std::chrono::duration<double>(now.when - before.when).count();
    const auto rate = [seconds](uint64_t from, uint64_t to) {
      return static_cast<double>(to - from) / seconds;
    };
    rates_.voluntary_switches += rate(before.voluntary, now.voluntary);
    rates_.involuntary_switches += rate(before.involuntary, now.involuntary);
    rates_.runnable += (rate(before.run_ns, now.run_ns) + rate(before.wait_ns, now.wait_ns)) / 1e9;
    has_times |= now.has_times;
  }
  if (!has_times) rates_.runnable = TaskRates::kUnknown;
}

}  // namespace cmwq::tools
