// Waiting for words of memory: see core/announced_wait.h for the order, cmwq/futex.h for the
// contract.
//
// Raw system calls: no cancellation points, and not seen a second time by the preload's wrappers.
// Times reach the kernel as points, so that what passes before the wait begins counts. Locks: none,
// but for kPool inside the hooks.

#include <cmwq/futex.h>

#include <atomic>
#include <cerrno>

#include "runtime/base/sys.h"
#include "runtime/core/announced_wait.h"
#include "runtime/pool/sched_hooks.h"

// Newer than the headers of some supported systems; the number is the same on every architecture.
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

namespace {

using cmwq::base::kNever;
using cmwq::base::Sys;

constexpr unsigned kClocks = CMWQ_FUTEX_AT_MONOTONIC | CMWQ_FUTEX_AT_REALTIME;

// As a system call gives it.
int Returned(long result) {
  if (result >= 0) return static_cast<int>(result);
  errno = static_cast<int>(-result);
  return -1;
}

bool Usable(const uint32_t* word) {
  return word != nullptr && (reinterpret_cast<uintptr_t>(word) & 3) == 0;
}

// Acquire, as whoever sees the new value expects.
bool Changed(const uint32_t* word, uint32_t expected) {
  return __atomic_load_n(word, __ATOMIC_ACQUIRE) != expected;
}

long Private(unsigned flags) { return (flags & CMWQ_FUTEX_SHARED) != 0 ? 0 : FUTEX_PRIVATE_FLAG; }

// When a wait ends.
class Limit {
 public:
  Limit(uint64_t time_ns, unsigned flags)
      : realtime_((flags & CMWQ_FUTEX_AT_REALTIME) != 0),
        relative_((flags & kClocks) == 0),
        ns_(time_ns == CMWQ_NO_TIMEOUT ? kNever : time_ns) {}

  // True: it is over already. Otherwise a duration has become a point: to be asked once. Reads the
  // clock only where it must.
  bool Passed() {
    if (ns_ == kNever) return false;
    if (ns_ == 0) return true;
    const uint64_t now = Now();
    if (relative_) {
      ns_ = ns_ < kNever - now ? now + ns_ : kNever;
      return false;
    }
    return now >= ns_;
  }

  bool realtime() const { return realtime_; }
  // For the kernel; null: none.
  const struct timespec* Point() {
    if (ns_ == kNever) return nullptr;
    point_ = cmwq::base::ToTimespec(ns_);
    return &point_;
  }

 private:
  uint64_t Now() const {
    struct timespec ts;
    clock_gettime(realtime_ ? CLOCK_REALTIME : CLOCK_MONOTONIC, &ts);
    return static_cast<uint64_t>(ts.tv_sec) * cmwq::base::kNsPerSec +
           static_cast<uint64_t>(ts.tv_nsec);
  }

  const bool realtime_;
  const bool relative_;
  uint64_t ns_;
  struct timespec point_ = {};
};

struct Hooks {
  static void Sleeping() { cmwq::pool::WorkerSleeping(); }
  static void Running() { cmwq::pool::WorkerRunning(); }
};

struct OneWord : Hooks {
  const uint32_t* word;
  uint32_t expected;
  uint32_t bitset;
  unsigned flags;
  Limit limit;

  OneWord(const uint32_t* w, uint32_t e, uint32_t b, uint64_t time_ns, unsigned f)
      : word(w), expected(e), bitset(b), flags(f), limit(time_ns, f) {}

  int Look() {
    if (Changed(word, expected)) return -EAGAIN;
    return limit.Passed() ? -ETIMEDOUT : 0;
  }
  int Block() {
    const long op =
        FUTEX_WAIT_BITSET | Private(flags) | (limit.realtime() ? FUTEX_CLOCK_REALTIME : 0);
    return static_cast<int>(Sys(SYS_futex, word, op, expected, limit.Point(), nullptr, bitset));
  }
};

// What the kernel wants for each word.
struct KernelWaiter {
  uint64_t value;
  uint64_t address;
  uint32_t flags;
  uint32_t reserved;
};
constexpr uint32_t kSize32 = 2;  // FUTEX_32

struct ManyWords : Hooks {
  const struct cmwq_futex_waiter* waiters;
  unsigned count;
  Limit limit;
  KernelWaiter kernel[CMWQ_FUTEX_WAITV_MAX];

  ManyWords(const struct cmwq_futex_waiter* w, unsigned n, uint64_t time_ns, unsigned flags)
      : waiters(w), count(n), limit(time_ns, flags) {}

  int Look() {
    for (unsigned i = 0; i < count; ++i) {
      if (Changed(waiters[i].word, waiters[i].expected)) return -EAGAIN;
    }
    return limit.Passed() ? -ETIMEDOUT : 0;
  }
  int Block() {
    for (unsigned i = 0; i < count; ++i) {
      kernel[i] = {waiters[i].expected, reinterpret_cast<uintptr_t>(waiters[i].word),
                   static_cast<uint32_t>(kSize32 | Private(waiters[i].flags)), 0};
    }
    return static_cast<int>(Sys(SYS_futex_waitv, kernel, count, 0, limit.Point(),
                                limit.realtime() ? CLOCK_REALTIME : CLOCK_MONOTONIC));
  }
};

// The kernel has no futex_waitv, or a filter refuses it: neither is ever taken back.
std::atomic<bool> g_waitv_refused{
    false};  // AT(WaitMany, WaitMany): relaxed, only saves a system call

int WaitOne(const uint32_t* word, uint32_t expected, uint32_t bitset, uint64_t time_ns,
            unsigned flags) {
  OneWord wait(word, expected, bitset, time_ns, flags);
  return Returned(cmwq::core::AnnouncedWait(wait));
}

int WaitMany(const struct cmwq_futex_waiter* waiters, unsigned count, uint64_t time_ns,
             unsigned flags) {
  if (g_waitv_refused.load(std::memory_order_relaxed)) return Returned(-ENOSYS);
  ManyWords wait(waiters, count, time_ns, flags);
  const int result = cmwq::core::AnnouncedWait(wait);
  // Filters refuse with EPERM as often as with ENOSYS; the call itself knows neither.
  if (result != -ENOSYS && result != -EPERM) return Returned(result);
  g_waitv_refused.store(true, std::memory_order_relaxed);
  return Returned(-ENOSYS);
}

// `flags` are among `known`, and name one clock at most.
bool ValidFlags(unsigned flags, unsigned known) {
  return (flags & ~known) == 0 && (flags & kClocks) != kClocks;
}

}  // namespace

extern "C" {

int cmwq_futex_wait(uint32_t* word, uint32_t expected, uint64_t timeout_ns) {
  return cmwq_futex_wait_bitset(word, expected, CMWQ_FUTEX_ANY, timeout_ns, 0);
}

int cmwq_futex_wait_bitset(uint32_t* word, uint32_t expected, uint32_t bitset, uint64_t time_ns,
                           unsigned flags) {
  if (!Usable(word) || bitset == 0 || !ValidFlags(flags, CMWQ_FUTEX_SHARED | kClocks)) {
    return Returned(-EINVAL);
  }
  return WaitOne(word, expected, bitset, time_ns, flags);
}

int cmwq_futex_waitv(const struct cmwq_futex_waiter* waiters, unsigned count, uint64_t time_ns,
                     unsigned flags) {
  bool valid = waiters != nullptr && count > 0 && count <= CMWQ_FUTEX_WAITV_MAX &&
               ValidFlags(flags, kClocks);
  for (unsigned i = 0; valid && i < count; ++i) {
    valid = Usable(waiters[i].word) && ValidFlags(waiters[i].flags, CMWQ_FUTEX_SHARED);
  }
  if (!valid) return Returned(-EINVAL);
  if (count > 1) return WaitMany(waiters, count, time_ns, flags);
  return WaitOne(waiters->word, waiters->expected, CMWQ_FUTEX_ANY, time_ns, flags | waiters->flags);
}

int cmwq_futex_wake(uint32_t* word, int count) {
  return cmwq_futex_wake_bitset(word, CMWQ_FUTEX_ANY, count, 0);
}

int cmwq_futex_wake_bitset(uint32_t* word, uint32_t bitset, int count, unsigned flags) {
  if (!Usable(word) || bitset == 0 || count < 0 || !ValidFlags(flags, CMWQ_FUTEX_SHARED)) {
    return Returned(-EINVAL);
  }
  if (count == 0) return 0;  // the kernel would wake one
  const long op = FUTEX_WAKE_BITSET | Private(flags);
  return Returned(Sys(SYS_futex, word, op, count, nullptr, nullptr, bitset));
}

}  // extern "C"
