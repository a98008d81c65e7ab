// Rescuers: what they serve, when they are called, when they leave. Time is the test's.

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/short_handed.h"

namespace cmwq::test {
namespace {

uint64_t Maydays(ShortHanded& s) { return s.e.Pool().Stats().maydays; }

// One item at a time: a slow one does not take the quick ones behind it along. When a worker can be made
// again, that one serves the rest.
TEST(Rescuer, SeedDefect3NoHeadOfLineBlocking) {
  ShortHanded s(INT_MAX);
  Gate slow_started, slow;
  Item first([&] {
    slow_started.Open();
    slow.WaitAnnounced();
  });
  std::vector<Item*> quick;
  ASSERT_TRUE(Engine::Queue(s.reclaim, first));
  for (int i = 0; i < 50; ++i) {
    quick.push_back(new Item);
    ASSERT_TRUE(Engine::Queue(s.reclaim, *quick.back()));
  }
  s.e.Advance(10);
  slow_started.Wait();
  for (Item* const item : quick) EXPECT_EQ(item->Runs(), 0);
  s.e.env.fail_next = 0;
  s.e.Advance(1100);
  for (Item* const item : quick) {
    Eventually([item] { return item->Runs() == 1; });
  }
  EXPECT_EQ(first.Runs(), 0);
  EXPECT_EQ(s.reclaim->rescuer->rescued(), 0u);  // still at its first item
  slow.Open();
  wq::FlushWorkqueue(s.reclaim);
  for (Item* const item : quick) delete item;
}

// max_active 1: the next item becomes active when the one before it is done, and the same call serves
// it. One mayday per item would be ten items a second.
TEST(Rescuer, SeedDefect4OneCallServesAChainOfActivations) {
  ShortHanded s(INT_MAX);
  wq::Workqueue* const narrow = s.e.Alloc(CMWQ_MEM_RECLAIM | CMWQ_FREEZABLE, 1);
  EXPECT_EQ(narrow, nullptr) << "its rescuer cannot be made now";
  s.e.env.fail_next = 0;
  wq::Workqueue* const one = s.e.Alloc(CMWQ_MEM_RECLAIM, 1);
  ASSERT_NE(one, nullptr);
  s.e.env.fail_next = INT_MAX;
  std::vector<Item*> items;
  for (int i = 0; i < 1000; ++i) {
    items.push_back(new Item);
    ASSERT_TRUE(Engine::Queue(one, *items.back()));
  }
  s.e.Advance(10);
  for (Item* const item : items) {
    Eventually([item] { return item->Runs() == 1; });
  }
  EXPECT_EQ(Maydays(s), 1u);
  s.e.Destroy(one);
  for (Item* const item : items) delete item;
}

// A rescuer leaves when it is no longer needed, and sees to it that somebody goes on with what is left.
TEST(Rescuer, SeedDefect5WakesAWorkerWhenItLeaves) {
  ShortHanded s(INT_MAX);
  Gate started, go_on;
  Item rescued([&] {
    started.Open();
    go_on.Wait();
  });
  Item left;
  ASSERT_TRUE(Engine::Queue(s.reclaim, rescued));
  s.e.Advance(10);
  started.Wait();
  // A worker comes back from its block and goes idle while nothing is pending.
  s.release.Open();
  for (Item* const item : s.blocked) {
    Eventually([item] { return item->Runs() == 1; });
  }
  Eventually([&] { return s.e.Pool().Stats().nr_idle > 0; });
  ASSERT_TRUE(Engine::Queue(s.plain, left));
  go_on.Open();
  Eventually([&] { return left.Runs() == 1; });
  wq::FlushWorkqueue(s.reclaim);
}

// The CPU may be gone: a rescuer that cannot go there serves from where it is.
TEST(Rescuer, SeedDefect6BindingNeverLoops) {
  ShortHanded s(INT_MAX);
  s.e.env.bind_result = -EINVAL;
  const int binds = s.e.env.binds;
  Item item;
  ASSERT_TRUE(Engine::Queue(s.reclaim, item));
  s.e.Advance(10);
  Eventually([&] { return item.Runs() == 1; });
  EXPECT_EQ(s.e.env.binds, binds + 1);
  s.e.env.bind_result = 0;
}

// Destroying the queue ends the thread and frees the object (the leak checker looks at the latter).
TEST(Rescuer, SeedDefect7EndsWithItsQueue) {
  Engine& e = Engine::Make(1);
  for (int i = 0; i < 20; ++i) {
    wq::Workqueue* const wq = e.Alloc(CMWQ_MEM_RECLAIM);
    ASSERT_NE(wq, nullptr);
    EXPECT_EQ(e.env.creations, i + 1);
    e.Destroy(wq);  // joins
  }
}

// One queue per call, each with a rescuer of its own that stays in its item: every call is seen once.
TEST(Rescuer, SeedDefect8FirstCallAfter10MsThenEach100Ms) {
  constexpr int kCalls = 8;
  ShortHanded s(INT_MAX);
  s.e.env.fail_next = 0;
  std::vector<wq::Workqueue*> queues;
  for (int i = 0; i < kCalls; ++i) queues.push_back(s.e.Alloc(CMWQ_MEM_RECLAIM));
  s.e.env.fail_next = INT_MAX;
  Gate gate;
  std::vector<Item*> items;
  for (int call = 0; call < kCalls; ++call) {
    items.push_back(new Item([&gate] { gate.Wait(); }));
    ASSERT_TRUE(Engine::Queue(queues[call], *items.back()));
    s.e.Advance(call == 0 ? 9 : 99);
    EXPECT_EQ(Maydays(s), static_cast<uint64_t>(call));
    s.e.Advance(1);
    EXPECT_EQ(Maydays(s), static_cast<uint64_t>(call) + 1);
    Eventually([&] { return PoolTestPeer::Pending(s.e.Pool()) == 0; });
  }
  gate.Open();
  for (wq::Workqueue* const wq : queues) s.e.Destroy(wq);
  for (Item* const item : items) delete item;
}

TEST(Rescuer, PlainItemsWaitForWorkers) {
  ShortHanded s(INT_MAX);
  Item plain, reclaim;
  ASSERT_TRUE(Engine::Queue(s.plain, plain));
  ASSERT_TRUE(Engine::Queue(s.reclaim, reclaim));
  s.e.Advance(900);
  Eventually([&] { return reclaim.Runs() == 1; });
  EXPECT_EQ(plain.Runs(), 0);
  s.release.Open();
  Eventually([&] { return plain.Runs() == 1; });
}

// Two queues in distress, more than a batch each: neither starves, everything is served.
TEST(Rescuer, TwoCpusInDistressTakeTurns) {
  Engine& e = Engine::Make(2);
  wq::Workqueue* const reclaim = e.Alloc(CMWQ_MEM_RECLAIM);
  e.env.fail_next = INT_MAX;
  std::vector<Item*> items;
  Trace trace;
  for (int i = 0; i < 80; ++i) {
    items.push_back(new Item([&trace, i] { trace.Add(i % 2 == 0 ? "0" : "1"); }));
    ASSERT_TRUE(Engine::Queue(reclaim, *items.back(), i % 2));
  }
  e.Advance(10);
  for (Item* const item : items) {
    Eventually([item] { return item->Runs() == 1; });
  }
  EXPECT_EQ(trace.Get().size(), 80u);
  e.env.fail_next = 0;
  e.Advance(1200);
  Engine::WaitIdle(e.Pool(0));
  Engine::WaitIdle(e.Pool(1));
  e.Destroy(reclaim);
  for (Item* const item : items) delete item;
}

// What a rescued item queues again while it runs is executed after it, not beside it.
TEST(Rescuer, RequeueOfARunningRescuedItem) {
  ShortHanded s(INT_MAX);
  Gate started, go_on;
  std::atomic<int> inside{0}, overlaps{0};
  Item item([&] {
    if (inside.fetch_add(1) != 0) overlaps.fetch_add(1);
    started.Open();
    go_on.Wait();
    inside.fetch_sub(1);
  });
  ASSERT_TRUE(Engine::Queue(s.reclaim, item));
  s.e.Advance(10);
  started.Wait();
  ASSERT_TRUE(Engine::Queue(s.reclaim, item));
  s.release.Open();  // workers are back and meet the item on the worklist
  Eventually([&] { return PoolTestPeer::Pending(s.e.Pool()) == 0; });
  go_on.Open();
  Eventually([&] { return item.Runs() == 2; });
  EXPECT_EQ(overlaps, 0);
}

TEST(Rescuer, FlushOfARescuedItem) {
  ShortHanded s(INT_MAX);
  Item item;
  ASSERT_TRUE(Engine::Queue(s.reclaim, item));
  std::thread flusher([&] {
    s.e.Flush(item);
    EXPECT_EQ(item.Runs(), 1);
  });
  Eventually([&] {
    s.e.Advance(1);
    return item.Runs() == 1;
  });
  std::atomic<bool> joined{false};
  std::thread clock([&] {
    while (!joined.load()) s.e.Advance(1), base::SchedYield();
  });
  flusher.join();
  joined = true;
  clock.join();
}

}  // namespace
}  // namespace cmwq::test
