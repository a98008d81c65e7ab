// Named places at which a test may pause, yield, fail or count, and at which the engine's invariants are
// checked. Compiled to nothing unless CMWQ_TEST_POINTS is defined (debug and sanitizer builds).

#ifndef CMWQ_RUNTIME_BASE_TEST_POINT_H_
#define CMWQ_RUNTIME_BASE_TEST_POINT_H_

#if defined(CMWQ_TEST_POINTS)

#include <atomic>

namespace cmwq::base {
// Set by tests before threads start, null otherwise. Must not take engine locks.
extern void (*g_test_point)(const char* name);
// Set by the first pool (pool/invariants.h). `locked`: the object whose lock the caller holds, or null.
extern std::atomic<void (*)(const char* where, void* locked)> g_verify;

inline void AtTestPoint(const char* name, void* locked) {
  if (g_test_point != nullptr) g_test_point(name);
  // Acquire pairs with the store in WorkerPool's constructor.
  if (auto* const verify = g_verify.load(std::memory_order_acquire)) verify(name, locked);
}
}  // namespace cmwq::base

#define CMWQ_TEST_POINT(name) ::cmwq::base::AtTestPoint(name, nullptr)
// The caller holds `pool`'s lock, and what the lock guards is consistent.
#define CMWQ_TEST_POINT_LOCKED(name, pool) ::cmwq::base::AtTestPoint(name, pool)
#else
#define CMWQ_TEST_POINT(name) \
  do {                        \
  } while (0)
#define CMWQ_TEST_POINT_LOCKED(name, pool) CMWQ_TEST_POINT(name)
#endif

#endif  // CMWQ_RUNTIME_BASE_TEST_POINT_H_
