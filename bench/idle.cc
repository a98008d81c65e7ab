// An idle process must not wake up: counts the context switches of all its threads while it has
// nothing to do, with the library after work, and with the preload under a server that holds open
// connections.

#include <cmwq/cmwq.h>
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <vector>

#include "bench/harness.h"

namespace cmwq::bench {
namespace {

struct ThreadCounts {
  std::string name;
  long switches = 0;
};
using Snapshot = std::map<int, ThreadCounts>;

// Voluntary and involuntary switches of each thread.
Snapshot Look(pid_t pid) {
  Snapshot snapshot;
  const std::string folder = "/proc/" + std::to_string(pid) + "/task";
  DIR* const dir = opendir(folder.c_str());
  if (dir == nullptr) return snapshot;
  while (const dirent* const entry = readdir(dir)) {
    if (entry->d_name[0] == '.') continue;
    FILE* const file = fopen((folder + "/" + entry->d_name + "/status").c_str(), "re");
    if (file == nullptr) continue;
    ThreadCounts& counts = snapshot[atoi(entry->d_name)];
    char line[256], name[64];
    long n;
    while (fgets(line, sizeof(line), file) != nullptr) {
      if (sscanf(line, "Name: %63[^\n]", name) == 1) counts.name = name;
      if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1) counts.switches += n;
      if (sscanf(line, "nonvoluntary_ctxt_switches: %ld", &n) == 1) counts.switches += n;
    }
    fclose(file);
  }
  closedir(dir);
  return snapshot;
}

struct Outcome {
  size_t threads = 0;
  long switches = 0;
  std::vector<std::string> culprits;
};

Outcome Watch(pid_t pid, long settle_ms, long seconds) {
  SleepNs(static_cast<uint64_t>(settle_ms) * 1'000'000);
  const Snapshot before = Look(pid);
  SleepNs(static_cast<uint64_t>(seconds) * 1'000'000'000);
  const Snapshot after = Look(pid);
  Outcome outcome;
  outcome.threads = after.size();
  for (const auto& [tid, counts] : after) {
    const auto old = before.find(tid);
    const long n = counts.switches - (old != before.end() ? old->second.switches : 0);
    outcome.switches += n;
    if (n != 0) outcome.culprits.push_back(counts.name + ": " + std::to_string(n));
  }
  return outcome;
}

void Mixed(struct cmwq_work* work) {
  // Both kinds of block, so that workers, canary and event thread all have been awake.
  const bool announce = (reinterpret_cast<uintptr_t>(work) / sizeof(*work)) % 2 == 0;
  BurnNs(20'000);
  if (announce) cmwq_block_begin();
  SleepNs(500'000);
  if (announce) cmwq_block_end();
}

// Uses every part of the library, says so, and waits for its end.
[[noreturn]] void LibraryChild(int ready) {
  struct cmwq_workqueue* const queues[] = {cmwq_alloc_workqueue("idle", CMWQ_MEM_RECLAIM, 0),
                                           cmwq_alloc_workqueue("idle_unbound", CMWQ_UNBOUND, 0),
                                           cmwq_alloc_workqueue("idle_high", CMWQ_HIGHPRI, 0)};
  const std::vector<int> cpus = AllowedCpus();
  std::vector<struct cmwq_work> works(600);
  for (size_t i = 0; i < works.size(); ++i) {
    cmwq_work_init(&works[i], &Mixed);
    cmwq_queue_work_on(cpus[i % cpus.size()], queues[i % 3], &works[i]);
  }
  struct cmwq_delayed_work delayed;
  cmwq_delayed_work_init(&delayed, &Mixed);
  cmwq_queue_delayed_work(queues[0], &delayed, 1'000'000);
  SleepNs(5'000'000);
  cmwq_flush_delayed_work(&delayed);
  for (auto* const queue : queues) cmwq_flush_workqueue(queue);
  if (write(ready, "r", 1) != 1) _exit(1);
  for (;;) pause();
}

void End(pid_t pid) {
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
}

Outcome WatchLibrary(long settle_ms, long seconds) {
  int ends[2];
  if (pipe(ends) != 0) return {};
  fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) LibraryChild(ends[1]);
  close(ends[1]);
  char byte;
  const bool ready = read(ends[0], &byte, 1) == 1;
  close(ends[0]);
  const Outcome outcome = ready ? Watch(pid, settle_ms, seconds) : Outcome{};
  End(pid);
  return outcome;
}

// The server of the demo, with connections that asked something and now wait.
class ServedConnections {
 public:
  ServedConnections(const std::string& cmwq, const std::string& server) {
    const char* const tmp = getenv("TMPDIR");
    std::string folder = std::string(tmp != nullptr ? tmp : "/tmp") + "/cmwq-bench-XXXXXX";
    if (mkdtemp(folder.data()) == nullptr) return;
    folder_ = folder;
    const std::string socket = "--socket=" + Path("socket"),
                      journal = "--journal=" + Path("journal");
    fflush(nullptr);
    pid_ = fork();
    if (pid_ != 0) return;
    execl(cmwq.c_str(), "cmwq", "run", "--", server.c_str(), socket.c_str(), journal.c_str(),
          nullptr);
    _exit(127);
  }
  ~ServedConnections() {
    for (const int fd : fds_) close(fd);
    if (pid_ > 0) End(pid_);
    unlink(Path("socket").c_str());
    unlink(Path("journal").c_str());
    rmdir(folder_.c_str());
  }
  ServedConnections(const ServedConnections&) = delete;
  ServedConnections& operator=(const ServedConnections&) = delete;

  pid_t pid() const { return pid_; }

  bool Connect(long connections) {
    for (long i = 0; i < connections; ++i) {
      const int fd = ConnectOne();
      if (fd < 0) return false;
      fds_.push_back(fd);
    }
    return true;
  }

  // All ask at once, so that requests are held back and go through the gate.
  bool Ask(int rounds) {
    for (int round = 0; round < rounds; ++round) {
      for (const int fd : fds_) {
        const std::string line = "PUT " + std::to_string(fd) + " " + std::to_string(round) + " 7\n";
        if (write(fd, line.data(), line.size()) != static_cast<ssize_t>(line.size())) return false;
      }
      for (const int fd : fds_) {
        char answer[256];
        if (read(fd, answer, sizeof(answer)) <= 0) return false;
      }
    }
    return true;
  }

 private:
  std::string Path(const char* name) const { return folder_ + "/" + name; }

  int ConnectOne() const {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string path = Path("socket");
    memcpy(address.sun_path, path.c_str(), std::min(path.size(), sizeof(address.sun_path) - 1));
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    // The server needs a moment to start.
    for (int attempt = 0; attempt < 500; ++attempt) {
      if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
      SleepNs(10'000'000);
    }
    close(fd);
    return -1;
  }

  std::string folder_;
  pid_t pid_ = -1;
  std::vector<int> fds_;
};

struct Plan {
  long seconds = 10;
  long settle_ms = 8000;  // the watchdog looks once more, watchdog_thresh / 4 after the last work
  long connections = 16;
  std::string cmwq = BuildFile("tools/cmwq");
  std::string server = BuildFile("tools/cmwq-demo-server");
};

Outcome WatchPreload(const Plan& plan) {
  ServedConnections served(plan.cmwq, plan.server);
  if (!served.Connect(plan.connections) || !served.Ask(50)) {
    fprintf(stderr, "the server under the preload did not answer\n");
    return {};
  }
  return Watch(served.pid(), plan.settle_ms, plan.seconds);
}

int Main(int argc, char** argv) {
  Plan plan;
  Options options("Context switches of idle processes under cmwq; there should be none.", 1);
  options.Number("seconds", &plan.seconds, "how long to watch");
  options.Number("settle-ms", &plan.settle_ms, "pause between the last work and the watch");
  options.Number("connections", &plan.connections, "to the server under the preload");
  options.Text("cmwq", &plan.cmwq, "the command, else from this build");
  options.Text("server", &plan.server, "cmwq-demo-server, else from this build");
  if (const int code = options.Parse(argc, argv); code >= 0) return code;

  Report report("idle for " + std::to_string(plan.seconds) + " s",
                {"process", "threads", "context switches"});
  for (int round = 0; round < options.rounds(); ++round) {
    for (const bool preload : {false, true}) {
      const char* const name = preload ? "server under the preload" : "library, after work";
      const Outcome outcome =
          preload ? WatchPreload(plan) : WatchLibrary(plan.settle_ms, plan.seconds);
      if (outcome.threads == 0) return 3;
      report.Row({name, std::to_string(outcome.threads), std::to_string(outcome.switches)});
      for (const std::string& culprit : outcome.culprits) {
        report.Note(std::string(name) + ", thread " + culprit);
      }
      report.Bar(std::string(name) + ", context switches", static_cast<double>(outcome.switches),
                 0);
    }
  }
  return report.Finish(options);
}

}  // namespace
}  // namespace cmwq::bench

int main(int argc, char** argv) { return cmwq::bench::Main(argc, argv); }
