#include "runtime/pool/hog_table.h"

#include <bit>

namespace cmwq::pool {

constinit HogTable g_hogs;

// Context: event thread. A linear search: violations come a few hundred a second at most.
uint64_t HogTable::Count(cmwq_work_fn fn, uint64_t threshold) {
  if (threshold == 0) return 0;
  sync::MutexLock hold(lock_);
  for (Entry& e : entries_) {
    if (e.fn == nullptr) e.fn = fn;
    if (e.fn != fn) continue;
    const uint64_t n = ++e.violations;
    return n >= threshold && std::has_single_bit(n + 1 - threshold) ? n : 0;
  }
  return 0;
}

}  // namespace cmwq::pool
