// Named places at which a test may pause, yield, fail or count, and at which the engine's invariants are
// checked. Compiled to nothing unless CMWQ_TEST_POINTS is defined (debug and sanitizer builds).

#ifndef CMWQ_RUNTIME_BASE_TEST_POINT_H_
#define CMWQ_RUNTIME_BASE_TEST_POINT_H_

#if defined(CMWQ_TEST_POINTS)

#include <atomic>
#include <cstdint>

namespace cmwq::base {
// Set by tests before threads start, null otherwise. Must not take engine locks.
extern void (*g_test_point)(const char* name);
// Set by the first pool (pool/invariants.h). `locked`: the object whose lock the caller holds, or null.
extern std::atomic<void (*)(const char* where, void* locked)> g_verify;
// AT: the seed of CMWQ_TEST_JITTER (HACKING.md, "How it is proved"); 0: no jitter. Written once, relaxed.
extern std::atomic<uint64_t> g_jitter;
inline constexpr uint64_t kJitterUnknown = ~uint64_t{0};  // the environment has not been read

// The calling thread may lose the CPU here for up to 3 ms; with a lock held more rarely and briefly.
void JitterNow(bool locked);
inline void Jitter(bool locked) {
  if (g_jitter.load(std::memory_order_relaxed) != 0) JitterNow(locked);
}

inline void AtTestPoint(const char* name, void* locked) {
  Jitter(locked != nullptr);
  if (g_test_point != nullptr) g_test_point(name);
  // Acquire pairs with the store in WorkerPool's constructor.
  if (auto* const verify = g_verify.load(std::memory_order_acquire)) verify(name, locked);
}
}  // namespace cmwq::base

#define CMWQ_TEST_POINT(name) ::cmwq::base::AtTestPoint(name, nullptr)
// The caller holds `pool`'s lock, and what the lock guards is consistent.
#define CMWQ_TEST_POINT_LOCKED(name, pool) ::cmwq::base::AtTestPoint(name, pool)
// Without a name and without a look at invariants. May stand in signal handlers.
#define CMWQ_JITTER(locked) ::cmwq::base::Jitter(locked)
#else
#define CMWQ_TEST_POINT(name) \
  do {                        \
  } while (0)
#define CMWQ_TEST_POINT_LOCKED(name, pool) CMWQ_TEST_POINT(name)
#define CMWQ_JITTER(locked) \
  do {                      \
  } while (0)
#endif

#endif  // CMWQ_RUNTIME_BASE_TEST_POINT_H_
