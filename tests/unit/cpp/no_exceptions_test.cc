// The headers compiled with -fno-exceptions -fno-rtti: all but what is thrown works. No GoogleTest,
// which wants both.

#include <cmwq/async_io.hpp>
#include <cmwq/blocking.hpp>
#include <cmwq/executor.hpp>
#include <cmwq/sender.hpp>
#include <cmwq/task.hpp>
#include <cmwq/workqueue.hpp>
#include <cstdio>
#include <cstdlib>

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "this test is about builds without them"
#endif

namespace {

void Expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}
#define EXPECT(condition) Expect((condition), #condition)

void Calls(cmwq::Workqueue& queue) {
  auto call = queue.submit([] { return 5; });
  EXPECT(call.wait());
  EXPECT(call.get() == 5);
  std::atomic<int> runs{0};
  EXPECT(queue.post([&runs] { ++runs; }));
  const cmwq::Executor executor(queue);
  executor.execute([&runs] { ++runs; });
  queue.flush();
  EXPECT(runs.load() == 2);
}

struct Receiver {
  void set_value() && noexcept { completed->store(true); }
  void set_stopped() && noexcept {}
  std::atomic<bool>* completed;
};

void Senders(cmwq::Workqueue& queue) {
  std::atomic<bool> completed{false};
  auto operation = cmwq::Scheduler(queue).schedule().connect(Receiver{&completed});
  operation.start();
  queue.flush();
  EXPECT(completed.load());
}

#if defined(__cpp_impl_coroutine) && defined(__cpp_lib_jthread)

cmwq::Task<int> Inner(cmwq::Workqueue& queue) {
  co_await queue.schedule();
  const int got = co_await queue.submit([] { return 4; });
  co_await queue.schedule_after(std::chrono::microseconds(1));
  const cmwq::io::Result bad = co_await cmwq::io::async_fsync(queue, -1);
  co_return bad ? 0 : got;
}

cmwq::Task<> Outer(cmwq::Workqueue& queue, int& out) {
  const int got = co_await Inner(queue);
  out = got;
}

void Coroutines(cmwq::Workqueue& queue) {
  int out = 0;
  cmwq::sync_wait(Outer(queue, out));
  EXPECT(out == 4);
  std::stop_source stop;
  stop.request_stop();
  auto call = queue.submit(stop.get_token(), [] { return 1; });
  EXPECT(call.cancelled());
  EXPECT(!call.wait());
}

#else

void Coroutines(cmwq::Workqueue&) {}

#endif

}  // namespace

int main() {
  cmwq::Workqueue queue("no_exceptions");
  EXPECT(static_cast<bool>(queue));
  Calls(queue);
  Senders(queue);
  Coroutines(queue);
}
