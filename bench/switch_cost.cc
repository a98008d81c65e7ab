// What counting context switches costs each switch: two threads of one CPU hand a futex to and fro,
// bare and with each of the sources of the setting `switches`.
//
// "attached" is the BPF program on threads that are not registered: what everybody else in the
// process pays; other processes pay less, the program leaves them at the first comparison.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "bench/harness.h"
#include "runtime/base/conf.h"
#include "runtime/pool/switch_audit.h"

namespace cmwq::bench {
namespace {

struct Kind {
  const char* name;
  int64_t switches;
  bool registered;
  bool bpf;
};
constexpr Kind kKinds[] = {
    {"bare", base::kSwitchesOff, false, false},
    {"getrusage, asked twice per switch", base::kSwitchesRusage, true, false},
    {"perf records", base::kSwitchesPerf, true, false},
    {"bpf attached", base::kSwitchesBpf, false, true},
    {"bpf", base::kSwitchesBpf, true, true},
};
constexpr size_t kNr = sizeof(kKinds) / sizeof(kKinds[0]);

struct Outcome {
  double ns_per_switch;
  uint64_t slept;
  bool as_wanted;
};

// A server of programs, for as long as this lives.
class Loader {
 public:
  ~Loader() {
    if (pid_ > 0) kill(pid_, SIGTERM);
    if (pid_ > 0) waitpid(pid_, nullptr, 0);
    rmdir(folder_);
  }
  bool Start() {
    const std::string program = BuildFile("tools/bpf/cmwq-bpf");
    if (access(program.c_str(), X_OK) != 0 || mkdtemp(folder_) == nullptr) return false;
    const std::string path = std::string(folder_) + "/socket";
    int ends[2];
    if (pipe(ends) != 0) return false;
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ends[1], 1);
      close(ends[0]);
      execl(program.c_str(), program.c_str(), "serve", path.c_str(), nullptr);
      _exit(127);
    }
    close(ends[1]);
    char byte;
    const bool serves = read(ends[0], &byte, 1) == 1;  // it says so when it does
    close(ends[0]);
    setenv("CMWQ_BPF", path.c_str(), 1);
    return serves;
  }

 private:
  char folder_[64] = "/tmp/cmwq-switch-XXXXXX";
  pid_t pid_ = -1;
};

// Hands `turn` over `rounds` times.
void Play(int self, int* turn, long rounds, pool::SwitchAudit* audit) {
  for (long i = 0; i < rounds; ++i) {
    if (audit != nullptr) audit->Enter(pool::Phase::kAnnounced, nullptr);
    for (int seen; (seen = __atomic_load_n(turn, __ATOMIC_ACQUIRE)) != self;)
      FutexWaitWhile(turn, seen);
    if (audit != nullptr) audit->Enter(pool::Phase::kItem, nullptr);
    __atomic_store_n(turn, 1 - self, __ATOMIC_RELEASE);
    FutexWakeAll(turn);
  }
}

void Measure(const Kind& kind, int cpu, long rounds, Outcome* out) {
  base::g_conf.switches = kind.switches;
  int turn = 0;
  uint64_t begin = 0, end = 0;
  if (kind.bpf) pool::OpenSwitchAudit(cpu)->End();  // connects
  {
    const auto body = [&](int self) {
      pool::SwitchAudit* const audit = kind.registered ? pool::OpenSwitchAudit(cpu) : nullptr;
      Play(self, &turn, rounds / 10, audit);
      if (self == 0) begin = NowNs();
      Play(self, &turn, rounds, audit);
      if (self == 0) end = NowNs();
      if (audit != nullptr) audit->End();
    };
    Thread first(cpu, [&] { body(0); });
    Thread second(cpu, [&] { body(1); });
  }
  out->ns_per_switch = static_cast<double>(end - begin) / static_cast<double>(2 * rounds);
  pool::SwitchTotals totals;
  if (pool::ReadSwitchTotals(&totals)) {
    out->slept = totals.slept[static_cast<int>(pool::Phase::kAnnounced)];
    const std::string wanted = kind.bpf                               ? "bpf"
                               : kind.switches == base::kSwitchesPerf ? "perf"
                                                                      : "getrusage";
    out->as_wanted = totals.source == wanted || !kind.registered;
  } else {
    out->as_wanted = !kind.registered;
  }
}

int Main(int argc, char** argv) {
  long rounds = 20000;
  Options options("Price of counting context switches, per switch, two threads of one CPU.", 9);
  options.Number("hand-overs", &rounds, "hand-overs per thread and round");
  if (const int code = options.Parse(argc, argv); code >= 0) return code;
  Loader loader;
  const bool bpf = loader.Start();
  const int cpu = AllowedCpus().back();
  Samples samples[kNr];
  bool missing[kNr] = {};
  for (int round = 0; round < options.rounds(); ++round) {
    for (size_t k = 0; k < kNr; ++k) {
      if (kKinds[k].bpf && !bpf) missing[k] = true;
      if (missing[k]) continue;
      const auto got = InChild<Outcome>([&](Outcome* o) { Measure(kKinds[k], cpu, rounds, o); });
      if (!got) return 3;
      missing[k] = !got->as_wanted;
      if (!missing[k]) samples[k].Add(got->ns_per_switch);
    }
  }
  Report report("a context switch with its system calls on CPU " + std::to_string(cpu) + ", ns",
                {"counted by", "median", "above bare", "lowest-highest"});
  for (size_t k = 0; k < kNr; ++k) {
    if (missing[k]) {
      report.Row({kKinds[k].name, "-", "-", "refused here"});
    } else {
      report.Row({kKinds[k].name, Fixed(samples[k].Median(), 0),
                  Fixed(samples[k].Median() - samples[0].Median(), 0), samples[k].Spread(0)});
    }
  }
  return report.Finish(options);
}

}  // namespace
}  // namespace cmwq::bench

int main(int argc, char** argv) { return cmwq::bench::Main(argc, argv); }
