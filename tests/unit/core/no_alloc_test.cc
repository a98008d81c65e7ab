// Queueing, cancelling, flushing, arming and draining allocate nothing, on every kind of queue.
//
// Counted per thread: workers that are made meanwhile need memory, the calls do not. A first pass over
// everything is not counted: it makes the first worker of each pool and whatever threads keep for good.

#include <cmwq/attrs.h>
#include <cmwq/cmwq.h>
#include <cmwq/system_wq.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <cstdlib>
#include <ostream>
#include <string>
#include <vector>

#include "tests/support/sanitizer.h"

namespace {

// Allocations of the calling thread so far.
thread_local uint64_t t_allocations = 0;

}  // namespace

#if defined(CMWQ_TEST_TSAN) || defined(CMWQ_TEST_ASAN)

// The sanitizers' allocators have hooks of their own.
extern "C" int __sanitizer_install_malloc_and_free_hooks(
    void (*malloc_hook)(const volatile void*, size_t), void (*free_hook)(const volatile void*));

namespace {

void OnMalloc(const volatile void*, size_t) { ++t_allocations; }
void OnFree(const volatile void*) {}

const int g_installed = __sanitizer_install_malloc_and_free_hooks(&OnMalloc, &OnFree);

}  // namespace

#else

// In front of libc's; operator new calls malloc.
extern "C" {

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t n, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  ++t_allocations;
  return __libc_malloc(size);
}

void* calloc(size_t n, size_t size) {
  ++t_allocations;
  return __libc_calloc(n, size);
}

void* realloc(void* old, size_t size) {
  ++t_allocations;
  return __libc_realloc(old, size);
}

void* aligned_alloc(size_t alignment, size_t size) {
  ++t_allocations;
  return __libc_memalign(alignment, size);
}

void* memalign(size_t alignment, size_t size) { return aligned_alloc(alignment, size); }

int posix_memalign(void** result, size_t alignment, size_t size) {
  *result = aligned_alloc(alignment, size);
  return *result != nullptr ? 0 : 12;  // ENOMEM
}

}  // extern "C"

#endif

namespace cmwq::test {
namespace {

constexpr int kItems = 200;
constexpr uint64_t kHour = 3'600'000'000'000;

struct Kind {
  const char* name;
  unsigned flags;
  int max_active;
  bool ordered;
  struct cmwq_workqueue* (*system)();  // a default queue instead
};

void PrintTo(const Kind& kind, std::ostream* os) { *os << kind.name; }

void Nothing(struct cmwq_work*) {}

// Queues itself `left` times more, and counts what that allocates.
struct Chained {
  struct cmwq_work work;  // first
  struct cmwq_workqueue* wq;
  int left;
  uint64_t allocations;
};

void Chain(struct cmwq_work* work) {
  auto* const item = reinterpret_cast<Chained*>(work);
  if (item->left-- == 0) return;
  const uint64_t before = t_allocations;
  cmwq_queue_work(item->wq, work);
  // A worker of the same pool must wait for this execution before it begins the next.
  item->allocations += t_allocations - before;
}

class NoAlloc : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    const Kind& kind = GetParam();
    if (kind.system != nullptr) {
      wq_ = kind.system();
    } else if (kind.ordered) {
      wq_ = cmwq_alloc_ordered_workqueue(kind.name, kind.flags);
    } else {
      wq_ = cmwq_alloc_workqueue(kind.name, kind.flags, kind.max_active);
    }
    ASSERT_NE(wq_, nullptr);
    for (auto& work : works_) cmwq_work_init(&work, &Nothing);
    for (auto& timed : timed_) cmwq_delayed_work_init(&timed, &Nothing);
    // The first worker of a pool is made by who queues there first; the test may go to any CPU.
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof(cpus), &cpus);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &cpus)) continue;
      cmwq_queue_work_on(cpu, wq_, &works_[0]);
      cmwq_flush_work(&works_[0]);
    }
  }
  void TearDown() override {
    if (!shared()) cmwq_destroy_workqueue(wq_);
  }
  bool shared() const { return GetParam().system != nullptr; }

  void FlushAll() {
    for (auto& work : works_) cmwq_flush_work(&work);
  }
  // Runs `pass` twice; returns what the second one allocated.
  template <class F>
  uint64_t SecondPass(F pass) {
    pass();
    const uint64_t before = t_allocations;
    pass();
    return t_allocations - before;
  }

  struct cmwq_workqueue* wq_ = nullptr;
  std::vector<struct cmwq_work> works_{kItems};
  std::vector<struct cmwq_delayed_work> timed_{kItems};
};

TEST(AllocatorHook, CountsOnlyTheCallersAllocations) {
  const uint64_t before = t_allocations;
  void* volatile block = malloc(10);
  free(block);
  int* volatile number = new int(1);
  delete number;
  EXPECT_EQ(t_allocations - before, 2u);
}

TEST_P(NoAlloc, QueueAndFlush) {
  EXPECT_EQ(0u, SecondPass([this] {
              for (auto& work : works_) cmwq_queue_work(wq_, &work);
              FlushAll();
              for (auto& work : works_) cmwq_queue_work_on(CMWQ_CPU_ANY, wq_, &work);
              FlushAll();
              for (auto& work : works_) cmwq_queue_work_node(0, wq_, &work);
              FlushAll();
            }));
}

TEST_P(NoAlloc, CancelDisableEnable) {
  EXPECT_EQ(0u, SecondPass([this] {
              for (auto& work : works_) cmwq_queue_work(wq_, &work);
              for (auto& work : works_) cmwq_cancel_work(&work);
              for (auto& work : works_) cmwq_queue_work(wq_, &work);
              for (auto& work : works_) cmwq_cancel_work_sync(&work);
              for (auto& work : works_) cmwq_queue_work(wq_, &work);
              for (auto& work : works_) cmwq_disable_work(&work);
              for (auto& work : works_) cmwq_disable_work_sync(&work);
              for (auto& work : works_) cmwq_queue_work(wq_, &work);  // refused
              for (auto& work : works_) cmwq_enable_work(&work);
              for (auto& work : works_) cmwq_enable_and_queue_work(wq_, &work);
              FlushAll();
            }));
}

TEST_P(NoAlloc, DelayedItems) {
  EXPECT_EQ(0u, SecondPass([this] {
              for (auto& t : timed_) cmwq_queue_delayed_work(wq_, &t, kHour);
              for (auto& t : timed_) cmwq_mod_delayed_work(wq_, &t, 2 * kHour);
              for (auto& t : timed_) cmwq_cancel_delayed_work(&t);
              for (auto& t : timed_) cmwq_queue_delayed_work_on(CMWQ_CPU_ANY, wq_, &t, kHour);
              for (auto& t : timed_) cmwq_mod_delayed_work_on(CMWQ_CPU_ANY, wq_, &t, 0);
              for (auto& t : timed_) cmwq_cancel_delayed_work_sync(&t);
              for (auto& t : timed_) cmwq_queue_delayed_work(wq_, &t, kHour);
              for (auto& t : timed_) cmwq_flush_delayed_work(&t);
              for (auto& t : timed_) cmwq_queue_delayed_work(wq_, &t, 1);  // fires by itself
              for (auto& t : timed_) cmwq_flush_delayed_work(&t);
              for (auto& t : timed_) cmwq_disable_delayed_work_sync(&t);
              for (auto& t : timed_) cmwq_enable_delayed_work(&t);
            }));
}

// What default queues refuse.
class NoAllocOwn : public NoAlloc {};

TEST_P(NoAllocOwn, FlushAndDrainTheQueue) {
  EXPECT_EQ(0u, SecondPass([this] {
              cmwq_flush_workqueue(wq_);
              for (auto& work : works_) cmwq_queue_work(wq_, &work);
              cmwq_flush_workqueue(wq_);
              for (auto& work : works_) cmwq_queue_work(wq_, &work);
              cmwq_drain_workqueue(wq_);
            }));
}

TEST_P(NoAllocOwn, LimitsAndFreezing) {
  EXPECT_EQ(0u, SecondPass([this] {
              cmwq_workqueue_set_max_active(wq_, 1);  // refused by an ordered queue
              for (auto& work : works_) cmwq_queue_work(wq_, &work);
              cmwq_workqueue_set_max_active(wq_, 4);
              cmwq_workqueue_set_min_active(wq_, 2);  // refused by a bound one
              cmwq_freeze_workqueues_begin();
              cmwq_thaw_workqueues();
              FlushAll();
            }));
}

TEST_P(NoAlloc, AnItemThatQueuesItself) {
  Chained item = {{}, wq_, 0, 0};
  cmwq_work_init(&item.work, &Chain);
  // The chain may go from worker to worker; the first on each may be counted for what it keeps.
  for (int pass = 0; pass < 2; ++pass) {
    item.left = kItems;
    item.allocations = 0;
    cmwq_queue_work(wq_, &item.work);
    while (cmwq_flush_work(&item.work)) {
    }
  }
  EXPECT_EQ(item.allocations, 0u);
}

constexpr Kind kOwn[] = {
    {"bound", 0, 0, false, nullptr},
    {"bound_one", 0, 1, false, nullptr},
    {"highpri", CMWQ_HIGHPRI, 0, false, nullptr},
    {"cpu_intensive", CMWQ_CPU_INTENSIVE, 0, false, nullptr},
    {"mem_reclaim", CMWQ_MEM_RECLAIM, 0, false, nullptr},
    {"freezable", CMWQ_FREEZABLE, 0, false, nullptr},
    {"unbound", CMWQ_UNBOUND, 0, false, nullptr},
    {"unbound_one", CMWQ_UNBOUND, 1, false, nullptr},
    {"ordered", 0, 0, true, nullptr},
};
constexpr Kind kDefault[] = {
    {"system_percpu", 0, 0, false, &cmwq_system_percpu_wq},
    {"system_dfl", 0, 0, false, &cmwq_system_dfl_wq},
};

std::string NameOf(const testing::TestParamInfo<Kind>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Own, NoAlloc, testing::ValuesIn(kOwn), NameOf);
INSTANTIATE_TEST_SUITE_P(Own, NoAllocOwn, testing::ValuesIn(kOwn), NameOf);
INSTANTIATE_TEST_SUITE_P(Default, NoAlloc, testing::ValuesIn(kDefault), NameOf);

}  // namespace
}  // namespace cmwq::test
