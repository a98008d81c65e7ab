// Executor by itself, and against properties in the shape of Asio's.

#include <gtest/gtest.h>

#include <any>
#include <cmwq/executor.hpp>
#include <memory>
#include <thread>

#include "tests/support/gate.h"
#include "tests/support/log_capture.h"

namespace cmwq::test {
namespace {

// As in asio/execution/{blocking,context,occupancy}.hpp, without what is not looked at.
struct blocking_t {
  struct possibly_t {
    using polymorphic_query_result_type = blocking_t;
    static constexpr bool is_requirable = true, is_preferable = true;
  };
  struct always_t {
    using polymorphic_query_result_type = blocking_t;
    static constexpr bool is_requirable = true, is_preferable = false;
  };
  struct never_t {
    using polymorphic_query_result_type = blocking_t;
    static constexpr bool is_requirable = true, is_preferable = true;
  };
  using polymorphic_query_result_type = blocking_t;
  static constexpr bool is_requirable = false, is_preferable = false;
  constexpr blocking_t() = default;
  constexpr blocking_t(possibly_t) : value(0) {}
  constexpr blocking_t(always_t) : value(1) {}
  constexpr blocking_t(never_t) : value(2) {}
  int value = -1;
};
struct context_t {
  using polymorphic_query_result_type = std::any;
  static constexpr bool is_requirable = false, is_preferable = false;
};
struct occupancy_t {
  using polymorphic_query_result_type = size_t;
  static constexpr bool is_requirable = false, is_preferable = false;
};
struct unknown_t {};

template <class E, class P, class = void>
inline constexpr bool kAnswers = false;
template <class E, class P>
inline constexpr bool
    kAnswers<E, P, std::void_t<decltype(std::declval<const E&>().query(std::declval<P>()))>> = true;

static_assert(Executor::query(blocking_t()).value == 2);
static_assert(Executor::query(blocking_t::never_t()).value == 2);
static_assert(!kAnswers<Executor, blocking_t::always_t>);
static_assert(!kAnswers<Executor, blocking_t::possibly_t>);
static_assert(!kAnswers<Executor, occupancy_t>);
static_assert(!kAnswers<Executor, unknown_t>);
static_assert(kAnswers<Executor, context_t>);
static_assert(std::is_nothrow_copy_constructible_v<Executor> &&
              std::is_nothrow_destructible_v<Executor> && std::is_copy_assignable_v<Executor>);

TEST(Executor, ExecutesOnce) {
  Workqueue queue("executor");
  const Executor executor(queue);
  Gate done;
  executor.execute([p = std::make_unique<int>(1), &done] {
    EXPECT_NE(cmwq_current_work(), nullptr);
    done.Open();
  });
  done.Wait();
  std::atomic<int> runs{0};
  const auto lvalue = [&runs] { ++runs; };
  executor.execute(lvalue);
  executor.execute(lvalue);
  queue.drain();
  EXPECT_EQ(runs.load(), 2);
}

TEST(Executor, ComparesAndTellsItsContext) {
  Workqueue queue("executor"), other("executor");
  const Executor executor(queue);
  EXPECT_TRUE(executor == Executor(queue));
  EXPECT_TRUE(executor != Executor(other));
  EXPECT_EQ(&executor.query(context_t()), queue.get());
  int context = 0, another = 0;
  const auto with = executor.with_context(context);
  EXPECT_EQ(&with.query(context_t()), &context);
  EXPECT_TRUE(with == executor.with_context(context));
  EXPECT_TRUE(with != executor.with_context(another));
}

TEST(Executor, ADrainingQueueDestroysTheFunction) {
  LogCapture log;
  Workqueue queue("executor");
  Gate begun, gate;
  queue.post([&] {
    begun.Open();
    gate.WaitAnnounced();
  });
  begun.Wait();
  std::thread drainer([&queue] { queue.drain(); });
  Eventually([&queue] { return !queue.post([] {}); });
  auto held = std::make_shared<int>(0);
  std::weak_ptr<int> seen = held;
  Executor(queue).execute([h = std::move(held)] { ADD_FAILURE(); });
  EXPECT_TRUE(seen.expired());
  gate.Open();
  drainer.join();
}

}  // namespace
}  // namespace cmwq::test
