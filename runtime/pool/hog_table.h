// HogTable: how often the items of each function have hogged the CPU, and when that is worth a line
// (kernel: wq_cpu_intensive_report).

#ifndef CMWQ_RUNTIME_POOL_HOG_TABLE_H_
#define CMWQ_RUNTIME_POOL_HOG_TABLE_H_

#include <cmwq/cmwq.h>

#include <cstdint>

#include "runtime/base/annotations.h"
#include "runtime/sync/mutex.h"

namespace cmwq::pool {

class HogTable {
 public:
  static constexpr int kFunctions = 128;  // kernel WCI_MAX_ENTS; further functions are not reported

  // Counts one violation of `fn`. Returns the count if it is to be reported: the first time at
  // `threshold`, then threshold+1, +3, +7, ...; else 0. threshold 0: never.
  uint64_t Count(cmwq_work_fn fn, uint64_t threshold) CMWQ_EXCLUDES(lock_);

 private:
  struct Entry {
    cmwq_work_fn fn;
    uint64_t violations;
  };
  sync::Mutex lock_{sync::Rank::kLeaf};
  Entry entries_[kFunctions] CMWQ_GUARDED_BY(lock_) = {};
};

// The process's.
extern constinit HogTable g_hogs;

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_HOG_TABLE_H_
