// How long a CPU is without its work when a worker blocks, by kind of block and by how it is
// learned; what is done wrong on the way; what looking for blocks costs a worker that computes. One
// table.
//
//   told     the block is announced; beside it the same block behind a bare futex hand-over
//   canary   nobody announces it, the canary finds it
//   exact    the BPF program rings (switches=exact); the bench starts cmwq-bpf for itself
//   tick     the same where SCHED_IDLE is refused: the canary's loop at normal priority every
//   tick_ms poll     as libdispatch on Linux: /proc is read once a second
//
// Rows and ways are interleaved: rounds of children, in a child passes over all rows. Times of a
// pass that cannot be prepared (a page that stays in the cache) are left out and counted.

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <thread>

#include "bench/detection_blocks.h"
#include "bench/detection_bursts.h"
#include "bench/detection_run.h"
#include "bench/harness.h"

namespace cmwq::bench {
namespace {

// How the next worker learns of the block. A new way is a line here, a column in PrintRow, and what
// it needs in Prepare.
enum class Way { kCanary, kExact, kTick, kPoll };
constexpr size_t kWays = 4;

struct Row {
  const BlockKind* kind;
  enum class How { kBare, kTold, kFound } how;
  const BlockKind* bare;  // kTold: what it is compared with
  double bar_us;          // kFound: of p99
};

constexpr double kBar = 100, kFaultBar = 150, kToldBar = 1.3, kWrongBar = 5, kCostBar = 1;

const Row kRows[] = {
    {&kFutex, Row::How::kBare, nullptr, 0},
    {&kLibcRead, Row::How::kBare, nullptr, 0},
    {&kLibcSleep, Row::How::kBare, nullptr, 0},
    {&kAnnouncedFutex, Row::How::kTold, &kFutex, 0},
    {&kAnnouncedScoped, Row::How::kTold, &kLibcRead, 0},
    {&kAnnouncedIoRead, Row::How::kTold, &kLibcRead, 0},
    {&kAnnouncedIoSleep, Row::How::kTold, &kLibcSleep, 0},
    {&kFutex, Row::How::kFound, nullptr, kBar},
    {&kAsmSleep, Row::How::kFound, nullptr, kBar},
    {&kAsmRead, Row::How::kFound, nullptr, kBar},
    {&kLibcRead, Row::How::kFound, nullptr, kBar},
    {&kLibcSleep, Row::How::kFound, nullptr, kBar},
    {&kDiskFault, Row::How::kFound, nullptr, kFaultBar},
    {&kUserFault, Row::How::kFound, nullptr, kFaultBar},
    {&kResolver, Row::How::kFound, nullptr, kBar},
    {&kStdio, Row::How::kFound, nullptr, kBar},
    {&kLoader, Row::How::kFound, nullptr, kBar},
    {&kPipeMutex, Row::How::kFound, nullptr, kBar},
    {&kInodeLock, Row::How::kFound, nullptr, kBar},
    {&kFileLock, Row::How::kFound, nullptr, kBar},
    {&kMmapLock, Row::How::kFound, nullptr, kBar},
    {&kUring, Row::How::kFound, nullptr, kBar},
};
constexpr size_t kRowCount = sizeof(kRows) / sizeof(kRows[0]);

std::string KeyOf(const Row& row) {
  return (row.how == Row::How::kBare ? "bare_" : "") + std::string(row.kind->key);
}
std::string NameOf(const Row& row) {
  const char* const how = row.how == Row::How::kBare   ? "bare hand-over, "
                          : row.how == Row::How::kTold ? "announced, "
                                                       : "";
  return how + std::string(row.kind->name);
}

struct Plan {
  long samples = 200, exact_samples = 100, tick_samples = 8, poll_samples = 8;
  long busy_us = 20;
  long bursts = 10'000, burst_us = 200;
  bool quick = false;
  std::string rows, ways, scratch = "/var/tmp", cmwq_bpf = BuildFile("tools/bpf/cmwq-bpf");
  std::string bpf_socket;  // empty: no exact mode
  int cpu = 0, other = 0;
  int scratch_fd = -1;

  static bool Listed(const std::string& list, const std::string& key) {
    return list.empty() || ("," + list + ",").find("," + key + ",") != list.npos;
  }
  bool Wants(const std::string& row) const { return Listed(rows, row); }
  bool WantsWay(const char* way) const { return Listed(ways, way); }
  // Of one row in one child.
  long SamplesOf(Way way) const {
    const long of_way[kWays] = {samples, exact_samples, tick_samples, poll_samples};
    return of_way[static_cast<size_t>(way)];
  }
};

// What a child measured of one row.
struct Measured {
  static constexpr size_t kMax = 4000;
  long count, skipped, missed, short_, early, presumed, switches, stray;
  float us[kMax];
  char why[64];  // it could not be measured
};
struct ChildResult {
  Measured rows[kRowCount];
};

// The kernel refuses SCHED_IDLE to this process from now on.
bool RefuseIdleClass() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setattr, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setscheduler, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// In a child that has one thread.
BlockSetup Prepare(const Plan& plan, Way way) {
  // A block that nobody ends must outlast the way's slowest find.
  constexpr uint64_t kHoldNs[kWays] = {2'000'000, 2'000'000, 50'000'000, 1'500'000'000};
  BlockSetup setup = {kHoldNs[static_cast<size_t>(way)], plan.other, plan.scratch_fd, false};
  if (plan.Wants(kResolver.key)) setup.own_resolver = OwnResolver();
  if (way == Way::kTick && !RefuseIdleClass()) {
    perror("seccomp");
    _exit(3);
  }
  if (way == Way::kExact) {
    setenv("CMWQ_BPF", plan.bpf_socket.c_str(), 1);
    setenv("CMWQ_CONF", "switches=exact,cpu_watch_ms=0", 1);
  }
  return setup;
}

// The library falls back by itself, which is not what is to be measured.
bool IsExact() {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    char name[16] = "";
    FILE* const file = fopen((task.path() / "comm").c_str(), "re");
    if (file == nullptr) continue;
    const bool bpf = fscanf(file, "%15s", name) == 1 && strncmp(name, "wq/B", 4) == 0;
    fclose(file);
    if (bpf) return true;
  }
  return false;
}

// One row's state inside a child.
struct Live {
  const Row* row;
  Measured* to;
  std::unique_ptr<Block> block;
  std::unique_ptr<Supplier> own_supplier;  // unless it shares cmwq's
};

void MeasureOne(const Plan& plan, Live* live, Supplier* supplier, bool keep) {
  constexpr uint64_t kPatienceNs = 3'000'000'000;
  Exchange exchange(live->block.get(), static_cast<uint64_t>(plan.busy_us) * 1000);
  Sample sample;
  const bool good = exchange.Run(supplier, kPatienceNs, &sample);
  Measured* const m = live->to;
  if (!keep) return;
  if (!good) {
    ++m->skipped;
    return;
  }
  // Blocks that never lasted until somebody could come say nothing about how fast one comes; only
  // the disk makes such.
  const bool brief = sample.short_ && live->row->kind == &kDiskFault;
  m->missed += sample.missed ? 1 : 0;
  m->short_ += sample.short_ ? 1 : 0;
  m->early += sample.early ? 1 : 0;
  m->presumed += sample.presumed;
  m->switches += sample.switches;
  if (sample.presumed > sample.switches) m->stray += sample.presumed - sample.switches;
  if (!brief && m->count < static_cast<long>(Measured::kMax)) {
    m->us[m->count++] = static_cast<float>(sample.us);
  }
}

// All rows of one way, `plan.SamplesOf(way)` each, in passes. `only`: one row.
void MeasureWay(const Plan& plan, Way way, const Row* only, ChildResult* result) {
  constexpr long kPasses = 10;
  const BlockSetup setup = Prepare(plan, way);
  std::vector<Live> lives;
  std::unique_ptr<Supplier> cmwq = way != Way::kPoll ? MakeCmwq(plan.cpu) : nullptr;
  PinSelf(plan.other);  // not before the library has seen which CPUs there are
  for (size_t i = 0; i < kRowCount; ++i) {
    const Row& row = kRows[i];
    if (!plan.Wants(KeyOf(row)) || (only != nullptr && only != &row)) continue;
    if (row.how != Row::How::kFound && way != Way::kCanary) continue;
    std::string why;
    Live live = {&row, &result->rows[i], row.kind->make(setup, &why), nullptr};
    snprintf(live.to->why, sizeof(live.to->why), "%s", why.c_str());
    if (live.block == nullptr) continue;
    if (row.how == Row::How::kBare) live.own_supplier = MakeBare(plan.cpu);
    if (way == Way::kPoll) live.own_supplier = MakePoll(plan.cpu);
    lives.push_back(std::move(live));
  }
  const long per_pass = std::max(1L, plan.SamplesOf(way) / kPasses);
  const long passes = plan.SamplesOf(way) / per_pass;
  for (long pass = 0; pass < passes; ++pass) {
    for (Live& live : lives) {
      Supplier* const supplier = live.own_supplier ? live.own_supplier.get() : cmwq.get();
      // Threads are made and caches warmed by samples that do not count, except where each costs
      // half a second.
      const bool cheap = way == Way::kCanary || way == Way::kExact;
      for (int i = 0; cheap && i < (pass == 0 ? 8 : 2); ++i) {
        MeasureOne(plan, &live, supplier, false);
      }
      if (way == Way::kExact && !IsExact()) _exit(3);
      for (long i = 0; i < per_pass; ++i) MeasureOne(plan, &live, supplier, true);
    }
  }
}

// All rows.
struct Total {
  Samples us[kWays], medians;
  Measured sum[kWays] = {};
};

void Collect(const Measured& from, Way way, Total* to) {
  const auto w = static_cast<size_t>(way);
  Samples of_child;
  for (long i = 0; i < from.count; ++i) of_child.Add(from.us[i]);
  to->us[w].Add(of_child.values());
  if (way == Way::kCanary && !of_child.empty()) to->medians.Add(of_child.Median());
  Measured& sum = to->sum[w];
  sum.count += from.count;
  sum.skipped += from.skipped;
  sum.missed += from.missed;
  sum.short_ += from.short_;
  sum.early += from.early;
  sum.presumed += from.presumed;
  sum.switches += from.switches;
  sum.stray += from.stray;
  if (from.why[0] != '\0') memcpy(sum.why, from.why, sizeof(sum.why));
}

bool RunWay(const Plan& plan, Way way, std::vector<Total>* totals) {
  const auto result =
      InChild<ChildResult>([&](ChildResult* r) { MeasureWay(plan, way, nullptr, r); }, 300);
  if (!result) return false;
  for (size_t i = 0; i < kRowCount; ++i) Collect(result->rows[i], way, &(*totals)[i]);
  return true;
}

// Each sample takes a second and almost no CPU: all rows at the same time, a child each.
bool RunPoll(const Plan& plan, std::vector<Total>* totals) {
  std::vector<std::optional<ChildResult>> results(kRowCount);
  {
    std::vector<std::thread> threads;
    for (size_t i = 0; i < kRowCount; ++i) {
      if (kRows[i].how != Row::How::kFound || !plan.Wants(KeyOf(kRows[i]))) continue;
      threads.emplace_back([&, i] {
        results[i] = InChild<ChildResult>(
            [&](ChildResult* r) { MeasureWay(plan, Way::kPoll, &kRows[i], r); }, 300);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  for (size_t i = 0; i < kRowCount; ++i) {
    if (results[i]) Collect(results[i]->rows[i], Way::kPoll, &(*totals)[i]);
  }
  return true;
}

std::string Number(const Samples& samples, double q, int decimals) {
  return samples.empty() ? "-" : Fixed(samples.Quantile(q), decimals);
}

struct Verdict {
  bool judged = false, pass = true;
  void Add(Report* report, const std::string& what, double value, double limit) {
    report->Bar(what, value, limit);
    judged = true;
    pass = pass && value <= limit;
  }
  std::string Cell() const { return !judged ? "" : pass ? "PASS" : "FAIL"; }
};

const Total* BareOf(const std::vector<Total>& totals, const BlockKind* kind) {
  for (size_t i = 0; i < kRowCount; ++i) {
    if (kRows[i].how == Row::How::kBare && kRows[i].kind == kind) return &totals[i];
  }
  return nullptr;
}

void PrintRow(const Row& row, const Total& total, const std::vector<Total>& totals,
              Report* report) {
  const std::string name = NameOf(row);
  const auto& sum = total.sum;
  for (const Measured& m : sum) {
    if (m.why[0] != '\0' && &m != &sum[static_cast<size_t>(Way::kPoll)])
      report->Note(name + ": not measured: " + m.why);
  }
  const Samples& us = total.us[0];
  Verdict verdict;
  std::string ratio = "-", wrong = "-";
  const Total* const bare = BareOf(totals, row.how == Row::How::kTold ? row.bare : &kFutex);
  if (bare != nullptr && !bare->us[0].empty() && !us.empty()) {
    const double times = us.Median() / bare->us[0].Median();
    ratio = Fixed(times, 2);
    if (row.how == Row::How::kTold) {
      verdict.Add(report, name + ": p50 times the same block, bare", times, kToldBar);
    }
  }
  if (row.how == Row::How::kFound && !us.empty()) {
    verdict.Add(report, name + ": p99 in us", us.Quantile(0.99), row.bar_us);
    const double n = static_cast<double>(us.size());
    const double bad = static_cast<double>(sum[0].stray + sum[0].early) * 10'000 / n;
    wrong = Fixed(bad, 1);
    verdict.Add(report, name + ": wrong actions per 10000", bad, kWrongBar);
  }
  report->Row({name, Number(us, 0.5, 2), Number(us, 0.9, 2), Number(us, 0.99, 2), Number(us, 1, 0),
               total.medians.empty() ? "-" : total.medians.Spread(2), ratio, wrong,
               std::to_string(us.size()), Number(total.us[1], 0.5, 2), Number(total.us[1], 0.99, 2),
               Number(total.us[2], 0.5, 0), Number(total.us[2], 0.99, 0),
               Number(total.us[3], 0.5, 0), Number(total.us[3], 1, 0), verdict.Cell()});
  if (sum[0].missed > 0) report->Note(name + ": never found: " + std::to_string(sum[0].missed));
  if (sum[0].short_ > 0) {
    report->Note(name + ": over before anybody came: " + std::to_string(sum[0].short_));
  }
  if (sum[0].skipped > 0) {
    report->Note(name + ": could not be prepared: " + std::to_string(sum[0].skipped));
  }
}

struct BurstRow {
  const char* key;
  const char* name;
  Company company;
};
constexpr BurstRow kBurstRows[] = {
    {"burst", "computing, nobody else", {false, false, false}},
    {"burst_others", "computing, other CPUs busy", {true, false, false}},
    {"burst_hostile", "computing, other CPUs busy, interloper", {true, true, false}},
    {"mixed", "computing and sleeping, nobody else", {false, false, true}},
    {"mixed_hostile", "computing and sleeping, other CPUs busy, interloper", {true, true, true}},
};
constexpr size_t kBurstRowCount = sizeof(kBurstRows) / sizeof(kBurstRows[0]);

struct CostRow {
  const char* key;
  const char* name;
  long items;
};
constexpr CostRow kCostRows[] = {
    {"cost", "cost, one long item", 1},
    {"cost_items", "cost, items of 0.1 ms", 2000},
};
constexpr size_t kCostRowCount = sizeof(kCostRows) / sizeof(kCostRows[0]);
constexpr long kCostMs = 200;

bool RunBurstRow(const Plan& plan, const BurstRow& row, long count, BurstResult* sum) {
  const auto result = InChild<BurstResult>([&](BurstResult* r) {
    RunBursts(plan.cpu, plan.other, count, plan.burst_us, row.company, r);
  });
  if (result) sum->Add(*result);
  return result.has_value();
}

// With the canary and without, A B B A, so that neither comes first. Percent.
bool RunCostRow(const Plan& plan, const CostRow& row, Samples* percent) {
  double ms[2] = {};
  for (const int with : {1, 0, 0, 1}) {
    const auto result = InChild<double>([&](double* r) {
      // The long item is to stay one that counts.
      setenv("CMWQ_CONF",
             with != 0 ? "cpu_watch_ms=0,cpu_intensive_thresh_us=0"
                       : "cpu_watch_ms=0,cpu_intensive_thresh_us=0,canary=0",
             1);
      RunBound(plan.cpu, plan.other, row.items, kCostMs, r);
    });
    if (!result) return false;
    ms[with] += *result;
  }
  percent->Add((ms[1] / ms[0] - 1) * 100);
  return true;
}

void PrintBursts(const BurstRow& row, const BurstResult& sum, Report* report) {
  Verdict verdict;
  const double wrong = static_cast<double>(sum.wrong) * 10'000 / static_cast<double>(sum.bursts);
  verdict.Add(report, std::string(row.name) + ": wrong actions per 10000", wrong, kWrongBar);
  if (!row.company.sleeps) {
    verdict.Add(report, std::string(row.name) + ": extra switches per wrong action",
                sum.ExtraPerWrong(), 1);
  }
  report->Row({row.name, "-", "-", "-", "-", "-", "-", Fixed(wrong, 1), std::to_string(sum.bursts),
               "-", "-", "-", "-", "-", "-", verdict.Cell()});
  std::string note =
      std::string(row.name) + ": presumed " + std::to_string(sum.presumed) + ", overlapped " +
      std::to_string(sum.overlaps) + ", slept while computing " + std::to_string(sum.switches) +
      ", preempted per burst " +
      Fixed(static_cast<double>(sum.involuntary) / static_cast<double>(sum.bursts), 3);
  if (!row.company.sleeps) {
    note += ", more of it per wrong action " + Fixed(sum.ExtraPerWrong(), 2);
  }
  report->Note(note);
}

// `cmwq-bpf serve` at a socket of its own; ends with this object.
class BpfServer {
 public:
  explicit BpfServer(const std::string& command) {
    char folder[] = "/tmp/cmwq-bench-XXXXXX";
    int ends[2];
    if (command.empty() || access(command.c_str(), X_OK) != 0 || mkdtemp(folder) == nullptr ||
        pipe(ends) != 0) {
      return;
    }
    folder_ = folder;
    const std::string path = folder_ + "/bpf";
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGTERM);
      dup2(ends[1], STDOUT_FILENO);
      execl(command.c_str(), "cmwq-bpf", "serve", path.c_str(), nullptr);
      _exit(127);
    }
    close(ends[1]);
    char line[256];
    if (read(ends[0], line, sizeof(line)) > 0) socket_ = path;  // it says that it serves
    close(ends[0]);
  }
  ~BpfServer() {
    if (pid_ > 0) {
      kill(pid_, SIGTERM);
      waitpid(pid_, nullptr, 0);
    }
    if (!folder_.empty()) rmdir(folder_.c_str());
  }
  BpfServer(const BpfServer&) = delete;
  BpfServer& operator=(const BpfServer&) = delete;
  // Empty: exact mode is not to be had here.
  const std::string& socket() const { return socket_; }

 private:
  std::string folder_, socket_;
  pid_t pid_ = -1;
};

bool CheckList(const std::string& list, const std::vector<std::string>& known, const char* option) {
  for (size_t at = 0; at < list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    const std::string one = list.substr(at, end - at);
    if (std::find(known.begin(), known.end(), one) == known.end()) {
      fprintf(stderr, "--%s knows no '%s'; one or more of:", option, one.c_str());
      for (const std::string& name : known) fprintf(stderr, " %s", name.c_str());
      fputc('\n', stderr);
      return false;
    }
    at = end + 1;
  }
  return true;
}

struct All {
  std::vector<Total> rows{kRowCount};
  BurstResult bursts[kBurstRowCount];
  Samples cost[kCostRowCount];
};

bool MeasureRound(const Plan& plan, int rounds, All* all) {
  if (plan.WantsWay("canary") && !RunWay(plan, Way::kCanary, &all->rows)) return false;
  if (!plan.bpf_socket.empty() && !RunWay(plan, Way::kExact, &all->rows)) return false;
  if (plan.WantsWay("tick") && !RunWay(plan, Way::kTick, &all->rows)) return false;
  if (!plan.WantsWay("canary")) return true;
  for (size_t i = 0; i < kBurstRowCount; ++i) {
    if (plan.Wants(kBurstRows[i].key) &&
        !RunBurstRow(plan, kBurstRows[i], plan.bursts / rounds, &all->bursts[i])) {
      return false;
    }
  }
  for (size_t i = 0; i < kCostRowCount; ++i) {
    if (plan.Wants(kCostRows[i].key) && !RunCostRow(plan, kCostRows[i], &all->cost[i])) {
      return false;
    }
  }
  return true;
}

int Print(const Plan& plan, const Options& options, const All& all) {
  Report report(
      "from the last instruction before a block to the next worker's first, CPU " +
          std::to_string(plan.cpu) + ", us",
      {"block", "p50", "p90", "p99", "max", "medians of rounds", "x bare", "wrong/10000", "samples",
       "exact p50", "exact p99", "tick p50", "tick p99", "poll p50", "poll max", "bar"});
  for (size_t i = 0; i < kRowCount; ++i) {
    if (plan.Wants(KeyOf(kRows[i]))) PrintRow(kRows[i], all.rows[i], all.rows, &report);
  }
  for (size_t i = 0; i < kBurstRowCount; ++i) {
    if (all.bursts[i].bursts > 0) PrintBursts(kBurstRows[i], all.bursts[i], &report);
  }
  for (size_t i = 0; i < kCostRowCount; ++i) {
    if (all.cost[i].empty()) continue;
    Verdict verdict;
    const std::string name = std::string(kCostRows[i].name) + ", % of time";
    verdict.Add(&report, name, all.cost[i].Median(), kCostBar);
    report.Row({name, Fixed(all.cost[i].Median(), 2), Number(all.cost[i], 0.9, 2), "-",
                Number(all.cost[i], 1, 2), all.cost[i].Spread(2), "-", "-",
                std::to_string(all.cost[i].size()), "-", "-", "-", "-", "-", "-", verdict.Cell()});
  }
  if (plan.WantsWay("exact") && plan.bpf_socket.empty()) {
    report.Note("exact mode: not measured: " + plan.cmwq_bpf + " is not there or may not");
  }
  return report.Finish(options);
}

int Main(int argc, char** argv) {
  DoNotWatchCpus();
  Plan plan;
  Options options("From a worker's block to the next worker, by kind of block and detector.", 5);
  options.Number("samples", &plan.samples, "per row and round, canary and announced");
  options.Number("exact-samples", &plan.exact_samples, "per row and round, exact mode");
  options.Number("tick-samples", &plan.tick_samples, "per row and round, tick");
  options.Number("poll-samples", &plan.poll_samples, "per row, poll of 1 s");
  options.Number("busy-us", &plan.busy_us, "computing before each block");
  options.Number("bursts", &plan.bursts, "of computing, per row of bursts");
  options.Number("burst-us", &plan.burst_us, "length of a burst");
  options.Text("rows", &plan.rows, "only these, with commas (a wrong one lists all)");
  options.Text("ways", &plan.ways, "only these of canary,exact,tick,poll");
  options.Text("scratch", &plan.scratch, "folder on a disk, for page faults");
  options.Text("cmwq-bpf", &plan.cmwq_bpf, "the command for exact mode, else from this build");
  options.Flag("quick", &plan.quick, "two short rounds: does everything work?");
  if (const int code = options.Parse(argc, argv); code >= 0) return code;
  std::vector<std::string> known;
  for (const Row& row : kRows) known.push_back(KeyOf(row));
  for (const BurstRow& row : kBurstRows) known.push_back(row.key);
  for (const CostRow& row : kCostRows) known.push_back(row.key);
  if (!CheckList(plan.rows, known, "rows")) return 2;
  if (!CheckList(plan.ways, {"canary", "exact", "tick", "poll"}, "ways")) return 2;
  if (plan.quick) {
    options.set_rounds(2);
    plan.samples = 30, plan.exact_samples = 20, plan.tick_samples = 2, plan.poll_samples = 1,
    plan.bursts = 1000;
  }
  plan.cpu = AllowedCpus().back();
  plan.other = AllowedCpus().front();
  CalibrateBursts();
  if (plan.Wants(kDiskFault.key)) plan.scratch_fd = MakeScratch(plan.scratch);

  const BpfServer bpf(plan.WantsWay("exact") ? plan.cmwq_bpf : "");
  plan.bpf_socket = bpf.socket();

  All all;
  for (int round = 0; round < options.rounds(); ++round) {
    if (!MeasureRound(plan, options.rounds(), &all)) return 3;
  }
  if (plan.WantsWay("poll") && plan.poll_samples > 0) RunPoll(plan, &all.rows);
  return Print(plan, options, all);
}

}  // namespace
}  // namespace cmwq::bench

int main(int argc, char** argv) { return cmwq::bench::Main(argc, argv); }
