// Memory of destroyed queues: recognisable for long, used again after that, never given back.

#include "runtime/wq/tombstone.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>
#include <vector>

namespace cmwq::wq {
namespace {

struct Body {
  Tombstone tombstone;
  char rest[200];
};

Body* Make() {
  void* const memory = Tombstone::Allocate(sizeof(Body));
  return memory != nullptr ? new (memory) Body : nullptr;
}

TEST(Tombstone, TheDeadAreKnown) {
  Body* const body = Make();
  EXPECT_TRUE(body->tombstone.alive());
  Tombstone::Bury(body);
  EXPECT_FALSE(body->tombstone.alive());
}

// However many there are at once, rounds of them need no more memory than the first and the quarantine.
TEST(Tombstone, MemoryIsUsedAgain) {
  std::set<void*> all;
  for (int round = 0; round < 10; ++round) {
    std::vector<Body*> bodies;
    for (int i = 0; i < 1000; ++i) {
      bodies.push_back(Make());
      EXPECT_TRUE(bodies.back()->tombstone.alive());
      all.insert(bodies.back());
    }
    for (Body* const body : bodies) Tombstone::Bury(body);
  }
  EXPECT_LE(all.size(), 1000u + Tombstone::kQuarantine + 1);
}

TEST(Tombstone, ManyThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 5000; ++i) {
        Body* const body = Make();
        body->rest[0] = static_cast<char>(t);
        ASSERT_TRUE(body->tombstone.alive());
        ASSERT_EQ(body->rest[0], static_cast<char>(t));  // nobody else has it
        Tombstone::Bury(body);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace cmwq::wq
