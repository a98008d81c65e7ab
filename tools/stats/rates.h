// What happened between two snapshots: the rows of cmwq top.

#ifndef CMWQ_TOOLS_STATS_RATES_H_
#define CMWQ_TOOLS_STATS_RATES_H_

#include <array>
#include <map>
#include <string>
#include <vector>

#include "tools/stats/snapshot.h"

namespace cmwq::tools::stats {

struct TopRow {
  pid_t pid = 0;
  std::string command, pool;
  bool is_gate = false;
  int workers = 0;
  std::array<double, 4> state{};  // WorkerState: how many were in it on average
  double per_second = 0;          // items or requests
  double blocked = 0;             // share of the time of workers that were at an item; NaN: none was
  double coverage = 0;            // of the blocks that are known, how many were announced; NaN: none
  uint64_t p50_ns = 0, p99_ns = 0;
  uint64_t pending = 0, held = 0;
};

enum class SortKey { kPid, kItems, kPending, kBlocked, kDelay, kHeld, kWorkers };
// The words of --sort; null if there is no such key.
const char* NameOf(SortKey key);
bool ParseSortKey(const std::string& word, SortKey* key);

// Samples states in between: they are read where the workers note them, nothing is measured there.
class Rates {
 public:
  // The first call begins an interval, further ones are samples in it.
  void Sample(const std::vector<ProcessView>& now);
  // Rows since the begin, `seconds` ago; begins the next interval with the last sample.
  std::vector<TopRow> Finish(double seconds);

 private:
  struct Sums {
    int samples = 0;
    std::array<double, 4> state{};
  };
  using Key = std::pair<pid_t, std::string>;
  std::vector<ProcessView> first_, last_;
  std::map<Key, Sums> sums_;
};

void Sort(std::vector<TopRow>* rows, SortKey key);

}  // namespace cmwq::tools::stats

#endif  // CMWQ_TOOLS_STATS_RATES_H_
