// The blocking and ordering vocabulary that the lock-free protocols are written in.
//
// Parker, StateWord and Concurrency are templates on one of these structs. RealSync is the product;
// tests/model supplies one that runs every access under a deterministic scheduler with store buffers.

#ifndef CMWQ_RUNTIME_SYNC_SYNC_H_
#define CMWQ_RUNTIME_SYNC_SYNC_H_

#include <atomic>
#include <cstdint>

#include "runtime/base/sys.h"

namespace cmwq::sync {

struct RealSync {
  template <class T>
  using Atomic = std::atomic<T>;

  // Waits while *word == expected; may return at any time. False only when the deadline has passed.
  static bool FutexWait(const Atomic<int32_t>* word, int32_t expected,
                        uint64_t deadline_ns = base::kNever) {
    return base::FutexWait(word, static_cast<uint32_t>(expected), deadline_ns) != -ETIMEDOUT_;
  }
  static void FutexWake(const Atomic<int32_t>* word, int count) { base::FutexWake(word, count); }

 private:
  static constexpr int ETIMEDOUT_ = 110;  // <cerrno> would bring errno into hook code
};

}  // namespace cmwq::sync

#endif  // CMWQ_RUNTIME_SYNC_SYNC_H_
