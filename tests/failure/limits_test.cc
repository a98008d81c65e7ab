// The system refuses: threads, descriptors, system calls, CPUs. No crash, no hang, every item executed,
// and at most one clear line per cause. Each case is a process of its own.

#include <cmwq/attrs.h>
#include <cmwq/cmwq.h>
#include <cmwq/system_wq.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "runtime/base/sys.h"
#include "tests/support/child.h"
#include "tests/support/gate.h"
#include "tests/support/refuse.h"

namespace cmwq::test {
namespace {

// From here on system call `nr` fails with `error` in this process.
bool Refuse(int nr, int error) { return RefuseCalls({nr}, error); }

bool LimitThreads(int n) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NPROC, &limit) != 0) return false;
  limit.rlim_cur = static_cast<rlim_t>(n);
  return setrlimit(RLIMIT_NPROC, &limit) == 0;
}

// Becomes a user that nobody else is, without privilege, and leaves room for `spare` more threads.
bool BecomeOrdinary(int spare) {
  const uid_t uid = 60'000 + static_cast<uid_t>(getpid()) % 5000;
  if (setresuid(uid, uid, uid) != 0) return false;
  return LimitThreads(1 + spare);
}

// Plain items, announced and silent blocks, delayed work, a reclaim queue; each done exactly once.
void Exercise() {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("plain", 0, 0);
  struct cmwq_workqueue* const reclaim = cmwq_alloc_workqueue("reclaim", CMWQ_MEM_RECLAIM, 0);
  struct cmwq_workqueue* const unbound = cmwq_alloc_workqueue("unbound", CMWQ_UNBOUND, 0);
  CHILD_CHECK(wq != nullptr && unbound != nullptr);
  std::vector<std::unique_ptr<Item>> items;
  for (struct cmwq_workqueue* q : {wq, reclaim, unbound}) {
    if (q == nullptr) continue;
    for (int i = 0; i < 20; ++i) {
      items.push_back(std::make_unique<Item>([i] {
        if (i % 2 == 0) cmwq_block_begin();
        base::SchedYield();
        if (i % 2 == 0) cmwq_block_end();
      }));
      CHILD_CHECK(cmwq_queue_work(q, items.back()->work()));
    }
    items.push_back(std::make_unique<Item>());
    CHILD_CHECK(cmwq_queue_delayed_work(q, &items.back()->d, base::kNsPerMs));
  }
  for (const auto& item : items) {
    Eventually([&item] { return item->Runs() == 1; });
  }
  for (struct cmwq_workqueue* q : {wq, reclaim, unbound}) cmwq_destroy_workqueue(q);
}

// A block that nobody announces lets the next item start all the same.
void BlockSilently() {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("silent", 0, 0);
  CHILD_CHECK(wq != nullptr);
  for (int i = 0; i < 5; ++i) {
    Gate gate;
    Item waits([&gate] { gate.Wait(); }), opens([&gate] { gate.Open(); });
    const int cpu = sched_getcpu();
    CHILD_CHECK(cmwq_queue_work_on(cpu, wq, waits.work()));
    CHILD_CHECK(cmwq_queue_work_on(cpu, wq, opens.work()));
    cmwq_flush_workqueue(wq);
    CHILD_CHECK(waits.Runs() == 1);
  }
  cmwq_destroy_workqueue(wq);
}

// No line twice, and not many.
void ExpectFewLines(const std::string& errors) {
  std::istringstream stream(errors);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) {
    if (line.rfind("cmwq: ", 0) == 0) lines.push_back(line);
  }
  EXPECT_LE(lines.size(), 4u) << errors;
  std::sort(lines.begin(), lines.end());
  EXPECT_EQ(std::adjacent_find(lines.begin(), lines.end()), lines.end()) << errors;
}

void ExpectFine(const ChildResult& result) {
  EXPECT_EQ(result.status, 0) << result.errors;
  ExpectFewLines(result.errors);
}

TEST(Failure, NothingRefused) {
  ExpectFine(InQuietChild([] {
    Exercise();
    BlockSilently();
  }));
}

// As an ordinary user with room for `spare` more threads: every item is executed, by however few.
class ThreadLimit : public ::testing::TestWithParam<int> {};

TEST_P(ThreadLimit, EveryItemIsExecuted) {
  if (kTsan) GTEST_SKIP() << "the sanitizer itself needs threads";
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to become a user without other processes";
  const int spare = GetParam();
  const ChildResult result = InQuietChild([spare] {
    CHILD_CHECK(BecomeOrdinary(spare));
    errno = 0;
    struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("plain", 0, 0);
    if (wq == nullptr) {
      // Without an event thread and one worker there is nothing to queue to.
      CHILD_CHECK(errno == EAGAIN && spare < 2);
      // Far more than all pools together make for Exercise: idle workers of one pool are not given to another.
      CHILD_CHECK(LimitThreads(200));
      const struct timespec more_than_a_cooldown = {1, 500'000'000};
      nanosleep(&more_than_a_cooldown, nullptr);
      Exercise();
      BlockSilently();
      _exit(0);
    }
    std::vector<std::unique_ptr<Item>> items;
    for (int i = 0; i < 30; ++i) {
      items.push_back(std::make_unique<Item>([] {
        cmwq_block_begin();
        base::SchedYield();
        cmwq_block_end();
      }));
      CHILD_CHECK(cmwq_queue_work(wq, items.back()->work()));
    }
    for (const auto& item : items) {
      Eventually([&item] { return item->Runs() == 1; });
    }
    cmwq_destroy_workqueue(wq);
  });
  ExpectFine(result);
}
INSTANTIATE_TEST_SUITE_P(Spare, ThreadLimit, ::testing::Values(0, 1, 2, 3, 4, 6, 10));

// All workers blocked, no new ones: the reclaim queue goes on through its rescuer, the plain items when
// the blocks end.
TEST(Failure, ARescuerServesWhenThreadsRunOut) {
  if (kTsan) GTEST_SKIP() << "the sanitizer itself needs threads";
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to become a user without other processes";
  const ChildResult result = InQuietChild([] {
    CHILD_CHECK(BecomeOrdinary(20));
    struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("plain", 0, 0);
    struct cmwq_workqueue* const reclaim = cmwq_alloc_workqueue("reclaim", CMWQ_MEM_RECLAIM, 0);
    CHILD_CHECK(wq != nullptr && reclaim != nullptr);
    Item warm;
    const int cpu = sched_getcpu();
    cmwq_queue_work_on(cpu, wq, warm.work());
    cmwq_flush_workqueue(wq);
    CHILD_CHECK(LimitThreads(1));
    Gate gate;
    std::vector<std::unique_ptr<Item>> blocked, rescued;
    for (int i = 0; i < 8; ++i) {
      blocked.push_back(std::make_unique<Item>([&gate] { gate.WaitAnnounced(); }));
      cmwq_queue_work_on(cpu, wq, blocked.back()->work());
    }
    for (int i = 0; i < 50; ++i) {
      rescued.push_back(std::make_unique<Item>());
      cmwq_queue_work_on(cpu, reclaim, rescued.back()->work());
    }
    for (const auto& item : rescued) {
      Eventually([&item] { return item->Runs() == 1; });
    }
    gate.Open();
    for (const auto& item : blocked) {
      Eventually([&item] { return item->Runs() == 1; });
    }
    cmwq_destroy_workqueue(wq);
    cmwq_destroy_workqueue(reclaim);
  });
  ExpectFine(result);
}

TEST(Failure, HardlyADescriptorLeft) {
  const ChildResult result = InQuietChild([] {
    int next = open("/dev/null", O_RDONLY);
    CHILD_CHECK(next >= 0);
    for (const int spare : {3, 0}) {
      const struct rlimit limit = {static_cast<rlim_t>(next + spare), static_cast<rlim_t>(next + 3)};
      CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
      Exercise();
      BlockSilently();
    }
  });
  ExpectFine(result);
}

struct Refusal {
  const char* name;
  int nr;
  int error;
};

class RefusedCall : public ::testing::TestWithParam<Refusal> {};

TEST_P(RefusedCall, EverythingStillWorks) {
  const Refusal& refusal = GetParam();
  if (kSanitized && refusal.nr == SYS_sched_getaffinity) {
    GTEST_SKIP() << "the sanitizer asks for it at each thread's start";
  }
  const ChildResult result = InQuietChild([&refusal] {
    CHILD_CHECK(Refuse(refusal.nr, refusal.error));
    Exercise();
    BlockSilently();
  });
  ExpectFine(result);
}
INSTANTIATE_TEST_SUITE_P(
    Calls, RefusedCall,
    ::testing::Values(Refusal{"sched_setscheduler", SYS_sched_setscheduler, EPERM},
                      Refusal{"sched_setaffinity", SYS_sched_setaffinity, EPERM},
                      Refusal{"sched_setaffinity_inval", SYS_sched_setaffinity, EINVAL},
                      Refusal{"sched_getaffinity", SYS_sched_getaffinity, EPERM},
                      Refusal{"setpriority", SYS_setpriority, EACCES},
                      Refusal{"getpriority", SYS_getpriority, EPERM},
                      Refusal{"prctl", SYS_prctl, EPERM},
                      Refusal{"close_range", SYS_close_range, ENOSYS},
                      Refusal{"io_uring_setup", SYS_io_uring_setup, EPERM},
                      Refusal{"perf_event_open", SYS_perf_event_open, EACCES},
                      Refusal{"openat", SYS_openat, EACCES},
                      Refusal{"pread64", SYS_pread64, EPERM},
                      Refusal{"sched_yield", SYS_sched_yield, EPERM}),
    [](const ::testing::TestParamInfo<Refusal>& info) { return std::string(info.param.name); });

// No thread for the new pools: what needs one says so and changes nothing.
TEST(Failure, AttributesWithoutThreads) {
  if (kTsan) GTEST_SKIP() << "the sanitizer itself needs threads";
  EXPECT_EQ(InChild([] {
              struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("wq", CMWQ_UNBOUND, 0);
              Item item;
              CHILD_CHECK(cmwq_queue_work(wq, item.work()));
              cmwq_flush_work(item.work());
              CHILD_CHECK(Refuse(SYS_clone3, EAGAIN) && Refuse(SYS_clone, EAGAIN));
              const struct cmwq_workqueue_attrs attrs = {5, CMWQ_AFFN_CPU, true, nullptr, 0};
              errno = 0;
              CHILD_CHECK(cmwq_apply_workqueue_attrs(wq, &attrs) == -1 && errno == EAGAIN);
              errno = 0;
              CHILD_CHECK(cmwq_workqueue_attr_store(wq, "nice", "6") == -1 && errno == EAGAIN);
              char value[8];
              CHILD_CHECK(cmwq_workqueue_attr_show(wq, "nice", value, sizeof(value)) == 1 &&
                          value[0] == '0');
              // A default queue that has no worker anywhere is none.
              errno = 0;
              CHILD_CHECK(cmwq_system_highpri_wq() == nullptr && errno == EAGAIN);
              errno = 0;
              CHILD_CHECK(cmwq_work_on_cpu(0, [](void*) -> long { return 1; }, nullptr) == -1 &&
                          errno == EAGAIN);
              errno = 0;
              CHILD_CHECK(cmwq_schedule_on_each_cpu([](struct cmwq_work*) {}) == -1 && errno == EAGAIN);
              CHILD_CHECK(cmwq_queue_work(wq, item.work()));
              cmwq_flush_workqueue(wq);
              CHILD_CHECK(item.Runs() == 2);
            }),
            0);
}

// A process that may use one CPU only, and one that loses the CPU it started with.
TEST(Failure, OneAllowedCpu) {
  ExpectFine(InQuietChild([] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    CHILD_CHECK(sched_setaffinity(0, sizeof(one), &one) == 0);
    Exercise();
    BlockSilently();
  }));
}

TEST(Failure, TheMaskShrinksLater) {
  ExpectFine(InQuietChild([] {
    Exercise();
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    CHILD_CHECK(sched_setaffinity(0, sizeof(one), &one) == 0);
    Exercise();
  }));
}

}  // namespace
}  // namespace cmwq::test
