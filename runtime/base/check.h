// Checks. CMWQ_CHECK is always on and ends the process with one line; CMWQ_ASSERT only in debug builds.
//
// Broken invariants are fatal; anything that a user or the system can cause is not a check but a
// defined result.

#ifndef CMWQ_RUNTIME_BASE_CHECK_H_
#define CMWQ_RUNTIME_BASE_CHECK_H_

#include <atomic>

#include "runtime/base/raw_log.h"

namespace cmwq::base {

[[noreturn]] void CheckFailed(const char* file, int line, const char* what, long a, long b);

}  // namespace cmwq::base

#define CMWQ_CHECK(cond)                                                      \
  do {                                                                        \
    if (__builtin_expect(!(cond), 0))                                         \
      ::cmwq::base::CheckFailed(__FILE__, __LINE__, #cond, 0, 0);             \
  } while (0)

#define CMWQ_CHECK_OP(a, op, b)                                               \
  do {                                                                        \
    const long cmwq_a_ = static_cast<long>(a);                                \
    const long cmwq_b_ = static_cast<long>(b);                                \
    if (__builtin_expect(!(cmwq_a_ op cmwq_b_), 0))                           \
      ::cmwq::base::CheckFailed(__FILE__, __LINE__, #a " " #op " " #b,        \
                                cmwq_a_, cmwq_b_);                            \
  } while (0)

#if defined(CMWQ_DEBUG)
#define CMWQ_ASSERT(cond) CMWQ_CHECK(cond)
#else
#define CMWQ_ASSERT(cond) \
  do {                    \
    (void)sizeof(cond);   \
  } while (0)
#endif

// Logs once per call site at warning level.
#define CMWQ_WARN_ONCE(...)                                                   \
  do {                                                                        \
    static constinit std::atomic<bool> cmwq_warned_{false};                   \
    if (!cmwq_warned_.exchange(true, std::memory_order_relaxed))              \
      ::cmwq::base::RawLog(::cmwq::base::LogLevel::kWarn, __VA_ARGS__);       \
  } while (0)

#endif  // CMWQ_RUNTIME_BASE_CHECK_H_
