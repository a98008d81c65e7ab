#include "tools/demo/sysbench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "tools/common/process.h"
#include "tools/common/task_meter.h"
#include "tools/common/text.h"
#include "tools/demo/bench.h"

namespace cmwq::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kTables = 4;
constexpr int kRows = 10000;
// A run may take this much longer than its length: hundreds of connections to a busy server take
// their time to open and close.
constexpr double kGraceSeconds = 120;

std::vector<std::string> SysbenchArgv(const SysbenchSetup& setup, const std::string& script) {
  return {setup.program,
          script,
          "--db-driver=mysql",
          "--mysql-user=root",
          "--mysql-db=sbtest",
          "--mysql-socket=" + setup.socket,
          StrPrintf("--tables=%d", kTables),
          StrPrintf("--table-size=%d", kRows)};
}

// The number that follows `label` and any number of spaces, or not a number.
double NumberAfter(const std::string& text, const std::string& label) {
  const size_t at = text.find(label);
  if (at == std::string::npos) return Metrics::kUnknown;
  char* end;
  const char* const begin = text.c_str() + at + label.size();
  const double value = strtod(begin, &end);
  return end == begin ? Metrics::kUnknown : value;
}

// The median from the lines "   0.123 |*****     456" of the histogram, in milliseconds.
double MedianOfHistogram(const std::string& report) {
  std::vector<std::pair<double, double>> buckets;  // latency, count; ascending
  double total = 0;
  for (const std::string& line : Split(report, '\n')) {
    const size_t bar = line.find(" |");
    if (bar == std::string::npos) continue;
    const size_t count_at = line.find_last_of(" *|");
    const double count = strtod(line.c_str() + count_at + 1, nullptr);
    buckets.emplace_back(strtod(line.c_str(), nullptr), count);
    total += count;
  }
  double seen = 0;
  for (const auto& [latency, count] : buckets) {
    seen += count;
    if (seen >= total / 2) return latency;
  }
  return Metrics::kUnknown;
}

// Reads sysbench's output while it runs, and the server's threads from the moment all connections
// are open. False if the end of the output was not reached in time.
bool Follow(int fd, double seconds, pid_t server, pid_t load, std::string* output,
            TaskRates* rates) {
  const auto deadline = Clock::now() + std::chrono::duration<double>(seconds + kGraceSeconds);
  TaskMeter meter;
  bool connected = false;
  char buffer[4096];
  while (!Interrupted() && Clock::now() < deadline) {
    pollfd wait{fd, POLLIN, 0};
    if (poll(&wait, 1, 20) > 0) {
      const ssize_t got = read(fd, buffer, sizeof buffer);
      *rates = meter.rates();
      if (got == 0) return true;
      if (got > 0) output->append(buffer, static_cast<size_t>(got));
    }
    // sysbench says so once every one of its threads has connected.
    if (!connected && output->find("Threads started!") != std::string::npos) {
      connected = true;
      meter.Start(server, load, seconds);
    }
    meter.Step();
  }
  return false;
}

void AppendToFile(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return;
  (void)!write(fd, text.data(), text.size());
  close(fd);
}

// The lines in which sysbench says what went wrong.
std::string FatalLines(const std::string& output) {
  std::string lines;
  int count = 0;
  for (const std::string& line : Split(output, '\n')) {
    if (line.find("FATAL") == std::string::npos && line.find("rror:") == std::string::npos)
      continue;
    if (++count <= 5) lines += '\n' + line;
  }
  return lines;
}

}  // namespace

bool ParseSysbenchReport(const std::string& report, Metrics* metrics) {
  const size_t queries = report.find("queries:");
  const size_t rate = report.find('(', queries);
  if (queries == std::string::npos || rate == std::string::npos) return false;
  constexpr double kNsPerMs = 1e6;
  metrics->throughput = strtod(report.c_str() + rate + 1, nullptr);
  metrics->p50_ns = MedianOfHistogram(report) * kNsPerMs;
  metrics->p99_ns = NumberAfter(report, "99th percentile:") * kNsPerMs;
  metrics->max_ns = NumberAfter(report, "max:") * kNsPerMs;
  const double ignored = NumberAfter(report, "ignored errors:");
  // Every other kind of error ends sysbench.
  metrics->retries = std::isfinite(ignored) ? static_cast<uint64_t>(ignored) : 0;
  return std::isfinite(metrics->max_ns);
}

bool SysbenchPrepare(const SysbenchSetup& setup, std::string* error) {
  SpawnOptions spawn;
  spawn.argv = SysbenchArgv(setup, "oltp_read_write");
  spawn.argv.push_back("prepare");
  spawn.output_path = setup.log;
  Child child;
  if (!child.Spawn(spawn, error)) return false;
  if (child.Wait(kGraceSeconds) && child.status() == 0) return true;
  *error = "sysbench could not fill the tables:" + FatalLines(ReadFile(setup.log));
  return false;
}

bool SysbenchRun(const SysbenchSetup& setup, const Workload& workload, double seconds, pid_t server,
                 Metrics* metrics, std::string* error) {
  const double whole_seconds = std::max(1.0, std::round(seconds));  // sysbench takes no fractions
  int out[2];
  if (pipe2(out, O_CLOEXEC) != 0) {
    *error = strerror(errno);
    return false;
  }
  SpawnOptions spawn;
  spawn.argv = SysbenchArgv(setup, workload.name);
  spawn.argv.push_back(StrPrintf("--threads=%d", workload.connections));
  spawn.argv.push_back(StrPrintf("--time=%.0f", whole_seconds));
  spawn.argv.insert(spawn.argv.end(), {"--percentile=99", "--histogram=on", "run"});
  spawn.cpus = setup.cpus;
  spawn.stdout_fd = out[1];
  spawn.output_path = setup.log;
  Child child;
  const bool started = child.Spawn(spawn, error);
  close(out[1]);
  std::string output;
  TaskRates rates;
  const bool ended = started &&
                     Follow(out[0], whole_seconds, server, child.pid(), &output, &rates) &&
                     child.Wait(kGraceSeconds);
  close(out[0]);
  if (!started) return false;
  AppendToFile(setup.log, output);
  if (!ended) {
    *error = Interrupted() ? "interrupted" : "sysbench does not end";
    return false;
  }
  if (child.status() != 0 || !ParseSysbenchReport(output, metrics)) {
    *error = "sysbench failed with " + child.DescribeStatus() + ':' +
             FatalLines(output + LastLines(setup.log, 5));
    return false;
  }
  metrics->SetRates(rates);
  return true;
}

}  // namespace cmwq::tools
