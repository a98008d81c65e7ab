// Items that compute for long: they leave concurrency management, once, and are reported with back-off.
// CPU time and the clock are the test's.

#include <gtest/gtest.h>

#include "runtime/pool/hog_table.h"
#include "tests/support/fake_env.h"
#include "tests/support/log_capture.h"
#include "tests/support/test_points.h"

namespace cmwq::test {
namespace {

constexpr uint64_t kTickMs = 10;

// One CPU, one item that computes until it is told to stop, one that waits behind it.
struct Hogged {
  explicit Hogged(void (*tune)(base::Conf* conf) = nullptr)
      : e(Engine::Make(1, tune)), wq(e.Alloc()) {
    EXPECT_TRUE(Engine::Queue(wq, hog));
    started.Wait();
    EXPECT_TRUE(Engine::Queue(wq, behind));
    // The first tick comes one period after the request, rounded up: it finds the hog computing.
    e.Advance(2 * kTickMs);
  }
  ~Hogged() {
    pause.Open();
    stop.Open();
    wq::FlushWorkqueue(wq);
    Engine::WaitIdle(e.Pool());
    EXPECT_EQ(PoolTestPeer::RawRunning(e.Pool()), 0);
    e.Destroy(wq);
  }
  Hogged(const Hogged&) = delete;
  Hogged& operator=(const Hogged&) = delete;

  // The hog has used `us` of CPU when the next tick looks.
  void Burn(uint64_t us) {
    e.env.thread_cpu_ns.fetch_add(us * 1000);
    e.Advance(kTickMs);
  }
  uint64_t Hogs() { return e.Pool().Stats().hogs; }

  Engine& e;
  wq::Workqueue* const wq;
  Gate started, pause, stop;
  Item hog{[this] {
    started.Open();
    pause.Wait();
    stop.WaitAnnounced();
  }};
  Item behind;
};

TEST(Hog, LeavesManagementAtTheThreshold) {
  Hogged h;
  h.Burn(9'999);
  EXPECT_EQ(h.Hogs(), 0u);
  EXPECT_EQ(h.e.Pool().Stats().nr_running, 1);
  h.Burn(1);
  EXPECT_EQ(h.Hogs(), 1u);
  Eventually([&] { return h.behind.Runs() == 1; });
  EXPECT_EQ(h.hog.Runs(), 0);
  Eventually([&] { return h.e.Pool().Stats().nr_running == 0; });
}

TEST(Hog, CountsAgainWithTheNextItem) {
  Hogged h;
  h.Burn(10'000);
  ASSERT_EQ(h.Hogs(), 1u);
  h.pause.Open();
  h.stop.Open();
  wq::FlushWorkqueue(h.wq);
  Engine::WaitIdle(h.e.Pool());
  Gate run, finish;
  Item next([&] {
    run.Open();
    finish.Wait();
  });
  ASSERT_TRUE(Engine::Queue(h.wq, next));
  run.Wait();
  EXPECT_EQ(h.e.Pool().Stats().nr_running, 1);
  finish.Open();
  wq::FlushWorkqueue(h.wq);  // the item uses what ends here
}

TEST(Hog, TheClockStartsAnewAfterASleep) {
  Hogged h;
  h.Burn(6'000);
  h.e.env.thread_cpu_ns.fetch_add(6'000'000);
  // Asleep and back between two looks; `behind` runs meanwhile, another item takes its place.
  h.pause.Open();
  Eventually([&] { return h.behind.Runs() == 1; });
  Gate run, go_on;
  Item second([&] {
    run.Open();
    go_on.Wait();
  });
  Item third;
  ASSERT_TRUE(Engine::Queue(h.wq, second));
  run.Wait();
  ASSERT_TRUE(Engine::Queue(h.wq, third));
  h.Burn(6'000);
  h.Burn(6'000);
  EXPECT_EQ(h.Hogs(), 0u);
  go_on.Open();
  Eventually([&] { return second.Runs() == 1 && third.Runs() == 1; });  // they end before the gates
}

TEST(Hog, ThresholdZeroMeansOff) {
  Hogged h([](base::Conf* conf) { conf->cpu_intensive_thresh_us = 0; });
  for (int i = 0; i < 5; ++i) h.Burn(1'000'000);
  EXPECT_EQ(h.Hogs(), 0u);
  EXPECT_EQ(h.behind.Runs(), 0);
}

TEST(Hog, AThreadThatCannotBeReadIsLeftAlone) {
  Hogged h;
  h.e.env.thread_cpu_ns = base::kNever;
  h.e.Advance(5 * kTickMs);
  EXPECT_EQ(h.Hogs(), 0u);
}

// T23: marked at the instant at which it blocks. nr_running goes down once.
TEST(Hog, NotWhileInTheActOfSleeping) {
  if (!kHaveTestPoints) GTEST_SKIP() << "needs CMWQ_TEST_POINTS";
  Hogged h;
  {
    AtTestPoint blocks("watch.mark", [&] {
      h.pause.Open();
      // No further: whoever is woken now may have to make a worker, for which it needs the timer lock.
      Eventually([&] { return PoolTestPeer::RawRunning(h.e.Pool()) == 0; });
    });
    h.Burn(20'000);
  }
  EXPECT_EQ(h.Hogs(), 0u);
  Eventually([&] { return h.behind.Runs() == 1; });
  Eventually([&] { return h.e.Pool().Stats().nr_running == 0; });
  EXPECT_EQ(PoolTestPeer::RawRunning(h.e.Pool()), 0);
}

// Nothing pending, no tick: an idle process is not woken.
TEST(Hog, TheTickEndsWithThePendingWork) {
  Engine& e = Engine::Make(1);
  wq::Workqueue* const wq = e.Alloc();
  Gate run, stop;
  Item item([&] {
    run.Open();
    stop.Wait();
  });
  ASSERT_TRUE(Engine::Queue(wq, item));
  run.Wait();
  e.Advance(1);
  EXPECT_FALSE(PoolTestPeer::TickArmed(e.Pool()));
  Item behind;
  ASSERT_TRUE(Engine::Queue(wq, behind));
  EXPECT_TRUE(PoolTestPeer::TickArmed(e.Pool()));
  ASSERT_TRUE(e.Cancel(behind));
  e.Advance(2 * kTickMs);
  EXPECT_FALSE(PoolTestPeer::TickArmed(e.Pool()));
  stop.Open();
  wq::FlushWorkqueue(wq);
  e.Destroy(wq);
}

// The last running worker was found asleep, and the call to another one was lost: the tick calls again.
TEST(Tick, CallsAgainWhenNobodyRuns) {
  Engine& e = Engine::Make(1);
  wq::Workqueue* const wq = e.Alloc();
  Gate run, stop;
  Item silent([&] {
    run.Open();
    stop.Wait();
  });
  ASSERT_TRUE(Engine::Queue(wq, silent));
  run.Wait();
  Eventually([&] { return e.Pool().Stats().nr_idle == 1; });
  Item behind;
  ASSERT_TRUE(Engine::Queue(wq, behind));
  pool::Suspect suspects[2];
  ASSERT_EQ(e.Pool().ListSuspects(suspects, 2), 1);
  ASSERT_TRUE(PoolTestPeer::PresumeOnly(e.Pool(), suspects[0]));
  EXPECT_EQ(behind.Runs(), 0);
  e.Advance(2 * kTickMs);
  Eventually([&] { return behind.Runs() == 1; });
  stop.Open();
  wq::FlushWorkqueue(wq);
  e.Destroy(wq);
}

// An item that max_active lets in at the end of another one waits behind a worker that counts: the tick
// must look at that one, for it may sleep without a word.
TEST(Tick, IsArmedForWhatABoundaryLeavesBehind) {
  Engine& e = Engine::Make(1);
  wq::Workqueue* const narrow = e.Alloc(0, 1);
  wq::Workqueue* const wq = e.Alloc();
  Gate first_runs, first_waits, first_ends, silent_runs, silent_ends;
  Item first([&] {
    first_runs.Open();
    first_waits.WaitAnnounced();
    first_ends.Wait();
  });
  Item silent([&] {
    silent_runs.Open();
    silent_ends.Wait();
  });
  Item behind;
  ASSERT_TRUE(Engine::Queue(narrow, first));
  first_runs.Wait();
  ASSERT_TRUE(Engine::Queue(narrow, behind));  // inactive
  Eventually([&] { return PoolTestPeer::RawRunning(e.Pool()) == 0; });
  ASSERT_TRUE(Engine::Queue(wq, silent));
  silent_runs.Wait();
  first_waits.Open();
  Eventually([&] { return PoolTestPeer::RawRunning(e.Pool()) == 2; });
  EXPECT_FALSE(PoolTestPeer::TickArmed(e.Pool()));
  first_ends.Open();
  Eventually([&] { return e.Pool().Stats().nr_idle == 2; });
  EXPECT_EQ(behind.Runs(), 0);
  EXPECT_EQ(PoolTestPeer::Pending(e.Pool()), 1u);
  EXPECT_TRUE(PoolTestPeer::TickArmed(e.Pool()));
  silent_ends.Open();
  Eventually([&] { return behind.Runs() == 1; });
  wq::FlushWorkqueue(narrow);
  wq::FlushWorkqueue(wq);
  e.Destroy(narrow);
  e.Destroy(wq);
}

TEST(Hog, ReportNamesFunctionAndAdvice) {
  LogCapture log;
  std::string lines;
  for (int i = 0; i < 8; ++i) {
    Hogged h;
    h.Burn(10'000);
    EXPECT_EQ(h.Hogs(), 1u);
  }
  for (const std::string& line : log.Take()) lines += line;
  // The table is the process's: which of these violations are told depends on the tests before.
  EXPECT_NE(lines.find("hogged CPU for >10000us "), std::string::npos) << lines;
  EXPECT_NE(lines.find("times, consider switching to CMWQ_UNBOUND\n"), std::string::npos) << lines;
  EXPECT_NE(lines.find("hog_test"), std::string::npos) << lines;
}

TEST(HogTable, BacksOff) {
  static constinit pool::HogTable table;
  std::string told;
  for (uint64_t i = 1; i <= 40; ++i) {
    const uint64_t n = table.Count(&Item::Run, 4);
    if (n != 0) told += std::to_string(n) + " ";
  }
  EXPECT_EQ(told, "4 5 7 11 19 35 ");
}

TEST(HogTable, ZeroIsNever) {
  static constinit pool::HogTable table;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(table.Count(&Item::Run, 0), 0u);
}

TEST(HogTable, FurtherFunctionsThanFitAreIgnored) {
  static constinit pool::HogTable table;
  const auto function = [](int i) {
    return reinterpret_cast<cmwq_work_fn>(static_cast<uintptr_t>(i + 1));
  };
  for (int i = 0; i < pool::HogTable::kFunctions; ++i) EXPECT_EQ(table.Count(function(i), 1), 1u);
  EXPECT_EQ(table.Count(function(pool::HogTable::kFunctions), 1), 0u);
  EXPECT_EQ(table.Count(function(0), 1), 2u);
}

// The counter is one too high: the pool believes that somebody runs, and nobody is woken.
TEST(Drift, IsRepairedByTheTickAndCounted) {
  LogCapture log;
  Engine& e = Engine::Make(1);
  wq::Workqueue* const wq = e.Alloc();
  Item first, second;
  ASSERT_TRUE(Engine::Queue(wq, first));
  wq::FlushWorkqueue(wq);
  Engine::WaitIdle(e.Pool());
  const NoInvariantChecks broken_on_purpose;
  PoolTestPeer::Skew(e.Pool(), 1);
  ASSERT_TRUE(Engine::Queue(wq, second));
  EXPECT_EQ(second.Runs(), 0);
  e.Advance(4 * kTickMs);
  Eventually([&] { return second.Runs() == 1; });
  Engine::WaitIdle(e.Pool());
  EXPECT_EQ(e.Pool().Stats().drift, 1u);
  EXPECT_EQ(PoolTestPeer::RawRunning(e.Pool()), 0);
  ASSERT_EQ(log.Take().size(), 1u);
  e.Destroy(wq);
}

}  // namespace
}  // namespace cmwq::test
