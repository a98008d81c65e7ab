// ExpectOverlap: shows that a wait in an item lets the next item of its CPU run. Only with the canary off
// does that prove that the wait was announced.

#ifndef CMWQ_TESTS_SUPPORT_OVERLAP_H_
#define CMWQ_TESTS_SUPPORT_OVERLAP_H_

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <cmwq/workqueue.hpp>
#include <functional>

#include "runtime/core/runtime.h"

namespace cmwq::test {

// Any CPU that the process may use; all items of a test go there.
inline int TheCpu() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof(set), &set);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) return cpu;
  }
  return 0;
}

// A CPU runs one item at a time unless one announces a wait: `blocks` is first, `releases` can only run
// while it waits.
inline void ExpectOverlap(const std::function<void()>& blocks,
                          const std::function<void()>& releases) {
  Workqueue queue("overlap");
  ASSERT_TRUE(queue);
  std::atomic<int> order{0};
  int began = 0, ended = 0, released = 0;
  Work first([&] {
    began = ++order;
    blocks();
    ended = ++order;
  });
  Work second([&] {
    released = ++order;
    releases();
  });
  queue.queue_on(TheCpu(), first);
  queue.queue_on(TheCpu(), second);
  first.flush();
  second.flush();
  EXPECT_LT(began, ended);
  EXPECT_LT(released, ended);
  EXPECT_LT(began, released);
}

// Runs fn in a worker.
inline void OnWorker(const std::function<void()>& fn) {
  Workqueue queue("on_worker");
  ASSERT_TRUE(queue);
  Work work([&] { fn(); });
  queue.queue_on(TheCpu(), work);
  work.flush();
}

// Blocks that workers have announced so far.
inline uint64_t Announced() {
  uint64_t sum = 0;
  core::Runtime::Get().pools()->ForEachPool(
      [&sum](pool::WorkerPool& pool) { sum += pool.Stats().sleeps; });
  return sum;
}

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_SUPPORT_OVERLAP_H_
