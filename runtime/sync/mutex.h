// Mutex: a futex lock of one word with a rank.
//
// Own lock instead of std::mutex because it is taken inside hooked pthread functions: it must not call
// them, allocate or touch errno. Spins briefly (the holder runs a few dozen instructions), then sleeps:
// mutex_word.h.
// Not recursive. Sections must be short and must not block: see lock_rank.h and HACKING.md.

#ifndef CMWQ_RUNTIME_SYNC_MUTEX_H_
#define CMWQ_RUNTIME_SYNC_MUTEX_H_

#include "runtime/base/annotations.h"
#include "runtime/base/test_point.h"
#include "runtime/sync/lock_rank.h"
#include "runtime/sync/mutex_word.h"

namespace cmwq::sync {

// Locks of ours that the calling thread holds or is taking. Hooks do nothing while it is not zero: a
// signal handler may interrupt a locked section and call a hooked function.
extern thread_local constinit int t_locks_held __attribute__((tls_model("initial-exec")));

class CMWQ_CAPABILITY("mutex") Mutex {
 public:
  explicit constexpr Mutex(Rank rank) : rank_(rank) {}
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() CMWQ_ACQUIRE() { LockRanked(false); }
  // For the fork handlers, which take all locks of a rank in address order.
  void LockSameRank() CMWQ_ACQUIRE() { LockRanked(true); }
  bool TryLock() CMWQ_TRY_ACQUIRE(true) {
    ++t_locks_held;
    if (!word_.TryLock()) {
      --t_locks_held;
      return false;
    }
    RankAcquire(rank_, this, false);
    return true;
  }
  void Unlock() CMWQ_RELEASE() {
    RankRelease(rank_, this);
    word_.Unlock();
    --t_locks_held;
    CMWQ_JITTER(true);
  }
  // Tells the analysis what the caller proved in another way.
  void AssertHeld() const CMWQ_ASSERT_HELD(this) {}
  // Somebody may sleep for it. A hint, for a holder that can make room.
  bool contended() const { return word_.contended(); }
  // Child of fork only: nobody else is left to hold it.
  void ResetAfterFork() CMWQ_NO_TSA {
    RankRelease(rank_, this);
    word_.Reset();
  }

 private:
  static constexpr int kSpins = 60;  // about the length of one section here (1-2 us); arbitrary beyond

  void LockRanked(bool same_rank_ok) CMWQ_ACQUIRE() CMWQ_NO_TSA {
    CMWQ_JITTER(true);
    ++t_locks_held;
    word_.Lock();
    RankAcquire(rank_, this, same_rank_ok);
  }

  BasicMutexWord<RealSync, kSpins> word_;  // AT: see mutex_word.h
  const Rank rank_;                        // I
};

class CMWQ_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mu) CMWQ_ACQUIRE(mu) : mu_(mu) { mu_.Lock(); }
  ~MutexLock() CMWQ_RELEASE() { mu_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mu_;
};

}  // namespace cmwq::sync

#endif  // CMWQ_RUNTIME_SYNC_MUTEX_H_
