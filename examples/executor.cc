// A workqueue as an executor, for code that is written to the interface of Asio's.
//
// Prints:
//   in a worker: 1
//   equal to another one of the queue: 1
//   1 2 3
//   belongs to another context, runs on the same queue: 1
#include <cmwq/executor.hpp>

#include <cstdio>

namespace {

// Stands for a library that knows nothing of cmwq.
template <class Executor, class F>
void RunThrice(const Executor& executor, F fn) {
  for (int i = 1; i <= 3; ++i) executor.execute([fn, i] { fn(i); });
}

struct Application {
  int id = 7;
};

}  // namespace

int main() {
  auto queue = cmwq::Workqueue::ordered("executor");  // in order: a strand
  if (!queue) {
    std::perror("cmwq::Workqueue");
    return 1;
  }
  const cmwq::Executor executor(queue);
  bool in_worker = false;
  executor.execute([&in_worker] { in_worker = cmwq_current_work() != nullptr; });
  queue.flush();
  std::printf("in a worker: %d\n", in_worker);
  std::printf("equal to another one of the queue: %d\n", executor == cmwq::Executor(queue));

  RunThrice(executor, [](int i) { std::printf("%d%c", i, i < 3 ? ' ' : '\n'); });
  queue.flush();

  Application application;
  const cmwq::BasicExecutor<Application> of_application = executor.with_context(application);
  bool same = false;
  of_application.execute([&same] { same = cmwq_current_work() != nullptr; });
  queue.flush();
  std::printf("belongs to another context, runs on the same queue: %d\n", same);
}
