#include "runtime/base/test_point.h"

#if defined(CMWQ_TEST_POINTS)

#include <stdlib.h>

#include <cstdint>

#include "runtime/base/sys.h"

namespace cmwq::base {

void (*g_test_point)(const char* name) = nullptr;
constinit std::atomic<void (*)(const char* where, void* locked)> g_verify{nullptr};
constinit std::atomic<uint64_t> g_jitter{kJitterUnknown};

namespace {

// xorshift64*; 0 until the thread's first visit.
thread_local constinit uint64_t t_random __attribute__((tls_model("initial-exec"))) = 0;
// Visits that the thread's present pace is good for, and its pace: one visit in 2^pace loses the CPU.
thread_local constinit uint32_t t_pace_left __attribute__((tls_model("initial-exec"))) = 0;
thread_local constinit uint32_t t_pace __attribute__((tls_model("initial-exec"))) = 0;
// What the thread may still lose: a test that takes a million locks must end, too.
thread_local constinit uint64_t t_budget_ns __attribute__((tls_model("initial-exec"))) = 0;
constinit std::atomic<uint64_t> g_threads{0};

constexpr uint32_t kPaces[] = {1, 3, 4, 5, 7, 16};  // from nearly standing still to undisturbed
constexpr uint32_t kVisitsPerPace = 48;
constexpr uint64_t kMaxNs = 3 * kNsPerMs;
constexpr uint64_t kFirstBudgetNs = 150 * kNsPerMs, kNsPerVisit = 3'000;

uint64_t Draw() {
  t_random ^= t_random >> 12;
  t_random ^= t_random << 25;
  t_random ^= t_random >> 27;
  return (t_random * 0x2545f4914f6cdd1d) >> 16;
}

uint64_t ReadSeed() {
  const char* const text = secure_getenv("CMWQ_TEST_JITTER");
  const uint64_t seed = text != nullptr ? strtoull(text, nullptr, 10) : 0;
  g_jitter.store(seed, std::memory_order_relaxed);
  return seed;
}

}  // namespace

// Context: any thread, any lock, signal handlers. Keeps errno.
void JitterNow(bool locked) {
  uint64_t seed = g_jitter.load(std::memory_order_relaxed);
  if (seed == kJitterUnknown) seed = ReadSeed();
  if (seed == 0) return;
  if (t_random == 0) {
    const uint64_t thread = g_threads.fetch_add(1, std::memory_order_relaxed) + 1;
    t_random = (seed * 0x9e3779b97f4a7c15) ^ (thread * 0xbf58476d1ce4e5b9);
    if (t_random == 0) t_random = 1;
    t_budget_ns = kFirstBudgetNs;
  }
  t_budget_ns += kNsPerVisit;
  // Threads that are all equally slow meet in the same order as without: each is slow at times.
  if (t_pace_left == 0) {
    t_pace_left = kVisitsPerPace;
    t_pace = kPaces[Draw() % (sizeof(kPaces) / sizeof(kPaces[0]))];
  }
  --t_pace_left;
  const uint32_t pace = t_pace + (locked ? 4 : 0);
  const uint64_t draw = Draw();
  if ((draw & ((uint64_t{1} << pace) - 1)) != 0) return;
  if (draw >> 40 & 1) return SchedYield();
  // Short ones are the more likely: the product of two draws.
  const uint64_t longest = locked ? kMaxNs / 10 : kMaxNs;
  const uint64_t ns = longest * (Draw() % 1024) / 1024 * (Draw() % 1024) / 1024;
  if (ns > t_budget_ns) return SchedYield();
  t_budget_ns -= ns;
  // As one that was preempted, not asleep: a detector must not take it for blocked.
  const uint64_t until = MonotonicNs() + ns;
  do {
    SchedYield();
  } while (MonotonicNs() < until);
}

}  // namespace cmwq::base
#endif
