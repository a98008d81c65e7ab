// The C interface's queues and items as C++ objects: nothing is allocated, everything is cleaned up.
//
// Prints:
//   queued: 1, executed: 1
//   in order: abc
//   cancelled: 1
//   disabled: 1, queued: 0, enabled: 1
//   idle: 1
//   armed: 1, changed: 1, executed: 2
//   timer cancelled: 1, again: 0
//   at most 4 at once: 1
//   drained: 3
#include <cmwq/workqueue.hpp>

#include <sched.h>

#include <chrono>
#include <cstdio>
#include <string>

using namespace std::chrono_literals;

int main() {
  cmwq::Workqueue queue("workqueue");
  if (!queue) {
    std::perror("cmwq::Workqueue");
    return 1;
  }

  int executed = 0;
  cmwq::Work work([&executed] { ++executed; });
  const bool queued = queue.queue(work);
  work.flush();
  std::printf("queued: %d, executed: %d\n", queued, executed);

  auto ordered = cmwq::Workqueue::ordered("ordered");
  std::string letters;
  cmwq::Work a([&letters] { letters += 'a'; });
  cmwq::Work b([&letters] { letters += 'b'; });
  cmwq::Work c([&letters] { letters += 'c'; });
  ordered.queue(a);
  ordered.queue(b);
  ordered.queue(c);
  ordered.flush();
  std::printf("in order: %s\n", letters.c_str());

  // In an item of an ordered queue: the next one cannot begin.
  cmwq::Work canceller([&] {
    ordered.queue(a);
    std::printf("cancelled: %d\n", a.cancel());
    ordered.queue(b);
    std::printf("disabled: %d, ", b.disable());
    std::printf("queued: %d, ", ordered.queue(b));
    std::printf("enabled: %d\n", b.enable());
  });
  ordered.queue(canceller);
  canceller.flush();
  c.disable_sync();
  c.enable();
  c.cancel_sync();
  std::printf("idle: %d\n", c.busy() == 0);

  cmwq::DelayedWork delayed([&executed] { ++executed; });
  const bool armed = queue.queue_after(delayed, 1h);
  const bool changed = queue.requeue_after(delayed, 2h);
  delayed.flush();  // now, not in two hours
  std::printf("armed: %d, changed: %d, executed: %d\n", armed, changed, executed);
  queue.queue_after(delayed, 1h);
  const bool cancelled = delayed.cancel();
  std::printf("timer cancelled: %d, again: %d\n", cancelled, delayed.cancel_sync());

  std::printf("at most 4 at once: %d\n", queue.set_max_active(4));
  queue.queue_on(sched_getcpu(), work);
  queue.drain();
  std::printf("drained: %d\n", executed);

  // Where only C will do.
  cmwq_queue_work(queue.get(), work.get());
  cmwq_mod_delayed_work(queue.get(), delayed.get(), 0);
  cmwq_flush_workqueue(queue.get());
}
