// Calls that are submitted once: their results, exceptions, cancelling.
//
// Prints:
//   6 * 7 = 42
//   thrown: no luck
//   executed: 1, done: 1
//   taken back: 1, cancelled: 1, executed: 0
//   cmwq: the call was cancelled
//   stopped: 0
//   posted: 1, executed: 1
//   an empty queue object: 0
#include <cmwq/workqueue.hpp>

#include <cstdio>
#include <semaphore>
#include <stdexcept>
#include <stop_token>

int main() {
  auto queue = cmwq::Workqueue::ordered("submit");
  if (!queue) {
    std::perror("cmwq::Workqueue");
    return 1;
  }

  cmwq::Submission<int> product = queue.submit([] { return 6 * 7; });
  std::printf("6 * 7 = %d\n", product.get());

  auto thrower = queue.submit([]() -> int { throw std::runtime_error("no luck"); });
  try {
    std::printf("%d\n", thrower.get());
  } catch (const std::runtime_error& e) {
    std::printf("thrown: %s\n", e.what());
  }

  // Behind a call that waits, the next ones of an ordered queue do not begin.
  std::binary_semaphore go_on(0);
  cmwq::Submitted first = queue.submit([&go_on] { go_on.acquire(); });
  auto second = queue.submit([] { return 2; });
  std::stop_source stop;
  auto third = queue.submit(stop.get_token(), [](std::stop_token token) {
    return token.stop_requested() ? 0 : 1;
  });
  const bool taken_back = second.cancel();
  stop.request_stop();
  go_on.release();
  const bool executed = first.wait();
  std::printf("executed: %d, done: %d\n", executed, first.done());
  const bool cancelled = second.cancelled();
  std::printf("taken back: %d, cancelled: %d, executed: %d\n", taken_back, cancelled, second.wait());
  try {
    std::printf("%d\n", second.get());
  } catch (const cmwq::Cancelled& e) {
    std::printf("%s\n", e.what());
  }
  std::printf("stopped: %d\n", third.wait());

  // A call that nobody asks about.
  int calls = 0;
  const bool posted = queue.post([&calls] { ++calls; });
  queue.flush();
  std::printf("posted: %d, executed: %d\n", posted, calls);

  const cmwq::Workqueue nothing;
  std::printf("an empty queue object: %d\n", static_cast<bool>(nothing));
}
