// Who starts, who manages, who is let go. The numbers are those of README.md.

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/short_handed.h"
#include "tests/unit/scenarios/scenario.h"

namespace cmwq::test {
namespace {

// 1: a worker comes back from a block while the last idle one decides; that one makes a spare before it
// executes, and items that wait for each other do not deadlock.
TEST(PoolScenario, Scenario01AsyncBumpSendsOffLastIdle) {
  CMWQ_NEEDS_TEST_POINTS();
  Engine& e = Engine::Make(1);
  wq::Workqueue* const wq = e.Alloc();
  Gate wake, awake, decided, second_done, third_done;
  std::atomic<bool> started{false};
  Item first([&] {
    wake.WaitAnnounced();
    awake.Open();
    decided.Wait();  // counts as running
    second_done.WaitAnnounced();
  });
  Item second([&] {
    started = true;
    // There is a spare, or a manager who makes one and is idle after that.
    Eventually([&] { return e.Pool().Stats().nr_idle >= 1; });
    third_done.WaitAnnounced();
    second_done.Open();
  });
  Item third([&] { third_done.Open(); });
  ASSERT_TRUE(Engine::Queue(wq, first));
  Eventually([&] {
    const pool::PoolStats s = e.Pool().Stats();
    return s.sleeps == 1 && s.nr_running == 0 && s.nr_idle == 1;
  });
  {
    // Under the lock, between "is one more needed" and "may it start".
    AtTestPoint between("worker.may_start", [&] {
      wake.Open();
      awake.Wait();
    });
    ASSERT_TRUE(Engine::Queue(wq, second));
    awake.Wait();
    ASSERT_TRUE(Engine::Queue(wq, third));
    // `first` counts again: either the spare was made before that was seen, or there is no need of one and
    // whoever asked is idle again (CreationDelay).
    Eventually([&] {
      const pool::PoolStats s = e.Pool().Stats();
      return s.nr_workers == 3 || s.avoided > 0 || started;
    });
    decided.Open();
    WaitRuns(first, 1);
  }
  WaitRuns(second, 1);
  WaitRuns(third, 1);
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

// 2: while somebody who is no worker of the pool has the manager role, idle workers may all start; the
// role ends only together with a new idle worker, so one is left whatever they wait for.
TEST(PoolScenario, Scenario02ManagerRoleHeldByAnother) {
  CMWQ_NEEDS_TEST_POINTS();
  ShortHanded s(1);
  Gate holding, go_on, b_done, c_done;
  std::atomic<int> started{0};
  Item a([&] {
    started.fetch_add(1);
    b_done.WaitAnnounced();
  });
  Item b([&] {
    started.fetch_add(1);
    c_done.WaitAnnounced();
    b_done.Open();
  });
  Item c([&] { c_done.Open(); });
  AtTestPoint hold("manager.create", [&] {
    holding.Open();
    go_on.Wait();
  });
  Item plain;  // what the creation is for
  ASSERT_TRUE(Engine::Queue(s.plain, plain));
  std::thread events([&] { s.e.Advance(1200); });
  holding.Wait();
  EXPECT_TRUE(PoolTestPeer::Managing(s.e.Pool()));
  // Both workers come back and go idle, the role stays where it is.
  s.release.Open();
  for (Item* const item : s.blocked) WaitRuns(*item, 1);
  WaitRuns(plain, 1);
  Eventually([&] { return s.e.Pool().Stats().nr_idle == 2; });
  ASSERT_TRUE(Engine::Queue(s.plain, a));
  ASSERT_TRUE(Engine::Queue(s.plain, b));
  Eventually([&] { return started == 2; });
  EXPECT_EQ(s.e.Pool().Stats().nr_idle, 0);
  ASSERT_TRUE(Engine::Queue(s.plain, c));
  EXPECT_EQ(c.Runs(), 0);
  go_on.Open();
  events.join();
  WaitRuns(a, 1);
  Eventually([&] { return !PoolTestPeer::Managing(s.e.Pool()); });
}

// 2, with the trustee, which takes the role when the CPU leaves: all workers start, and by the time that
// the role is given back somebody has made another one.
TEST(PoolScenario, Scenario02TheTrusteeHasTheRole) {
  Engine& e = Engine::Make(2);
  wq::Workqueue* const wq = e.Alloc();
  Item warm;
  ASSERT_TRUE(Engine::Queue(wq, warm, 1));
  WaitRuns(warm, 1);
  Engine::WaitIdle(e.Pool(1));
  ASSERT_EQ(e.Pool(1).Stats().nr_workers, 2);
  ASSERT_EQ(e.Cpus("0"), 0);
  EXPECT_TRUE(PoolTestPeer::Managing(e.Pool(1)));
  EXPECT_EQ(PoolTestPeer::State(e.Pool(1)), pool::TrusteeState::kStart);
  // Items that were on their way to that CPU; each waits for the next.
  Gate b_done, c_done;
  std::atomic<int> started{0};
  Item a([&] {
    started.fetch_add(1);
    b_done.WaitAnnounced();
  });
  Item b([&] {
    started.fetch_add(1);
    c_done.WaitAnnounced();
    b_done.Open();
  });
  Item c([&] { c_done.Open(); });
  ASSERT_TRUE(Engine::Queue(wq, a, 1));
  ASSERT_TRUE(Engine::Queue(wq, b, 1));
  Eventually([&] { return started == 2; });
  EXPECT_EQ(e.Pool(1).Stats().nr_idle, 0);
  ASSERT_TRUE(Engine::Queue(wq, c, 1));
  // Not even the CPU's return makes it forget that others rely on it.
  ASSERT_EQ(e.Cpus("0-1"), 0);
  EXPECT_TRUE(PoolTestPeer::Managing(e.Pool(1)));
  EXPECT_EQ(c.Runs(), 0);
  e.Advance(1);
  WaitRuns(a, 1);
  EXPECT_FALSE(PoolTestPeer::Managing(e.Pool(1)));
  Engine::WaitIdle(e.Pool(1));
  e.Destroy(wq);
}

// 5: two CPUs leave at once; work behind the busy worker of the first starts at once, although the second
// cannot be left before that work has been done.
TEST(PoolScenario, Scenario05EachPoolIsKickedAfterItsSwitch) {
  Engine& e = Engine::Make(3);
  wq::Workqueue* const wq = e.Alloc();
  // A has workers enough: it must not need a manager itself.
  Held warm[2];
  for (Held& h : warm) {
    ASSERT_TRUE(Engine::Queue(wq, h.item, 0));
    h.started.Wait();
  }
  for (Held& h : warm) h.end.Open();
  Eventually([&] { return e.Pool(0).Stats().nr_idle == 3; });
  Gate a_started, a_end, memory;
  Item a_busy([&] {
    a_started.Open();
    a_end.Wait();  // silent: counts as running
  });
  Item a_frees([&] { memory.Open(); });
  ASSERT_TRUE(Engine::Queue(wq, a_busy, 0));
  a_started.Wait();
  // A worker of B cannot be moved before A's pending item has freed something.
  std::atomic<int> b_tid{0};
  Item b_item([&] { b_tid = base::Tid(); });
  ASSERT_TRUE(Engine::Queue(wq, b_item, 1));
  WaitRuns(b_item, 1);
  e.env.on_place = [&](int tid, const platform::CpuSet&) {
    if (tid == b_tid) memory.Wait();
    return 0;
  };
  ASSERT_TRUE(Engine::Queue(wq, a_frees, 0));
  EXPECT_EQ(a_frees.Runs(), 0);
  ASSERT_EQ(e.Cpus("2"), 0);
  WaitRuns(a_frees, 1);
  EXPECT_EQ(PoolTestPeer::RawRunning(e.Pool(0)), 0);
  e.env.on_place = nullptr;
  a_end.Open();
  WaitRuns(a_busy, 1);
  Engine::WaitIdle(e.Pool(0));
  Engine::WaitIdle(e.Pool(1));
  e.Destroy(wq);
}

// 24: the pool flips around "too many idle" every millisecond for longer than the time-out; the timer is
// armed once and not moved, one worker goes, which never is one that just got work.
TEST(PoolScenario, Scenario24CullingDuringOscillation) {
  constexpr int kTimeoutMs = 200, kBusy = 4;
  Engine& e = Engine::Make(1, [](base::Conf* conf) { conf->idle_timeout_ms = kTimeoutMs; });
  wq::Workqueue* const wq = e.Alloc();
  Held held[kBusy + 2];
  for (Held& h : held) {
    ASSERT_TRUE(Engine::Queue(wq, h.item));
    h.started.Wait();
  }
  Eventually([&] { return e.Pool().Stats().nr_idle == 1; });
  e.Advance(10);
  // Two go idle: 3 idle and 4 busy are one too many, 2 and 5 are not.
  for (int i = kBusy; i < kBusy + 2; ++i) {
    held[i].end.Open();
    Eventually([&] { return e.Pool().Stats().nr_idle == i - kBusy + 2; });
  }
  Eventually([&] { return PoolTestPeer::CullDue(e.Pool()) != base::kNever; });
  const uint64_t due = PoolTestPeer::CullDue(e.Pool());
  EXPECT_EQ(due, e.env.NowNs() + kTimeoutMs * base::kNsPerMs);
  Item* flips[2 * kTimeoutMs] = {};
  for (int ms = 0; ms < 2 * kTimeoutMs; ++ms) {
    const int idle = e.Pool().Stats().nr_idle;
    Gate started, end;
    flips[ms] = new Item([&] {
      started.Open();
      end.WaitAnnounced();
    });
    ASSERT_TRUE(Engine::Queue(wq, *flips[ms]));
    started.Wait();
    Eventually([&] { return e.Pool().Stats().nr_idle == idle - 1; });
    EXPECT_EQ(PoolTestPeer::CullDue(e.Pool()), ms < kTimeoutMs ? due : base::kNever) << ms;
    end.Open();
    WaitRuns(*flips[ms], 1);
    Eventually([&] { return e.Pool().Stats().nr_idle == idle; });
    e.Advance(1);
    EXPECT_EQ(e.Pool().Stats().destroyed, ms < kTimeoutMs - 1 ? 0u : 1u) << ms;
  }
  EXPECT_EQ(e.Pool().Stats().nr_idle, 2);
  EXPECT_EQ(e.Pool().Stats().nr_workers, kBusy + 2);
  for (Held& h : held) h.end.Open();
  wq::FlushWorkqueue(wq);
  for (Item* const item : flips) {
    EXPECT_EQ(item->Runs(), 1);
    delete item;
  }
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

// 25: whoever lists or looks up workers from outside may meet one that is being culled; its object stays
// usable and belongs to the pool for ever.
TEST(PoolScenario, Scenario25ListingWhileWorkersDie) {
  constexpr int kTimeoutMs = 20, kWorkers = 12;
  Engine& e = Engine::Make(1, [](base::Conf* conf) { conf->idle_timeout_ms = kTimeoutMs; });
  wq::Workqueue* const wq = e.Alloc();
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> looks{0};
  std::thread lister([&] {
    pool::Suspect suspects[64];
    while (!stop) {
      const int n = e.Pool().ListSuspects(suspects, 64);
      for (int i = 0; i < n; ++i) EXPECT_LT(suspects[i].slot, 64);  // some may still be retiring
      e.Pool().Nudge();
      e.Pool().CheckInvariants();
      looks.fetch_add(1);
    }
  });
  uint64_t destroyed = 0;
  for (int round = 0; round < 10; ++round) {
    std::vector<std::unique_ptr<Held>> held;
    for (int i = 0; i < kWorkers; ++i) {
      held.push_back(std::make_unique<Held>());
      ASSERT_TRUE(Engine::Queue(wq, held.back()->item));
    }
    for (const auto& h : held) h->started.Wait();
    for (const auto& h : held) h->end.Open();
    wq::FlushWorkqueue(wq);
    const uint64_t seen = looks;
    // Culled while the lister is at it; nudges make workers young again, so several rounds of time.
    Eventually([&] {
      e.Advance(kTimeoutMs);
      return e.Pool().Stats().destroyed > destroyed && looks > seen;
    });
    destroyed = e.Pool().Stats().destroyed;
  }
  stop = true;
  lister.join();
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

// 34: an item that queues itself for ever takes turns with what else is pending on its CPU, in order, and
// a drain ends when it stops.
TEST(PoolScenario, Scenario34SelfRequeueingItemTakesTurns) {
  Engine& e = Engine::Make(1);
  wq::Workqueue* const wq = e.Alloc();
  Trace trace;
  std::atomic<bool> stop{false};
  Item* self = nullptr;
  Item endless([&] {
    if (self->Runs() < 3) trace.Add("self");
    if (stop) return;
    EXPECT_TRUE(Engine::Queue(wq, *self));
  });
  self = &endless;
  Gate go;
  Item first([&] { go.Wait(); });  // silent: what is queued meanwhile stays in order
  Named others(&trace, 5);
  ASSERT_TRUE(Engine::Queue(wq, first));
  ASSERT_TRUE(Engine::Queue(wq, endless));
  others.Queue(wq);
  go.Open();
  WaitRuns(endless, 100);
  EXPECT_EQ(trace.Text(), "self 0 1 2 3 4 self self");
  // Still fair, and the queue can be flushed although it is never empty.
  Item later;
  ASSERT_TRUE(Engine::Queue(wq, later));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(later.Runs(), 1);
  std::atomic<bool> drained{false};
  std::thread drainer([&] {
    wq::DrainWorkqueue(wq);
    drained = true;
  });
  Eventually([&] { return wq->nr_drainers == 1; });
  const int runs = endless.Runs();
  WaitRuns(endless, runs + 100);  // chained queueing is accepted meanwhile
  EXPECT_FALSE(drained);
  stop = true;
  drainer.join();
  EXPECT_FALSE(Pending(endless));
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

// 44: some items in flight, whatever they do, need so many workers and the reserve (the manager and its
// spare), also where workers cannot be placed on their CPU.
TEST(PoolScenario, Scenario44NoSurplusWorkers) {
  constexpr int kInFlight = 8;
  for (const int bind_result : {0, -EINVAL}) {
    Engine& e = Engine::Make(2);
    e.env.bind_result = bind_result;
    wq::Workqueue* const wq = e.Alloc();
    std::vector<std::unique_ptr<Item>> items;
    for (int i = 0; i < kInFlight; ++i) {
      items.push_back(std::make_unique<Item>([] {
        for (int block = 0; block < 3; ++block) {
          cmwq_block_begin();
          base::SchedYield();
          cmwq_block_end();
        }
      }));
    }
    for (int round = 0; round < 200; ++round) {
      for (const auto& item : items) Engine::Queue(wq, *item, 0);
    }
    wq::FlushWorkqueue(wq);
    EXPECT_LE(e.Pool(0).Stats().peak_workers, static_cast<uint64_t>(kInFlight) + 2);
    EXPECT_EQ(e.Pool(1).Stats().peak_workers, 0u);
    Engine::WaitIdle(e.Pool(0));
    e.Destroy(wq);
  }
}

// 46: an item of a bound queue is executed by the pool of the CPU that it was queued on, and nowhere else.
TEST(PoolScenario, Scenario46BoundItemsUseTheirCpu) {
  constexpr int kCpus = 4;
  Engine& e = Engine::Make(kCpus);
  wq::Workqueue* const wq = e.Alloc();
  for (int cpu = 0; cpu < kCpus; ++cpu) {
    pool::WorkerPool* pool = nullptr;
    Item item([&] { pool = pool::CurrentWorker()->pool; });
    ASSERT_TRUE(Engine::Queue(wq, item, cpu));
    WaitRuns(item, 1);
    EXPECT_EQ(pool, &e.Pool(cpu));
    // Behind a timer as well: the CPU of the caller counts, not that of the timer's thread.
    e.env.cpu = cpu;
    ASSERT_TRUE(e.QueueDelayed(wq, item, 1));
    e.env.cpu = (cpu + 1) % kCpus;
    e.Advance(1);
    WaitRuns(item, 2);
    EXPECT_EQ(pool, &e.Pool(cpu));
  }
  for (int cpu = 0; cpu < kCpus; ++cpu) Engine::WaitIdle(e.Pool(cpu));
  e.Destroy(wq);
}

}  // namespace
}  // namespace cmwq::test
