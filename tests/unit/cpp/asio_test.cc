// Executor against Asio itself (libasio-dev, a dependency of this test only).

#include <gtest/gtest.h>

#include <asio.hpp>
#include <cmwq/executor.hpp>
#include <cmwq/io.hpp>

#include "tests/support/gate.h"

namespace cmwq::test {
namespace {

using IoExecutor = BasicExecutor<asio::io_context>;

static_assert(asio::execution::is_executor_v<Executor>);
static_assert(asio::execution::is_executor_v<IoExecutor>);
static_assert(asio::can_require_v<Executor, asio::execution::blocking_t::never_t>);
static_assert(!asio::can_require_v<Executor, asio::execution::blocking_t::always_t>);
static_assert(!asio::can_require_v<Executor, asio::execution::blocking_t::possibly_t>);
static_assert(asio::can_prefer_v<Executor, asio::execution::outstanding_work_t::tracked_t>);
static_assert(asio::can_query_v<Executor, asio::execution::context_t>);
static_assert(!asio::can_query_v<Executor, asio::execution::occupancy_t>);
static_assert(std::is_same_v<decltype(asio::query(std::declval<const IoExecutor&>(),
                                                  asio::execution::context)),
                             asio::io_context&>);
static_assert(std::is_convertible_v<IoExecutor, asio::any_io_executor>);

TEST(Asio, AsksForProperties) {
  Workqueue queue("asio");
  const Executor executor(queue);
  EXPECT_TRUE(asio::query(executor, asio::execution::blocking) == asio::execution::blocking.never);
  EXPECT_TRUE(asio::require(executor, asio::execution::blocking.never) == executor);
  EXPECT_TRUE(asio::prefer(executor, asio::execution::blocking.possibly) == executor);
  EXPECT_EQ(&asio::query(executor, asio::execution::context), queue.get());
}

TEST(Asio, PostsDispatchesDefers) {
  Workqueue queue("asio");
  const Executor executor(queue);
  std::atomic<int> runs{0};
  const auto count = [&runs] { runs += cmwq_current_work() != nullptr ? 1 : 100; };
  asio::post(executor, count);
  asio::dispatch(executor, count);
  asio::defer(executor, count);
  queue.drain();
  EXPECT_EQ(runs.load(), 3);
}

TEST(Asio, FuturesOfPostedCalls) {
  Workqueue queue("asio");
  const Executor executor(queue);
  asio::post(executor, asio::use_future).get();
  auto result = asio::post(executor, asio::use_future([] { return 5; }));
  EXPECT_EQ(result.get(), 5);
}

TEST(Asio, AStrandOfAsioOnTheQueue) {
  asio::io_context io;  // before the queue, which ends with the last handler: handlers use their context
  Workqueue queue("asio");
  auto strand = asio::make_strand(Executor(queue).with_context(io));
  int unguarded = 0;
  for (int i = 0; i < 1000; ++i) asio::post(strand, [&unguarded] { ++unguarded; });
  asio::post(strand, asio::use_future).get();
  EXPECT_EQ(unguarded, 1000);
}

TEST(Asio, HandlersOfAnIoContextInWorkers) {
  asio::io_context io;  // before the queue, which ends with the last handler: handlers use their context
  Workqueue queue("asio");
  asio::steady_timer timer(io, std::chrono::milliseconds(1));
  Gate done;
  timer.async_wait(asio::bind_executor(Executor(queue), [&done](asio::error_code error) {
    EXPECT_FALSE(error);
    EXPECT_NE(cmwq_current_work(), nullptr);
    done.Open();
  }));
  io.run();
  done.Wait();
}

TEST(Asio, TypeErased) {
  asio::io_context io;  // before the queue, which ends with the last handler: handlers use their context
  Workqueue queue("asio");
  const asio::any_io_executor erased = Executor(queue).with_context(io);
  EXPECT_TRUE(erased == asio::any_io_executor(Executor(queue).with_context(io)));
  EXPECT_EQ(&asio::query(erased, asio::execution::context), &io);
  asio::post(erased, asio::use_future).get();
}

#if defined(ASIO_HAS_CO_AWAIT)

asio::awaitable<int, Executor> Answer() {
  EXPECT_NE(cmwq_current_work(), nullptr);
  co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable_t<Executor>());
  cmwq_io_sleep(1000);  // handlers may block
  co_return 42;
}
asio::awaitable<int, Executor> Throws() {
  throw std::runtime_error("no");
  co_return 0;
}
asio::awaitable<int> Erased() { co_return 43; }

TEST(Asio, SpawnsCoroutines) {
  asio::io_context io;  // before the queue, which ends with the last handler: handlers use their context
  Workqueue queue("asio");
  const Executor executor(queue);
  EXPECT_EQ(asio::co_spawn(executor, Answer(), asio::use_future).get(), 42);
  EXPECT_THROW(asio::co_spawn(executor, Throws(), asio::use_future).get(), std::runtime_error);
  const asio::any_io_executor erased = executor.with_context(io);
  EXPECT_EQ(asio::co_spawn(erased, Erased(), asio::use_future).get(), 43);
}

#endif

}  // namespace
}  // namespace cmwq::test
