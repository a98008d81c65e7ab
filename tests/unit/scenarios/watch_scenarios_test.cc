// What looks after pools: hogs, the watchdog, reports, and the detector of silent blocks.

#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "runtime/wq/show.h"
#include "tests/support/log_capture.h"
#include "tests/unit/scenarios/scenario.h"

namespace cmwq::test {
namespace {

constexpr uint64_t kSecond = 1000;
constexpr uint64_t kThreshold = 30 * kSecond, kLook = kThreshold / 4;

class CountingWriter final : public pool::LineWriter {
 public:
  void Line(const char*) override { lines.fetch_add(1); }
  std::atomic<int> lines{0};
};

// A worker that runs without a word, and items behind it.
struct Stuck {
  explicit Stuck(Engine& engine, int behind = 1) : e(engine), wq(e.Alloc()), items(&trace, behind) {
    EXPECT_TRUE(Engine::Queue(wq, silent));
    started.Wait();
    items.Queue(wq);
  }
  ~Stuck() {
    end.Open();
    wq::FlushWorkqueue(wq);
    Engine::WaitIdle(e.Pool());
    e.Destroy(wq);
  }
  Stuck(const Stuck&) = delete;
  Stuck& operator=(const Stuck&) = delete;
  uint64_t Stalls() { return e.Pool().Stats().stalls; }

  Engine& e;
  wq::Workqueue* const wq;
  Trace trace;
  Gate started, end;
  Item silent{[this] {
    started.Open();
    end.Wait();
  }};
  Named items;
};

// 23: a threshold of 0 means off, not that everything is a hog.
TEST(WatchScenario, Scenario23ThresholdZeroMeansOff) {
  for (const bool off : {true, false}) {
    Engine& e = Engine::Make(1, [](base::Conf* conf) { conf->cpu_intensive_thresh_us = 0; });
    if (!off) e.conf.cpu_intensive_thresh_us = 1;
    Stuck s(e);
    for (int tick = 0; tick < 20; ++tick) {
      e.env.thread_cpu_ns.fetch_add(base::kNsPerSec);
      e.Advance(static_cast<uint64_t>(e.conf.tick_ms));
    }
    EXPECT_EQ(e.Pool().Stats().hogs, off ? 0u : 1u);
    if (off) {
      EXPECT_EQ(s.items.Ran(), 0);
      EXPECT_EQ(PoolTestPeer::RawRunning(e.Pool()), 1);
    }
  }
}

// 30: a pool that was idle for long gets an item; the stamp of long ago is no stall. Neither is the time
// for which the whole process was stopped.
TEST(WatchScenario, Scenario30NoStallAfterALongIdleTimeOrAStop) {
  Engine& e = Engine::Make(1);
  {
    wq::Workqueue* const wq = e.Alloc();
    Item early;
    ASSERT_TRUE(Engine::Queue(wq, early));
    WaitRuns(early, 1);
    Engine::WaitIdle(e.Pool());
    e.Destroy(wq);
  }
  e.Advance(4 * kThreshold);
  LogCapture log;
  Stuck s(e);
  e.Advance(kLook + kSecond);
  EXPECT_EQ(s.Stalls(), 0u);
  // SIGSTOP, a paused machine: the clock jumps, and nobody had the CPU, the watchdog included.
  e.env.now.fetch_add(100 * kThreshold * base::kNsPerMs);
  e.Advance(1);
  EXPECT_EQ(s.Stalls(), 0u);
  e.Advance(kThreshold - kSecond);
  EXPECT_EQ(s.Stalls(), 0u);
  EXPECT_TRUE(log.Take().empty());
  e.Advance(2 * kLook);
  EXPECT_EQ(s.Stalls(), 1u);
}

// 31: an item blocks without a word; where no detector is, the watchdog reports it, naming the item that
// runs and those that wait.
TEST(WatchScenario, Scenario31HiddenSleeperIsReported) {
  Engine& e = Engine::Make(1);
  LogCapture log;
  Stuck s(e, 3);
  e.Advance(kThreshold + 2 * kLook);
  EXPECT_EQ(s.Stalls(), 1u);
  std::string report;
  for (const std::string& line : log.Take()) report += line;
  EXPECT_NE(report.find("pool cpu0 has pending items"), std::string::npos) << report;
  EXPECT_NE(report.find("in flight: worker"), std::string::npos) << report;
  EXPECT_NE(report.find("pending: 3*"), std::string::npos) << report;
}

// 31: with the detector the second item runs although the first one never says a word; the watchdog has
// nothing to report.
TEST(WatchScenario, Scenario31HiddenSleeperLetsTheNextRun) {
  static Engine& e = Engine::Make(1);  // also when repeated: a canary watches few pools
  base::g_conf.canary = 1;             // after Make, which turns it off
  const uint64_t presumed = e.Pool().Stats().presumed;
  {
    Stuck s(e);
    s.items.WaitAll();
    EXPECT_EQ(s.silent.Runs(), 0);
    e.Advance(2 * kThreshold);
    EXPECT_EQ(s.Stalls(), 0u);
    EXPECT_GT(e.Pool().Stats().presumed, presumed);
  }
  base::g_conf.canary = 0;
}

// What the sink of a report does: it queues work on the pool that is reported.
struct SinkWork {
  Engine* e;
  wq::Workqueue* wq;
  Item* item;
  std::atomic<int> lines{0}, queued{0};
};
SinkWork* g_sink_work = nullptr;

void QueueingSink(const char*, size_t) {
  SinkWork& s = *g_sink_work;
  s.lines.fetch_add(1);
  if (Engine::Queue(s.wq, *s.item)) s.queued.fetch_add(1);
  s.e->Pool().Stats();  // takes the pool's lock
  sync::MutexLock timers(s.e->events.mu);
}

// 32: whatever prints a report queues work itself, on the very pool; no lock is held while it prints.
TEST(WatchScenario, Scenario32SinkThatQueuesWork) {
  Engine& e = Engine::Make(1);
  Stuck s(e, 5);
  Item logged;
  SinkWork work{&e, s.wq, &logged};
  g_sink_work = &work;
  base::SetLogSink(&QueueingSink);
  e.Advance(kThreshold + 2 * kLook);
  base::SetLogSink(nullptr);
  EXPECT_EQ(s.Stalls(), 1u);
  EXPECT_GE(work.lines, 3);
  EXPECT_EQ(work.queued, 1);
  // The same from a writer of the dump.
  struct Writer final : public pool::LineWriter {
    void Line(const char* line) override { QueueingSink(line, 0); }
  } writer;
  wq::ShowWorkqueue(s.wq, &writer);
  e.Pool().ShowPool(&writer);
  s.end.Open();
  WaitRuns(logged, 1);
  g_sink_work = nullptr;
}

// 33: a dump of 100000 items looks at a bounded number of them under the lock, prints a bounded number of
// lines, and says that there is more.
TEST(WatchScenario, Scenario33DumpOfManyItems) {
  constexpr int kItems = 100'000;
  Engine& e = Engine::Make(1);
  wq::Workqueue* const wq = e.Alloc(0, 16);
  Gate started, end;
  Item silent([&] {
    started.Open();
    end.Wait();
  });
  ASSERT_TRUE(Engine::Queue(wq, silent));
  started.Wait();
  // Different functions in turn, so that nothing can be said in one line.
  const auto items = std::make_unique<cmwq_work[]>(kItems);
  for (int i = 0; i < kItems; ++i) {
    cmwq_work_init(&items[i], i % 2 == 0 ? +[](struct cmwq_work*) {} : +[](struct cmwq_work* work) {
      EXPECT_NE(work, nullptr);
    });
    ASSERT_TRUE(wq::QueueWork(wq, 0, &items[i]));
  }
  ASSERT_TRUE(wq::SetMaxActive(wq, CMWQ_MAX_ACTIVE));
  struct Writer final : public pool::LineWriter {
    void Line(const char* line) override {
      ++lines;
      if (std::string(line).find("those behind") != std::string::npos) ++cut;
    }
    int lines = 0, cut = 0;
  } queue, pool;
  wq::ShowWorkqueue(wq, &queue);
  EXPECT_EQ(queue.cut, 2);  // pending and inactive
  EXPECT_LE(queue.lines, 2 * (pool::Runs::kRuns + 1) + 8);
  e.Pool().ShowPool(&pool);
  EXPECT_EQ(pool.cut, 1);
  EXPECT_LE(pool.lines, pool::Runs::kRuns + 8);
  end.Open();
  wq::FlushWorkqueue(wq);
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

// 25, with the dump: workers are described while others of the pool are culled and made.
TEST(WatchScenario, Scenario25DumpWhileWorkersDie) {
  constexpr int kTimeoutMs = 20, kWorkers = 8;
  Engine& e = Engine::Make(1, [](base::Conf* conf) { conf->idle_timeout_ms = kTimeoutMs; });
  wq::Workqueue* const wq = e.Alloc();
  CountingWriter writer;
  std::atomic<bool> stop{false};
  std::thread dumper([&] {
    while (!stop) {
      e.Pool().ShowPool(&writer);
      wq::ShowWorkqueue(wq, &writer);
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
    const int seen = writer.lines;
    Eventually([&] {
      e.Advance(kTimeoutMs);
      return e.Pool().Stats().destroyed > destroyed && writer.lines > seen;
    });
    destroyed = e.Pool().Stats().destroyed;
  }
  stop = true;
  dumper.join();
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

}  // namespace
}  // namespace cmwq::test
