// cmwq dump: pools, workers, and what each of them executes.

#include <getopt.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/common/json.h"
#include "tools/common/table.h"
#include "tools/common/text.h"
#include "tools/stats/snapshot.h"

namespace cmwq::tools {
namespace {

using namespace stats;

void PrintPool(const PoolView& pool) {
  printf("  %s: %zu %s, %d running, %d blocked, %d idle; %llu %s, %llu %s", pool.name.c_str(),
         pool.workers.size(), pool.is_gate ? "threads" : "workers", pool.Count(WorkerState::kRunning),
         pool.Count(WorkerState::kBlocked) + pool.Count(WorkerState::kFound), pool.Count(WorkerState::kIdle),
         static_cast<unsigned long long>(pool.executed), pool.is_gate ? "requests" : "items executed",
         static_cast<unsigned long long>(pool.pending), pool.is_gate ? "held" : "pending");
  if (pool.age_ns != 0) printf(" (%s ago)", HumanDuration(static_cast<double>(pool.age_ns)).c_str());
  if (Quantile(pool.delay, 1) != 0) {
    printf("; %s p50 %s, p99 %s", pool.is_gate ? "held" : "delay",
           HumanDuration(static_cast<double>(Quantile(pool.delay, 0.5))).c_str(),
           HumanDuration(static_cast<double>(Quantile(pool.delay, 0.99))).c_str());
  }
  printf("\n    announced blocks %llu, found %llu", static_cast<unsigned long long>(pool.blocks),
         static_cast<unsigned long long>(pool.found));
  for (const auto& [name, value] : pool.counters) {
    if (value != 0) printf(", %s %llu", name.c_str(), static_cast<unsigned long long>(value));
  }
  putchar('\n');
}

void PrintWorkers(pid_t pid, const PoolView& pool) {
  if (pool.workers.empty()) return;
  Table table({"    worker", "state", pool.is_gate ? "requests" : "items", "blocks", "for", "queue", "function"});
  for (const WorkerView& w : pool.workers) {
    table.AddRow({StrPrintf("    %u", w.tid), NameOf(w.state),
                  StrPrintf("%llu", static_cast<unsigned long long>(w.executed)),
                  StrPrintf("%llu", static_cast<unsigned long long>(w.blocks)),
                  w.running_ns != 0 ? HumanDuration(static_cast<double>(w.running_ns)) : "", w.queue,
                  w.function != 0 ? Where(pid, w.function) : ""});
  }
  fputs(table.Render().c_str(), stdout);
}

void AddPool(pid_t pid, const PoolView& pool, JsonWriter* json) {
  json->BeginObject();
  json->String("name", pool.name);
  json->String("kind", pool.is_gate ? "gate" : "pool");
  json->Integer("executed", static_cast<int64_t>(pool.executed));
  json->Integer(pool.is_gate ? "held" : "pending", static_cast<int64_t>(pool.pending));
  json->Integer("age_ns", static_cast<int64_t>(pool.age_ns));
  json->Integer("blocks", static_cast<int64_t>(pool.blocks));
  json->Integer("found", static_cast<int64_t>(pool.found));
  json->Integer("delay_p50_ns", static_cast<int64_t>(Quantile(pool.delay, 0.5)));
  json->Integer("delay_p99_ns", static_cast<int64_t>(Quantile(pool.delay, 0.99)));
  for (const auto& [name, value] : pool.counters) json->Integer(name, static_cast<int64_t>(value));
  json->BeginArray("workers");
  for (const WorkerView& w : pool.workers) {
    json->BeginObject();
    json->Integer("tid", w.tid);
    json->String("state", NameOf(w.state));
    json->Integer("executed", static_cast<int64_t>(w.executed));
    json->Integer("blocks", static_cast<int64_t>(w.blocks));
    json->Integer("running_ns", static_cast<int64_t>(w.running_ns));
    json->String("queue", w.queue);
    json->String("function", w.function != 0 ? Where(pid, w.function) : "");
    json->End();
  }
  json->End();
  json->End();
}

void Print(const std::vector<ProcessView>& processes, bool as_json) {
  if (!as_json) {
    for (const ProcessView& process : processes) {
      printf("%s, pid %d\n", process.command.c_str(), process.pid);
      for (const PoolView& pool : process.pools) {
        PrintPool(pool);
        PrintWorkers(process.pid, pool);
      }
    }
    return;
  }
  JsonWriter json;
  json.BeginObject();
  json.BeginArray("processes");
  for (const ProcessView& process : processes) {
    json.BeginObject();
    json.Integer("pid", process.pid);
    json.String("command", process.command);
    json.BeginArray("pools");
    for (const PoolView& pool : process.pools) AddPool(process.pid, pool, &json);
    json.End();
    json.End();
  }
  json.End();
  json.End();
  fputs(json.Finish().c_str(), stdout);
}

}  // namespace

int DumpMain(int argc, char** argv) {
  constexpr int kJson = 256;
  constexpr option kOptions[] = {
      {"help", no_argument, nullptr, 'h'}, {"json", no_argument, nullptr, kJson}, {}};
  bool as_json = false;
  for (int got; (got = getopt_long(argc, argv, "h", kOptions, nullptr)) != -1;) {
    if (got == 'h') {
      PrintCommandHelp(*FindCommand("dump"), stdout);
      return kExitOk;
    }
    if (got != kJson) return UsageError("dump");
    as_json = true;
  }
  long pid = 0;
  if (optind + 1 < argc || (optind < argc && !ParseInt(argv[optind], 1, 1L << 30, &pid))) {
    Complain("dump takes one process id, not '%s'", argv[optind + 1 < argc ? optind + 1 : optind]);
    return UsageError("dump");
  }
  Pages pages;
  pages.Refresh(static_cast<pid_t>(pid));
  const std::vector<ProcessView> processes = pages.Take();
  const int code = NothingToShow(pages, processes, static_cast<pid_t>(pid));
  if (code >= 0) return code;
  Print(processes, as_json);
  return kExitOk;
}

}  // namespace cmwq::tools
