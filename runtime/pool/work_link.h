// What pools must know of an item: where it hangs on a list, and two bits of its word. LINKED: my
// successor on the list is a barrier that must stay behind me. FRESH: never queued since it was
// initialised, so nobody can be executing it. The rest of the word belongs to runtime/wq/work_word.h.

#ifndef CMWQ_RUNTIME_POOL_WORK_LINK_H_
#define CMWQ_RUNTIME_POOL_WORK_LINK_H_

#include <cmwq/cmwq.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "runtime/base/intrusive_list.h"

namespace cmwq::pool::work {

inline constexpr uint64_t kLinkedBit = uint64_t{1} << 3;
inline constexpr uint64_t kFreshBit = uint64_t{1} << 41;

// The item whose entry on a list is `node`.
inline struct cmwq_work* WorkOf(base::ListNode* node) {
  return base::ListOwner<struct cmwq_work>(node, offsetof(struct cmwq_work, entry_));
}

// Guarded by the lock of the pool that holds the item.
inline bool IsLinked(struct cmwq_work* work) {
  return (std::atomic_ref<uint64_t>(work->word_).load(std::memory_order_relaxed) & kLinkedBit) != 0;
}
inline bool IsFresh(struct cmwq_work* work) {
  return (std::atomic_ref<uint64_t>(work->word_).load(std::memory_order_relaxed) & kFreshBit) != 0;
}

}  // namespace cmwq::pool::work

#endif  // CMWQ_RUNTIME_POOL_WORK_LINK_H_
