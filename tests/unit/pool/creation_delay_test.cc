// Bursts of short blocks make no threads; real need does, and waits for a bounded time only. What passes
// while the manager has given the CPU away is the test's.

#include "runtime/pool/creation_delay.h"

#include <gtest/gtest.h>

#include "tests/support/fake_env.h"

namespace cmwq::test {
namespace {

using pool::CreationDelay;

constexpr uint64_t kIdle = 10'000, kTotal = 100 * base::kNsPerMs;

TEST(CreationDelay, LookingWithoutMovementAddsUp) {
  CreationDelay d;
  d.Begin(0, 1, 7);
  EXPECT_FALSE(d.Lasted(0, 7, 4000, kIdle, kTotal));
  EXPECT_FALSE(d.Lasted(0, 8, 50'000, kIdle, kTotal));  // somebody had a use for the CPU
  EXPECT_FALSE(d.Lasted(0, 8, 4000, kIdle, kTotal));
  EXPECT_TRUE(d.Lasted(0, 8, 2000, kIdle, kTotal));
  d.Begin(0, 2, 8);
  EXPECT_FALSE(d.Lasted(0, 8, 9999, kIdle, kTotal));
}

TEST(CreationDelay, TheTotalGoesOnUntilAnItemBegins) {
  CreationDelay d;
  d.Begin(5, 1, 0);
  EXPECT_FALSE(d.Lasted(kTotal + 4, 1, 1, kIdle, kTotal));
  d.Begin(kTotal + 4, 1, 1);
  EXPECT_TRUE(d.Lasted(kTotal + 5, 2, 1, kIdle, kTotal));
  d.Begin(kTotal + 5, 2, 2);
  EXPECT_FALSE(d.Lasted(kTotal + 6, 3, 1, kIdle, kTotal));
}

// One item that blocks again and again with another pending, and an idle worker that is woken each time.
// Everything in steps: what the item does is decided while the manager has given the CPU away.
class Bursts : public testing::Test {
 protected:
  static constexpr int kRounds = 1000;

  // The item has begun and runs, the spare is idle, the other one is pending.
  void Start() {
    ASSERT_TRUE(Engine::Queue(wq_, blocks_));
    began_.Wait();
    Eventually([this] { return pool_.Stats().nr_idle == 1; });
    ASSERT_EQ(pool_.Stats().nr_workers, 2);
    ASSERT_TRUE(Engine::Queue(wq_, other_));
  }
  void Finish() {
    done_ = true;
    Next();
    Eventually([this] { return other_.Runs() == 1 && blocks_.Runs() == 1; });
    Engine::WaitIdle(pool_);
    e_.Destroy(wq_);
  }
  // One step of the item: from a block back to the CPU, or from the CPU into the next block.
  void Next() {
    step_.fetch_add(1, std::memory_order_release);
    sync::RealSync::FutexWake(&step_, INT32_MAX);
  }
  void AwaitStep(int step) {
    for (int now; (now = step_.load(std::memory_order_acquire)) < step;) {
      sync::RealSync::FutexWait(&step_, now);
    }
  }

  Engine& e_ = Engine::Make(1, [](base::Conf* conf) { conf->create_idle_us = 10; });
  pool::WorkerPool& pool_ = e_.Pool();
  wq::Workqueue* const wq_ = e_.Alloc();
  std::atomic<int32_t> step_{0};
  std::atomic<bool> done_{false};
  Gate began_;
  Item other_;
  Item blocks_{[this] {
    began_.Open();
    for (int step = 1; !done_; step += 2) {
      AwaitStep(step);  // on the CPU
      if (done_) return;
      cmwq_block_begin();
      AwaitStep(step + 1);
      cmwq_block_end();
    }
  }};
};

// However often: no thread, and the other item waits for the CPU as it would behind one that runs.
TEST_F(Bursts, ShortBlocksMakeNoThread) {
  Start();
  e_.env.on_yield = [this] {
    Next();  // the block ends while the CPU is away
    Eventually([this] { return PoolTestPeer::RawRunning(pool_) == 1; });
    return uint64_t{5000};
  };
  for (int round = 1; round <= kRounds; ++round) {
    Next();
    Eventually([&] {
      const pool::PoolStats s = pool_.Stats();
      return s.avoided == static_cast<uint64_t>(round) && s.nr_idle == 1;
    });
  }
  EXPECT_EQ(pool_.Stats().created, 2u);
  EXPECT_EQ(pool_.Stats().sleeps, static_cast<uint64_t>(kRounds));
  EXPECT_EQ(other_.Runs(), 0);
  Finish();
}

TEST_F(Bursts, ABlockThatLastsMakesOneAfterTheIdleTime) {
  Start();
  e_.env.yields = 0;
  e_.env.on_yield = [] { return uint64_t{4000}; };
  Next();
  Eventually([this] { return other_.Runs() == 1; });
  EXPECT_EQ(e_.env.yields, 3);
  EXPECT_EQ(pool_.Stats().created, 3u);
  EXPECT_EQ(pool_.Stats().avoided, 0u);
  Next();
  Finish();
}

// Back and blocked again at each look: the CPU is in use, but nothing ever begins.
TEST_F(Bursts, ACpuThatIsKeptBusyMakesOneAfterTheLongestWait) {
  Start();
  e_.env.yields = 0;
  e_.env.on_yield = [this] {
    const uint64_t sleeps = pool_.Stats().sleeps;
    Next();
    Next();
    Eventually([&] { return pool_.Stats().sleeps == sleeps + 1; });
    Eventually([this] { return PoolTestPeer::RawRunning(pool_) == 0; });
    e_.env.now.fetch_add(30 * base::kNsPerMs);
    return 30 * base::kNsPerMs;
  };
  Next();
  Eventually([this] { return other_.Runs() == 1; });
  EXPECT_EQ(e_.env.yields, 4);
  EXPECT_EQ(pool_.Stats().created, 3u);
  Next();
  Finish();
}

// The same with managers that each find the need gone.
TEST_F(Bursts, ManagersThatGiveUpShareTheLongestWait) {
  Start();
  e_.env.on_yield = [this] {
    e_.env.now.fetch_add(30 * base::kNsPerMs);
    if (other_.Runs() == 0 && pool_.Stats().avoided < 3) {
      Next();
      Eventually([this] { return PoolTestPeer::RawRunning(pool_) == 1; });
    }
    return uint64_t{1};
  };
  for (uint64_t round = 1; round <= 3; ++round) {
    Next();
    Eventually([&] { return pool_.Stats().avoided == round && pool_.Stats().nr_idle == 1; });
  }
  e_.env.yields = 0;
  Next();
  Eventually([this] { return other_.Runs() == 1; });
  EXPECT_EQ(e_.env.yields, 1);
  EXPECT_EQ(pool_.Stats().created, 3u);
  Next();
  Finish();
}

TEST(CreationDelayOff, ZeroMakesOneAtOnce) {
  Engine& e = Engine::Make(1, [](base::Conf* conf) { conf->create_idle_us = 0; });
  wq::Workqueue* const wq = e.Alloc();
  Gate gate;
  Item blocks([&] { gate.WaitAnnounced(); }), other;
  ASSERT_TRUE(Engine::Queue(wq, blocks));
  ASSERT_TRUE(Engine::Queue(wq, other));
  Eventually([&] { return other.Runs() == 1; });
  EXPECT_EQ(e.env.yields, 0);
  gate.Open();
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

// Failed attempts and their cool-down are as without: nobody waits for a need that cannot be met.
TEST(CreationDelayOff, NotDuringTheCoolDown) {
  Engine& e = Engine::Make(1);
  wq::Workqueue* const wq = e.Alloc();
  Gate gate;
  Item blocks([&] { gate.WaitAnnounced(); }), other;
  ASSERT_TRUE(Engine::Queue(wq, blocks));
  Eventually([&] { return e.Pool().Stats().sleeps == 1 && e.Pool().Stats().nr_idle == 1; });
  e.env.fail_next = INT_MAX;
  e.env.yields = 0;
  ASSERT_TRUE(Engine::Queue(wq, other));
  Eventually([&] { return other.Runs() == 1; });
  EXPECT_EQ(e.env.yields, 1);
  e.env.fail_next = 0;
  gate.Open();
  e.Advance(1100);
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

}  // namespace
}  // namespace cmwq::test
