// The blocking and ordering vocabulary that the lock-free protocols are written in.
//
// Parker, MutexWord, StateWord, Concurrency, FlushState and the PENDING protocol (wq/ownership.h) are
// templates on one of these structs, or on what it is made of. RealSync is the product; tests/model
// supplies one that runs every access under a deterministic scheduler with store buffers.

#ifndef CMWQ_RUNTIME_SYNC_SYNC_H_
#define CMWQ_RUNTIME_SYNC_SYNC_H_

#include <atomic>
#include <cstdint>

#include "runtime/base/sys.h"

namespace cmwq::sync {

inline void CpuRelax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

struct RealSync {
  template <class T>
  using Atomic = std::atomic<T>;

  // Waits while *word == expected; may return at any time. False only when the deadline has passed.
  static bool FutexWait(const Atomic<int32_t>* word, int32_t expected,
                        uint64_t deadline_ns = base::kNever) {
    return base::FutexWait(word, static_cast<uint32_t>(expected), deadline_ns) != -ETIMEDOUT_;
  }
  static void FutexWake(const Atomic<int32_t>* word, int count) { base::FutexWake(word, count); }
  // Between two looks at a word that another thread is about to change.
  static void Relax() { CpuRelax(); }

 private:
  static constexpr int ETIMEDOUT_ = 110;  // <cerrno> would bring errno into hook code
};

}  // namespace cmwq::sync

#endif  // CMWQ_RUNTIME_SYNC_SYNC_H_
