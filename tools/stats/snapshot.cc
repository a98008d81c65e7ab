#include "tools/stats/snapshot.h"

#include <algorithm>
#include <set>

#include "runtime/base/sys.h"
#include "tools/commands.h"
#include "tools/common/text.h"

namespace cmwq::tools::stats {
namespace {

constexpr const char* kPoolCounters[] = {"queued", "created", "destroyed", "create_failures",
                                         "peak_workers", "maydays", "hogs", "stalls", "drift",
                                         "failed", "repatriated"};
constexpr const char* kGateCounters[] = {"waiting", "direct", "held_total", "held_ns", "held_max_ns",
                                         "over_limit", "leads"};

std::string PoolName(const Row& row, bool gate) {
  const auto cpu = static_cast<int32_t>(row["cpu"]);
  if (gate) return StrPrintf("gate%d", cpu);
  const char* const high = static_cast<int32_t>(row["nice"]) < 0 ? "/high" : "";
  return cpu >= 0 ? StrPrintf("cpu%d%s", cpu, high) : StrPrintf("unbound%u%s", row.index(), high);
}

WorkerView ViewOf(const Row& row, bool gate, uint64_t now) {
  WorkerView w;
  w.tid = static_cast<uint32_t>(row["tid"]);
  w.executed = row["executed"];
  w.blocks = row["blocks"];
  const uint64_t function = row["function"];
  if (!gate) w.function = function;
  if (w.blocks != row["unblocks"]) {
    w.state = WorkerState::kBlocked;
  } else if (function != 0) {
    w.state = row["presumed"] != 0 ? WorkerState::kFound : WorkerState::kRunning;
  }
  const uint64_t since = row["since_ns"];
  if (w.function == 0 || since == 0) return w;
  w.queue = row.Text("queue");
  if (now > since) w.running_ns = now - since;
  return w;
}

void AddPools(const Page& page, ProcessView* process) {
  const bool gate = page.edition() == "preload";
  const uint64_t now = base::MonotonicNs();
  std::map<uint64_t, size_t> by_index;
  const size_t first = process->pools.size();
  for (const Row& row : page.Rows(gate ? "gates" : "pools", "used")) {
    PoolView pool;
    pool.name = PoolName(row, gate);
    pool.is_gate = gate;
    pool.found = row["found"];
    pool.pending = row[gate ? "held" : "pending"];
    pool.executed = gate ? row["requests"] : 0;
    const uint64_t published = row["published_ns"];
    pool.age_ns = published != 0 && now > published ? now - published : 0;
    pool.delay = row.Counts(gate ? "hold" : "delay");
    if (gate) {
      for (const char* name : kGateCounters) pool.counters.emplace_back(name, row[name]);
    } else {
      for (const char* name : kPoolCounters) pool.counters.emplace_back(name, row[name]);
    }
    by_index[row.index()] = process->pools.size();
    process->pools.push_back(std::move(pool));
  }
  if (process->pools.size() == first) return;
  // Rows of threads that have ended keep what they counted. A row that never was used counted nothing.
  for (const char* key : {"tid", "executed"}) {
    for (const Row& row : page.Rows("workers", key)) {
      const bool alive = row["tid"] != 0;
      const auto pool = by_index.find(row["pool"]);
      if (pool == by_index.end() || alive != (key[0] == 't')) continue;
      PoolView& view = process->pools[pool->second];
      if (!gate) view.executed += row["executed"];
      view.blocks += row["blocks"];
      if (alive) view.workers.push_back(ViewOf(row, gate, now));
    }
  }
}

}  // namespace

const char* NameOf(WorkerState state) {
  switch (state) {
    case WorkerState::kIdle:
      return "idle";
    case WorkerState::kRunning:
      return "running";
    case WorkerState::kBlocked:
      return "blocked";
    case WorkerState::kFound:
      return "found blocked";
  }
  return "";
}

int PoolView::Count(WorkerState state) const {
  return static_cast<int>(
      std::count_if(workers.begin(), workers.end(), [state](const WorkerView& w) { return w.state == state; }));
}

void Pages::Refresh(pid_t pid) {
  complaints_.clear();
  std::set<std::string> alive;
  for (const PageName& name : ListPages(platform::kStatsFolder)) {
    if ((pid != 0 && name.pid != pid) || Judge(name) != Liveness::kAlive) continue;
    alive.insert(name.path);
    if (pages_.count(name.path) != 0) continue;
    auto page = std::make_unique<Page>();
    std::string error;
    if (page->Open(name, &error)) {
      pages_[name.path] = std::move(page);
    } else {
      complaints_.push_back(StrPrintf("%s: %s", name.path.c_str(), error.c_str()));
    }
  }
  for (auto it = pages_.begin(); it != pages_.end();) {
    it = alive.count(it->first) != 0 ? std::next(it) : pages_.erase(it);
  }
}

std::vector<ProcessView> Pages::Take() const {
  std::map<pid_t, ProcessView> processes;
  for (const auto& [path, page] : pages_) {
    ProcessView& process = processes[page->pid()];
    process.pid = page->pid();
    process.command = page->command();
    AddPools(*page, &process);
  }
  std::vector<ProcessView> list;
  for (auto& [pid, process] : processes) list.push_back(std::move(process));
  return list;
}

int NothingToShow(const Pages& pages, const std::vector<ProcessView>& processes, pid_t pid) {
  for (const std::string& line : pages.complaints()) Complain("%s", line.c_str());
  if (!processes.empty()) return -1;
  if (pid != 0) {
    Complain("process %d has no statistics page: it does not use cmwq, or not yet, or does not run with CMWQ_CONF=stats=1; "
             "'cmwq doctor --pid %d' looks closer", pid, pid);
  } else {
    Complain("no process with a statistics page; 'cmwq ls' lists them");
  }
  return kExitFailed;
}

}  // namespace cmwq::tools::stats
