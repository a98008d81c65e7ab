#include "tools/demo/comparison.h"

#include <sys/utsname.h>

#include <algorithm>
#include <cmath>

#include "tools/common/json.h"
#include "tools/common/process.h"
#include "tools/common/table.h"
#include "tools/common/text.h"

#ifndef CMWQ_VERSION
#define CMWQ_VERSION "0"
#endif

namespace cmwq::tools {

struct Comparison::Row {
  const char* key;    // in JSON
  const char* label;  // in the table; %s stands for the noun
  double Metrics::*metric;
  bool is_duration;
  bool has_spread;  // shows the best and the worst round in the table too
};

const std::vector<Comparison::Row>& Comparison::Rows() {
  static const std::vector<Row> kRows = {
      {"throughput", "%s per second", &Metrics::throughput, false, true},
      {"p50_ns", "latency, median", &Metrics::p50_ns, true, false},
      {"p99_ns", "latency, 99 %%", &Metrics::p99_ns, true, true},
      {"max_ns", "latency, longest", &Metrics::max_ns, true, true},
      {"runnable", "threads running or ready", &Metrics::runnable, false, false},
      {"voluntary_switches", "waits per %s", &Metrics::voluntary_switches, false, false},
      {"involuntary_switches", "preemptions per %s", &Metrics::involuntary_switches, false, false},
      {"cpu_ns", "server CPU per %s", &Metrics::cpu_ns, true, false},
      {"other_cpus", "CPUs used by others", &Metrics::other_cpus, false, false},
  };
  return kRows;
}

void Metrics::SetRates(const TaskRates& rates) {
  if (!(throughput > 0)) return;
  runnable = rates.runnable;
  voluntary_switches = rates.voluntary_switches / throughput;
  involuntary_switches = rates.involuntary_switches / throughput;
  cpu_ns = rates.cpus * 1e9 / throughput;
  other_cpus = rates.other_cpus;
}

uint64_t Comparison::errors() const {
  uint64_t errors = 0;
  for (const Round& round : rounds_) errors += round.metrics.errors;
  return errors;
}

bool Comparison::HasVariant(const std::string& variant) const {
  const auto& variants = options_.variants;
  return std::find(variants.begin(), variants.end(), variant) != variants.end();
}

Comparison::Spread Comparison::SpreadOf(size_t workload, const std::string& variant,
                                        double Metrics::*metric) const {
  std::vector<double> values;
  for (const Round& round : rounds_) {
    const double value = round.metrics.*metric;
    if (round.workload == workload && round.variant == variant && std::isfinite(value)) {
      values.push_back(value);
    }
  }
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

double Comparison::RatioToPlain(size_t workload, const std::string& variant,
                                double Metrics::*metric) const {
  const double plain = SpreadOf(workload, kVariantPlain, metric).median;
  return plain > 0 ? SpreadOf(workload, variant, metric).median / plain : Metrics::kUnknown;
}

std::vector<std::string> Comparison::Cells(size_t workload, const Row& row, bool is_spread) const {
  const auto show = row.is_duration ? HumanDuration : HumanNumber;
  const char* const noun =
      row.metric == &Metrics::throughput ? noun_.many.c_str() : noun_.one.c_str();
  std::vector<std::string> cells = {is_spread ? "  lowest .. highest" : StrPrintf(row.label, noun)};
  for (const std::string& variant : options_.variants) {
    const Spread spread = SpreadOf(workload, variant, row.metric);
    cells.push_back(is_spread ? show(spread.min) + " .. " + show(spread.max) : show(spread.median));
    if (variant == kVariantPlain || !HasVariant(kVariantPlain)) continue;
    const double ratio = RatioToPlain(workload, variant, row.metric);
    cells.push_back(is_spread || !std::isfinite(ratio) ? "" : StrPrintf("%.2f x", ratio));
  }
  return cells;
}

std::string Comparison::RenderWorkload(size_t workload) const {
  std::vector<std::string> header = {options_.workloads[workload].Label()};
  for (const std::string& variant : options_.variants) {
    header.push_back(variant);
    if (variant != kVariantPlain && HasVariant(kVariantPlain)) header.push_back("vs plain");
  }
  Table table(header);
  for (const Row& row : Rows()) {
    table.AddRow(Cells(workload, row, false));
    if (row.has_spread && options_.rounds > 1) table.AddRow(Cells(workload, row, true));
  }
  return table.Render();
}

std::string Comparison::RenderSentences(size_t workload) const {
  std::string text;
  for (const std::string& variant : options_.variants) {
    if (variant == kVariantPlain) continue;
    const double throughput = RatioToPlain(workload, variant, &Metrics::throughput);
    const double p99 = RatioToPlain(workload, variant, &Metrics::p99_ns);
    if (!std::isfinite(throughput) || !std::isfinite(p99)) continue;
    text += StrPrintf("%s: %s has %.2f x plain's %s per second, %.2f x its 99 %% latency\n",
                      options_.workloads[workload].Label().c_str(), variant.c_str(), throughput,
                      noun_.many.c_str(), p99);
  }
  return text;
}

std::string Comparison::RenderDisturbance() const {
  // A tenth of a CPU on two: about the spread that quiet rounds have anyway.
  const double limit = 0.05 * static_cast<double>(AllowedCpus().size());
  size_t disturbed = 0;
  for (const Round& round : rounds_) disturbed += round.metrics.other_cpus > limit ? 1 : 0;
  if (disturbed == 0) return {};
  return StrPrintf(
      "note: in %zu of %zu measurements other processes used more than %.1f CPUs; compare with "
      "care\n",
      disturbed, rounds_.size(), limit);
}

std::string Comparison::RenderText() const {
  std::string text;
  for (size_t i = 0; i < options_.workloads.size(); ++i) text += RenderWorkload(i) + '\n';
  for (size_t i = 0; i < options_.workloads.size(); ++i) text += RenderSentences(i);
  text += RenderDisturbance();
  const uint64_t failed = errors();
  if (failed > 0) {
    text += StrPrintf("%llu %s failed\n", static_cast<unsigned long long>(failed),
                      (failed == 1 ? noun_.one : noun_.many).c_str());
  }
  return text;
}

std::string Comparison::RenderJson(const std::string& server) const {
  utsname system{};
  uname(&system);
  JsonWriter json;
  json.BeginObject();
  json.String("version", CMWQ_VERSION);
  json.String("server", server);
  json.String("kernel", system.release);
  json.Integer("cpus", static_cast<int64_t>(AllowedCpus().size()));
  json.Boolean("split", options_.split);
  json.Integer("rounds_wanted", options_.rounds);
  json.Number("seconds", options_.seconds);
  json.BeginArray("settings");
  for (const std::string& setting : options_.settings) json.String({}, setting);
  json.End();
  json.BeginArray("summary");
  for (size_t i = 0; i < options_.workloads.size(); ++i) {
    for (const std::string& variant : options_.variants) {
      json.BeginObject();
      json.String("workload", options_.workloads[i].name);
      json.Integer("connections", options_.workloads[i].connections);
      json.String("variant", variant);
      for (const Row& row : Rows()) {
        const Spread spread = SpreadOf(i, variant, row.metric);
        json.BeginObject(row.key);
        json.Number("median", spread.median);
        json.Number("min", spread.min);
        json.Number("max", spread.max);
        json.Number("ratio_to_plain", RatioToPlain(i, variant, row.metric));
        json.End();
      }
      json.End();
    }
  }
  json.End();
  json.BeginArray("rounds");
  for (const Round& round : rounds_) {
    json.BeginObject();
    json.Integer("round", round.round);
    json.String("workload", options_.workloads[round.workload].name);
    json.Integer("connections", options_.workloads[round.workload].connections);
    json.String("variant", round.variant);
    for (const Row& row : Rows()) json.Number(row.key, round.metrics.*row.metric);
    json.Integer("errors", static_cast<int64_t>(round.metrics.errors));
    json.Integer("retries", static_cast<int64_t>(round.metrics.retries));
    json.End();
  }
  json.End();
  json.Integer("errors", static_cast<int64_t>(errors()));
  json.End();
  return json.Finish();
}

std::string DescribeRound(const Round& round, const Workload& workload, const Noun& noun) {
  std::string text = StrPrintf(
      "round %d, %s, %s: %s %s/s, p99 %s, longest %s", round.round, workload.Label().c_str(),
      round.variant.c_str(), HumanNumber(round.metrics.throughput).c_str(), noun.many.c_str(),
      HumanDuration(round.metrics.p99_ns).c_str(), HumanDuration(round.metrics.max_ns).c_str());
  if (round.metrics.errors > 0) {
    text +=
        StrPrintf(", %s errors", HumanNumber(static_cast<double>(round.metrics.errors)).c_str());
  }
  return text;
}

}  // namespace cmwq::tools
