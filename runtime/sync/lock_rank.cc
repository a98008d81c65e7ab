#include "runtime/sync/lock_rank.h"

#include "runtime/base/check.h"
#include "runtime/base/raw_log.h"

#include "runtime/sync/mutex.h"

namespace cmwq::sync {

thread_local constinit int t_locks_held = 0;

const char* RankName(Rank rank) {
  switch (rank) {
    case Rank::kAttrs: return "attrs";
    case Rank::kRuntime: return "runtime";
    case Rank::kWorkqueue: return "workqueue";
    case Rank::kTimer: return "timer";
    case Rank::kAttach: return "attach";
    case Rank::kPool: return "pool";
    case Rank::kNode: return "node";
    case Rank::kMayday: return "mayday";
    case Rank::kGate: return "gate";
    case Rank::kLeaf: return "leaf";
  }
  return "?";
}

#if defined(CMWQ_DEBUG)
namespace {

constexpr int kMaxHeld = 10;
struct Held {
  Rank rank;
  const void* lock;
};
thread_local constinit Held t_held[kMaxHeld] = {};
thread_local constinit int t_count = 0;

}  // namespace

void RankAcquire(Rank rank, const void* lock, bool same_rank_ok) {
  for (int i = 0; i < t_count; ++i) {
    const bool fine = t_held[i].rank < rank || (same_rank_ok && t_held[i].rank == rank);
    if (fine && t_held[i].lock != lock) continue;
    for (int j = 0; j < t_count; ++j) {
      base::RawLog(base::LogLevel::kError, "held: %s %p", RankName(t_held[j].rank), t_held[j].lock);
    }
    base::RawLog(base::LogLevel::kError, "wanted: %s %p", RankName(rank), lock);
    CMWQ_CHECK(false && "lock order");
  }
  // Only the fork handlers hold more than a few; past the table their locks go unchecked.
  if (t_count < kMaxHeld) t_held[t_count++] = {rank, lock};
}

void RankRelease(Rank rank, const void* lock) {
  for (int i = t_count - 1; i >= 0; --i) {
    if (t_held[i].lock != lock) continue;
    t_held[i] = t_held[--t_count];
    return;
  }
}

int RanksHeld() { return t_count; }
#endif

}  // namespace cmwq::sync
