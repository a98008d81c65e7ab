// The detector of unannounced blocks: when it looks, when it sleeps.

#include "hooks/detect/canary.h"

#include <gtest/gtest.h>

#include <thread>

#include "hooks/detect/spawn.h"
#include "tests/support/short_handed.h"

namespace cmwq::test {
namespace {

using detect::Canary;

// A pool as the canary sees it, without a pool.
class FakeWatched final : public pool::Watched {
 public:
  bool WantsWatch() const override {
    asked.fetch_add(1);
    return wants.load();
  }
  int ListSuspects(pool::Suspect* out, int) override {
    if (tid.load() == 0) return 0;
    out[0] = {0, tid.load(), 42};
    return 1;
  }
  bool Presume(const pool::Suspect& suspect) override {
    EXPECT_EQ(suspect.word, 42u);
    tid = 0;
    wants = false;
    presumed.fetch_add(1);  // last: whoever sees it may want something again
    return true;
  }
  void Nudge() override {
    wants = false;
    nudged.fetch_add(1);  // as above
  }

  std::atomic<bool> wants{false};
  std::atomic<int> tid{0}, presumed{0}, nudged{0};
  mutable std::atomic<int> asked{0};
};

// The thread never ends, so it and what it looks at outlive the tests.
struct Watch {
  Watch() {
    EXPECT_TRUE(canary.Watch(&watched));
    EXPECT_EQ(canary.Start(), 0);
  }
  static Watch& Get() {
    static Watch* const watch = new Watch;
    return *watch;
  }
  // Set, then arm: the order in which a pool does it.
  void Want() {
    watched.wants = true;
    canary.Arm();
  }
  Canary canary{platform::CurrentCpu()};
  FakeWatched watched;
};

TEST(CanaryThread, NudgesWhenNobodyCounts) {
  Watch& w = Watch::Get();
  const int before = w.watched.nudged;
  w.Want();
  Eventually([&] { return w.watched.nudged > before; });
}

TEST(CanaryThread, PresumesASleeperOnly) {
  Watch& w = Watch::Get();
  Gate gate;
  std::atomic<int> tid{0};
  std::atomic<bool> spin{true};
  std::thread suspect([&] {
    tid = base::Tid();
    while (spin) base::SchedYield();
    gate.Wait();
  });
  Eventually([&] { return tid != 0; });
  const int before = w.watched.presumed;
  const uint64_t alarms = w.canary.false_alarms();
  w.watched.tid = tid.load();
  w.Want();
  Eventually([&] { return w.canary.false_alarms() > alarms + 3; });
  EXPECT_EQ(w.watched.presumed, before);
  spin = false;
  Eventually([&] { return w.watched.presumed == before + 1; });
  gate.Open();
  suspect.join();
}

// So many that one list does not take them.
class Crowd final : public pool::Watched {
 public:
  bool WantsWatch() const override { return true; }
  int ListSuspects(pool::Suspect* out, int max) override {
    int n = 0;
    for (int i = 0; i < kSize && n < max; ++i) {
      if (!presumed[i]) out[n++] = {i, tid, 0};
    }
    return n;
  }
  bool Presume(const pool::Suspect& suspect) override {
    presumed[suspect.slot] = true;
    return true;
  }
  void Nudge() override {}

  static constexpr int kSize = 200;
  int tid = 0;
  bool presumed[kSize] = {};
};

// More suspects than one list takes, asleep all of them: none is left out.
TEST(CanaryThread, FindsEverySleeperOfALongList) {
  Gate gate;
  std::atomic<int> tid{0};
  std::thread sleeper([&] {
    tid = base::Tid();
    gate.Wait();
  });
  detect::TaskStateReader reader(false, 3);
  Eventually([&] { return tid != 0 && reader.Read(tid) == detect::TaskState::kAsleep; });
  Crowd crowd;
  crowd.tid = tid;
  detect::SetSpawn([](void* (*)(void*), void*, unsigned long) { return EAGAIN; });
  Canary threadless(0);
  ASSERT_EQ(threadless.Start(), EAGAIN);
  EXPECT_FALSE(threadless.Attends());
  threadless.Tick(&crowd);
  detect::SetSpawn(nullptr);
  EXPECT_EQ(threadless.found_by_tick(), static_cast<uint64_t>(Crowd::kSize));
  EXPECT_EQ(threadless.blocks_found(), threadless.found_by_tick());
  gate.Open();
  sleeper.join();
}

// Two counted workers: the one that looks, and another.
class Pair final : public pool::Watched {
 public:
  bool WantsWatch() const override { return true; }
  int ListSuspects(pool::Suspect* out, int) override {
    out[0] = {0, self, 0};
    out[1] = {1, peer, 0};
    return presumed == 0 ? 2 : 1;
  }
  bool Presume(const pool::Suspect& suspect) override {
    EXPECT_EQ(suspect.tid, peer);
    ++presumed;
    return true;
  }
  void Nudge() override { ADD_FAILURE() << "the caller runs"; }

  int self = base::Tid(), peer = 0, presumed = 0;
};

// A worker looks while that is worth its price: after a find, and not for ever in vain.
TEST(CanaryThread, WorkersLookForTheirPeers) {
  std::atomic<bool> spin{true};
  std::atomic<int> tid{0};
  Gate gate;
  std::thread suspect([&] {
    tid = base::Tid();
    while (spin) sync::CpuRelax();
    gate.Wait();
  });
  Eventually([&] { return tid != 0; });
  Pair pair;
  pair.peer = tid;
  detect::SetSpawn([](void* (*)(void*), void*, unsigned long) { return EAGAIN; });
  Canary canary(0);
  ASSERT_EQ(canary.Start(), EAGAIN);
  detect::SetSpawn(nullptr);
  EXPECT_FALSE(canary.WorthALook());
  EXPECT_FALSE(canary.LookForWorker(&pair, pair.self));
  EXPECT_EQ(pair.presumed, 0);
  spin = false;
  Eventually([&] { return canary.LookForWorker(&pair, pair.self); });
  EXPECT_EQ(pair.presumed, 1);
  EXPECT_EQ(canary.blocks_found(), 1u);
  int looks = 0;
  for (; canary.WorthALook(); ++looks) EXPECT_FALSE(canary.LookForWorker(&pair, pair.self));
  EXPECT_GT(looks, 1);
  canary.WorkerEnds(tid);
  gate.Open();
  suspect.join();
}

// Not one question while nothing is wanted; and every later wish is noticed.
TEST(CanaryThread, SleepsAndWakes) {
  Watch& w = Watch::Get();
  for (int round = 0; round < 200; ++round) {
    const int before = w.watched.nudged;
    w.Want();
    Eventually([&] { return w.watched.nudged > before; });
    if (round % 20 != 0) continue;
    int asked = -1;
    // Dormant when two looks in a row, many yields apart, find no further question.
    Eventually([&] {
      const int then = asked;
      for (int i = 0; i < 200; ++i) base::SchedYield();
      asked = w.watched.asked;
      return asked == then;
    });
  }
}

// The whole way: a real pool, a real canary, a silent block. The workers are not pinned here, so the
// canary's CPU is idle whenever the suspects sleep.
class SilentBlockTest : public ::testing::Test {
 protected:
  // One for all tests: a canary watches few pools.
  static Engine& WithCanary() {
    static Engine& e = Engine::Make(1);
    base::g_conf.canary = 1;  // after Make, which turns it off
    return e;
  }
  void TearDown() override { base::g_conf.canary = 0; }
};

TEST_F(SilentBlockTest, TheNextItemStarts) {
  Engine& e = WithCanary();
  wq::Workqueue* const wq = e.Alloc();
  for (int round = 0; round < 50; ++round) {
    Gate gate;
    Item silent([&] { gate.Wait(); }), next([&] { gate.Open(); });
    ASSERT_TRUE(Engine::Queue(wq, silent));
    ASSERT_TRUE(Engine::Queue(wq, next));
    wq::FlushWorkqueue(wq);
  }
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

// Both items are queued while nobody runs yet, so that queueing wakes a worker instead of the canary.
TEST_F(SilentBlockTest, ItemsQueuedTogetherBeforeAnybodyRuns) {
  Engine& e = WithCanary();
  wq::Workqueue* const wq = e.Alloc(CMWQ_FREEZABLE);
  for (int round = 0; round < 50; ++round) {
    Gate gate;
    Item silent([&] { gate.Wait(); }), next([&] { gate.Open(); });
    {
      sync::MutexLock hold(wq->mutex);
      wq->frozen = true;
      wq::ApplyMaxActive(wq);
    }
    ASSERT_TRUE(Engine::Queue(wq, silent));
    ASSERT_TRUE(Engine::Queue(wq, next));
    {
      sync::MutexLock hold(wq->mutex);
      wq->frozen = false;
      wq::ApplyMaxActive(wq);
    }
    wq::FlushWorkqueue(wq);
  }
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

// Nobody can be started, but the rescuer can help; it is only called once the sleeper is found.
TEST_F(SilentBlockTest, ASilentBlockDoesNotHideTheNeedForARescuer) {
  Engine& e = WithCanary();
  wq::Workqueue* const plain = e.Alloc();
  wq::Workqueue* const reclaim = e.Alloc(CMWQ_MEM_RECLAIM);
  Item warm;
  ASSERT_TRUE(Engine::Queue(plain, warm));
  Eventually([&] { return warm.Runs() == 1; });
  Engine::WaitIdle(e.Pool());
  e.env.fail_next = INT_MAX;
  Gate gate;
  std::vector<Item*> silent;
  const int workers = e.Pool().Stats().nr_workers;
  for (int i = 0; i < workers; ++i) {
    silent.push_back(new Item([&] { gate.Wait(); }));
    ASSERT_TRUE(Engine::Queue(plain, *silent.back()));
  }
  Item opens([&] { gate.Open(); });
  ASSERT_TRUE(Engine::Queue(reclaim, opens));
  Eventually([&] {
    e.Advance(1);
    return opens.Runs() == 1;
  });
  EXPECT_GE(reclaim->rescuer->rescued() + e.Pool().Stats().maydays, 1u);
  e.env.fail_next = 0;
  wq::FlushWorkqueue(plain);
  e.Advance(1200);
  Engine::WaitIdle(e.Pool());
  e.Destroy(plain);
  e.Destroy(reclaim);
  for (Item* const item : silent) delete item;
}

// The tick's pace is the test's: what is found in between, a worker found at its boundary.
TEST(PeersOfAWorker, ASilentSleeperDoesNotSendAWorkerToSleep) {
  Engine& e = Engine::Make(1);
  base::g_conf.canary = 2;  // the tick only
  wq::Workqueue* const wq = e.Alloc();
  const auto presumed = [&e] { return e.Pool().Stats().presumed; };
  detect::TaskStateReader reader;
  std::atomic<int> tid[2] = {0, 0};
  Gate gate[2];
  const auto silent = [&](int i) {
    return [&tid, &gate, i] {
      tid[i] = base::Tid();
      gate[i].Wait();
    };
  };
  const auto asleep = [&](int i) {
    return tid[i] != 0 && reader.Read(tid[i]) == detect::TaskState::kAsleep;
  };
  Item first(silent(0)), second(silent(1)), last([&] { gate[1].Open(); });
  ASSERT_TRUE(Engine::Queue(wq, first));
  Eventually([&] { return asleep(0); });
  ASSERT_TRUE(Engine::Queue(wq, second));
  // Found by the tick: from now on workers look.
  Eventually([&] {
    e.Advance(base::g_conf.tick_ms);
    return asleep(1);
  });
  EXPECT_EQ(presumed(), 1u);
  ASSERT_TRUE(Engine::Queue(wq, last));
  // Its worker is back and counts, as does the one that sleeps: without a look nobody executes
  // `last`.
  gate[0].Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(presumed(), 2u);
  EXPECT_EQ(last.Runs(), 1);
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
  base::g_conf.canary = 0;
}

}  // namespace
}  // namespace cmwq::test
