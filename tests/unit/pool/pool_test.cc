// Concurrency management: who starts when. Blocks are announced; order comes from gates, not from time.

#include <gtest/gtest.h>

#include "tests/support/fake_env.h"
#include "tests/support/test_points.h"

namespace cmwq::test {
namespace {

class PoolTest : public ::testing::Test {
 protected:
  void TearDown() override {
    for (int cpu = 0; cpu < 2; ++cpu) {
      if (e.Pool(cpu).Stats().nr_workers > 0) Engine::WaitIdle(e.Pool(cpu));
    }
  }
  Engine& e = Engine::Make(2);
  Trace trace;
};

// Burn, sleep, burn: the three items of the kernel's documentation.
struct Burner {
  Burner(Trace* trace, const std::string& name, bool second_burn)
      : item([this, trace, name, second_burn] {
          trace->Add(name + "-burn");
          trace->Add(name + "-sleep");
          cmwq_block_begin();
          asleep.Open();
          wake.Wait();
          cmwq_block_end();
          if (second_burn) trace->Add(name + "-burn");
          trace->Add(name + "-end");
        }) {}
  Gate asleep, wake;
  Item item;
};

TEST_F(PoolTest, GoldenScenarioUnlimited) {
  wq::Workqueue* const wq = e.Alloc(0, 3);
  Burner w0(&trace, "w0", true), w1(&trace, "w1", false), w2(&trace, "w2", false);
  for (Burner* b : {&w0, &w1, &w2}) ASSERT_TRUE(Engine::Queue(wq, b->item));
  for (Burner* b : {&w0, &w1, &w2}) b->asleep.Wait();
  EXPECT_EQ(trace.Text(), "w0-burn w0-sleep w1-burn w1-sleep w2-burn w2-sleep");
  for (Burner* b : {&w0, &w1, &w2}) {
    b->wake.Open();
    Eventually([b] { return b->item.Runs() == 1; });
  }
  EXPECT_EQ(trace.Text(),
            "w0-burn w0-sleep w1-burn w1-sleep w2-burn w2-sleep w0-burn w0-end w1-end w2-end");
  EXPECT_LE(e.Pool().Stats().nr_workers, 4);  // three and the spare
  e.Destroy(wq);
}

TEST_F(PoolTest, GoldenScenarioTwoActive) {
  wq::Workqueue* const wq = e.Alloc(0, 2);
  Burner w0(&trace, "w0", true), w1(&trace, "w1", false), w2(&trace, "w2", false);
  for (Burner* b : {&w0, &w1, &w2}) ASSERT_TRUE(Engine::Queue(wq, b->item));
  w0.asleep.Wait();
  w1.asleep.Wait();
  EXPECT_EQ(trace.Text(), "w0-burn w0-sleep w1-burn w1-sleep");
  w0.wake.Open();
  w2.asleep.Wait();
  EXPECT_EQ(trace.Text(),
            "w0-burn w0-sleep w1-burn w1-sleep w0-burn w0-end w2-burn w2-sleep");
  w1.wake.Open();
  w2.wake.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_LE(e.Pool().Stats().nr_workers, 3);
  e.Destroy(wq);
}

TEST_F(PoolTest, GoldenScenarioOneActive) {
  wq::Workqueue* const wq = e.Alloc(0, 1);
  Burner w0(&trace, "w0", true), w1(&trace, "w1", false), w2(&trace, "w2", false);
  for (Burner* b : {&w0, &w1, &w2}) ASSERT_TRUE(Engine::Queue(wq, b->item));
  for (Burner* b : {&w0, &w1, &w2}) {
    b->asleep.Wait();
    b->wake.Open();
  }
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(trace.Text(),
            "w0-burn w0-sleep w0-burn w0-end w1-burn w1-sleep w1-end w2-burn w2-sleep w2-end");
  EXPECT_LE(e.Pool().Stats().nr_workers, 2);
  e.Destroy(wq);
}

// While one runs, the others wait, whatever idle workers there are.
TEST_F(PoolTest, OneRunsAtATime) {
  wq::Workqueue* const wq = e.Alloc();
  std::atomic<int> inside{0}, most{0};
  std::vector<Item*> items;
  for (int i = 0; i < 200; ++i) {
    items.push_back(new Item([&] {
      const int now = inside.fetch_add(1) + 1;
      if (now > most) most = now;
      base::SchedYield();
      inside.fetch_sub(1);
    }));
    ASSERT_TRUE(Engine::Queue(wq, *items.back()));
  }
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(most, 1);
  for (Item* const item : items) delete item;
  e.Destroy(wq);
}

// Whoever returns from a block goes on at once, also when another one runs by then.
TEST_F(PoolTest, AReturningWorkerIsNotHeld) {
  wq::Workqueue* const wq = e.Alloc();
  Gate wake, back, end;
  Item sleeper([&] {
    wake.WaitAnnounced();
    back.Open();
  });
  Item runner([&] {
    wake.Open();
    back.Wait();  // counts as running all the while
    end.Wait();
  });
  ASSERT_TRUE(Engine::Queue(wq, sleeper));
  ASSERT_TRUE(Engine::Queue(wq, runner));
  back.Wait();
  Eventually([&] { return sleeper.Runs() == 1; });
  EXPECT_EQ(runner.Runs(), 0);
  end.Open();
  wq::FlushWorkqueue(wq);
  e.Destroy(wq);
}

TEST_F(PoolTest, BlockingRegionsNest) {
  wq::Workqueue* const wq = e.Alloc();
  Gate go;
  Item outer([&] {
    cmwq_block_begin();
    cmwq_block_begin();
    cmwq_block_end();
    go.Wait();  // still inside the outer region
    cmwq_block_end();
  });
  Item inner([&] { go.Open(); });
  ASSERT_TRUE(Engine::Queue(wq, outer));
  ASSERT_TRUE(Engine::Queue(wq, inner));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(e.Pool().Stats().sleeps, 1u);
  e.Destroy(wq);
}

TEST_F(PoolTest, CpuIntensiveItemsLetOthersStart) {
  wq::Workqueue* const hogs = e.Alloc(CMWQ_CPU_INTENSIVE);
  wq::Workqueue* const wq = e.Alloc();
  Gate go;
  Item hog([&] { go.Wait(); }), plain([&] { go.Open(); });
  ASSERT_TRUE(Engine::Queue(hogs, hog));
  ASSERT_TRUE(Engine::Queue(wq, plain));
  wq::FlushWorkqueue(hogs);
  wq::FlushWorkqueue(wq);
  e.Destroy(hogs);
  e.Destroy(wq);
}

TEST_F(PoolTest, UnboundItemsRunBesideEachOther) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND, 8);
  std::atomic<int> inside{0};
  std::vector<Item*> items;
  for (int i = 0; i < 8; ++i) {
    items.push_back(new Item([&] {
      inside.fetch_add(1);
      Eventually([&] { return inside.load() == 8; });
    }));
    ASSERT_TRUE(Engine::Queue(wq, *items.back()));
  }
  wq::FlushWorkqueue(wq);
  for (Item* const item : items) delete item;
  Engine::WaitIdle(*wq->PwqFor(0)->pool);
  e.Destroy(wq);
}

TEST_F(PoolTest, HighPriorityHasItsOwnPool) {
  wq::Workqueue* const high = e.Alloc(CMWQ_HIGHPRI);
  wq::Workqueue* const wq = e.Alloc();
  Gate go;
  Item plain([&] { go.Wait(); }), urgent([&] { go.Open(); });
  ASSERT_TRUE(Engine::Queue(wq, plain));
  ASSERT_TRUE(Engine::Queue(high, urgent));
  wq::FlushWorkqueue(wq);
  wq::FlushWorkqueue(high);
  EXPECT_EQ(e.Pool(0, true).Stats().executed, 1u);
  e.Destroy(high);
  e.Destroy(wq);
}

// Queued again from anywhere while it runs: it follows the running execution on the same worker.
TEST_F(PoolTest, SeedDefect9NeverTwiceAtOnceAcrossCpus) {
  wq::Workqueue* const wq = e.Alloc();
  std::atomic<int> inside{0}, overlaps{0};
  Gate started, go;
  Item item([&] {
    if (inside.fetch_add(1) != 0) overlaps.fetch_add(1);
    started.Open();
    go.Wait();
    inside.fetch_sub(1);
  });
  ASSERT_TRUE(Engine::Queue(wq, item, 0));
  started.Wait();
  ASSERT_TRUE(Engine::Queue(wq, item, 1));
  EXPECT_FALSE(Engine::Queue(wq, item, 1));
  Item other;
  ASSERT_TRUE(Engine::Queue(wq, other, 1));
  Eventually([&] { return other.Runs() == 1; });
  EXPECT_EQ(item.Runs(), 0);
  go.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 2);
  EXPECT_EQ(overlaps, 0);
  EXPECT_EQ(e.Pool(0).Stats().executed, 2u);
  e.Destroy(wq);
}

// On the same CPU another worker meets the running item on the list and hands it over.
TEST_F(PoolTest, ACollidingItemGoesToItsWorker) {
  wq::Workqueue* const wq = e.Alloc();
  std::atomic<int> inside{0}, overlaps{0};
  Gate started, go;
  Item item([&] {
    if (inside.fetch_add(1) != 0) overlaps.fetch_add(1);
    started.Open();
    go.WaitAnnounced();
    inside.fetch_sub(1);
  });
  ASSERT_TRUE(Engine::Queue(wq, item));
  started.Wait();
  ASSERT_TRUE(Engine::Queue(wq, item));
  Eventually([&] { return PoolTestPeer::Pending(e.Pool()) == 0; });
  e.Pool().CheckInvariants();
  EXPECT_EQ(item.Runs(), 0);
  // There it can still be taken back, and queued once more.
  EXPECT_TRUE(e.Cancel(item));
  ASSERT_TRUE(Engine::Queue(wq, item));
  Eventually([&] { return PoolTestPeer::Pending(e.Pool()) == 0; });
  go.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 2);
  EXPECT_EQ(overlaps, 0);
  e.Destroy(wq);
}

// Flag edges against hooks: whatever the worker is doing, it is counted once or not at all.
TEST_F(PoolTest, SeedDefect10FlagEdgesBetweenHooks) {
  wq::Workqueue* const wq = e.Alloc();
  Gate started, asleep, wake, awake, end;
  pool::Worker* self = nullptr;
  Item item([&] {
    self = pool::CurrentWorker();
    started.Open();
    asleep.Wait();
    cmwq_block_begin();
    wake.Wait();
    cmwq_block_end();
    awake.Open();
    end.Wait();
  });
  ASSERT_TRUE(Engine::Queue(wq, item));
  started.Wait();
  using pool::WorkerFlag;
  EXPECT_EQ(PoolTestPeer::RawRunning(e.Pool()), 1);
  PoolTestPeer::SetFlags(e.Pool(), self, WorkerFlag::kUnbound);
  PoolTestPeer::SetFlags(e.Pool(), self, WorkerFlag::kUnbound);
  EXPECT_EQ(PoolTestPeer::RawRunning(e.Pool()), 0);
  asleep.Open();
  Eventually([&] { return e.Pool().Stats().sleeps == 1; });
  EXPECT_EQ(PoolTestPeer::RawRunning(e.Pool()), 0);
  PoolTestPeer::ReplaceFlags(e.Pool(), self, WorkerFlag::kUnbound, WorkerFlag::kRebound);
  EXPECT_EQ(PoolTestPeer::RawRunning(e.Pool()), 0);
  wake.Open();
  awake.Wait();
  EXPECT_EQ(PoolTestPeer::RawRunning(e.Pool()), 0);  // REBOUND until its next cycle
  end.Open();
  Eventually([&] { return item.Runs() == 1; });
  Engine::WaitIdle(e.Pool());
  EXPECT_EQ(PoolTestPeer::RawRunning(e.Pool()), 0);
  Item next;
  ASSERT_TRUE(Engine::Queue(wq, next));
  Eventually([&] { return next.Runs() == 1; });
  e.Destroy(wq);
}

// Unbound while an item runs: others need not wait for it any more.
TEST_F(PoolTest, AnUnboundWorkerLetsOthersStart) {
  wq::Workqueue* const wq = e.Alloc();
  Gate started, end;
  pool::Worker* self = nullptr;
  Item item([&] {
    self = pool::CurrentWorker();
    started.Open();
    end.Wait();
  });
  Item next([&] { end.Open(); });
  ASSERT_TRUE(Engine::Queue(wq, item));
  started.Wait();
  ASSERT_TRUE(Engine::Queue(wq, next));
  if (PoolTestPeer::SetFlags(e.Pool(), self, pool::WorkerFlag::kUnbound)) e.Pool().Kick();
  wq::FlushWorkqueue(wq);
  e.Destroy(wq);
}

// A wake-up meant for the thread that had a worker's object before it comes while the new one is not on
// the idle list yet.
TEST_F(PoolTest, AStaleWakeUpIsHarmless) {
  if (!kHaveTestPoints) GTEST_SKIP() << "needs CMWQ_TEST_POINTS";
  wq::Workqueue* const wq = e.Alloc();
  Gate woken;
  AtTestPoint point("worker.woken", [&] { woken.Open(); });
  e.env.after_create = [&](void* worker) {
    pool::WorkerPool::Wake(static_cast<pool::Worker*>(worker));
    woken.Wait();
    for (int i = 0; i < 100; ++i) base::SchedYield();  // let it look at the pool
  };
  Item item;
  ASSERT_TRUE(Engine::Queue(wq, item));
  Eventually([&] { return item.Runs() == 1; });
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

TEST_F(PoolTest, NudgesAtRandomAreHarmless) {
  wq::Workqueue* const wq = e.Alloc();
  for (int i = 0; i < 200; ++i) {
    Item item;
    ASSERT_TRUE(Engine::Queue(wq, item));
    e.Pool().Nudge();
    e.Pool().Nudge();
    Eventually([&] { return item.Runs() == 1; });
    e.Pool().CheckInvariants();
  }
  e.Destroy(wq);
}

// What a detector sees: nobody to watch, somebody silent, taken out and put back at the work boundary.
TEST_F(PoolTest, APresumedSleeperLetsTheNextStart) {
  wq::Workqueue* const wq = e.Alloc();
  Gate started, go;
  Item silent([&] {
    started.Open();
    go.Wait();
  });
  Item next([&] { go.Open(); });
  ASSERT_TRUE(Engine::Queue(wq, silent));
  started.Wait();
  Eventually([&] { return e.Pool().Stats().nr_idle > 0; });
  EXPECT_FALSE(PoolTestPeer::Wants(e.Pool()));
  ASSERT_TRUE(Engine::Queue(wq, next));
  EXPECT_TRUE(PoolTestPeer::Wants(e.Pool()));
  pool::Suspect suspects[4];
  ASSERT_EQ(e.Pool().ListSuspects(suspects, 4), 1);
  pool::Suspect stale = suspects[0];
  stale.word += 1u << 16;
  EXPECT_FALSE(e.Pool().Presume(stale));
  EXPECT_EQ(PoolTestPeer::RawRunning(e.Pool()), 1);
  EXPECT_TRUE(e.Pool().Presume(suspects[0]));
  EXPECT_FALSE(e.Pool().Presume(suspects[0]));
  wq::FlushWorkqueue(wq);
  Engine::WaitIdle(e.Pool());
  EXPECT_EQ(PoolTestPeer::RawRunning(e.Pool()), 0);
  EXPECT_EQ(e.Pool().Stats().presumed, 1u);
  e.Destroy(wq);
}

}  // namespace
}  // namespace cmwq::test
