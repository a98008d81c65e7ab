// Submission: results, exceptions, cancelling, stop tokens, refusals; who destroys what, and when.

#include <gtest/gtest.h>

#include <array>
#include <cmwq/workqueue.hpp>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/gate.h"
#include "tests/support/log_capture.h"

namespace cmwq::test {
namespace {

// Counts how many callables exist that hold one.
struct Counted {
  explicit Counted(std::atomic<int>* n) : live(n) { live->fetch_add(1); }
  Counted(const Counted& o) : live(o.live) { live->fetch_add(1); }
  Counted(Counted&& o) noexcept : live(o.live) { live->fetch_add(1); }
  ~Counted() { live->fetch_sub(1); }
  std::atomic<int>* live;
};

// One item at a time, the first one held: what is submitted next stays pending until Open.
class HeldQueue : public ::testing::Test {
 protected:
  HeldQueue() : queue(Workqueue::ordered("held")) {
    head = queue.submit([this] {
      begun.Open();
      gate.WaitAnnounced();
    });
    begun.Wait();
  }
  ~HeldQueue() override {
    gate.Open();
    queue.drain();
    EXPECT_EQ(callables.load(), 0);
  }
  Gate begun, gate;
  std::atomic<int> callables{0};
  Workqueue queue;
  Submitted head;
};

TEST(Submit, GivesTheResult) {
  Workqueue queue("submit");
  EXPECT_EQ(queue.submit([] { return 42; }).get(), 42);
  EXPECT_EQ(queue.submit([] { return std::string(100, 'x'); }).get(), std::string(100, 'x'));
  EXPECT_EQ(*queue.submit([] { return std::make_unique<int>(7); }).get(), 7);
  int here = 1;
  auto reference = queue.submit([&here]() -> int& { return here; });
  static_assert(std::is_same_v<decltype(reference.get()), int&>);
  EXPECT_EQ(&reference.get(), &here);
  static_assert(std::is_same_v<detail::KeptType<const int>, int>);
  static_assert(std::is_same_v<detail::KeptType<int&&>, int>);
  Submitted nothing = queue.submit([&here] { here = 2; });
  nothing.get();
  EXPECT_EQ(here, 2);
  EXPECT_FALSE(nothing);  // fetched
}

TEST(Submit, TakesMoveOnlyCallables) {
  Workqueue queue("submit");
  auto fn = [p = std::make_unique<int>(5)] { return *p; };
  EXPECT_EQ(queue.submit(std::move(fn)).get(), 5);
  struct OnlyOnce {
    int operator()() && { return 6; }
  };
  EXPECT_EQ(queue.submit(OnlyOnce()).get(), 6);
  Gate gate;
  EXPECT_TRUE(queue.post([p = std::make_unique<int>(5), &gate] { gate.Open(); }));
  gate.Wait();
}

TEST(Submit, ThrowsWhatTheCallThrew) {
  Workqueue queue("submit");
  auto call = queue.submit([]() -> int { throw std::runtime_error("no"); });
  EXPECT_TRUE(call.wait());  // executed, though without a value
  EXPECT_FALSE(call.cancelled());
  EXPECT_THROW(call.get(), std::runtime_error);
  EXPECT_FALSE(call);
  auto dropped = queue.submit([] { throw 1; });
  EXPECT_TRUE(dropped.wait());
  // A result whose move constructor throws is an exception of the call as well.
  struct Unmovable {
    Unmovable() = default;
    Unmovable(Unmovable&&) { throw 2; }
  };
  auto unmovable = queue.submit([] {
    Unmovable u;
    return Unmovable(std::move(u));
  });
  EXPECT_THROW(unmovable.get(), int);
}

TEST(Submit, TheWorkerSurvivesAnException) {
  Workqueue queue = Workqueue::ordered("submit");
  for (int i = 0; i < 100; ++i) {
    auto call = queue.submit([i]() -> int { throw i; });
    try {
      call.get();
      ADD_FAILURE();
    } catch (int thrown) {
      EXPECT_EQ(thrown, i);
    }
  }
}

TEST(Submit, AThrowingCopyLeavesNothingBehind) {
  struct Uncopyable {
    Uncopyable() = default;
    Uncopyable(const Uncopyable&) { throw 3; }
    void operator()() {}
  };
  Workqueue queue("submit");
  const Uncopyable fn;
  EXPECT_THROW((void)queue.submit(fn), int);
  EXPECT_THROW(queue.post(fn), int);
}

TEST(Submit, EmptyHandles) {
  LogCapture log;
  Submitted none;
  EXPECT_FALSE(none);
  EXPECT_FALSE(none.wait());
  EXPECT_FALSE(none.done());
  EXPECT_FALSE(none.cancel());
  EXPECT_THROW(none.get(), Cancelled);
  Workqueue no_queue;
  std::atomic<int> callables{0};
  EXPECT_FALSE(no_queue.submit([c = Counted(&callables)] {}));
  EXPECT_FALSE(no_queue.post([c = Counted(&callables)] {}));
  EXPECT_EQ(callables.load(), 0);
}

TEST(Submit, TheCallableIsGoneBeforeTheResultIsThere) {
  Workqueue queue("submit");
  std::atomic<int> callables{0};
  auto call = queue.submit([c = Counted(&callables)] { return 1; });
  EXPECT_TRUE(call.wait());
  EXPECT_EQ(callables.load(), 0);
  EXPECT_EQ(call.get(), 1);
}

TEST_F(HeldQueue, TheHandleMayGoFirst) {
  auto result = std::make_shared<int>(1);
  std::weak_ptr<int> seen = result;
  (void)queue.submit([r = std::move(result)] { return r; });
  EXPECT_FALSE(seen.expired());
  gate.Open();
  queue.flush();
  // The last share is dropped by the worker: the flush has seen its function return.
  EXPECT_TRUE(seen.expired());
}

TEST_F(HeldQueue, CancelTakesAPendingCallBack) {
  std::atomic<bool> ran{false};
  auto call = queue.submit([&ran, c = Counted(&callables)] { ran = true; });
  EXPECT_EQ(callables.load(), 1);
  EXPECT_FALSE(call.done());
  EXPECT_TRUE(call.cancel());
  EXPECT_EQ(callables.load(), 0);
  EXPECT_FALSE(call.cancel());
  EXPECT_TRUE(call.done());
  EXPECT_TRUE(call.cancelled());
  EXPECT_FALSE(call.wait());
  EXPECT_THROW(call.get(), Cancelled);
  gate.Open();
  queue.flush();
  EXPECT_FALSE(ran.load());
}

TEST_F(HeldQueue, CancelWakesWaiters) {
  auto call = queue.submit([] {});
  std::thread waiter;
  {
    // The waiter owns the handle; this thread cancels by a token.
    std::stop_source stop;
    auto stopped = queue.submit(stop.get_token(), [] {});
    waiter = std::thread([&stopped] { EXPECT_FALSE(stopped.wait()); });
    EXPECT_TRUE(stop.request_stop());
    waiter.join();
  }
  EXPECT_TRUE(call.cancel());
}

TEST_F(HeldQueue, CancelOfARunningCallFails) {
  EXPECT_FALSE(head.cancel());
  EXPECT_FALSE(head.done());
  gate.Open();
  EXPECT_TRUE(head.wait());
  EXPECT_FALSE(head.cancelled());
}

TEST_F(HeldQueue, StopCancelsAPendingCall) {
  std::stop_source stop;
  auto call = queue.submit(stop.get_token(), [c = Counted(&callables)] { return 1; });
  EXPECT_FALSE(call.done());
  stop.request_stop();
  EXPECT_TRUE(call.cancelled());
  EXPECT_EQ(callables.load(), 0);
  EXPECT_THROW(call.get(), Cancelled);
}

// The callback then drops the last share, and is destroyed while it runs.
TEST_F(HeldQueue, StopAfterTheHandleIsGone) {
  std::stop_source stop;
  (void)queue.submit(stop.get_token(), [c = Counted(&callables)] {});
  EXPECT_EQ(callables.load(), 1);
  stop.request_stop();
  EXPECT_EQ(callables.load(), 0);
}

TEST_F(HeldQueue, StoppedBeforehandIsNotQueued) {
  std::stop_source stop;
  stop.request_stop();
  auto call = queue.submit(stop.get_token(), [c = Counted(&callables)] {});
  EXPECT_TRUE(call);
  EXPECT_TRUE(call.cancelled());
  EXPECT_EQ(callables.load(), 0);
}

TEST_F(HeldQueue, OneStopForMany) {
  std::stop_source stop;
  std::vector<Submission<int>> calls;
  for (int i = 0; i < 20; ++i) {
    calls.push_back(queue.submit(stop.get_token(), [i, c = Counted(&callables)] { return i; }));
  }
  stop.request_stop();
  for (auto& call : calls) EXPECT_TRUE(call.cancelled());
}

TEST(Submit, TheCallGetsTheTokenIfItTakesOne) {
  Workqueue queue("submit");
  std::stop_source stop;
  Gate begun;
  auto call = queue.submit(stop.get_token(), [&begun](std::stop_token token) {
    begun.Open();
    Eventually([&token] { return token.stop_requested(); });
    return 9;
  });
  begun.Wait();
  stop.request_stop();  // too late to cancel, but it is told
  EXPECT_EQ(call.get(), 9);
  EXPECT_EQ(queue.submit(std::stop_token(), [] { return 1; }).get(), 1);
}

TEST_F(HeldQueue, ADrainingQueueRefuses) {
  LogCapture log;
  std::thread drainer([this] { queue.drain(); });
  // The head is running: the drain waits for it, and refuses from its first moment on.
  Eventually([this] { return !queue.post([] {}); });
  EXPECT_FALSE(queue.submit([c = Counted(&callables)] {}));
  std::stop_source stop;
  EXPECT_FALSE(queue.submit(stop.get_token(), [c = Counted(&callables)] {}));
  EXPECT_FALSE(queue.post([c = Counted(&callables)] {}));
  EXPECT_EQ(callables.load(), 0);
  gate.Open();
  drainer.join();
}

TEST(Submit, ItemsOfADrainingQueueMaySubmit) {
  Workqueue queue("submit");
  Gate begun, go;
  std::atomic<int> inner{0};
  auto outer = queue.submit([&] {
    begun.Open();
    go.WaitAnnounced();
    return queue.submit([&inner] { return ++inner; }).get();
  });
  begun.Wait();
  LogCapture log;
  std::thread drainer([&queue] { queue.drain(); });
  Eventually([&queue] { return !queue.post([] {}); });
  go.Open();
  drainer.join();
  EXPECT_EQ(outer.get(), 1);
}

TEST(Submit, TheHandleMayOutliveTheQueue) {
  Submission<std::string> call;
  {
    Workqueue queue("submit");
    call = queue.submit([] { return std::string("kept"); });
  }
  EXPECT_TRUE(call.done());
  EXPECT_FALSE(call.cancel());
  EXPECT_EQ(call.get(), "kept");
}

TEST(Submit, WaitingInACallLetsOthersRun) {
  Workqueue queue("submit");
  // Deeper than there are CPUs: each waits for the next.
  struct Nest {
    static int Depth(Workqueue& queue, int n) {
      return n == 0 ? 0 : 1 + queue.submit([&queue, n] { return Depth(queue, n - 1); }).get();
    }
  };
  EXPECT_EQ(Nest::Depth(queue, 32), 32);
}

TEST(Submit, ACallThatWaitsForItselfIsTold) {
  LogCapture log;
  Workqueue queue("submit");
  Submitted self;
  Gate ready;
  bool waited = true;
  self = queue.submit([&] {
    ready.WaitAnnounced();
    waited = self.wait();
  });
  ready.Open();
  queue.flush();
  EXPECT_FALSE(waited);
  EXPECT_TRUE(self.wait());
  EXPECT_EQ(log.Take().size(), 1u);
}

TEST(Submit, ManyWaitersOnManyCalls) {
  Workqueue queue("submit");
  std::vector<Submission<int>> calls;
  for (int i = 0; i < 1000; ++i) calls.push_back(queue.submit([i] { return i; }));
  std::array<std::thread, 4> threads;
  std::atomic<int> sum{0};
  for (size_t t = 0; t < threads.size(); ++t) {
    threads[t] = std::thread([&, t] {
      for (size_t i = t; i < calls.size(); i += threads.size()) sum += calls[i].get();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(sum.load(), 999 * 1000 / 2);
}

using SubmitDeathTest = ::testing::Test;

TEST(SubmitDeathTest, AnExceptionOfAPostedCallEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Workqueue queue("post");
        queue.post([] { throw 1; });
        queue.flush();
      },
      "");
}

}  // namespace
}  // namespace cmwq::test
