// Delayed work and forks at random: children find a fresh engine whatever the parent was doing, the
// parent's account is right at the end.

#include <gtest/gtest.h>

#include <deque>
#include <thread>
#include <vector>

#include "tests/stress/stress.h"
#include "tests/support/child.h"
#include "tests/support/gate.h"

#if defined(CMWQ_TEST_TSAN)
// The child of a process with threads starts threads of its own: that is what is tested.
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }
#endif

namespace cmwq::stress {
namespace {

using test::Gate;
using test::Item;

constexpr int kThreads = 6;

struct Subject {
  struct cmwq_delayed_work d;  // first: Execute finds the rest from it
  struct cmwq_workqueue* wq;
  std::atomic<uint64_t> queued{0}, executed{0}, cancelled{0};
};

void Execute(struct cmwq_work* work) {
  Subject* const s = reinterpret_cast<Subject*>(work);
  if (s->executed.load() % 16 == 0) {
    cmwq_block_begin();
    SleepUs(50);
    cmwq_block_end();
  }
  s->executed.fetch_add(1);
}

void Churn(Subject& s, Random& random) {
  switch (random.Below(6)) {
    case 0: s.queued.fetch_add(cmwq_queue_work(s.wq, &s.d.work)); break;
    case 1: s.cancelled.fetch_add(cmwq_cancel_delayed_work(&s.d)); break;
    // No cancel_sync: an item that another thread has disabled stays disabled in the child, as a lock
    // that another thread holds stays locked.
    case 2: cmwq_flush_work(&s.d.work); break;
    case 3: cmwq_flush_delayed_work(&s.d); break;
    default:
      s.queued.fetch_add(cmwq_queue_delayed_work(s.wq, &s.d, random.Below(2000) * 1000));
      break;
  }
}

// Everything the parent had pending is idle here and can be used again.
void Child(std::deque<Subject>& subjects) {
  for (Subject& s : subjects) {
    if (cmwq_work_busy(&s.d.work) != 0) _exit(2);
    s.executed = 0;
    if (!cmwq_queue_delayed_work(s.wq, &s.d, 1000)) _exit(3);
  }
  for (Subject& s : subjects) {
    cmwq_flush_delayed_work(&s.d);
    cmwq_flush_work(&s.d.work);
    if (s.executed != 1) _exit(4);
  }
  struct cmwq_workqueue* const fresh = cmwq_alloc_workqueue("fresh", CMWQ_MEM_RECLAIM, 0);
  Item item;
  if (fresh == nullptr || !cmwq_queue_work(fresh, item.work())) _exit(5);
  cmwq_destroy_workqueue(fresh);
  if (item.Runs() != 1) _exit(6);
}

TEST(ForkStress, DelayedWorkAndForks) {
  Guard(120);
  struct cmwq_workqueue* const queues[] = {
      cmwq_alloc_workqueue("fs", 0, 0), cmwq_alloc_workqueue("fs1", 0, 1),
      cmwq_alloc_workqueue("fsr", CMWQ_MEM_RECLAIM, 2), cmwq_alloc_workqueue("fsu", CMWQ_UNBOUND, 4)};
  std::deque<Subject> subjects(16);
  for (size_t i = 0; i < subjects.size(); ++i) {
    cmwq_delayed_work_init(&subjects[i].d, &Execute);
    subjects[i].wq = queues[i % std::size(queues)];
  }
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Random random(static_cast<uint64_t>(t));
      while (!stop.load(std::memory_order_relaxed)) {
        Churn(subjects[random.Below(static_cast<unsigned>(subjects.size()))], random);
      }
    });
  }
  const uint64_t end = base::MonotonicNs() + Seconds() * base::kNsPerSec;
  int forks = 0;
  while (base::MonotonicNs() < end && !HasFailure()) {
    EXPECT_EQ(0, test::InChild([&] { Child(subjects); })) << "fork " << forks;
    ++forks;
    SleepUs(1000);
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  for (Subject& s : subjects) s.cancelled.fetch_add(cmwq_cancel_delayed_work_sync(&s.d));
  for (struct cmwq_workqueue* wq : queues) cmwq_destroy_workqueue(wq);
  for (Subject& s : subjects) EXPECT_EQ(s.queued, s.executed + s.cancelled);
  ForEachPool([](pool::WorkerPool& pool) {
    pool.CheckInvariants();
    EXPECT_EQ(pool.Resync(), 0);
  });
  EXPECT_GT(forks, 0);
}

}  // namespace
}  // namespace cmwq::stress
