// co_await of queues, delays and calls; Task, sync_wait, start_detached.

#include <gtest/gtest.h>

#include <cmwq/task.hpp>
#include <cmwq/workqueue.hpp>

#include "tests/support/gate.h"
#include "tests/support/log_capture.h"
#include "tests/support/sanitizer.h"

#if !defined(__cpp_impl_coroutine) || !defined(__cpp_lib_jthread)

TEST(Coroutine, NeedsCoroutines) { GTEST_SKIP() << "this compiler has no coroutines"; }

#else

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace cmwq::test {
namespace {

using namespace std::chrono_literals;

bool InWorker() { return cmwq_current_work() != nullptr; }

class Coroutine : public ::testing::Test {
 protected:
  Workqueue queue{"coroutine"};
};

Task<int> Doubled(Workqueue& queue, int n) {
  co_await queue.schedule();
  EXPECT_TRUE(InWorker());
  co_return 2 * n;
}

TEST_F(Coroutine, GoesOnInAWorker) {
  auto task = [](Workqueue& q) -> Task<> {
    EXPECT_FALSE(InWorker());
    const bool scheduled = co_await q.schedule();
    EXPECT_TRUE(scheduled);
    EXPECT_TRUE(InWorker());
  };
  sync_wait(task(queue));
}

TEST_F(Coroutine, TasksGiveResults) {
  EXPECT_EQ(sync_wait(Doubled(queue, 21)), 42);
  auto sum = [](Workqueue& q) -> Task<int> {
    int total = 0;
    for (int i = 0; i < 100; ++i) {
      const int got = co_await Doubled(q, i);
      total += got;
    }
    co_return total;
  };
  EXPECT_EQ(sync_wait(sum(queue)), 9900);
  auto moved = []() -> Task<std::unique_ptr<int> > { co_return std::make_unique<int>(3); };
  EXPECT_EQ(*sync_wait(moved()), 3);
  int here = 0;
  auto reference = [](int& r) -> Task<int&> { co_return r; };
  EXPECT_EQ(&sync_wait(reference(here)), &here);
}

TEST_F(Coroutine, ExceptionsPassThroughTasks) {
  auto thrower = [](Workqueue& q) -> Task<int> {
    co_await q.schedule();
    throw std::runtime_error("inner");
  };
  auto outer = [&thrower](Workqueue& q) -> Task<std::string> {
    std::string what;
    try {
      const int never = co_await thrower(q);
      what = std::to_string(never);
    } catch (const std::runtime_error& e) {
      what = e.what();
    }
    co_return what;
  };
  EXPECT_EQ(sync_wait(outer(queue)), "inner");
  EXPECT_THROW(sync_wait(thrower(queue)), std::runtime_error);
}

TEST_F(Coroutine, TasksAreLazyAndMayBeDropped) {
  bool begun = false;
  auto lazy = [](bool& b) -> Task<> {
    b = true;
    co_return;
  };
  {
    Task<> first = lazy(begun);
    Task<> second = std::move(first);
    first = lazy(begun);
  }
  EXPECT_FALSE(begun);
}

// Tasks that do not suspend hand over by tail calls, where the compiler makes them.
TEST_F(Coroutine, LongChainsDoNotUseUpTheStack) {
#if defined(__OPTIMIZE__)
  const int rounds = kSanitized ? 1000 : 1'000'000;
#else
  const int rounds = 1000;
#endif
  auto one = []() -> Task<int> { co_return 1; };
  auto loop = [&one](int n) -> Task<int> {
    int sum = 0;
    for (int i = 0; i < n; ++i) {
      const int got = co_await one();
      sum += got;
    }
    co_return sum;
  };
  EXPECT_EQ(sync_wait(loop(rounds)), rounds);
}

TEST_F(Coroutine, DetachedTasksFreeThemselves) {
  auto token = std::make_shared<int>(0);
  std::weak_ptr<int> seen = token;
  auto task = [](Workqueue& q, std::shared_ptr<int> held) -> Task<int> {
    co_await q.schedule();
    co_return *held;
  };
  start_detached(task(queue, std::move(token)));
  queue.flush();
  Eventually([&seen] { return seen.expired(); });
}

TEST_F(Coroutine, AwaitsCalls) {
  auto task = [](Workqueue& q) -> Task<int> {
    co_await q.schedule();
    auto first = q.submit([] { return 1; });
    const int a = co_await first;
    EXPECT_FALSE(first);
    const int b = co_await q.submit([] { return 2; });
    EXPECT_TRUE(InWorker());
    int caught = 0;
    try {
      co_await q.submit([] { throw 3; });
    } catch (int thrown) {
      caught = thrown;
    }
    Submission<int> done = q.submit([] { return 4; });
    done.wait();
    const int d = co_await std::move(done);  // over already
    co_return a + b + caught + d;
  };
  EXPECT_EQ(sync_wait(task(queue)), 10);
}

// The address of a call may be in use again while the function that went on behind it still runs,
// and waits for the new owner.
TEST_F(Coroutine, BlocksOnACallBehindAnAwaitedOne) {
  auto task = [](Workqueue& q) -> Task<int> {
    int sum = 0;
    for (int i = 0; i < 50; ++i) {
      auto one = [] { return 1; };
      const int awaited = co_await q.submit(one);
      sum += awaited;
      sum += q.submit(one).get();
      sum += sync_wait(Doubled(q, 1));
    }
    co_return sum;
  };
  EXPECT_EQ(sync_wait(task(queue)), 200);
}

// Whoever cancels a call runs nothing of the coroutine that waits for it.
TEST_F(Coroutine, ACancelledCallKeepsTheQueuesOrder) {
  Workqueue held = Workqueue::ordered("held");
  Gate gate;
  Submitted head = held.submit([&gate] { gate.WaitAnnounced(); });
  std::stop_source stop;
  Trace trace;
  auto task = [&](Workqueue& q) -> Task<> {
    auto call = q.submit(stop.get_token(), [] {});
    try {
      co_await call;
    } catch (const Cancelled&) {
      trace.Add(InWorker() ? "cancelled-in-worker" : "cancelled");
    }
  };
  start_detached(task(held));  // returns when the coroutine is suspended
  stop.request_stop();         // runs nobody's code but the queueing
  trace.Add("stopped");
  gate.Open();
  held.drain();
  EXPECT_EQ(trace.Text(), "stopped cancelled-in-worker");
}

// The first cancel queues the item again, to let the coroutine go on; the second must leave it
// there.
TEST_F(Coroutine, ASecondCancelDoesNotTakeBackTheFirst) {
  Workqueue held = Workqueue::ordered("held");
  Gate begun, gate;
  Submitted head = held.submit([&] {
    begun.Open();
    gate.WaitAnnounced();
  });
  begun.Wait();
  std::atomic<int> ends{0};
  auto call = held.submit([] { return 1; });
  auto task = [&]() -> Task<> {
    try {
      const int never = co_await call;
      ADD_FAILURE() << never;
    } catch (const Cancelled&) {
      ends.fetch_add(1);
    }
  };
  start_detached(task());
  EXPECT_TRUE(call.cancel());
  EXPECT_FALSE(call.cancel());
  gate.Open();
  held.drain();
  EXPECT_EQ(ends.load(), 1);
}

TEST_F(Coroutine, AnEmptyHandleIsCancelled) {
  auto task = []() -> Task<bool> {
    bool cancelled = false;
    Submission<int> none;
    try {
      const int never = co_await none;
      ADD_FAILURE() << never;
    } catch (const Cancelled&) {
      cancelled = true;
    }
    co_return cancelled;
  };
  EXPECT_TRUE(sync_wait(task()));
}

TEST_F(Coroutine, WaitsForTimeWithoutAThread) {
  auto task = [](Workqueue& q) -> Task<int> {
    int done = 0;
    const auto begin = std::chrono::steady_clock::now();
    for (const auto delay : {0ns, 1ns, 2'000'000ns, -5ns}) {
      const bool scheduled = co_await q.schedule_after(delay);
      done += scheduled ? 1 : 0;
      EXPECT_TRUE(InWorker());
    }
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 2ms);
    co_return done;
  };
  EXPECT_EQ(sync_wait(task(queue)), 4);
}

TEST_F(Coroutine, StopCutsADelayShort) {
  std::stop_source stop;
  Trace trace;
  auto task = [&](Workqueue& q) -> Task<> {
    const bool passed = co_await q.schedule_after(1h, stop.get_token());
    trace.Add(std::string(passed ? "passed" : "stopped") + (InWorker() ? "-in-worker" : ""));
  };
  start_detached(task(queue));
  stop.request_stop();
  queue.drain();
  EXPECT_EQ(trace.Text(), "stopped-in-worker");
}

TEST_F(Coroutine, StoppedBeforehandDoesNotSuspend) {
  std::stop_source stop;
  stop.request_stop();
  auto task = [&stop](Workqueue& q) -> Task<int> {
    const bool now = co_await q.schedule(stop.get_token());
    const bool later = co_await q.schedule_after(1h, stop.get_token());
    EXPECT_FALSE(InWorker());
    co_return (now ? 1 : 0) + (later ? 1 : 0);
  };
  EXPECT_EQ(sync_wait(task(queue)), 0);
}

TEST_F(Coroutine, AStoppedTurnIsKept) {
  Workqueue held = Workqueue::ordered("held");
  Gate gate;
  Submitted head = held.submit([&gate] { gate.WaitAnnounced(); });
  std::stop_source stop;
  Trace trace;
  auto task = [&](Workqueue& q) -> Task<> {
    const bool on = co_await q.schedule(stop.get_token());
    trace.Add(on ? "on" : InWorker() ? "stopped-in-worker" : "stopped");
  };
  start_detached(task(held));
  held.post([&trace] { trace.Add("next"); });
  stop.request_stop();
  gate.Open();
  held.drain();
  EXPECT_EQ(trace.Text(), "stopped-in-worker next");
}

TEST_F(Coroutine, UnusedTokensChangeNothing) {
  std::stop_source stop;
  auto task = [&stop](Workqueue& q) -> Task<int> {
    const bool a = co_await q.schedule(stop.get_token());
    const bool b = co_await q.schedule_after(1us, stop.get_token());
    const bool c = co_await q.schedule_after(1us, std::stop_token());
    co_return a + b + c;
  };
  EXPECT_EQ(sync_wait(task(queue)), 3);
}

// Stop against expiry, as close as it gets: each wait ends once, whichever wins.
TEST_F(Coroutine, StopRacesWithExpiry) {
  for (int i = 0; i < (kSanitized ? 200 : 1000); ++i) {
    std::stop_source stop;
    std::atomic<int> ends{0};
    auto task = [&](Workqueue& q, int delay) -> Task<> {
      co_await q.schedule_after(std::chrono::microseconds(delay), stop.get_token());
      ends.fetch_add(1);
    };
    start_detached(task(queue, i % 7 * 10));
    for (int spin = 0; spin < i % 13 * 50; ++spin)
      std::atomic_signal_fence(std::memory_order_seq_cst);
    stop.request_stop();
    Eventually([&ends] { return ends.load() > 0; });
    queue.flush();
    EXPECT_EQ(ends.load(), 1);
  }
}

// Stop from the coroutine's own worker, before and after.
TEST_F(Coroutine, StopsItself) {
  std::stop_source stop;
  auto task = [&stop](Workqueue& q) -> Task<bool> {
    co_await q.schedule_after(1us, stop.get_token());
    stop.request_stop();
    const bool second = co_await q.schedule_after(1h, stop.get_token());
    co_return second;
  };
  EXPECT_FALSE(sync_wait(task(queue)));
}

TEST_F(Coroutine, ADrainingQueueDoesNotTakeIt) {
  LogCapture log;
  Gate begun, gate;
  Submitted head = queue.submit([&] {
    begun.Open();
    gate.WaitAnnounced();
  });
  begun.Wait();
  std::thread drainer([this] { queue.drain(); });
  Eventually([this] { return !queue.post([] {}); });
  auto task = [](Workqueue& q) -> Task<int> {
    const bool now = co_await q.schedule();
    EXPECT_FALSE(InWorker());
    std::stop_source stop;
    const bool with_token = co_await q.schedule(stop.get_token());
    const bool later = co_await q.schedule_after(0s);
    const bool later_with_token = co_await q.schedule_after(0s, stop.get_token());
    co_return now + with_token + later + later_with_token;
  };
  EXPECT_EQ(sync_wait(task(queue)), 0);
  gate.Open();
  drainer.join();
}

// A timer on a queue that takes nothing any more: the stop itself must let the coroutine go on.
TEST_F(Coroutine, StopOnADrainingQueueCompletesInline) {
  LogCapture log;
  std::stop_source stop;
  bool ended = false;
  auto task = [&](Workqueue& q) -> Task<> {
    const bool passed = co_await q.schedule_after(1h, stop.get_token());
    EXPECT_FALSE(passed);
    ended = true;
  };
  start_detached(task(queue));
  Gate begun, gate;
  Submitted head = queue.submit([&] {
    begun.Open();
    gate.WaitAnnounced();
  });
  begun.Wait();
  std::thread drainer([this] { queue.drain(); });
  Eventually([this] { return !queue.post([] {}); });
  stop.request_stop();
  EXPECT_TRUE(ended);
  gate.Open();
  drainer.join();
}

// The frame is gone long before the suspending thread returns from queueing, often enough.
TEST_F(Coroutine, FramesThatEndAtOnce) {
  std::atomic<int> ended{0};
  auto task = [](Workqueue& q, std::atomic<int>& n) -> Task<> {
    co_await q.schedule();
    n.fetch_add(1);
  };
  const int count = kSanitized ? 500 : 5000;
  for (int i = 0; i < count; ++i) start_detached(task(queue, ended));
  queue.flush();
  Eventually([&] { return ended.load() == count; });
}

TEST_F(Coroutine, SyncWaitInAWorkerLetsOthersRun) {
  struct Nest {
    static Task<int> Depth(Workqueue& q, int n) {
      co_await q.schedule();
      int below = 0;
      if (n > 0) below = sync_wait(Depth(q, n - 1));
      co_return below + 1;
    }
  };
  EXPECT_EQ(sync_wait(Nest::Depth(queue, 20)), 21);
}

TEST(CoroutineDeathTest, AnExceptionOfADetachedTaskEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto task = []() -> Task<> {
    throw 1;
    co_return;
  };
  EXPECT_DEATH(start_detached(task()), "");
}

}  // namespace
}  // namespace cmwq::test

#endif
