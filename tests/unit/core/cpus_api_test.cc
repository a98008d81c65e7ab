// cmwq_workqueue_set_cpumask and what it does to a real process: threads are on the CPUs that they should be
// on, items are executed, a forked child goes on.

#include <cmwq/attrs.h>
#include <cmwq/system_wq.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <cerrno>

#include "runtime/core/cpus.h"
#include "runtime/core/runtime.h"
#include "tests/support/child.h"
#include "tests/support/gate.h"
#include "tests/support/quiet.h"

#if defined(CMWQ_TEST_TSAN)
// The child of a process with threads starts threads of its own: that is what is tested.
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }
#endif

namespace cmwq::test {
namespace {

using platform::CpuSet;

int Set(const CpuSet& cpus) {
  return cmwq_workqueue_set_cpumask(cpus.words(), CpuSet::kBytes) == 0 ? 0 : errno;
}

long Affinity(void* arg) {
  static_cast<CpuSet*>(arg)->LoadAffinity(0);
  return 7;
}

std::atomic<int> g_calls{0};

// Two CPUs at least; all are usable again afterwards.
class CpusApi : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cmwq_workqueue_set_cpumask(nullptr, 0), 0);
    all_ = core::UsableCpus();
    if (all_.Count() < 2) GTEST_SKIP() << "needs two CPUs";
    first_ = all_.Next(0);
    second_ = all_.Next(first_ + 1);
  }
  void TearDown() override { EXPECT_EQ(cmwq_workqueue_set_cpumask(nullptr, 0), 0); }
  CpuSet all_;
  int first_ = -1, second_ = -1;
};

TEST_F(CpusApi, ErrorsChangeNothing) {
  EXPECT_EQ(Set(CpuSet()), EINVAL);
  CpuSet none;
  for (int cpu = 0; cpu < CpuSet::kMaxCpus; ++cpu) {
    if (!all_.Has(cpu)) none.Add(cpu);
  }
  EXPECT_EQ(Set(none), EINVAL);
  EXPECT_TRUE(core::UsableCpus() == all_);
  EXPECT_EQ(core::CpuSetChanged(CpuSet()), EINVAL);
}

TEST_F(CpusApi, AWorkerIsBoundAgainWhenItsCpuReturns) {
  CpuSet before, away, after;
  ASSERT_EQ(cmwq_work_on_cpu(second_, &Affinity, &before), 7);
  EXPECT_TRUE(before == CpuSet::Of(second_));
  ASSERT_EQ(Set(CpuSet::Of(first_)), 0);
  errno = 0;
  EXPECT_EQ(cmwq_work_on_cpu(second_, &Affinity, &away), -1);
  EXPECT_EQ(errno, ENODEV);
  EXPECT_EQ(cmwq_work_on_cpu(CpuSet::kMaxCpus, &Affinity, &away), -1);
  EXPECT_EQ(errno, EINVAL);
  ASSERT_EQ(cmwq_work_on_cpu(first_, &Affinity, &away), 7);
  EXPECT_TRUE(away == CpuSet::Of(first_));
  ASSERT_EQ(Set(all_), 0);
  ASSERT_EQ(cmwq_work_on_cpu(second_, &Affinity, &after), 7);
  EXPECT_TRUE(after == CpuSet::Of(second_));
}

TEST_F(CpusApi, OneCallPerCpuThatIsThere) {
  g_calls = 0;
  ASSERT_EQ(cmwq_schedule_on_each_cpu([](struct cmwq_work*) { g_calls.fetch_add(1); }), 0);
  EXPECT_EQ(g_calls, all_.Count());
  ASSERT_EQ(Set(CpuSet::Of(second_)), 0);
  g_calls = 0;
  ASSERT_EQ(cmwq_schedule_on_each_cpu([](struct cmwq_work*) { g_calls.fetch_add(1); }), 0);
  EXPECT_EQ(g_calls, 1);
}

// A worker that is executing moves with the change, and a queueing to the CPU that has left goes elsewhere.
TEST_F(CpusApi, ABusyWorkerMoves) {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("cpus", 0, 0);
  Gate started, end;
  CpuSet moved;
  Item busy([&] {
    started.Open();
    end.Wait();
    moved.LoadAffinity(0);
  });
  ASSERT_TRUE(cmwq_queue_work_on(second_, wq, busy.work()));
  started.Wait();
  ASSERT_EQ(Set(CpuSet::Of(first_)), 0);
  Item late;
  ASSERT_TRUE(cmwq_queue_work_on(second_, wq, late.work()));
  cmwq_flush_work(late.work());
  EXPECT_EQ(late.Runs(), 1);
  end.Open();
  cmwq_flush_work(busy.work());
  EXPECT_TRUE(moved == CpuSet::Of(first_));
  cmwq_destroy_workqueue(wq);
}

// What the system takes away and gives back, while the program has asked for one of them only.
TEST_F(CpusApi, AllowedAndRequested) {
  ASSERT_EQ(Set(CpuSet::Of(second_)), 0);
  ASSERT_EQ(core::CpuSetChanged(CpuSet::Of(first_)), 0);
  EXPECT_TRUE(core::UsableCpus() == CpuSet::Of(first_));  // not what was asked for, but all there is
  ASSERT_EQ(core::CpuSetChanged(all_), 0);
  EXPECT_TRUE(core::UsableCpus() == CpuSet::Of(second_));
}

// The child of a fork in the middle of a drain has the same CPUs, and no workers from before.
TEST_F(CpusApi, ForkInTheMiddleOfADrain) {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("cpus", CMWQ_MEM_RECLAIM, 0);
  Gate started, end;
  Item busy([&] {
    started.Open();
    end.Wait();
  });
  ASSERT_TRUE(cmwq_queue_work_on(second_, wq, busy.work()));
  started.Wait();
  ASSERT_EQ(Set(CpuSet::Of(first_)), 0);
  AwaitOthersAsleep();
  EXPECT_EQ(InChild([&] {
              for (const bool back : {false, true}) {
                if (back) CHILD_CHECK(Set(all_) == 0);
                Item item;
                CHILD_CHECK(cmwq_queue_work_on(second_, wq, item.work()));
                cmwq_flush_work(item.work());
                CHILD_CHECK(item.Runs() == 1);
              }
            }),
            0);
  end.Open();
  cmwq_flush_work(busy.work());
  cmwq_destroy_workqueue(wq);
}

}  // namespace
}  // namespace cmwq::test
