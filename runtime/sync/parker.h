// Parker: one thread waits, any thread lets it go. A token given before the wait is kept, so a wake-up
// is never lost; tokens do not add up.
//
// Context: Park only by the owning thread; Unpark by any thread, under any lock (one futex wake).

#ifndef CMWQ_RUNTIME_SYNC_PARKER_H_
#define CMWQ_RUNTIME_SYNC_PARKER_H_

#include "runtime/sync/sync.h"

namespace cmwq::sync {

template <class Sync>
class BasicParker {
 public:
  // Consumes the token, waiting for it if there is none. False: the deadline passed first, and no
  // token was consumed.
  bool Park(uint64_t deadline_ns = base::kNever) {
    // Acquire pairs with the release in Unpark: what the waker wrote before is visible after Park.
    if (word_.fetch_sub(1, std::memory_order_acquire) == kToken) return true;
    for (;;) {
      const bool in_time = Sync::FutexWait(&word_, kParked, deadline_ns);
      int32_t seen = kToken;
      if (word_.compare_exchange_strong(seen, kEmpty, std::memory_order_acquire)) return true;
      if (in_time) continue;  // signal or spurious wake
      seen = kParked;
      // A token may arrive between the time-out and here; then the exchange fails and it is consumed.
      if (word_.compare_exchange_strong(seen, kEmpty, std::memory_order_acquire)) return false;
    }
  }

  // Gives the token. Returns true if a thread was parked (one system call was made).
  bool Unpark() {
    // Release pairs with the acquires in Park.
    if (word_.exchange(kToken, std::memory_order_release) != kParked) return false;
    Sync::FutexWake(&word_, 1);
    return true;
  }

  // Sleeps, or is about to, and nobody has called it. A hint, for tests.
  bool parked() const { return word_.load(std::memory_order_relaxed) == kParked; }

  // Owner only, while nobody can unpark: forgets a token.
  void Reset() { word_.store(kEmpty, std::memory_order_relaxed); }

 private:
  static constexpr int32_t kEmpty = 0, kToken = 1, kParked = -1;
  typename Sync::template Atomic<int32_t> word_{kEmpty};  // AT(Park, Unpark)
};

using Parker = BasicParker<RealSync>;

}  // namespace cmwq::sync

#endif  // CMWQ_RUNTIME_SYNC_PARKER_H_
