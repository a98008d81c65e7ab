// A block that nobody announces, with an item queued behind it: in a child process, with the real
// engine and the real detector.

#ifndef CMWQ_TESTS_UNIT_DETECT_SILENT_H_
#define CMWQ_TESTS_UNIT_DETECT_SILENT_H_

#include <cmwq/cmwq.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>

#include "hooks/detect/spawn.h"
#include "runtime/core/runtime.h"
#include "runtime/platform/cpu_set.h"
#include "tests/support/child.h"
#include "tests/support/gate.h"

namespace cmwq::test {

inline constexpr int kSkipped = 77;  // exit status of a child: a facility is refused here

struct Found {
  uint64_t canary = 0, tick = 0;
  bool attends = false, dormant = false;
};

inline Found FoundOn(int cpu) {
  struct Query {
    int cpu;
    Found found;
  } query = {cpu, {}};
  detect::ForEachDetector(
      [](int at, const pool::BlockingSource& source, void* arg) {
        auto* const q = static_cast<Query*>(arg);
        if (at != q->cpu) return;
        const uint64_t tick = source.found_by_tick();
        q->found = {source.blocks_found() - tick, tick, source.Attends(), source.dormant()};
      },
      &query);
  return query.found;
}

inline uint64_t Presumed() {
  uint64_t sum = 0;
  core::Runtime::Get().pools()->ForEachPool(
      [&sum](pool::WorkerPool& pool) { sum += pool.Stats().presumed; });
  return sum;
}

// The n-th CPU that the caller may use, or -1.
inline int AllowedCpu(int n) {
  platform::CpuSet set;
  set.LoadAffinity(0);
  int cpu = set.Next(0);
  while (n-- > 0 && cpu >= 0) cpu = set.Next(cpu + 1);
  return cpu;
}

// An item that calls `block`, and one queued behind it, from within the first, so that somebody
// counts as running and queueing wakes nobody. The second calls `release`, without which the first
// never ends: if nobody finds the block, the child's alarm ends it all.
inline void RunBehind(int cpu, const std::function<void()>& block,
                      const std::function<void()>& release) {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("silent", 0, 0);
  CHILD_CHECK(wq != nullptr);
  const uint64_t presumed = Presumed();
  {
    Item next(release);
    Item first([&] {
      CHILD_CHECK(cmwq_queue_work_on(cpu, wq, next.work()));
      block();
    });
    CHILD_CHECK(cmwq_queue_work_on(cpu, wq, first.work()));
    Eventually([&] { return first.Runs() == 1 && next.Runs() == 1; });
    cmwq_destroy_workqueue(wq);
  }
  Eventually([&] { return Presumed() > presumed; });
}

// The same, found by the canary. Leaves the child where there is none.
inline void RunBehindCanary(int cpu, const std::function<void()>& block,
                            const std::function<void()>& release) {
  const Found before = FoundOn(cpu);
  RunBehind(cpu, block, release);
  // At idle priority, it may not have counted yet what it found.
  Eventually([&] {
    const Found now = FoundOn(cpu);
    return now.canary > before.canary || now.tick > before.tick;
  });
  if (FoundOn(cpu).tick > before.tick) _exit(kSkipped);
}

// Runs `body` in a child. It skips the test with the reason if the child ends with kSkipped.
#define EXPECT_IN_CHILD(why, ...)                 \
  do {                                            \
    const int status_ = InChild(__VA_ARGS__);     \
    if (status_ == kSkipped) GTEST_SKIP() << why; \
    EXPECT_EQ(status_, 0);                        \
  } while (0)

class Pipe {
 public:
  Pipe() { CHILD_CHECK(pipe(ends_) == 0); }
  ~Pipe() {
    close(ends_[0]);
    close(ends_[1]);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  int in() const { return ends_[0]; }
  int out() const { return ends_[1]; }
  // By the number, without libc.
  void Wait() const {
    char byte;
    CHILD_CHECK(base::Sys(SYS_read, ends_[0], &byte, 1) == 1);
  }
  void Put() const { CHILD_CHECK(base::Sys(SYS_write, ends_[1], "x", 1) == 1); }

 private:
  int ends_[2];
};

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_UNIT_DETECT_SILENT_H_
