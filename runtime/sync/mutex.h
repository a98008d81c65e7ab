// Mutex: a futex lock of one word with a rank.
//
// Own lock instead of std::mutex because it is taken inside hooked pthread functions: it must not call
// them, allocate or touch errno. Spins briefly (the holder runs a few dozen instructions), then sleeps.
// Not recursive. Sections must be short and must not block: see lock_rank.h and HACKING.md.

#ifndef CMWQ_RUNTIME_SYNC_MUTEX_H_
#define CMWQ_RUNTIME_SYNC_MUTEX_H_

#include "runtime/base/annotations.h"
#include "runtime/sync/lock_rank.h"
#include "runtime/sync/sync.h"

namespace cmwq::sync {

inline void CpuRelax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

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
    int32_t seen = kFree;
    // Acquire pairs with the release in Unlock.
    if (!word_.compare_exchange_strong(seen, kHeld, std::memory_order_acquire)) {
      --t_locks_held;
      return false;
    }
    RankAcquire(rank_, this, false);
    return true;
  }
  void Unlock() CMWQ_RELEASE() {
    RankRelease(rank_, this);
    // Release pairs with the acquires in Lock and TryLock.
    if (word_.exchange(kFree, std::memory_order_release) == kContended) {
      RealSync::FutexWake(&word_, 1);
    }
    --t_locks_held;
  }
  // Tells the analysis what the caller proved in another way.
  void AssertHeld() const CMWQ_ASSERT_HELD(this) {}
  // Child of fork only: nobody else is left to hold it.
  void ResetAfterFork() CMWQ_NO_TSA {
    RankRelease(rank_, this);
    word_.store(kFree, std::memory_order_relaxed);
  }

 private:
  static constexpr int32_t kFree = 0, kHeld = 1, kContended = 2;
  static constexpr int kSpins = 60;  // about the length of one section here (1-2 us); arbitrary beyond

  void LockRanked(bool same_rank_ok) CMWQ_ACQUIRE() CMWQ_NO_TSA {
    ++t_locks_held;
    int32_t seen = kFree;
    if (!word_.compare_exchange_strong(seen, kHeld, std::memory_order_acquire)) LockSlow();
    RankAcquire(rank_, this, same_rank_ok);
  }
  void LockSlow() {
    for (int i = 0; i < kSpins; ++i) {
      CpuRelax();
      int32_t seen = kFree;
      if (word_.load(std::memory_order_relaxed) == kFree &&
          word_.compare_exchange_strong(seen, kHeld, std::memory_order_acquire)) {
        return;
      }
    }
    // From here on the lock is taken as contended: Unlock then wakes one more than needed at worst.
    while (word_.exchange(kContended, std::memory_order_acquire) != kFree) {
      RealSync::FutexWait(&word_, kContended);
    }
  }

  std::atomic<int32_t> word_{kFree};  // AT(Lock, Unlock)
  const Rank rank_;                   // I
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
