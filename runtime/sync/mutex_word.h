// MutexWord: the futex lock inside Mutex (mutex.h), without rank and without analysis.

#ifndef CMWQ_RUNTIME_SYNC_MUTEX_WORD_H_
#define CMWQ_RUNTIME_SYNC_MUTEX_WORD_H_

#include <cstdint>

#include "runtime/sync/sync.h"

namespace cmwq::sync {

template <class Sync, int kSpins>
class BasicMutexWord {
 public:
  void Lock() {
    if (!TryLock()) LockSlow();
  }
  bool TryLock() {
    int32_t seen = kFree;
    // Acquire pairs with the release in Unlock.
    return word_.compare_exchange_strong(seen, kHeld, std::memory_order_acquire);
  }
  void Unlock() {
    // Release pairs with the acquires in TryLock and LockSlow.
    if (word_.exchange(kFree, std::memory_order_release) == kContended) Sync::FutexWake(&word_, 1);
  }
  // Somebody may sleep for the lock that the caller holds.
  bool contended() const { return word_.load(std::memory_order_relaxed) == kContended; }
  // Child of fork only: nobody else is left to hold it.
  void Reset() { word_.store(kFree, std::memory_order_relaxed); }

 private:
  static constexpr int32_t kFree = 0, kHeld = 1, kContended = 2;

  void LockSlow() {
    for (int i = 0; i < kSpins; ++i) {
      Sync::Relax();
      if (word_.load(std::memory_order_relaxed) == kFree && TryLock()) return;
    }
    // From here on the lock is taken as contended: Unlock then wakes one more than needed at worst.
    while (word_.exchange(kContended, std::memory_order_acquire) != kFree) {
      Sync::FutexWait(&word_, kContended);
    }
  }

  typename Sync::template Atomic<int32_t> word_{kFree};  // AT(Lock, Unlock)
};

}  // namespace cmwq::sync

#endif  // CMWQ_RUNTIME_SYNC_MUTEX_WORD_H_
