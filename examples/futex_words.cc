// cmwq::futex: waiting for atomics. Compiles as C++17 too.
//
// Prints:
//   the first is done
//   nobody came in time: 1
//   nobody came by the deadline: 1
//   both were let go
#include <cmwq/futex.hpp>
#include <cmwq/workqueue.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>

using namespace std::chrono_literals;
using cmwq::futex::Status;

int main() {
  cmwq::Workqueue queue("futex");
  if (!queue) {
    std::perror("futex");
    return 1;
  }

  std::atomic<uint32_t> done{0};
  cmwq::Work first([&] {
    done = 1;
    cmwq::futex::wake_one(done);
  });
  queue.queue(first);
  while (done.load() == 0) {
    if (cmwq::futex::wait(done, 0) == Status::kChanged) break;
  }
  std::puts("the first is done");

  cmwq::Work late([&] {
    const Status timed = cmwq::futex::wait_for(done, 1, 1ms);
    std::printf("nobody came in time: %d\n", timed == Status::kTimeout);
    const auto deadline = std::chrono::steady_clock::now() + 1ms;
    const Status until = cmwq::futex::wait_until(done, 1, deadline);
    std::printf("nobody came by the deadline: %d\n", until == Status::kTimeout);
  });
  queue.queue(late);
  late.flush();

  std::atomic<uint32_t> gate{0};
  const auto pass = [&gate] {
    while (gate.load() == 0) cmwq::futex::wait(gate, 0);
  };
  cmwq::Work a(pass), b(pass);
  queue.queue(a);
  queue.queue(b);
  gate = 1;
  cmwq::futex::wake_all(gate);
  a.flush();
  b.flush();
  std::puts("both were let go");
}
