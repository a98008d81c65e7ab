// Random operations over the whole interface from many threads, then an account: every queueing that was
// accepted was executed or cancelled; no item ever ran twice at once; what a queuer wrote before its last
// queueing was seen; ordered queues kept order; no limit was exceeded; the pools are whole, no thread is
// left over.
//
// CPUs leave and return all the while.
//
// What each thread does, and to what, depends on the seed alone: CMWQ_STRESS_SEED repeats the streams.

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "runtime/core/cpus.h"
#include "tests/stress/playground.h"
#include "tests/support/sanitizer.h"

namespace {

constinit std::atomic<unsigned> g_fail_percent{0};
constinit std::atomic<uint64_t> g_creations{0};
constinit std::atomic<uint64_t> g_failed_creations{0};

}  // namespace

// Linked with --wrap: the engine's threads are made here, those of std::thread elsewhere.
extern "C" int __real_pthread_create(pthread_t* thread, const pthread_attr_t* attr,
                                     void* (*fn)(void*), void* arg);
extern "C" int __wrap_pthread_create(pthread_t* thread, const pthread_attr_t* attr,
                                     void* (*fn)(void*), void* arg) {
  const uint64_t n = g_creations.fetch_add(1, std::memory_order_relaxed);
  const uint64_t dice = (n + 1) * 0x9e3779b97f4a7c15u >> 40;
  if (dice % 100 < g_fail_percent.load(std::memory_order_relaxed)) {
    g_failed_creations.fetch_add(1, std::memory_order_relaxed);
    return EAGAIN;
  }
  return __real_pthread_create(thread, attr, fn, arg);
}

namespace cmwq::stress {
namespace {

constexpr unsigned kPrograms = 4;

// CMWQ_STRESS_SECONDS is the length of all programs together.
uint64_t Milliseconds() {
  const uint64_t seconds = Setting("CMWQ_STRESS_SECONDS", test::kSanitized ? 10 : 20);
  return seconds * 1000 / kPrograms;
}

// Short pauses and short idle times: creation, maydays and culling are to happen often.
const bool g_configured = [] {
  setenv("CMWQ_CONF",
         "create_cooldown_ms=3,mayday_initial_ms=1,mayday_interval_ms=2,idle_timeout_ms=30,log=3", 0);
  return true;
}();

// CPUs leave and return, never all of them; also the same set once more, and one at once after the other.
void Weather(Playground* ground, const platform::CpuSet& all) {
  Random random(Playground::kThreads);
  while (!ground->stopping()) {
    platform::CpuSet left;
    for (int cpu = all.Next(0); cpu >= 0; cpu = all.Next(cpu + 1)) {
      if (random.Below(2) != 0) left.Add(cpu);
    }
    if (left.Empty()) left = all;
    core::CpuSetChanged(left);
    // Long enough now and then for idle workers to be let go.
    if (random.Below(4) != 0) SleepUs(random.Below(8) == 0 ? 50'000 : random.Below(5'000));
  }
}

void Play(const Behaviour& behaviour, unsigned fail_percent = 0) {
  alarm(static_cast<unsigned>(Milliseconds() / 1000) + 60);
  Playground* const ground = new Playground(behaviour);
  g_fail_percent = fail_percent;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < Playground::kThreads; ++t) {
    threads.emplace_back([ground, t] {
      Random random(t);
      while (!ground->stopping()) ground->Step(t, random);
    });
  }
  const platform::CpuSet all = core::UsableCpus();
  threads.emplace_back([ground, all] { Weather(ground, all); });
  for (uint64_t i = 0; i < Milliseconds() / 10; ++i) SleepUs(10'000);
  ground->Stop();
  for (std::thread& t : threads) t.join();
  g_fail_percent = 0;
  while (core::CpuSetChanged(all) != 0) SleepUs(1'000);
  EXPECT_TRUE(core::UsableCpus() == all);
  ground->Settle();
  delete ground;
  alarm(0);
}

TEST(RandomOps, QuickItems) { Play({.announced_percent = 0, .silent_percent = 0}); }
TEST(RandomOps, AnnouncedBlocks) { Play({.announced_percent = 60, .silent_percent = 0}); }
TEST(RandomOps, SilentBlocks) { Play({.announced_percent = 10, .silent_percent = 40}); }

// Most creations fail, at random: the pools go on with what they have, rescuers help.
TEST(RandomOps, ThreadsThatCannotBeMade) {
  const uint64_t failed = g_failed_creations;
  Play({.announced_percent = 60, .silent_percent = 5}, 60);
  EXPECT_GT(g_failed_creations, failed);
}

}  // namespace
}  // namespace cmwq::stress
