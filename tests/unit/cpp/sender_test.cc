// Scheduler, senders and operations with a receiver written by hand.

#include <gtest/gtest.h>

#include <cmwq/sender.hpp>
#include <memory>
#include <optional>
#include <thread>

#include "tests/support/gate.h"
#include "tests/support/log_capture.h"
#include "tests/support/sanitizer.h"

namespace cmwq::test {
namespace {

using namespace std::chrono_literals;

struct Outcome {
  Trace trace;
  std::atomic<int> calls{0};
  void Add(const char* what) {
    trace.Add(std::string(what) + (cmwq_current_work() != nullptr ? "-in-worker" : ""));
    calls.fetch_add(1);
  }
};

struct PlainReceiver {
  void set_value() && noexcept { outcome->Add("value"); }
  void set_stopped() && noexcept { outcome->Add("stopped"); }
  Outcome* outcome;
};

// A token that is not of the standard library, and its environment.
template <class Token>
struct Env {
  Token query(get_stop_token_t) const noexcept { return token; }
  Token token;
};
template <class Token>
struct Receiver : PlainReceiver {
  Receiver(Outcome* o, Token t) : PlainReceiver{o}, token(std::move(t)) {}
  Env<Token> get_env() const noexcept { return {token}; }
  Token token;
};

// The shape.
template <class S, class R>
using OperationOf = decltype(std::declval<S>().connect(std::declval<R>()));
using Plain = OperationOf<Scheduler::Sender, PlainReceiver>;
static_assert(noexcept(std::declval<Plain&>().start()));
static_assert(!std::is_move_constructible_v<Plain> && !std::is_copy_constructible_v<Plain>);
static_assert(!std::is_move_constructible_v<OperationOf<Scheduler::DelayedSender, PlainReceiver>>);
static_assert(std::is_same_v<decltype(std::declval<const Scheduler&>().schedule().get_env().query(
                                 get_completion_scheduler)),
                             Scheduler>);
static_assert(std::is_nothrow_copy_constructible_v<Scheduler>);
static_assert(std::is_nothrow_move_constructible_v<Scheduler::Sender>);

TEST(Sender, CompletesInAWorker) {
  Workqueue queue("sender");
  Outcome outcome;
  auto now = Scheduler(queue).schedule().connect(PlainReceiver{&outcome});
  auto later = Scheduler(queue).schedule_after(1ms).connect(PlainReceiver{&outcome});
  now.start();
  Eventually([&] { return outcome.calls.load() == 1; });
  later.start();
  Eventually([&] { return outcome.calls.load() == 2; });
  queue.flush();
  EXPECT_EQ(outcome.trace.Text(), "value-in-worker value-in-worker");
}

TEST(Sender, EnvironmentsNameTheScheduler) {
  Workqueue queue("sender"), other("sender");
  const Scheduler scheduler(queue);
  EXPECT_TRUE(scheduler.schedule().get_env().query(get_completion_scheduler) == scheduler);
  EXPECT_TRUE(scheduler.schedule_after(1s).get_env().query(get_scheduler) == scheduler);
  EXPECT_TRUE(scheduler != Scheduler(other));
}

struct Box;
struct Owner {
  void set_value() && noexcept { Free(); }
  void set_stopped() && noexcept { Free(); }
  void Free() noexcept;
  Box* box;
  std::atomic<int>* ended;
};
struct Box {
  Box(Workqueue& queue, std::atomic<int>* ended)
      : operation(Scheduler(queue).schedule().connect(Owner{this, ended})) {}
  ScheduleOperation<Owner> operation;
};
void Owner::Free() noexcept {
  auto* const counter = ended;
  delete box;  // and this receiver
  counter->fetch_add(1);
}

// The operation is gone when set_value returns, and before start does, often enough.
TEST(Sender, TheReceiverMayDestroyTheOperation) {
  Workqueue queue("sender");
  std::atomic<int> ended{0};
  const int count = kSanitized ? 200 : 2000;
  for (int i = 0; i < count; ++i) (new Box(queue, &ended))->operation.start();
  Eventually([&] { return ended.load() == count; });
}

TEST(Sender, ADrainingQueueStops) {
  LogCapture log;
  Workqueue queue("sender");
  Gate begun, gate;
  queue.post([&] {
    begun.Open();
    gate.WaitAnnounced();
  });
  begun.Wait();
  std::thread drainer([&queue] { queue.drain(); });
  Eventually([&queue] { return !queue.post([] {}); });
  Outcome outcome;
  auto now = Scheduler(queue).schedule().connect(PlainReceiver{&outcome});
  auto later = Scheduler(queue).schedule_after(0s).connect(PlainReceiver{&outcome});
  now.start();
  later.start();
  EXPECT_EQ(outcome.trace.Text(), "stopped stopped");
  gate.Open();
  drainer.join();
}

#if defined(__cpp_lib_jthread)

using Stoppable = Receiver<std::stop_token>;

TEST(Sender, StoppedBeforehand) {
  Workqueue queue("sender");
  std::stop_source stop;
  stop.request_stop();
  Outcome outcome;
  auto now = Scheduler(queue).schedule().connect(Stoppable(&outcome, stop.get_token()));
  auto later = Scheduler(queue).schedule_after(1h).connect(Stoppable(&outcome, stop.get_token()));
  now.start();
  later.start();
  EXPECT_EQ(outcome.trace.Text(), "stopped stopped");
}

TEST(Sender, StopWhilePending) {
  Workqueue queue = Workqueue::ordered("sender");
  std::stop_source stop;
  Outcome outcome;
  Gate begun, gate;
  queue.post([&] {
    begun.Open();
    gate.WaitAnnounced();
  });
  begun.Wait();
  auto now = Scheduler(queue).schedule().connect(Stoppable(&outcome, stop.get_token()));
  auto later = Scheduler(queue).schedule_after(1h).connect(Stoppable(&outcome, stop.get_token()));
  now.start();
  later.start();
  stop.request_stop();
  EXPECT_EQ(outcome.calls.load(), 0);
  gate.Open();
  queue.drain();
  EXPECT_EQ(outcome.trace.Text(), "stopped-in-worker stopped-in-worker");
}

// Any token with callback_type will do.
struct ForeignToken {
  bool stop_requested() const noexcept { return token.stop_requested(); }
  bool stop_possible() const noexcept { return token.stop_possible(); }
  template <class F>
  struct callback_type {
    callback_type(ForeignToken t, F f) noexcept : callback(t.token, std::move(f)) {}
    std::stop_callback<F> callback;
  };
  std::stop_token token;
};

// The stop comes just after start() has asked for it, before the item is queued.
struct LateToken {
  bool stop_requested() const noexcept { return *stopped; }
  bool stop_possible() const noexcept { return true; }
  template <class F>
  struct callback_type {
    callback_type(LateToken token, F f) noexcept {
      *token.stopped = true;
      f();
    }
  };
  bool* stopped;
};

TEST(Sender, AStopBeforeTheQueueingIsNotLost) {
  Workqueue queue("sender");
  Outcome outcome;
  bool stopped = false;
  auto later = Scheduler(queue).schedule_after(1h).connect(
      Receiver<LateToken>(&outcome, LateToken{&stopped}));
  later.start();
  EXPECT_EQ(outcome.trace.Text(), "stopped");
}

// Tells when its callback is taken off.
struct TracingToken {
  static constexpr bool stop_requested() noexcept { return false; }
  static constexpr bool stop_possible() noexcept { return true; }
  template <class F>
  struct callback_type {
    callback_type(TracingToken t, F) noexcept : outcome(t.outcome) {}
    ~callback_type() { outcome->Add("deregistered"); }
    Outcome* outcome;
  };
  Outcome* outcome;
};

// A stop in another thread may be at work on the item until its callback is taken off.
TEST(Sender, TheReceiverIsCalledWhenNoStopCanTouchTheItem) {
  Workqueue queue("sender");
  Outcome outcome;
  auto later = Scheduler(queue).schedule_after(1us).connect(
      Receiver<TracingToken>(&outcome, TracingToken{&outcome}));
  later.start();
  Eventually([&] { return outcome.calls.load() == 2; });
  queue.flush();
  EXPECT_EQ(outcome.trace.Text(), "deregistered-in-worker value-in-worker");
}

TEST(Sender, ForeignTokens) {
  Workqueue queue("sender");
  std::stop_source stop;
  Outcome outcome;
  auto later = Scheduler(queue).schedule_after(1h).connect(
      Receiver<ForeignToken>(&outcome, ForeignToken{stop.get_token()}));
  later.start();
  stop.request_stop();
  Eventually([&] { return outcome.calls.load() == 1; });
  queue.flush();
  EXPECT_EQ(outcome.trace.Text(), "stopped-in-worker");
}

#endif

}  // namespace
}  // namespace cmwq::test
