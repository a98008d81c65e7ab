// Calls that are submitted once, with a handle to wait for them.
//
// Prints:
//   accepted: 1
//   done: 1, sum 500500
//   an empty queue object: 0
#include <cmwq/workqueue.hpp>

#include <cstdio>
#include <numeric>
#include <vector>

int main() {
  cmwq::Workqueue queue("submit");
  if (!queue) {
    std::perror("cmwq::Workqueue");
    return 1;
  }
  std::vector<int> numbers(1000);
  std::iota(numbers.begin(), numbers.end(), 1);
  int sum = 0;
  cmwq::Submitted call =
      queue.submit([&] { sum = std::accumulate(numbers.begin(), numbers.end(), 0); });
  std::printf("accepted: %d\n", static_cast<bool>(call));
  call.wait();
  std::printf("done: %d, sum %d\n", call.done(), sum);

  const cmwq::Workqueue nothing;
  std::printf("an empty queue object: %d\n", static_cast<bool>(nothing));
}
