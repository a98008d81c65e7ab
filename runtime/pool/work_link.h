// The two bits of the work word that pools must know. LINKED: my successor on the list is a barrier
// that must stay behind me. FRESH: never queued since it was initialised, so nobody can be executing
// it. The rest of the word belongs to runtime/wq/work_word.h.

#ifndef CMWQ_RUNTIME_POOL_WORK_LINK_H_
#define CMWQ_RUNTIME_POOL_WORK_LINK_H_

#include <cmwq/cmwq.h>

#include <atomic>
#include <cstdint>

namespace cmwq::pool::work {

inline constexpr uint64_t kLinkedBit = uint64_t{1} << 3;
inline constexpr uint64_t kFreshBit = uint64_t{1} << 41;

// Guarded by the lock of the pool that holds the item.
inline bool IsLinked(struct cmwq_work* work) {
  return (std::atomic_ref<uint64_t>(work->word_).load(std::memory_order_relaxed) & kLinkedBit) != 0;
}
inline bool IsFresh(struct cmwq_work* work) {
  return (std::atomic_ref<uint64_t>(work->word_).load(std::memory_order_relaxed) & kFreshBit) != 0;
}

}  // namespace cmwq::pool::work

#endif  // CMWQ_RUNTIME_POOL_WORK_LINK_H_
