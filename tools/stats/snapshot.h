// What all pages say at a moment, in the nouns of the commands: processes, pools, workers. A gate is a pool
// whose workers are the server's threads and whose items are requests.

#ifndef CMWQ_TOOLS_STATS_SNAPSHOT_H_
#define CMWQ_TOOLS_STATS_SNAPSHOT_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tools/common/json.h"
#include "tools/stats/page.h"

namespace cmwq::tools::stats {

enum class WorkerState { kIdle, kRunning, kBlocked, kFound };
const char* NameOf(WorkerState state);

struct WorkerView {
  uint32_t tid = 0;
  WorkerState state = WorkerState::kIdle;
  uint64_t executed = 0, blocks = 0;
  uint64_t function = 0;   // of what it executes; 0: nothing
  uint64_t running_ns = 0; // for how long, at least; 0: less than the period of publishing
  std::string queue;
};

struct PoolView {
  std::string name;  // cpu0, cpu0/high, unbound7, gate0
  bool is_gate = false;
  std::vector<WorkerView> workers;
  uint64_t executed = 0, blocks = 0, found = 0;
  uint64_t pending = 0;   // items on the worklist; a gate: ready requests that are held
  uint64_t age_ns = 0;    // of pending and of the counts below; a gate's are of now
  std::vector<uint64_t> delay;                               // histogram
  std::vector<std::pair<std::string, uint64_t>> counters;    // the rest, by its names on the page

  int Count(WorkerState state) const;
};

struct ProcessView {
  pid_t pid = 0;
  std::string command;
  std::vector<PoolView> pools;
};

// Keeps the pages of running processes open between two looks.
class Pages {
 public:
  // Looks for new processes and forgets those that have ended. pid 0: all.
  void Refresh(pid_t pid);
  std::vector<ProcessView> Take() const;
  // Pages that are there and could not be read, with the reason, a line each.
  const std::vector<std::string>& complaints() const { return complaints_; }

 private:
  std::map<std::string, std::unique_ptr<Page>> pages_;  // by path
  std::vector<std::string> complaints_;
};

// Says why on stderr if there is nothing to show; then the exit code, else -1.
int NothingToShow(const Pages& pages, const std::vector<ProcessView>& processes, pid_t pid);

}  // namespace cmwq::tools::stats

#endif  // CMWQ_TOOLS_STATS_SNAPSHOT_H_
