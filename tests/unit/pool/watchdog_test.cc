// The stall watchdog: what is a stall, what is not, what the report says. Time is the test's.

#include <gtest/gtest.h>

#include "tests/support/fake_env.h"
#include "tests/support/log_capture.h"

namespace cmwq::test {
namespace {

constexpr uint64_t kSecond = 1000;

// One CPU whose only counted worker never blocks as far as the pool knows.
struct Stalled {
  explicit Stalled(void (*tune)(base::Conf* conf) = nullptr)
      : e(Engine::Make(1, tune)), wq(e.Alloc()) {
    EXPECT_TRUE(Engine::Queue(wq, hidden));
    started.Wait();
    for (Item* item : {&a, &b, &c}) EXPECT_TRUE(Engine::Queue(wq, *item));
  }
  ~Stalled() {
    stop.Open();
    wq::FlushWorkqueue(wq);
    Engine::WaitIdle(e.Pool());
    e.Destroy(wq);
  }
  Stalled(const Stalled&) = delete;
  Stalled& operator=(const Stalled&) = delete;
  uint64_t Stalls() { return e.Pool().Stats().stalls; }

  LogCapture log;
  Engine& e;
  wq::Workqueue* const wq;
  Gate started, stop;
  Item hidden{[this] {
    started.Open();
    stop.Wait();
  }};
  Item a, b, c;
};

std::string Joined(const std::vector<std::string>& lines) {
  std::string all;
  for (const std::string& line : lines) all += line;
  return all;
}

TEST(Watchdog, ReportsAfterTheThresholdAndAgain) {
  Stalled s;
  s.e.Advance(29 * kSecond);
  EXPECT_EQ(s.Stalls(), 0u);
  EXPECT_TRUE(s.log.Take().empty());
  s.e.Advance(10 * kSecond);
  EXPECT_EQ(s.Stalls(), 1u);
  s.log.Take();
  s.e.Advance(30 * kSecond);
  EXPECT_EQ(s.Stalls(), 2u);
}

TEST(Watchdog, NamesWhoRunsAndWhatWaits) {
  Stalled s;
  s.e.Advance(38 * kSecond);
  const std::string report = Joined(s.log.Take());
  EXPECT_NE(report.find("pool cpu0 has pending items and began none for "), std::string::npos)
      << report;
  EXPECT_NE(report.find("in flight: worker "), std::string::npos) << report;
  EXPECT_NE(report.find(" of test for 3"), std::string::npos) << report;
  EXPECT_NE(report.find("pending: 3*"), std::string::npos) << report;
  EXPECT_NE(report.find("watchdog_test"), std::string::npos) << report;
}

TEST(Watchdog, ZeroIsOff) {
  Stalled s([](base::Conf* conf) { conf->watchdog_thresh = 0; });
  s.e.Advance(300 * kSecond);
  EXPECT_EQ(s.Stalls(), 0u);
  EXPECT_FALSE(PoolTestPeer::StallArmed(s.e.Pool()));
}

// T30: a pool that was idle for long and just got an item is not stalled.
TEST(Watchdog, ALongIdlePoolIsNotStalled) {
  Engine& e = Engine::Make(1);
  wq::Workqueue* const wq = e.Alloc();
  Item first;
  ASSERT_TRUE(Engine::Queue(wq, first));
  wq::FlushWorkqueue(wq);
  Engine::WaitIdle(e.Pool());
  e.Advance(100 * kSecond);
  EXPECT_FALSE(PoolTestPeer::StallArmed(e.Pool()));
  Gate run, stop;
  Item hidden([&] {
    run.Open();
    stop.Wait();
  });
  Item behind;
  ASSERT_TRUE(Engine::Queue(wq, hidden));
  run.Wait();
  ASSERT_TRUE(Engine::Queue(wq, behind));
  e.Advance(28 * kSecond);
  EXPECT_EQ(e.Pool().Stats().stalls, 0u);
  stop.Open();
  wq::FlushWorkqueue(wq);
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

// Time passed, but nobody had the CPU, the watchdog included.
TEST(Watchdog, AStoppedProcessIsNotStalled) {
  Stalled s;
  s.e.Advance(1 * kSecond);
  s.e.env.now.fetch_add(3600 * base::kNsPerSec);
  s.e.Advance(1);
  EXPECT_EQ(s.Stalls(), 0u);
  s.e.Advance(29 * kSecond);
  EXPECT_EQ(s.Stalls(), 0u);
  s.e.Advance(10 * kSecond);
  EXPECT_EQ(s.Stalls(), 1u);
}

TEST(Watchdog, ABatchIsProgress) {
  Stalled s;
  s.e.Advance(29 * kSecond);
  // The pool moves on, and stands still again behind another item.
  Gate run, stop;
  Item next([&] {
    run.Open();
    stop.Wait();
  });
  Item behind;
  ASSERT_TRUE(Engine::Queue(s.wq, next));
  ASSERT_TRUE(Engine::Queue(s.wq, behind));
  s.stop.Open();
  run.Wait();
  s.e.Advance(29 * kSecond);
  EXPECT_EQ(s.Stalls(), 0u);
  s.e.Advance(20 * kSecond);
  EXPECT_EQ(s.Stalls(), 1u);
  stop.Open();
  wq::FlushWorkqueue(s.wq);
}

TEST(Watchdog, EndsWithThePendingWork) {
  Stalled s;
  EXPECT_TRUE(PoolTestPeer::StallArmed(s.e.Pool()));
  for (Item* item : {&s.a, &s.b, &s.c}) EXPECT_TRUE(s.e.Cancel(*item));
  s.e.Advance(10 * kSecond);
  EXPECT_FALSE(PoolTestPeer::StallArmed(s.e.Pool()));
}

TEST(WatchdogDeathTest, PanicsWhenAsked) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Stalled s([](base::Conf* conf) { conf->panic_on_stall = 2; });
        base::SetLogSink(nullptr);
        s.e.Advance(40 * kSecond);
        base::RawLog(base::LogLevel::kError, "once");
        s.e.Advance(40 * kSecond);
      },
      "once.*aborting: panic_on_stall");
  EXPECT_DEATH(
      {
        Stalled s([](base::Conf* conf) { conf->panic_on_stall_time = 60; });
        base::SetLogSink(nullptr);
        s.e.Advance(50 * kSecond);
        base::RawLog(base::LogLevel::kError, "not yet");
        s.e.Advance(40 * kSecond);
      },
      "not yet.*aborting: panic_on_stall_time");
}

// T33: a worklist of any length is looked at in part.
TEST(Watchdog, ALongListIsCutShort) {
  Stalled s;
  std::vector<Item*> items;
  for (int i = 0; i < 2000; ++i) {
    items.push_back(new Item);
    ASSERT_TRUE(Engine::Queue(s.wq, *items.back()));
  }
  s.e.Advance(38 * kSecond);
  const std::string report = Joined(s.log.Take());
  EXPECT_NE(report.find("pending: 512*"), std::string::npos) << report;
  EXPECT_NE(report.find("those behind"), std::string::npos) << report;
  s.stop.Open();
  wq::FlushWorkqueue(s.wq);
  for (Item* const item : items) delete item;
}

}  // namespace
}  // namespace cmwq::test
