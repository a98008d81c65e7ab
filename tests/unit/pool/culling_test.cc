// Idle culling: who survives, and when. Time is the test's.

#include <gtest/gtest.h>

#include "tests/support/fake_env.h"

namespace cmwq::test {
namespace {

constexpr uint64_t kTimeoutMs = 1000;

class CullingTest : public ::testing::Test {
 protected:
  // Brings the pool to `busy` blocked workers and as many idle ones as `total` leaves.
  void Populate(int total, int busy) {
    wq_ = e.Alloc();
    for (int i = 0; i < total; ++i) {
      items_.push_back(new Item([this, i] {
        started_.fetch_add(1);
        gates_[i].WaitAnnounced();
      }));
      ASSERT_TRUE(Engine::Queue(wq_, *items_.back()));
    }
    Eventually([&] { return started_ == total; });
    Eventually([&] { return e.Pool().Stats().nr_idle > 0; });  // the spare
    for (int i = busy; i < total; ++i) gates_[i].Open();
    Eventually([&] {
      const pool::PoolStats s = e.Pool().Stats();
      return s.nr_workers - s.nr_idle == busy;
    });
    AwaitTimer();
  }
  // Who goes idle arms the timer afterwards: time must not go on before.
  void AwaitTimer() {
    Eventually([&] { return PoolTestPeer::CullSettled(e.Pool()); });
  }
  void TearDown() override {
    for (Gate& gate : gates_) gate.Open();
    wq::FlushWorkqueue(wq_);
    Engine::WaitIdle(e.Pool());
    e.Destroy(wq_);
    for (Item* const item : items_) delete item;
  }
  int Idle() { return e.Pool().Stats().nr_idle; }

  Engine& e = Engine::Make(1, [](base::Conf* conf) {
    conf->idle_timeout_ms = static_cast<int64_t>(kTimeoutMs);
  });
  wq::Workqueue* wq_ = nullptr;
  std::atomic<int> started_{0};
  Gate gates_[64];
  std::vector<Item*> items_;
};

TEST_F(CullingTest, TwoSurviveAnIdlePool) {
  Populate(10, 0);
  ASSERT_EQ(Idle(), 11);
  e.Advance(kTimeoutMs - 1);
  EXPECT_EQ(Idle(), 11);
  e.Advance(1);
  EXPECT_EQ(Idle(), 2);
  EXPECT_EQ(e.Pool().Stats().destroyed, 9u);
}

// 1 + ceil(busy / 4) for more than four busy ones, never below two.
TEST_F(CullingTest, SurvivorsFollowTheBusyOnes) {
  Populate(33, 9);
  ASSERT_EQ(Idle(), 25);
  e.Advance(kTimeoutMs);
  EXPECT_EQ(Idle(), 4);
  // Fewer busy ones: fewer idle ones are kept, once they are old enough.
  for (int i = 4; i < 9; ++i) gates_[i].Open();
  Eventually([&] { return e.Pool().Stats().nr_workers - Idle() == 4; });
  AwaitTimer();
  e.Advance(kTimeoutMs);
  EXPECT_EQ(Idle(), 2);
}

TEST_F(CullingTest, TheOldestGoFirstAndTheYoungStay) {
  Populate(6, 2);
  ASSERT_EQ(Idle(), 5);
  e.Advance(kTimeoutMs / 2);
  gates_[1].Open();  // a worker that just goes idle
  Eventually([&] { return Idle() == 6; });
  AwaitTimer();
  e.Advance(kTimeoutMs / 2);
  // One is busy, five were old: three may go before two idle ones are left, the young one is among them.
  EXPECT_EQ(Idle(), 2);
  Item item;
  ASSERT_TRUE(Engine::Queue(wq_, item));
  Eventually([&] { return item.Runs() == 1; });
}

TEST_F(CullingTest, AYoungIdleWorkerIsNotCulled) {
  Populate(4, 4);
  ASSERT_EQ(Idle(), 1);
  e.Advance(10 * kTimeoutMs);
  EXPECT_EQ(Idle(), 1);
  for (Gate& gate : gates_) gate.Open();
  Eventually([&] { return Idle() == 5; });
  AwaitTimer();
  e.Advance(kTimeoutMs - 1);
  EXPECT_GE(Idle(), 4) << "only the spare was old enough";
  e.Advance(1);
  EXPECT_EQ(Idle(), 2);
}

// The timer is armed while there are too many and not at all otherwise: an idle process sleeps.
TEST_F(CullingTest, NoTimerOnceSettled) {
  Populate(10, 0);
  EXPECT_NE(e.events.RunDue(e.env.NowNs()), base::kNever);
  // The watchdog looks once more after the last item: at a quarter of its threshold.
  e.Advance(2 * kTimeoutMs + 10'000);
  EXPECT_EQ(e.events.RunDue(e.env.NowNs()), base::kNever);
}

// Objects of retired workers are used again, and nothing of the old thread disturbs the new one.
TEST_F(CullingTest, RetiredSlotsAreUsedAgain) {
  Populate(10, 0);
  for (int round = 0; round < 5; ++round) {
    e.Advance(kTimeoutMs);
    EXPECT_EQ(Idle(), 2);
    Gate gate;
    std::atomic<int> started{0};
    std::vector<Item*> items;
    for (int i = 0; i < 10; ++i) {
      items.push_back(new Item([&] {
        started.fetch_add(1);
        gate.WaitAnnounced();
      }));
      ASSERT_TRUE(Engine::Queue(wq_, *items.back()));
    }
    Eventually([&] { return started == 10; });
    gate.Open();
    wq::FlushWorkqueue(wq_);
    Engine::WaitIdle(e.Pool());
    EXPECT_EQ(e.Pool().Stats().nr_workers, 11);
    EXPECT_LE(e.Pool().Stats().peak_workers, 11u);
    for (Item* const item : items) delete item;
  }
}

}  // namespace
}  // namespace cmwq::test
