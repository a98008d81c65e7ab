#include "tests/model/explore.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CMWQ_MODEL_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CMWQ_MODEL_SANITIZED 1
#endif
#endif

namespace cmwq::model {
namespace {

constexpr uint64_t kFullSeeds = 40'000;
// Sanitizers slow a run ten- to hundredfold and look for other things.
#if defined(CMWQ_MODEL_SANITIZED)
constexpr uint64_t kDefaultSeeds = 500;
#else
constexpr uint64_t kDefaultSeeds = kFullSeeds;
#endif

uint64_t FromEnvironment(const char* name, uint64_t fallback) {
  const char* text = getenv(name);
  return text != nullptr ? strtoull(text, nullptr, 10) : fallback;
}

bool OneSeedOnly() { return getenv("CMWQ_MODEL_SEED") != nullptr; }

}  // namespace

Report Explore(const Program& program, uint64_t least_seeds) {
  const uint64_t first = FromEnvironment("CMWQ_MODEL_SEED", 1);
  uint64_t count = FromEnvironment("CMWQ_MODEL_SEEDS", kDefaultSeeds);
  if (count < least_seeds) count = least_seeds;
  if (OneSeedOnly()) count = 1;
  Report report;
  for (uint64_t i = 0; i < count && !report.failed; ++i) {
    World world(first + i);
    program(world);
    const World::Outcome outcome = world.Run();
    report.seeds = i + 1;
    report.steps += static_cast<uint64_t>(outcome.steps);
    report.failed = outcome.failed;
    report.message = outcome.message;
  }
  return report;
}

void ExpectHolds(const Program& program) {
  const Report report = Explore(program, 1);
  EXPECT_FALSE(report.failed) << report.message;
  printf("  %llu seeds, %llu steps\n", static_cast<unsigned long long>(report.seeds),
         static_cast<unsigned long long>(report.steps));
}

void ExpectCaught(const char* message, const Program& program) {
  if (OneSeedOnly()) GTEST_SKIP() << "a mutant is caught by some seed, not by a given one";
  const Report report = Explore(program, kFullSeeds);
  ASSERT_TRUE(report.failed) << "no seed showed the planted defect";
  EXPECT_NE(report.message.find(message), std::string::npos) << report.message;
  printf("  caught by seed %llu\n", static_cast<unsigned long long>(report.seeds));
}

}  // namespace cmwq::model
