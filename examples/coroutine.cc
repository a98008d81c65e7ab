// Coroutines that go on in workers: scheduling, delays, results of calls, stopping.
//
// Prints:
//   on the thread of main: 1
//   in a worker: 1
//   after a millisecond: 1
//   a call gave 42
//   stopped instead of waiting an hour: 1
//   sum 45
//   detached and done
#include <cmwq/task.hpp>
#include <cmwq/workqueue.hpp>

#include <chrono>
#include <cstdio>
#include <semaphore>
#include <stop_token>

using namespace std::chrono_literals;

namespace {

bool InWorker() { return cmwq_current_work() != nullptr; }

// Results of co_await get a name first: GCC 12 miscompiles it inside a condition.
cmwq::Task<int> Example(cmwq::Workqueue& queue, std::stop_token stop) {
  std::printf("on the thread of main: %d\n", !InWorker());
  const bool accepted = co_await queue.schedule();
  std::printf("in a worker: %d\n", accepted && InWorker());
  const bool passed = co_await queue.schedule_after(1ms);
  std::printf("after a millisecond: %d\n", passed);
  const int answer = co_await queue.submit([] { return 6 * 7; });
  std::printf("a call gave %d\n", answer);
  const bool hour = co_await queue.schedule_after(1h, stop);
  std::printf("stopped instead of waiting an hour: %d\n", !hour);
  int sum = 0;
  for (int i = 0; i < 10; ++i) {
    co_await queue.schedule();
    sum += i;
  }
  co_return sum;
}

cmwq::Task<> Detached(cmwq::Workqueue& queue, std::binary_semaphore& ended) {
  co_await queue.schedule();
  std::puts("detached and done");
  ended.release();
}

}  // namespace

int main() {
  cmwq::Workqueue queue("coroutine");
  if (!queue) {
    std::perror("cmwq::Workqueue");
    return 1;
  }
  std::stop_source stop;
  stop.request_stop();
  std::printf("sum %d\n", cmwq::sync_wait(Example(queue, stop.get_token())));

  std::binary_semaphore ended(0);
  cmwq::start_detached(Detached(queue, ended));
  ended.acquire();
  queue.drain();  // its last item ends behind release()
}
