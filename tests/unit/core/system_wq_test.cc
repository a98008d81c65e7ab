// cmwq/system_wq.h: the default queues, calls on given CPUs, first use in threads and in forked children.

#include <cmwq/attrs.h>
#include <cmwq/system_wq.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "runtime/core/runtime.h"
#include "tests/support/child.h"
#include "tests/support/gate.h"
#include "tests/support/log_capture.h"
#include "tests/support/quiet.h"
#include "tests/support/test_points.h"

#if defined(CMWQ_TEST_TSAN)
// The child of a process with threads starts threads of its own: that is what is tested.
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }
#endif

namespace cmwq::test {
namespace {

using Queue = struct cmwq_workqueue;

struct Known {
  Queue* (*get)(void);
  const char* name;
  const char* per_cpu;
  const char* max_active;
};
constexpr Known kQueues[] = {
    {&cmwq_system_percpu_wq, "events", "1", "1024"},
    {&cmwq_system_highpri_wq, "events_highpri", "1", "1024"},
    {&cmwq_system_long_wq, "events_long", "1", "1024"},
    {&cmwq_system_freezable_wq, "events_freezable", "1", "1024"},
    {&cmwq_system_dfl_wq, "events_dfl", "0", "2048"},
    {&cmwq_system_dfl_long_wq, "events_dfl_long", "0", "2048"},
};

std::string Show(Queue* wq, const char* attribute) {
  char value[64] = "";
  EXPECT_GT(cmwq_workqueue_attr_show(wq, attribute, value, sizeof(value)), 0);
  return value;
}

platform::CpuSet Usable() { return core::Runtime::Get().pools()->cpus(); }

// First, while none of them exists. A second caller comes while the first is making the queue; whoever
// looks for it by name meanwhile finds the one that stays.
TEST(SystemWq, OneQueueForAllWhoAskFirst) {
  if (!kHaveTestPoints) GTEST_SKIP() << "no test points in this build";
  Queue *inner = nullptr, *named = nullptr;
  Queue* outer;
  {
    const AtTestPoint between("capi.created", [&inner] { inner = cmwq_system_long_wq(); });
    outer = cmwq_system_long_wq();
  }
  ASSERT_NE(outer, nullptr);
  EXPECT_EQ(inner, outer);
  EXPECT_EQ(cmwq_find_workqueue("events_long"), outer);
  {
    const AtTestPoint listed("capi.listed", [&] {
      named = cmwq_find_workqueue("events_dfl_long");
      inner = cmwq_system_dfl_long_wq();
    });
    outer = cmwq_system_dfl_long_wq();
  }
  ASSERT_NE(outer, nullptr);
  EXPECT_EQ(named, outer);
  EXPECT_EQ(inner, outer);
}

TEST(SystemWq, FirstUseInManyThreads) {
  constexpr int kThreads = 6;
  Queue* got[kThreads] = {};
  std::atomic<int> ready{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      ready.fetch_add(1);
      while (ready < kThreads) base::SchedYield();
      got[i] = cmwq_system_dfl_wq();
    });
  }
  for (std::thread& t : threads) t.join();
  ASSERT_NE(got[0], nullptr);
  for (Queue* const wq : got) EXPECT_EQ(wq, got[0]);
  int listed = 0;
  core::Runtime::Get().ForEachQueue([&listed](wq::Workqueue* wq) {
    if (std::string(wq->name) == "events_dfl") ++listed;
  });
  EXPECT_EQ(listed, 1);
}

TEST(SystemWq, NamesAndLimits) {
  for (const Known& known : kQueues) {
    Queue* const wq = known.get();
    ASSERT_NE(wq, nullptr) << known.name;
    EXPECT_EQ(known.get(), wq);
    EXPECT_EQ(cmwq_find_workqueue(known.name), wq);
    EXPECT_EQ(Show(wq, "per_cpu"), known.per_cpu) << known.name;
    EXPECT_EQ(Show(wq, "max_active"), known.max_active) << known.name;
    Item item;
    EXPECT_TRUE(cmwq_queue_work(wq, item.work()));
    cmwq_flush_work(item.work());
    EXPECT_EQ(item.Runs(), 1) << known.name;
  }
  EXPECT_NE(reinterpret_cast<wq::Workqueue*>(cmwq_system_highpri_wq())->flags & CMWQ_HIGHPRI, 0u);
}

TEST(SystemWq, NobodyFlushesDrainsOrDestroysThem) {
  for (const Known& known : kQueues) {
    Queue* const wq = known.get();
    Gate started, gate;
    Item busy([&] {
      started.Open();
      gate.WaitAnnounced();
    });
    ASSERT_TRUE(cmwq_queue_work(wq, busy.work()));
    started.Wait();
    LogCapture log;
    cmwq_flush_workqueue(wq);  // each would wait for `busy`
    cmwq_drain_workqueue(wq);
    cmwq_destroy_workqueue(wq);
    if (&known == &kQueues[0]) {
      const std::vector<std::string> lines = log.Take();
      ASSERT_EQ(lines.size(), 3u);
      for (const std::string& line : lines) {
        EXPECT_NE(line.find("a default queue is shared"), std::string::npos) << line;
      }
    }
    EXPECT_EQ(busy.Runs(), 0);
    gate.Open();
    cmwq_flush_work(busy.work());
    Item item;
    EXPECT_TRUE(cmwq_queue_work(wq, item.work()));
    cmwq_flush_work(item.work());
    EXPECT_EQ(item.Runs(), 1);
  }
}

TEST(SystemWq, OnlyTheFreezableOneFreezes) {
  Item frozen, other;
  cmwq_freeze_workqueues_begin();
  EXPECT_TRUE(cmwq_queue_work(cmwq_system_freezable_wq(), frozen.work()));
  EXPECT_TRUE(cmwq_queue_work(cmwq_system_percpu_wq(), other.work()));
  cmwq_flush_work(other.work());
  EXPECT_EQ(other.Runs(), 1);
  EXPECT_FALSE(cmwq_freeze_workqueues_busy());
  EXPECT_EQ(frozen.Runs(), 0);
  cmwq_thaw_workqueues();
  cmwq_flush_work(frozen.work());
  EXPECT_EQ(frozen.Runs(), 1);
}

struct Where {
  int cpu;
  bool worker;
};

long Locate(void* arg) {
  auto* const where = static_cast<Where*>(arg);
  where->cpu = sched_getcpu();
  where->worker = cmwq_current_work() != nullptr;
  return 1000 + where->cpu;
}

TEST(WorkOnCpu, RunsThereAndReturnsTheResult) {
  ASSERT_NE(cmwq_system_percpu_wq(), nullptr);
  for (int cpu = Usable().Next(0); cpu >= 0; cpu = Usable().Next(cpu + 1)) {
    Where where = {-1, false};
    EXPECT_EQ(cmwq_work_on_cpu(cpu, &Locate, &where), 1000 + cpu);
    EXPECT_EQ(where.cpu, cpu);
    EXPECT_TRUE(where.worker);
  }
  EXPECT_EQ(cmwq_work_on_cpu(Usable().Next(0), [](void*) -> long { return -7; }, nullptr), -7);
}

// From an item of the same CPU: its waiting is announced, so the call gets a worker.
TEST(WorkOnCpu, FromAnItem) {
  const int cpu = Usable().Next(0);
  long result = 0;
  Item item([&] { result = cmwq_work_on_cpu(cpu, [](void*) -> long { return 5; }, nullptr); });
  ASSERT_TRUE(cmwq_queue_work_on(cpu, cmwq_system_percpu_wq(), item.work()));
  cmwq_flush_work(item.work());
  EXPECT_EQ(result, 5);
}

TEST(WorkOnCpu, Refusals) {
  ASSERT_NE(cmwq_system_percpu_wq(), nullptr);
  Where where = {-1, false};
  errno = 0;
  EXPECT_EQ(cmwq_work_on_cpu(Usable().Next(0), nullptr, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
  for (const int cpu : {-1, -2, 4096, INT32_MAX, INT32_MIN}) {
    errno = 0;
    EXPECT_EQ(cmwq_work_on_cpu(cpu, &Locate, &where), -1) << cpu;
    EXPECT_EQ(errno, EINVAL) << cpu;
  }
  EXPECT_EQ(where.cpu, -1);
}

std::atomic<int> g_calls[platform::CpuSet::kMaxCpus];
void Count(struct cmwq_work*) { g_calls[sched_getcpu()].fetch_add(1); }

TEST(ScheduleOnEachCpu, OnceOnEachAndWaits) {
  ASSERT_EQ(cmwq_schedule_on_each_cpu(&Count), 0);
  for (int cpu = 0; cpu < platform::CpuSet::kMaxCpus; ++cpu) {
    EXPECT_EQ(g_calls[cpu], Usable().Has(cpu) ? 1 : 0) << cpu;
  }
  errno = 0;
  EXPECT_EQ(cmwq_schedule_on_each_cpu(nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
}

// The parent's queues are the child's as well.
TEST(SystemWq, InAForkedChild) {
  Gate started, gate;
  Item busy([&] {
    started.Open();
    gate.WaitAnnounced();
  });
  ASSERT_TRUE(cmwq_queue_work(cmwq_system_dfl_wq(), busy.work()));
  Queue* const dfl = cmwq_system_dfl_wq();
  started.Wait();
  AwaitOthersAsleep();
  EXPECT_EQ(InChild([&] {
              CHILD_CHECK(cmwq_system_dfl_wq() == dfl);
              for (const Known& known : kQueues) {
                Item item;
                CHILD_CHECK(cmwq_queue_work(known.get(), item.work()));
                cmwq_flush_work(item.work());
                CHILD_CHECK(item.Runs() == 1);
              }
              CHILD_CHECK(cmwq_schedule_on_each_cpu([](struct cmwq_work*) {}) == 0);
              CHILD_CHECK(cmwq_work_on_cpu(Usable().Next(0), [](void*) -> long { return 3; },
                                           nullptr) == 3);
              CHILD_CHECK(cmwq_workqueue_set_unbound_cpumask(nullptr, 0) == 0);
            }),
            0);
  gate.Open();
  cmwq_flush_work(busy.work());
  EXPECT_EQ(busy.Runs(), 1);
}

// A fork while a queue is being made: the child does not know it, and uses the default ones.
TEST(SystemWq, ForkWhileAQueueIsMade) {
  if (!kHaveTestPoints) GTEST_SKIP() << "no test points in this build";
  int status = -1;
  Queue* wq;
  {
    const AtTestPoint between("capi.created", [&status] {
      AwaitOthersAsleep();
      status = InChild([] {
        CHILD_CHECK(cmwq_find_workqueue("made") == nullptr);
        Item item;
        CHILD_CHECK(cmwq_queue_work(cmwq_system_dfl_wq(), item.work()));
        cmwq_flush_work(item.work());
        CHILD_CHECK(item.Runs() == 1);
      });
    });
    wq = cmwq_alloc_workqueue("made", CMWQ_UNBOUND | CMWQ_SYSFS, 0);
  }
  EXPECT_EQ(status, 0);
  EXPECT_EQ(cmwq_find_workqueue("made"), wq);
  cmwq_destroy_workqueue(wq);
}

}  // namespace
}  // namespace cmwq::test
