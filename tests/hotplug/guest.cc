// The first process of a virtual machine whose CPUs come and go. Says what it found on the console, one
// "RESULT name value" a line, and switches the machine off.

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "runtime/core/cpus.h"
#include "tests/hotplug/load.h"
#include "tests/hotplug/vigil.h"

namespace cmwq::hotplug {
namespace {

constexpr char kSocket[] = "/run/socket";
constexpr char kCgroup[] = "/sys/fs/cgroup/test";
constexpr char kQuotaUser[] = "/sys/fs/cgroup/quota";
constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kNoticedRounds = 10 * Rounds::kPerSecond;

Vigil* g_vigil;  // I: set before anything else is done
void Step(const char* what) { g_vigil->Step(what); }
void KernelStep(const char* what) { g_vigil->Step(what, Waits::kKernel); }

bool WriteFile(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool ok = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  close(fd);
  return ok;
}

// Needed for everything else; the machine ends without it.
void MustWrite(const std::string& path, const std::string& text) {
  if (WriteFile(path, text)) return;
  printf("FAILED to write %s to %s: %s\n", text.c_str(), path.c_str(), strerror(errno));
  fflush(stdout);
  reboot(RB_AUTOBOOT);
}

// All of them once more at the end: a message of the kernel may have come in between.
std::string g_results;

void Result(const std::string& name, uint64_t value) {
  const std::string line = "RESULT " + name + " " + std::to_string(value) + "\n";
  g_results += line;
  printf("%s", line.c_str());
  fflush(stdout);
}

void SetUpMachine() {
  for (const char* const folder : {"/proc", "/sys", "/dev", "/run", "/tmp"}) mkdir(folder, 0755);
  mount("proc", "/proc", "proc", 0, nullptr);
  mount("sysfs", "/sys", "sysfs", 0, nullptr);
  mount("devtmpfs", "/dev", "devtmpfs", 0, nullptr);
  mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, nullptr);
  MustWrite("/sys/fs/cgroup/cgroup.subtree_control", "+cpu +cpuset");
  mkdir(kCgroup, 0755);
  MustWrite(std::string(kCgroup) + "/cgroup.procs", "0");
  // An empty group that has a quota for ever. The kernel rewrites its own code where the first quota comes
  // and the last one goes, and QEMU before 8.1 may go on executing the old code, a breakpoint, on another
  // CPU: it spins with a lock of the scheduler held, and the machine stands still.
  mkdir(kQuotaUser, 0755);
  MustWrite(std::string(kQuotaUser) + "/cpu.max", "100000 100000");
}

bool SetOnline(int cpu, bool online) {
  return WriteFile("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/online", online ? "1" : "0");
}
void SetCpuset(const std::string& list) { MustWrite(std::string(kCgroup) + "/cpuset.cpus", list); }
void SetQuota(const std::string& text) { MustWrite(std::string(kCgroup) + "/cpu.max", text); }

uint64_t Percentile(std::vector<uint64_t> values, unsigned percent) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, values.size() * percent / 100)];
}

// Waits until `done`, as long as others get on. Returns whether it is.
template <typename Done>
bool WaitRounds(uint64_t rounds, unsigned look_us, Done done) {
  const uint64_t from = Rounds::Now();
  while (!done()) {
    if (Rounds::Now() - from >= rounds) return false;
    SleepUs(look_us);
  }
  return true;
}

// Takes CPUs away and gives them back at random, one step after the other.
class Storm {
 public:
  Storm(Load* load, int cpus, bool follow) : load_(load), cpus_(cpus), follow_(follow) {}

  // So many steps, but no longer than that. Returns how many they were.
  uint64_t Run(uint64_t seconds, uint64_t most) {
    const uint64_t end = NowNs() + seconds * kSecond;
    uint64_t steps = 0;
    for (; steps < most && NowNs() < end; ++steps) {
      const unsigned die = random_() % 20;
      if (die == 0) {
        // A cpuset that shrinks to one CPU and grows again.
        const int cpu = PickOnline();
        KernelStep("change of the cpuset");
        SetCpuset(std::to_string(cpu));
        Rest(50);
        KernelStep("change of the cpuset back");
        SetCpuset("0-" + std::to_string(cpus_ - 1));
        ++cpusets_;
      } else if (die == 1) {
        KernelStep("change of the quota");
        SetQuota(random_() % 2 == 0 ? "100000 100000" : "max 100000");
        ++quotas_;
      } else {
        Toggle(1 + static_cast<int>(random_() % static_cast<unsigned>(cpus_ - 1)));
      }
      Rest(random_() % 20);
    }
    for (int cpu = 1; cpu < cpus_; ++cpu) {
      if (off_[cpu]) Toggle(cpu);
    }
    SetCpuset("0-" + std::to_string(cpus_ - 1));
    SetQuota("max 100000");
    return steps;
  }

  void Report(const std::string& name) const {
    Result(name + ".offline", served_.size());
    Result(name + ".cpuset", cpusets_);
    Result(name + ".quota", quotas_);
    Result(name + ".served_p50_us", Percentile(served_, 50) / 1000);
    Result(name + ".served_p99_us", Percentile(served_, 99) / 1000);
    Result(name + ".served_longest_us", Percentile(served_, 100) / 1000);
    if (!follow_) return;
    Result(name + ".noticed_p50_us", Percentile(noticed_, 50) / 1000);
    Result(name + ".noticed_p99_us", Percentile(noticed_, 99) / 1000);
    Result(name + ".unnoticed", unnoticed_);
  }

 private:
  static void Rest(unsigned ms) { SleepUs(ms * 1000 + 1); }
  int PickOnline() {
    for (;;) {
      const int cpu = static_cast<int>(random_() % static_cast<unsigned>(cpus_));
      if (!off_[cpu]) return cpu;
    }
  }

  void Toggle(int cpu) {
    KernelStep(off_[cpu] ? "CPU online" : "CPU offline");
    if (!SetOnline(cpu, off_[cpu])) return;
    off_[cpu] = !off_[cpu];
    if (!off_[cpu]) return;
    // The event has been sent when the write returns.
    const uint64_t event = NowNs();
    Step("item for a CPU that left");
    served_.push_back(load_->Probe(cpu));
    if (!follow_) return;
    Step("CPU that left, to be given up");
    if (WaitRounds(kNoticedRounds, 50, [cpu] { return !core::UsableCpus().Has(cpu); })) {
      noticed_.push_back(NowNs() - event);
    } else {
      ++unnoticed_;
    }
  }

  Load* const load_;
  const int cpus_;
  const bool follow_;  // goes on when the engine has noticed
  std::mt19937 random_{1};
  bool off_[64] = {};
  std::vector<uint64_t> served_, noticed_;
  uint64_t cpusets_ = 0, quotas_ = 0, unnoticed_ = 0;
};

// The threads whose name says a CPU, "prefixN…", and those of them that are bound to that CPU alone.
struct Placed {
  int threads = 0, right = 0;
};
Placed CountPlaced(const char* prefix) {
  Placed placed;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    if (name.rfind(prefix, 0) != 0 || name.size() <= strlen(prefix)) continue;
    const char* const number = name.c_str() + strlen(prefix);
    if (*number < '0' || *number > '9') continue;
    platform::CpuSet mask;
    if (mask.LoadAffinity(atoi(task.path().filename().c_str())) != 0) continue;
    ++placed.threads;
    if (mask == platform::CpuSet::Of(atoi(number))) ++placed.right;
  }
  return placed;
}

// How a storm goes: whose threads are bound to CPUs, whether each CPU that left is waited for until the engine
// has noticed, and how much of it there is.
struct Plan {
  const char* prefix;
  bool engine;
  bool follow;
  uint64_t seconds;
  uint64_t steps;
};

void ReportLoad(const std::string& name, const Load& load) {
  Result(name + ".queued", load.queued());
  Result(name + ".executed", load.executed());
  Result(name + ".cancelled", load.cancelled());
  Result(name + ".delay_p50_us", load.delay.PercentileNs(50) / 1000);
  Result(name + ".delay_p99_us", load.delay.PercentileNs(99) / 1000);
  Result(name + ".longest_delay_us", load.delay.longest_ns() / 1000);
  Result(name + ".longest_delay_ms_of_rounds", load.delay.longest_rounds() * 1000 / Rounds::kPerSecond);
  for (int i = 0; i < 4; ++i) {
    Result(name + ".longest_ms_of_rounds_" + std::to_string(i),
           load.longest_rounds[i].ns() * 1000 / Rounds::kPerSecond);
  }
  Result(name + ".late", load.delay.late());
  Result(name + ".strangers", static_cast<uint64_t>(load.strangers.load()));
}

// Returns the steps of the storm.
uint64_t RunStorm(const std::string& name, Load* load, int cpus, const Plan& plan) {
  Storm storm(load, cpus, plan.follow);
  Rounds::TakeLongestNapNs();
  load->Start();
  const uint64_t begin = NowNs();
  const uint64_t steps = storm.Run(plan.seconds, plan.steps);
  Result(name + ".storm_ms", (NowNs() - begin) / 1'000'000);
  // With work going on, until everything is in its place again, or for good out of it.
  Placed placed;
  Step("threads, to be placed again");
  WaitRounds(plan.engine ? 30 * Rounds::kPerSecond : Rounds::kPerSecond, 100'000, [&] {
    placed = CountPlaced(plan.prefix);
    return placed.right == placed.threads && (!plan.engine || core::UsableCpus().Count() == cpus);
  });
  Step("a second with every CPU there");
  const uint64_t elsewhere = load->elsewhere.load(), executed = load->executed();
  WaitRounds(Rounds::kPerSecond, 100'000, [] { return false; });
  Result(name + ".after_executed", load->executed() - executed);
  Result(name + ".after_elsewhere", load->elsewhere.load() - elsewhere);
  Step("end of the load");
  load->Stop();
  Result(name + ".steps", steps);
  storm.Report(name);
  ReportLoad(name, *load);
  Result(name + ".nap_us", Rounds::TakeLongestNapNs() / 1000);
  Result(name + ".bound_threads", static_cast<uint64_t>(placed.threads));
  Result(name + ".bound_right", static_cast<uint64_t>(placed.right));
  if (plan.engine) Result(name + ".cpus", static_cast<uint64_t>(core::UsableCpus().Count()));
  return steps;
}

// The quota alone changes: seen by looking, with work going on.
void FollowQuota(Load* load) {
  Step("quota, to be noticed");
  load->Start();
  SetQuota("150000 100000");
  const uint64_t from = NowNs();
  WaitRounds(2 * kNoticedRounds, 1000, [] { return core::CpuQuotaMilli() == 1500; });
  Result("quota.milli", core::CpuQuotaMilli());
  Result("quota.noticed_us", (NowNs() - from) / 1000);
  SetQuota("max 100000");
  load->Stop();
}

pid_t StartServer() {
  if (access("/cmwq-demo-server", X_OK) != 0) return 0;
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("LD_PRELOAD", "/libcmwq-preload.so", 1);
    setenv("CMWQ_REPORT", "1", 1);
    const std::string socket = std::string("--socket=") + kSocket;
    execl("/cmwq-demo-server", "cmwq-demo-server", socket.c_str(), "--journal=/run/journal",
          "--rounds=1000", nullptr);
    _exit(127);
  }
  for (int look = 0; look < 600 && access(kSocket, F_OK) != 0; ++look) SleepUs(100'000);
  return pid;
}

void StopServer(pid_t pid, Clients* clients) {
  Step("end of the clients");
  clients->Stop();
  Step("end of the server");
  Result("server.answered", clients->answered());
  Result("server.failed", static_cast<uint64_t>(clients->failed()));
  Result("server.longest_wait_us", clients->wait.longest_ns() / 1000);
  Result("server.longest_wait_ms_of_rounds", clients->wait.longest_rounds() * 1000 / Rounds::kPerSecond);
  kill(pid, SIGTERM);
  int status = -1;
  waitpid(pid, &status, 0);
  Result("server.exit", static_cast<uint64_t>(WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status)));
}

// argv of the kernel's command line: seconds of the storm with everything, of each of those that compare.
int Main(int argc, char** argv) {
  SetUpMachine();
  const int cpus = static_cast<int>(sysconf(_SC_NPROCESSORS_CONF));
  const uint64_t seconds = argc > 1 ? strtoul(argv[1], nullptr, 10) : 60;
  const uint64_t compare_seconds = argc > 2 ? strtoul(argv[2], nullptr, 10) : 20;
  Result("cpus", static_cast<uint64_t>(cpus));
  Vigil vigil;
  g_vigil = &vigil;
  const Rounds rounds(cpus);
  Step("start of the server");
  const pid_t server = StartServer();
  {
    std::unique_ptr<Clients> clients;
    if (server > 0) clients = std::make_unique<Clients>(kSocket, 16);
    RunStorm("cmwq", MakeCmwqLoad(cpus).release(), cpus, {"wq/", true, true, seconds, UINT64_MAX});
    if (server > 0) StopServer(server, clients.get());
  }
  FollowQuota(MakeCmwqLoad(cpus).release());
  // The same load and the same storm, step by step.
  const uint64_t steps = RunStorm("percpu", MakePerCpuLoad(cpus).release(), cpus,
                                  {"wq/", true, false, compare_seconds, UINT64_MAX});
  RunStorm("plain", MakePlainLoad(cpus).release(), cpus, {"plain/", false, false, 3 * compare_seconds, steps});
  printf("%s", std::string(g_results).c_str());
  Result("done", 1);
  Step("end of the machine");
  reboot(RB_AUTOBOOT);
  return 0;
}

}  // namespace
}  // namespace cmwq::hotplug

int main(int argc, char** argv) { return cmwq::hotplug::Main(argc, argv); }
