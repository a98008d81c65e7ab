// The demo's own server, cmwq-demo-server, under the load of demo/load.h.

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "tools/common/preload_path.h"
#include "tools/common/process.h"
#include "tools/common/task_meter.h"
#include "tools/common/text.h"
#include "tools/demo/bench.h"
#include "tools/demo/load.h"
#include "tools/demo/work.h"

#ifndef CMWQ_LIBEXECDIR
#define CMWQ_LIBEXECDIR "/usr/local/libexec"
#endif

namespace cmwq::tools {
namespace {

constexpr double kComputeNs = 40'000;   // of one request: about that of a small query
constexpr int kDiskEvery = 8;           // requests per write to the journal
constexpr double kWarmUpSeconds = 0.3;  // until all threads exist and have been scheduled once
constexpr double kStartSeconds = 10;
constexpr double kStopSeconds = 10;
// What a run may take beyond its own length before it counts as stuck.
constexpr double kGraceSeconds = 30;

// The number of rounds of Compute() that take kComputeNs: by the fastest of several tries, the
// others were disturbed.
uint64_t CalibrateRounds() {
  constexpr uint64_t kRounds = 200'000;
  uint64_t best_ns = UINT64_MAX;
  uint64_t seed = 1;
  for (int i = 0; i < 20; ++i) {
    timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    seed = Compute(seed, kRounds);
    clock_gettime(CLOCK_MONOTONIC, &end);
    const int64_t ns = (end.tv_sec - begin.tv_sec) * 1'000'000'000 + end.tv_nsec - begin.tv_nsec;
    best_ns = std::min(best_ns, static_cast<uint64_t>(ns));
  }
  // Uses the result, so that the computation is not dropped.
  const double rounds = kComputeNs / static_cast<double>(best_ns) * static_cast<double>(kRounds);
  return static_cast<uint64_t>(rounds) + (seed == 0 ? 1 : 0);
}

class SmallServerBench final : public Bench {
 public:
  explicit SmallServerBench(const DemoOptions& options) : options_(options) {}

  std::string server() const override { return "cmwq-demo-server"; }
  Noun noun() const override { return {"request", "requests"}; }
  bool Prepare(const std::string& dir, std::string* error) override;
  bool Start(const std::string& variant, std::string* error) override;
  bool Measure(const Workload& workload, Metrics* metrics, std::string* error) override;
  bool Stop(std::string* error) override;

 private:
  bool Follow(int control, Child* load, LoadResult* result, TaskRates* rates, std::string* error);
  bool ReadControl(int control, TaskMeter* meter, void* data, size_t size, std::string* error);
  std::string WithLog(const std::string& text) const;

  const DemoOptions& options_;
  std::string program_;
  std::string dir_;
  std::string socket_;
  std::string log_;
  uint64_t rounds_ = 0;
  Child server_;
};

std::string SmallServerBench::WithLog(const std::string& text) const {
  const std::string lines = LastLines(log_, 10);
  return lines.empty() ? text : text + "; its last words:\n" + lines;
}

bool SmallServerBench::Prepare(const std::string& dir, std::string* error) {
  dir_ = dir;
  socket_ = dir + "/socket";
  log_ = dir + "/server.log";
  const std::string self = SelfPath();
  const std::string self_dir = self.substr(0, self.rfind('/'));
  for (const std::string& place :
       {self_dir, std::string(CMWQ_LIBEXECDIR "/cmwq"), self_dir + "/../libexec/cmwq"}) {
    program_ = place + "/cmwq-demo-server";
    if (access(program_.c_str(), X_OK) == 0) break;
    program_.clear();
  }
  if (program_.empty()) {
    *error = "cmwq-demo-server is neither beside this program nor in " CMWQ_LIBEXECDIR "/cmwq";
    return false;
  }
  int most = 0;
  for (const Workload& workload : options_.workloads) most = std::max(most, workload.connections);
  const long files = RaiseOpenFiles(most + 64);
  if (files < most + 64) {
    *error =
        StrPrintf("%d connections need %d open files, %ld are allowed", most, most + 64, files);
    return false;
  }
  rounds_ = CalibrateRounds();
  return true;
}

bool SmallServerBench::Start(const std::string& variant, std::string* error) {
  unlink(socket_.c_str());
  SpawnOptions spawn;
  spawn.argv = VariantArgv(options_, variant,
                           {program_, "--socket=" + socket_, "--journal=" + dir_ + "/journal",
                            StrPrintf("--rounds=%lu", static_cast<unsigned long>(rounds_)),
                            StrPrintf("--disk-every=%d", kDiskEvery)});
  spawn.cpus = options_.server_cpus;
  spawn.output_path = log_;
  if (!server_.Spawn(spawn, error)) return false;
  if (WaitUntilReady(&server_, variant, socket_, kStartSeconds, error)) return true;
  *error = WithLog(*error);
  server_.Kill();
  return false;
}

// Steps the meter while it waits.
bool SmallServerBench::ReadControl(int control, TaskMeter* meter, void* data, size_t size,
                                   std::string* error) {
  const auto deadline = std::chrono::steady_clock::now() +
                        std::chrono::duration<double>(options_.seconds + kGraceSeconds);
  for (size_t got = 0; got < size;) {
    pollfd wait{control, POLLIN, 0};
    if (poll(&wait, 1, 20) > 0) {
      const ssize_t more = read(control, static_cast<char*>(data) + got, size - got);
      if (more <= 0) {
        *error = WithLog("the load ended early");
        return false;
      }
      got += static_cast<size_t>(more);
    }
    meter->Step();
    if (Interrupted()) {
      *error = "interrupted";
      return false;
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      *error = WithLog("the load is stuck");
      return false;
    }
  }
  return true;
}

bool SmallServerBench::Follow(int control, Child* load, LoadResult* result, TaskRates* rates,
                              std::string* error) {
  TaskMeter meter;
  char said;
  if (!ReadControl(control, &meter, &said, 1, error)) return false;
  meter.Start(server_.pid(), load->pid(), options_.seconds);
  if (!ReadControl(control, &meter, result, sizeof *result, error)) return false;
  *rates = meter.rates();
  if (load->Wait(kGraceSeconds)) return true;
  *error = "the load does not end";
  return false;
}

bool SmallServerBench::Measure(const Workload& workload, Metrics* metrics, std::string* error) {
  int control[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) != 0) {
    *error = strerror(errno);
    return false;
  }
  const LoadPlan plan{socket_, workload.connections, kWarmUpSeconds, options_.seconds};
  Child load;
  const bool forked = load.Fork(
      options_.load_cpus,
      [&] {
        close(control[0]);
        return RunLoad(plan, control[1]);
      },
      error);
  close(control[1]);
  LoadResult result;
  TaskRates rates;
  const bool followed = forked && Follow(control[0], &load, &result, &rates, error);
  close(control[0]);
  if (!followed) return false;

  metrics->throughput = static_cast<double>(result.answered) / result.seconds;
  metrics->p50_ns = result.latency.Quantile(0.5);
  metrics->p99_ns = result.latency.Quantile(0.99);
  metrics->max_ns = static_cast<double>(result.latency.max());
  metrics->SetRates(rates);
  metrics->errors = result.errors;
  return true;
}

bool SmallServerBench::Stop(std::string* error) {
  if (!server_.Terminate(kStopSeconds)) {
    server_.Kill();
    *error = WithLog("the server did not end when asked to");
    return false;
  }
  if (server_.status() == 0) return true;
  *error = WithLog("the server ended with " + server_.DescribeStatus());
  return false;
}

}  // namespace

std::unique_ptr<Bench> MakeSmallServerBench(const DemoOptions& options) {
  return std::make_unique<SmallServerBench>(options);
}

}  // namespace cmwq::tools
