// A coroutine that goes on in a worker.
//
// Prints:
//   on the thread of main
//   in a worker: 1
#include <cmwq/workqueue.hpp>

#include <coroutine>
#include <cstdio>
#include <exception>
#include <semaphore>

namespace {

// The smallest coroutine type: begins at once, frees itself.
struct Detached {
  struct promise_type {
    Detached get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
};

Detached Example(cmwq::Workqueue& queue, std::binary_semaphore& ended) {
  std::puts("on the thread of main");
  const bool accepted = co_await queue.schedule();
  std::printf("in a worker: %d\n", accepted && cmwq_current_work() != nullptr);
  ended.release();
}

}  // namespace

int main() {
  cmwq::Workqueue queue("coroutine");
  if (!queue) {
    std::perror("cmwq::Workqueue");
    return 1;
  }
  std::binary_semaphore ended(0);
  Example(queue, ended);
  ended.acquire();
}
