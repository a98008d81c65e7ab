// The rounds of a demo and what they come to: medians, spreads and ratios, as text or JSON.

#ifndef CMWQ_TOOLS_DEMO_COMPARISON_H_
#define CMWQ_TOOLS_DEMO_COMPARISON_H_

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "tools/common/task_meter.h"
#include "tools/demo/options.h"

namespace cmwq::tools {

// One measurement. What could not be measured is not a number.
struct Metrics {
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

  double throughput = kUnknown;  // requests per second
  double p50_ns = kUnknown;
  double p99_ns = kUnknown;
  double max_ns = kUnknown;
  double runnable = kUnknown;            // threads of the server that ran or waited for a CPU, mean
  double voluntary_switches = kUnknown;  // of the server, per request
  double involuntary_switches = kUnknown;  // of the server, per request
  double cpu_ns = kUnknown;                // of the server, per request
  double other_cpus = kUnknown;            // what neither server nor load used
  uint64_t errors = 0;
  // Transactions that the database chose as victims of a deadlock and that were repeated: normal.
  uint64_t retries = 0;

  // Fills in what is derived from the server's threads; the throughput must be known by then.
  void SetRates(const TaskRates& rates);
};

// What a server serves: "request", "requests".
struct Noun {
  std::string one;
  std::string many;
};

struct Round {
  int round = 0;
  std::string variant;
  size_t workload = 0;  // index into the demo's workloads
  Metrics metrics;
};

class Comparison {
 public:
  // Both must outlive the comparison.
  Comparison(const DemoOptions& options, const Noun& noun) : options_(options), noun_(noun) {}

  void Add(Round round) { rounds_.push_back(std::move(round)); }
  bool empty() const { return rounds_.empty(); }
  uint64_t errors() const;

  // A table for each workload with a column for each variant, and a closing sentence for each.
  std::string RenderText() const;
  // Every round and the medians.
  std::string RenderJson(const std::string& server) const;

 private:
  struct Spread {
    double median = Metrics::kUnknown;
    double min = Metrics::kUnknown;
    double max = Metrics::kUnknown;
  };
  struct Row;

  static const std::vector<Row>& Rows();
  Spread SpreadOf(size_t workload, const std::string& variant, double Metrics::*metric) const;
  double RatioToPlain(size_t workload, const std::string& variant, double Metrics::*metric) const;
  bool HasVariant(const std::string& variant) const;
  // The cells of one row: medians with their ratios, and below them the spreads where `is_spread`.
  std::vector<std::string> Cells(size_t workload, const Row& row, bool is_spread) const;
  std::string RenderWorkload(size_t workload) const;
  std::string RenderSentences(size_t workload) const;
  // A warning if the machine was not left alone.
  std::string RenderDisturbance() const;

  const DemoOptions& options_;
  const Noun& noun_;
  std::vector<Round> rounds_;
};

// "cmwq, 16 connections, round 2: 21 034 requests/s, p99 4.31 ms"
std::string DescribeRound(const Round& round, const Workload& workload, const Noun& noun);

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_DEMO_COMPARISON_H_
