// A workqueue as a scheduler of senders, in the shape of C++26.
//
// Prints:
//   set_value in a worker: 1
//   set_value in a worker: 1
//   stoppable: 1
//   set_stopped
//   the sender names its scheduler: 1
#include <cmwq/sender.hpp>

#include <chrono>
#include <cstdio>
#include <semaphore>
#include <stop_token>

using namespace std::chrono_literals;

namespace {

// What a receiver offers besides: the token that stops it.
struct Environment {
  std::stop_token query(cmwq::get_stop_token_t) const noexcept { return token; }
  std::stop_token token;
};

struct Receiver {
  void set_value() && noexcept {
    std::printf("set_value in a worker: %d\n", cmwq_current_work() != nullptr);
    ended->release();
  }
  void set_stopped() && noexcept {
    std::puts("set_stopped");
    ended->release();
  }
  Environment get_env() const noexcept { return {token}; }

  std::binary_semaphore* ended;
  std::stop_token token = {};
};

}  // namespace

int main() {
  cmwq::Workqueue queue("sender");
  if (!queue) {
    std::perror("cmwq::Workqueue");
    return 1;
  }
  const cmwq::Scheduler scheduler(queue);
  std::binary_semaphore ended(0);

  auto now = scheduler.schedule().connect(Receiver{&ended});
  now.start();  // `now` must live until one of the two was called
  ended.acquire();

  auto later = scheduler.schedule_after(1ms).connect(Receiver{&ended});
  later.start();
  ended.acquire();

  std::stop_source stop;
  const Environment environment = Receiver{&ended, stop.get_token()}.get_env();
  std::printf("stoppable: %d\n", environment.query(cmwq::get_stop_token).stop_possible());
  auto never = scheduler.schedule_after(1h).connect(Receiver{&ended, stop.get_token()});
  never.start();
  stop.request_stop();
  ended.acquire();
  queue.drain();  // the last release() may still be under way in the worker

  const auto env = scheduler.schedule().get_env();
  std::printf("the sender names its scheduler: %d\n",
              env.query(cmwq::get_scheduler) == scheduler &&
                  env.query(cmwq::get_completion_scheduler) == scheduler);
}
