// PoolStats: what a pool has done so far and has now.

#ifndef CMWQ_RUNTIME_POOL_POOL_STATS_H_
#define CMWQ_RUNTIME_POOL_POOL_STATS_H_

#include <cstdint>

namespace cmwq::pool {

struct PoolStats {
  int nr_workers, nr_idle, nr_running;
  uint64_t created, destroyed, create_failures, executed, sleeps, presumed, maydays, peak_workers;
  uint64_t repatriated;  // workers steered back into their pod
  uint64_t avoided;      // creations that were not needed any more; see CreationDelay
  uint64_t hogs, drift, stalls, failed;
};

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_POOL_STATS_H_
