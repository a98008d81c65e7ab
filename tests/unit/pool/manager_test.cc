// The manager role: one spare always, creation that fails, cool-down, recovery. Time is the test's.

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/short_handed.h"
#include "tests/support/test_points.h"

namespace cmwq::test {
namespace {

bool LockIsFree(pool::WorkerPool& pool) {
  if (!pool.lock.TryLock()) return false;
  pool.lock.Unlock();
  return true;
}

TEST(Manager, TheFirstItemBringsOneWorkerAndASpare) {
  Engine& e = Engine::Make(1);
  wq::Workqueue* const wq = e.Alloc();
  Item item;
  ASSERT_TRUE(Engine::Queue(wq, item));
  Eventually([&] { return item.Runs() == 1; });
  Engine::WaitIdle(e.Pool());
  EXPECT_EQ(e.Pool().Stats().nr_workers, 2);
  EXPECT_EQ(e.env.creations, 2);
  EXPECT_EQ(e.Pool(0, true).Stats().nr_workers, 0);
  e.Destroy(wq);
}

// The lock is free and the predicates were asked under it; items of a reclaim queue go on, others wait
// for the recovery; attempts come one cool-down apart.
TEST(Manager, SeedDefect1CreationFailsSomeTimes) {
  for (int k = 1; k <= 5; ++k) {
    SCOPED_TRACE(k);
    ShortHanded s(k);
    const int attempts = s.e.env.creations;
    Item reclaim, plain;
    ASSERT_TRUE(Engine::Queue(s.reclaim, reclaim));
    ASSERT_TRUE(Engine::Queue(s.plain, plain));
    Eventually([&] { return LockIsFree(s.e.Pool()); });  // whoever blocked last may be in it
    s.e.Advance(10);
    Eventually([&] { return reclaim.Runs() == 1; });
    EXPECT_EQ(s.e.env.creations, attempts);
    for (int retry = 1; retry < k; ++retry) {
      s.e.Advance(retry == 1 ? 999 : 899);
      EXPECT_EQ(s.e.env.creations, attempts + retry - 1);
      s.e.Advance(101);
      EXPECT_EQ(s.e.env.creations, attempts + retry);
    }
    EXPECT_EQ(plain.Runs(), 0);
    s.e.Advance(1100);
    EXPECT_EQ(s.e.Pool().Stats().create_failures, static_cast<uint64_t>(k));
    Eventually([&] { return plain.Runs() == 1; });
    Eventually([&] { return !PoolTestPeer::Managing(s.e.Pool()); });  // a worker makes its spare
    s.e.Pool().CheckInvariants();
  }
}

// A worker that finds itself the last idle one makes a spare first, also if somebody else has begun to
// run meanwhile and would make "is one more needed" false.
TEST(Manager, SeedDefect2LastIdleWorkerManagesFirst) {
  if (!kHaveTestPoints) GTEST_SKIP() << "needs CMWQ_TEST_POINTS";
  Engine& e = Engine::Make(1);
  wq::Workqueue* const wq = e.Alloc();
  Gate wake, finish, silent;
  Trace trace;
  Item first([&] {
    wake.WaitAnnounced();
    trace.Add("first-runs");
    silent.Open();
    finish.Wait();
    trace.Add("first-ends");
  });
  Item second([&] { trace.Add("second"); });
  ASSERT_TRUE(Engine::Queue(wq, first));
  Eventually([&] { return e.Pool().Stats().sleeps == 1 && e.Pool().Stats().nr_running == 0; });
  Eventually([&] { return e.Pool().Stats().nr_idle == 1; });
  const int workers = e.Pool().Stats().nr_workers;
  {
    AtTestPoint between("manager.create", [&] {
      wake.Open();  // nr_running rises to one between the two questions
      silent.Wait();
    });
    ASSERT_TRUE(Engine::Queue(wq, second));
    Eventually([&] { return e.Pool().Stats().nr_workers == workers + 1; });
    Eventually([&] { return e.Pool().Stats().nr_idle == 2; });
  }
  EXPECT_EQ(second.Runs(), 0);
  finish.Open();
  Eventually([&] { return second.Runs() == 1; });
  EXPECT_EQ(trace.Text(), "first-runs first-ends second");
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

// The creator of the first worker is no worker itself. If its role outlived the creation, that worker
// could start without a spare and block, and nobody would make the next one.
TEST(Manager, TheRoleOfGoLiveEndsWithTheCreation) {
  if (!kHaveTestPoints) GTEST_SKIP() << "needs CMWQ_TEST_POINTS";
  Engine& e = Engine::Make(1);
  wq::Workqueue* const wq = e.Alloc();
  Gate created, go_on, first_done;
  Item opener, waits([&] { first_done.WaitAnnounced(); }), opens([&] { first_done.Open(); });
  // The new worker may be faster: it makes the next one, and must not be held for that.
  AtTestPoint pause("manager.created", [&] {
    created.Open();
    go_on.Wait();
  }, [] { return pool::CurrentWorker() == nullptr; });
  std::thread starter([&] { Engine::Queue(wq, opener); });
  created.Wait();
  ASSERT_TRUE(Engine::Queue(wq, waits));
  ASSERT_TRUE(Engine::Queue(wq, opens));
  Eventually([&] { return waits.Runs() == 1; });
  go_on.Open();
  starter.join();
  Eventually([&] { return opener.Runs() == 1; });
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

TEST(Manager, TheRoleOfTheEventThreadEndsWithTheCreation) {
  if (!kHaveTestPoints) GTEST_SKIP() << "needs CMWQ_TEST_POINTS";
  ShortHanded s(1);
  Gate created, go_on, first_done;
  Item waits([&] { first_done.WaitAnnounced(); }), opens([&] { first_done.Open(); });
  ASSERT_TRUE(Engine::Queue(s.plain, waits));
  ASSERT_TRUE(Engine::Queue(s.plain, opens));
  // The new worker may be faster: it makes the next one, and must not be held for that.
  AtTestPoint pause("manager.created", [&] {
    created.Open();
    go_on.Wait();
  }, [] { return pool::CurrentWorker() == nullptr; });
  std::thread events([&] { s.e.Advance(1200); });
  created.Wait();
  Eventually([&] { return waits.Runs() == 1; });
  go_on.Open();
  events.join();
  Eventually([&] { return opens.Runs() == 1; });
}

TEST(Manager, NoCreationDuringTheCoolDown) {
  ShortHanded s(INT_MAX);
  const int attempts = s.e.env.creations;
  // The worker comes back, relieves the event thread, and is needed again.
  s.e.Advance(5);
  EXPECT_EQ(s.e.env.creations, attempts);
  s.e.Advance(994);
  EXPECT_EQ(s.e.env.creations, attempts);
  s.e.Advance(100);
  EXPECT_EQ(s.e.env.creations, attempts + 1);
}

TEST(Manager, NotOneWorkerFromTheStart) {
  Engine& e = Engine::Make(1);
  wq::Workqueue* const plain = e.Alloc();
  wq::Workqueue* const reclaim = e.Alloc(CMWQ_MEM_RECLAIM);
  e.env.fail_next = INT_MAX;
  Item a, b, c;
  ASSERT_TRUE(Engine::Queue(plain, a));
  ASSERT_TRUE(Engine::Queue(reclaim, b));
  ASSERT_TRUE(Engine::Queue(reclaim, c));
  e.Advance(10);
  Eventually([&] { return b.Runs() == 1 && c.Runs() == 1; });
  EXPECT_EQ(a.Runs(), 0);
  e.env.fail_next = 0;
  e.Advance(1100);
  Eventually([&] { return a.Runs() == 1; });
  Engine::WaitIdle(e.Pool());
  e.Destroy(plain);
  e.Destroy(reclaim);
}

TEST(Manager, MaxWorkersIsAHardCap) {
  Engine& e = Engine::Make(1, [](base::Conf* conf) { conf->max_workers = 3; });
  wq::Workqueue* const wq = e.Alloc();
  std::atomic<int> started{0};
  Gate gates[6];
  std::vector<Item*> items;
  for (Gate& gate : gates) {
    items.push_back(new Item([&started, &gate] {
      started.fetch_add(1);
      gate.WaitAnnounced();
    }));
    ASSERT_TRUE(Engine::Queue(wq, *items.back()));
  }
  Eventually([&] { return started == 3; });
  e.Advance(5000);
  EXPECT_EQ(e.Pool().Stats().nr_workers, 3);
  EXPECT_GE(e.Pool().Stats().create_failures, 1u);
  EXPECT_EQ(started, 3);
  gates[1].Open();
  Eventually([&] { return started == 4; });
  for (Gate& gate : gates) gate.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(started, 6);
  EXPECT_EQ(e.Pool().Stats().nr_workers, 3);
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
  for (Item* const item : items) delete item;
}

// No item is lost, whatever the pattern of failures.
TEST(Manager, SweepOfFailures) {
  for (int after = 0; after < 6; ++after) {
    SCOPED_TRACE(after);
    Engine& e = Engine::Make(1);
    wq::Workqueue* const wq = e.Alloc();
    std::vector<Item*> items;
    Gate gate;
    for (int i = 0; i < 8; ++i) items.push_back(new Item([&gate] { gate.WaitAnnounced(); }));
    Item opener([&gate] { gate.Open(); });
    int queued = 0;
    for (Item* const item : items) {
      if (queued++ == after) e.env.fail_next = 3;
      ASSERT_TRUE(Engine::Queue(wq, *item));
    }
    ASSERT_TRUE(Engine::Queue(wq, opener));
    Eventually([&] {
      e.Advance(10);
      return opener.Runs() == 1;
    });
    wq::FlushWorkqueue(wq);
    for (Item* const item : items) EXPECT_EQ(item->Runs(), 1);
    Engine::WaitIdle(e.Pool());
    e.Destroy(wq);
    for (Item* const item : items) delete item;
  }
}

}  // namespace
}  // namespace cmwq::test
