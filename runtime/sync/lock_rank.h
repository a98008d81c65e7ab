// The one order in which locks may be taken, checked at run time in debug builds.
//
// A thread may take a lock only if every lock it holds has a smaller rank. Two locks of one rank are
// never held together, but for the fork handlers, which say so.

#ifndef CMWQ_RUNTIME_SYNC_LOCK_RANK_H_
#define CMWQ_RUNTIME_SYNC_LOCK_RANK_H_

#include <cstdint>

namespace cmwq::sync {

enum class Rank : uint8_t {
  kAttrs = 1,     // wq: unbound pools and who shares them, attribute changes
  kRuntime,       // core: start-up, list of workqueues
  kWorkqueue,     // wq: flush state, max_active changes
  kTimer,         // platform: timer heap of the event thread
  kAttach,        // pool: its threads, and where they run; held over system calls that place them
  kPool,          // pool: worklist, idle list, counts; hooks take this and below, nothing above
  kNode,          // wq: pwqs that wait for a slot of their node, nests inside kPool
  kMayday,        // wq: distress list, nests inside kPool
  kGate,          // hooks/gate: ready list of one CPU
  kLeaf,          // nothing may be taken below
};

const char* RankName(Rank rank);

#if defined(CMWQ_DEBUG)
// Aborts with the list of held locks when the order is wrong.
void RankAcquire(Rank rank, const void* lock, bool same_rank_ok);
void RankRelease(Rank rank, const void* lock);
// Number of cmwq locks that the calling thread holds.
int RanksHeld();
#else
inline void RankAcquire(Rank, const void*, bool) {}
inline void RankRelease(Rank, const void*) {}
inline int RanksHeld() { return 0; }
#endif

}  // namespace cmwq::sync

#endif  // CMWQ_RUNTIME_SYNC_LOCK_RANK_H_
