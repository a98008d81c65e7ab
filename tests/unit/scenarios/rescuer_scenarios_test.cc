// No worker can be made: what rescuers do, when, and what happens when they leave.

#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <thread>

#include "tests/support/short_handed.h"
#include "tests/unit/scenarios/scenario.h"

namespace cmwq::test {
namespace {

using platform::CpuSet;

bool OnRescuer() { return pool::CurrentWorker()->is_rescuer; }

// 6: a slow item and 50 short ones on a reclaim queue, creation succeeds again a second later; the short
// ones finish on normal workers while the rescuer is still at the slow one.
TEST(RescuerScenario, Scenario06RescuerHeadOfLineBlocking) {
  ShortHanded s(INT_MAX);
  Gate slow_started, slow_end;
  bool slow_on_rescuer = false;
  std::atomic<int> on_rescuer{0}, done{0};
  Item slow([&] {
    slow_on_rescuer = OnRescuer();
    slow_started.Open();
    slow_end.WaitAnnounced();
  });
  ASSERT_TRUE(Engine::Queue(s.reclaim, slow));
  std::vector<std::unique_ptr<Item>> quick;
  for (int i = 0; i < 50; ++i) {
    quick.push_back(std::make_unique<Item>([&] {
      if (OnRescuer()) on_rescuer.fetch_add(1);
      done.fetch_add(1);
    }));
    ASSERT_TRUE(Engine::Queue(s.reclaim, *quick.back()));
  }
  s.e.Advance(10);
  slow_started.Wait();
  EXPECT_TRUE(slow_on_rescuer);
  s.e.Advance(800);
  EXPECT_EQ(done, 0);
  s.e.env.fail_next = 0;
  s.e.Advance(300);
  Eventually([&] { return done == 50; });
  EXPECT_EQ(on_rescuer, 0);
  EXPECT_EQ(slow.Runs(), 0);
  slow_end.Open();
  wq::FlushWorkqueue(s.reclaim);
}

// 7: max_active 1, 1000 items, no creation throughout; one call for help serves them all, for the next
// becomes active when the one before it is done.
TEST(RescuerScenario, Scenario07OneCallServesAllActivations) {
  ShortHanded s(INT_MAX);
  ASSERT_TRUE(wq::SetMaxActive(s.reclaim, 1));
  Trace trace;
  Named items(&trace, 1000);
  items.Queue(s.reclaim);
  EXPECT_EQ(NrInactive(s.reclaim), 999);
  s.e.Advance(10);
  items.WaitAll();
  EXPECT_EQ(s.e.Pool().Stats().maydays, 1u);
  Eventually([&] { return s.reclaim->rescuer->rescued() == 1000; });
  EXPECT_EQ(trace.Get().size(), 1000u);
}

// 8: while a manager still struggles the rescuer stays, also when a worker that is back makes the need
// flicker; no item waits for the next call.
TEST(RescuerScenario, Scenario08RescuerStaysWhileAManagerStruggles) {
  constexpr int kItems = 40;
  ShortHanded s(INT_MAX);
  Gate back, first_started, silent_end;
  // One of the blocked workers: it comes back and runs, without a word, during the first rescued item.
  Item returns([&] {
    back.Open();
    silent_end.Wait();
  });
  std::atomic<int> on_rescuer{0};
  Gate go_on;
  std::vector<std::unique_ptr<Item>> items;
  for (int i = 0; i < kItems; ++i) {
    items.push_back(std::make_unique<Item>([&, i] {
      if (OnRescuer()) on_rescuer.fetch_add(1);
      if (i == 0) {
        first_started.Open();
        go_on.Wait();
      }
    }));
    ASSERT_TRUE(Engine::Queue(s.reclaim, *items.back()));
  }
  s.e.Advance(10);
  first_started.Wait();
  wq::Pwq* const pwq = s.plain->PwqFor(0);
  {
    // To the head of the list: the returning workers take it first, and it keeps one of them running.
    ASSERT_TRUE(Engine::Queue(s.plain, returns));
    sync::MutexLock hold(pwq->pool->lock);
    base::ListUnlink(&returns.work()->entry_);
    base::ListInsertBefore(pwq->pool->worklist_head()->next, &returns.work()->entry_);
  }
  s.release.Open();
  back.Wait();
  for (Item* const item : s.blocked) WaitRuns(*item, 1);
  EXPECT_TRUE(PoolTestPeer::Managing(s.e.Pool()));
  EXPECT_GE(s.e.Pool().Stats().nr_running, 1);  // no creation is needed at this moment
  go_on.Open();
  for (const auto& item : items) WaitRuns(*item, 1);  // no further call: time stands still
  EXPECT_EQ(s.e.Pool().Stats().maydays, 1u);
  EXPECT_EQ(on_rescuer, kItems);
  silent_end.Open();
  WaitRuns(returns, 1);
}

// 8: two pools in distress with more than a batch each take turns, 16 items at a time.
TEST(RescuerScenario, Scenario08TwoPoolsInDistressAlternate) {
  constexpr int kEach = 40, kBatch = 16;
  Engine& e = Engine::Make(2);
  wq::Workqueue* const reclaim = e.Alloc(CMWQ_MEM_RECLAIM);
  e.env.fail_next = INT_MAX;
  Trace trace;
  Gate both_called;
  std::vector<std::unique_ptr<Item>> items;
  for (int i = 0; i < 2 * kEach; ++i) {
    const int cpu = i / kEach;
    items.push_back(std::make_unique<Item>([&, i, cpu] {
      trace.Add(std::to_string(cpu));
      if (i == 0) both_called.Wait();
    }));
    ASSERT_TRUE(Engine::Queue(reclaim, *items.back(), cpu));
  }
  e.Advance(10);
  Eventually([&] { return !trace.Get().empty(); });
  ASSERT_EQ(trace.Text(), "0");
  both_called.Open();
  for (const auto& item : items) WaitRuns(*item, 1);
  std::string expected;
  for (int left = kEach; left > 0; left -= kBatch) {
    for (const char* cpu : {"0", "1"}) {
      for (int i = 0; i < (left < kBatch ? left : kBatch); ++i) {
        expected += (expected.empty() ? "" : " ") + std::string(cpu);
      }
    }
  }
  EXPECT_EQ(trace.Text(), expected);
  e.env.fail_next = 0;
  e.Advance(1200);
  Engine::WaitIdle(e.Pool(0));
  Engine::WaitIdle(e.Pool(1));
  e.Destroy(reclaim);
}

// 26: the first k creations fail; the lock is balanced, calls for help come at 10 ms and then each 100,
// attempts one second apart, plain items run after the recovery.
TEST(RescuerScenario, Scenario26CreationFailsSomeTimes) {
  constexpr uint64_t kFirstCall = 10, kNextCall = 100, kCoolDown = 1000;
  for (int k = 1; k <= 5; ++k) {
    SCOPED_TRACE(k);
    ShortHanded s(k);
    const int attempts = s.e.env.creations;
    // Served at once each time, so that every call is seen.
    std::vector<std::unique_ptr<Item>> reclaim;
    Item plain;
    ASSERT_TRUE(Engine::Queue(s.plain, plain));
    uint64_t retries = 0, calls = 0;
    bool recovered = false;
    // The calls come at 10, 110, 210, ...; an attempt is due when a second has passed since the last.
    uint64_t next_call = kFirstCall, next_attempt = kCoolDown;
    for (uint64_t ms = 1; !recovered; ++ms) {
      const bool call = ms == next_call;
      if (call) {
        reclaim.push_back(std::make_unique<Item>());
        ASSERT_TRUE(Engine::Queue(s.reclaim, *reclaim.back()));
      }
      s.e.Advance(1);
      if (call) {
        ++calls;
        next_call += kNextCall;
        if (ms >= next_attempt) {
          ++retries;
          next_attempt = ms + kCoolDown;
          recovered = retries == static_cast<uint64_t>(k);
        }
        WaitRuns(*reclaim.back(), 1);
      }
      if (!recovered) {
        ASSERT_EQ(s.e.env.creations - attempts, static_cast<int>(retries)) << ms;
        ASSERT_EQ(s.e.Pool().Stats().maydays, calls) << ms;
        ASSERT_EQ(plain.Runs(), 0);
      }
      Eventually([&] {  // the rescuer may be in it for a moment
        if (!s.e.Pool().lock.TryLock()) return false;
        s.e.Pool().lock.Unlock();
        return true;
      });
    }
    WaitRuns(plain, 1);
    EXPECT_EQ(s.e.Pool().Stats().create_failures, static_cast<uint64_t>(k));
    Eventually([&] { return !PoolTestPeer::Managing(s.e.Pool()); });
    s.e.Pool().CheckInvariants();
  }
}

// 27: a queue's rescuer is told to stop while calls for help wait; it serves them, its list is empty when
// it ends, and no item stays behind.
TEST(RescuerScenario, Scenario27StopServesWaitingCalls) {
  Engine& e = Engine::Make(4);
  wq::Workqueue* const reclaim = e.Alloc(CMWQ_MEM_RECLAIM);
  e.env.fail_next = INT_MAX;
  Gate started, go_on;
  Item items[4] = {Item([&] {
                     started.Open();
                     go_on.Wait();
                   }),
                   Item(), Item(), Item()};
  for (int cpu = 0; cpu < 4; ++cpu) ASSERT_TRUE(Engine::Queue(reclaim, items[cpu], cpu));
  e.Advance(10);
  started.Wait();
  EXPECT_EQ(PoolTestPeer::Maydays(*reclaim->rescuer), 3u);
  std::thread stopper([&] { reclaim->rescuer->Stop(); });
  Eventually([&] { return PoolTestPeer::Stopping(*reclaim->rescuer); });
  go_on.Open();
  stopper.join();
  for (Item& item : items) EXPECT_EQ(item.Runs(), 1);
  EXPECT_EQ(PoolTestPeer::Maydays(*reclaim->rescuer), 0u);
  EXPECT_TRUE(wq::WorkqueueEmpty(reclaim));
  reclaim->ForEachPwq([](wq::Pwq* pwq) {
    EXPECT_FALSE(base::ListLinked(&pwq->mayday_entry.node));
  });
  e.env.fail_next = 0;
  e.Advance(1200);
  for (int cpu = 0; cpu < 4; ++cpu) Engine::WaitIdle(e.Pool(cpu));
  e.Destroy(reclaim);
}

// 28: the rescuer is done while an item of another queue is pending, nobody counts and nobody is awake
// (the running worker was found asleep, and whoever found it has not woken anybody yet); it wakes one.
TEST(RescuerScenario, Scenario28RescuerLeavesNobodyAwake) {
  ShortHanded s(INT_MAX);
  Gate started, go_on, silent_started, silent_end;
  Item rescued([&] {
    started.Open();
    go_on.Wait();
  });
  Item silent([&] {
    silent_started.Open();
    silent_end.Wait();
  });
  Item left;
  ASSERT_TRUE(Engine::Queue(s.reclaim, rescued));
  s.e.Advance(10);
  started.Wait();
  s.release.Open();
  for (Item* const item : s.blocked) WaitRuns(*item, 1);
  Eventually([&] { return s.e.Pool().Stats().nr_idle == 2; });
  ASSERT_TRUE(Engine::Queue(s.plain, silent));
  silent_started.Wait();
  ASSERT_TRUE(Engine::Queue(s.plain, left));  // wakes nobody: one counts as running
  pool::Suspect suspects[4];
  ASSERT_EQ(s.e.Pool().ListSuspects(suspects, 4), 1);
  ASSERT_TRUE(PoolTestPeer::PresumeOnly(s.e.Pool(), suspects[0]));
  const pool::PoolStats stats = s.e.Pool().Stats();
  EXPECT_EQ(stats.nr_running, 0);
  EXPECT_EQ(stats.nr_idle, 1);
  EXPECT_EQ(PoolTestPeer::Pending(s.e.Pool()), 1u);
  go_on.Open();
  WaitRuns(left, 1);
  EXPECT_EQ(silent.Runs(), 0);
  silent_end.Open();
  WaitRuns(silent, 1);
  wq::FlushWorkqueue(s.reclaim);
}

// 29: the CPU of the pool in distress is gone; the rescuer tries to go there once per call and serves from
// where it is.
TEST(RescuerScenario, Scenario29RescuerOfACpuThatIsGone) {
  ShortHanded s(INT_MAX);
  s.e.env.bind_result = -EINVAL;
  const int users = PoolTestPeer::Users(s.e.Pool());
  int binds = s.e.env.binds;
  for (int call = 0; call < 3; ++call) {
    Item item;
    ASSERT_TRUE(Engine::Queue(s.reclaim, item));
    s.e.Advance(call == 0 ? 10 : 100);
    WaitRuns(item, 1);
    // It has gone home: one that is still there serves the next item in the same call.
    Eventually([&] { return PoolTestPeer::Users(s.e.Pool()) == users; });
    EXPECT_EQ(s.e.env.binds.load(), ++binds);
  }
  s.e.env.bind_result = 0;
}

// 29, while it serves: it is moved with the pool's workers, and back with them.
TEST(RescuerScenario, Scenario29RescuerFollowsThePool) {
  Engine& e = Engine::Make(2);
  std::mutex mu;
  std::map<int, CpuSet> places;
  e.env.on_place = [&](int tid, const CpuSet& cpus) {
    std::lock_guard<std::mutex> hold(mu);
    places[tid] = cpus;
    return 0;
  };
  const auto place = [&](int tid) {
    std::lock_guard<std::mutex> hold(mu);
    return places[tid];
  };
  wq::Workqueue* const wq = e.Alloc(CMWQ_MEM_RECLAIM);
  Held blocked[2];
  ASSERT_TRUE(Engine::Queue(wq, blocked[0].item, 1));
  blocked[0].started.Wait();
  Eventually([&] { return e.Pool(1).Stats().nr_idle == 1; });
  e.env.fail_next = INT_MAX;
  ASSERT_TRUE(Engine::Queue(wq, blocked[1].item, 1));
  blocked[1].started.Wait();
  std::atomic<int> tid{0};
  Gate started, end;
  Item rescued([&] {
    tid = base::Tid();
    started.Open();
    end.Wait();
  });
  ASSERT_TRUE(Engine::Queue(wq, rescued, 1));
  Eventually([&] { return PoolTestPeer::RawRunning(e.Pool(1)) == 0; });
  e.Advance(10);
  started.Wait();
  ASSERT_EQ(e.Cpus("0"), 0);
  EXPECT_TRUE(place(tid) == CpuSet::Of(0));
  ASSERT_EQ(e.Cpus("0-1"), 0);
  EXPECT_TRUE(place(tid) == CpuSet::Of(1));
  end.Open();
  WaitRuns(rescued, 1);
  e.env.fail_next = 0;
  for (Held& h : blocked) h.end.Open();
  e.Advance(1200);
  Engine::WaitIdle(e.Pool(1));
  e.env.on_place = nullptr;
  e.Destroy(wq);
}

}  // namespace
}  // namespace cmwq::test
