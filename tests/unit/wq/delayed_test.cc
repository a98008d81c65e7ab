// Work behind a timer. Time is the test's.

#include <gtest/gtest.h>

#include <thread>

#include "runtime/wq/work_word.h"
#include "tests/support/fake_env.h"

namespace cmwq::test {
namespace {

class DelayedTest : public ::testing::Test {
 protected:
  void TearDown() override {
    wq::FlushWorkqueue(wq);
    e.Destroy(wq);
  }
  bool Pending(Item& item) {
    return (wq::WordOf(item.work()).load() & wq::Word::kPending) != 0;
  }
  Engine& e = Engine::Make(2);
  wq::Workqueue* const wq = e.Alloc();
};

TEST_F(DelayedTest, RunsWhenDueAndNotBefore) {
  Item item;
  EXPECT_TRUE(e.QueueDelayed(wq, item, 10));
  EXPECT_FALSE(e.QueueDelayed(wq, item, 1));
  EXPECT_FALSE(Engine::Queue(wq, item));
  e.Advance(9);
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 0);
  e.Advance(1);
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 1);
  EXPECT_FALSE(Pending(item));
}

TEST_F(DelayedTest, ZeroQueuesAtOnce) {
  Item item;
  EXPECT_TRUE(e.QueueDelayed(wq, item, 0));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 1);
}

TEST_F(DelayedTest, InOrderOfTheDelays) {
  Trace trace;
  Item a([&] { trace.Add("a"); }), b([&] { trace.Add("b"); }), c([&] { trace.Add("c"); });
  e.QueueDelayed(wq, c, 30);
  e.QueueDelayed(wq, a, 10);
  e.QueueDelayed(wq, b, 20);
  e.Advance(40);
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(trace.Text(), "a b c");
}

TEST_F(DelayedTest, ModEarlierAndLater) {
  Item item;
  EXPECT_FALSE(e.ModDelayed(wq, item, 100));
  EXPECT_TRUE(e.ModDelayed(wq, item, 10));
  e.Advance(10);
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 1);
  EXPECT_FALSE(e.ModDelayed(wq, item, 10));
  EXPECT_TRUE(e.ModDelayed(wq, item, 50));
  e.Advance(49);
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 1);
  EXPECT_TRUE(e.ModDelayed(wq, item, 0));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 2);
  e.Advance(100);
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 2);
}

// mod_delayed also takes an item back that is queued already.
TEST_F(DelayedTest, ModOfAQueuedItem) {
  Gate hold;
  Item busy([&] { hold.Wait(); }), item;
  ASSERT_TRUE(Engine::Queue(wq, busy));
  ASSERT_TRUE(Engine::Queue(wq, item));
  EXPECT_TRUE(e.ModDelayed(wq, item, 10));
  hold.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 0);
  e.Advance(10);
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 1);
}

TEST_F(DelayedTest, CancelAndFlush) {
  Item item;
  e.QueueDelayed(wq, item, 10);
  EXPECT_TRUE(e.Cancel(item));
  EXPECT_FALSE(e.Cancel(item));
  e.Advance(20);
  EXPECT_EQ(item.Runs(), 0);
  e.QueueDelayed(wq, item, 10);
  EXPECT_TRUE(e.CancelSync(item));
  e.QueueDelayed(wq, item, 10);
  // The result depends on who is faster: the worker may be through before the barrier is planted.
  e.FlushDelayed(item);
  EXPECT_EQ(item.Runs(), 1);
  EXPECT_FALSE(e.FlushDelayed(item));
  e.Advance(20);
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 1);
}

// The CPU belongs to the queueing that holds the item, not to one that was refused.
TEST_F(DelayedTest, ARefusedQueueingChangesNothing) {
  wq::Workqueue* const unbound = e.Alloc(CMWQ_UNBOUND);
  Item item;
  e.env.cpu = 1;
  ASSERT_TRUE(e.QueueDelayed(wq, item, 10));
  e.env.cpu = 0;
  EXPECT_FALSE(e.QueueDelayed(unbound, item, 20));
  EXPECT_FALSE(e.QueueDelayed(wq, item, 20));
  e.Advance(10);
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 1);
  EXPECT_EQ(e.Pool(1).Stats().executed, 1u);
  EXPECT_EQ(e.Pool(0).Stats().executed, 0u);
  e.Destroy(unbound);
}

TEST_F(DelayedTest, VeryLongDelays) {
  Item item;
  EXPECT_TRUE(wq::QueueDelayed(wq, 0, &item.d, ~uint64_t{0}, &e.events, &e.env));
  e.Advance(1000);
  EXPECT_TRUE(Pending(item));
  EXPECT_TRUE(e.Cancel(item));
}

// Timer, canceller and queuer race for the item: it is executed or cancelled, never lost.
TEST_F(DelayedTest, RaceOfTimerAndCancel) {
  uint64_t queued = 0, cancelled = 0;
  Item item;
  for (int i = 0; i < 2000; ++i) {
    if (e.QueueDelayed(wq, item, 1)) ++queued;
    std::atomic<bool> taken{false};
    std::thread canceller([&] { taken = e.CancelSync(item); });
    e.Advance(1);
    canceller.join();
    if (taken) ++cancelled;
    if (i % 100 == 0) wq::FlushWorkqueue(wq);
  }
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(queued, cancelled + static_cast<uint64_t>(item.Runs()));
}

}  // namespace
}  // namespace cmwq::test
