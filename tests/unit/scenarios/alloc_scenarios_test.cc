// Memory and threads run out while a queue is built. The process's operator new is replaced: it counts
// what is alive and fails when told to.

#include <cmwq/attrs.h>
#include <cmwq/system_wq.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <new>

#include "runtime/core/runtime.h"
#include "tests/support/log_capture.h"
#include "tests/support/sanitizer.h"
#include "tests/unit/scenarios/scenario.h"

namespace {

std::atomic<int> g_fail_at{0};  // the so-many-th allocation from now fails; 0: none
std::atomic<int> g_allocations{0};
std::atomic<long> g_alive{0};

// ThreadSanitizer's own operators come first and cannot be replaced.
#if !defined(CMWQ_TEST_TSAN)
void* Allocate(size_t bytes, bool may_fail) noexcept {
  if (may_fail && g_fail_at.load() > 0) {
    g_allocations.fetch_add(1);
    if (g_fail_at.fetch_sub(1) == 1) return nullptr;
  }
  void* const p = malloc(bytes != 0 ? bytes : 1);
  if (p != nullptr) g_alive.fetch_add(1);
  return p;
}
void* AllocateAligned(size_t bytes, size_t alignment, bool may_fail) noexcept {
  if (may_fail && g_fail_at.load() > 0) {
    g_allocations.fetch_add(1);
    if (g_fail_at.fetch_sub(1) == 1) return nullptr;
  }
  void* const p = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (p != nullptr) g_alive.fetch_add(1);
  return p;
}
void Release(void* p) {
  if (p == nullptr) return;
  g_alive.fetch_sub(1);
  free(p);
}
size_t Size(std::align_val_t alignment) { return static_cast<size_t>(alignment); }
#endif

}  // namespace

#if !defined(CMWQ_TEST_TSAN)
// Only the engine asks with nothrow.
void* operator new(size_t n, const std::nothrow_t&) noexcept { return Allocate(n, true); }
void* operator new[](size_t n, const std::nothrow_t&) noexcept { return Allocate(n, true); }
void* operator new(size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return AllocateAligned(n, Size(a), true);
}
void* operator new[](size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return AllocateAligned(n, Size(a), true);
}
void* operator new(size_t n) { return Allocate(n, false); }
void* operator new[](size_t n) { return Allocate(n, false); }
void* operator new(size_t n, std::align_val_t a) { return AllocateAligned(n, Size(a), false); }
void* operator new[](size_t n, std::align_val_t a) { return AllocateAligned(n, Size(a), false); }
void operator delete(void* p) noexcept { Release(p); }
void operator delete[](void* p) noexcept { Release(p); }
void operator delete(void* p, size_t) noexcept { Release(p); }
void operator delete[](void* p, size_t) noexcept { Release(p); }
void operator delete(void* p, std::align_val_t) noexcept { Release(p); }
void operator delete[](void* p, std::align_val_t) noexcept { Release(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { Release(p); }
void operator delete[](void* p, size_t, std::align_val_t) noexcept { Release(p); }
// Nobody here calls these; one that is missing makes the linker take all of the sanitizer's.
void operator delete(void* p, const std::nothrow_t&) noexcept { Release(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { Release(p); }
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { Release(p); }
void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept { Release(p); }
#endif

namespace cmwq::test {
namespace {

struct Kind {
  const char* name;
  unsigned flags;
  bool ordered;
};
constexpr Kind kKinds[] = {
    {"bound", 0, false},
    {"reclaim", CMWQ_MEM_RECLAIM, false},
    {"unbound", CMWQ_UNBOUND, false},
    {"ordered", CMWQ_MEM_RECLAIM, true},
    {"highpri", CMWQ_HIGHPRI | CMWQ_FREEZABLE, false},
};

int Queues() {
  int n = 0;
  core::Runtime::Get().ForEachQueue([&n](wq::Workqueue*) { ++n; });
  return n;
}

struct cmwq_workqueue* Alloc(const Kind& kind) {
  return kind.ordered ? cmwq_alloc_ordered_workqueue(kind.name, kind.flags)
                      : cmwq_alloc_workqueue(kind.name, kind.flags, 1);
}

// 47: each allocation in turn fails while a queue is built; the caller gets ENOMEM, no queue appears,
// nothing is left behind, and the next attempt succeeds.
TEST(AllocScenario, Scenario47EachAllocationFailsInTurn) {
  if (kTsan) GTEST_SKIP() << "ThreadSanitizer's operator new cannot be replaced";
  for (const Kind& kind : kKinds) {
    // Once without failures and on every CPU: the runtime and the first workers are there and stay.
    struct cmwq_workqueue* const first = Alloc(kind);
    ASSERT_NE(first, nullptr) << kind.name;
    const platform::CpuSet cpus = core::Runtime::Get().pools()->cpus();
    for (int cpu = cpus.Next(0); cpu >= 0; cpu = cpus.Next(cpu + 1)) {
      Item item;
      ASSERT_TRUE(cmwq_queue_work_on(cpu, first, item.work()));
      cmwq_flush_workqueue(first);
    }
    cmwq_destroy_workqueue(first);
  }
  const int queues = Queues();
  for (const Kind& kind : kKinds) {
    SCOPED_TRACE(kind.name);
    int failures = 0;
    for (int at = 1;; ++at) {
      const long alive = g_alive;
      g_allocations = 0;
      g_fail_at = at;
      errno = 0;
      struct cmwq_workqueue* const wq = Alloc(kind);
      const int err = errno;
      const bool failed = g_fail_at == 0;
      g_fail_at = 0;
      if (!failed) {
        // Fewer allocations than `at`: the whole queue.
        ASSERT_NE(wq, nullptr);
        EXPECT_EQ(Queues(), queues + 1);
        Item item;
        EXPECT_TRUE(cmwq_queue_work(wq, item.work()));
        cmwq_destroy_workqueue(wq);
        EXPECT_EQ(item.Runs(), 1);
        EXPECT_EQ(Queues(), queues);
        break;
      }
      ++failures;
      EXPECT_EQ(wq, nullptr) << "allocation " << at;
      EXPECT_EQ(err, ENOMEM) << "allocation " << at;
      EXPECT_EQ(Queues(), queues);
      // The memory of the queue itself, which comes first, is kept (wq/tombstone.h); the rest is not.
      EXPECT_EQ(g_alive, alive + (at == 1 ? 0 : 1)) << "allocation " << at;
    }
    EXPECT_GE(failures, 3);  // the queue, its halves, at least one half
  }
}

// Each allocation in turn fails in `call`, which then returns -1 with ENOMEM and `unchanged` holds.
template <class Call, class Unchanged>
void FailEachAllocation(Call call, Unchanged unchanged) {
  int failures = 0;
  for (int at = 1;; ++at, ++failures) {
    const long alive = g_alive;
    g_fail_at = at;
    errno = 0;
    const int result = call();
    const int err = errno;
    const bool failed = g_fail_at == 0;
    g_fail_at = 0;
    if (!failed) {
      EXPECT_EQ(result, 0);
      break;
    }
    EXPECT_EQ(result, -1) << "allocation " << at;
    EXPECT_EQ(err, ENOMEM) << "allocation " << at;
    EXPECT_EQ(g_alive, alive) << "allocation " << at;
    EXPECT_TRUE(unchanged()) << "allocation " << at;
  }
  EXPECT_GE(failures, 1);
}

// The same for changes: the old attributes stay.
TEST(AllocScenario, Scenario47ChangesAreAllOrNothing) {
  if (kTsan) GTEST_SKIP() << "ThreadSanitizer's operator new cannot be replaced";
  struct cmwq_workqueue *const wq = cmwq_alloc_workqueue("wq", CMWQ_UNBOUND, 0),
                        *const other = cmwq_alloc_workqueue("other", CMWQ_UNBOUND, 0);
  const platform::CpuSet cpus = core::Runtime::Get().pools()->cpus();
  const platform::CpuSet one = platform::CpuSet::Of(cpus.Next(0));
  struct cmwq_workqueue_attrs attrs = {4, CMWQ_AFFN_CPU, true, one.words(), platform::CpuSet::kBytes};
  // Pools stay when a change fails; make them before anything is counted.
  ASSERT_EQ(cmwq_apply_workqueue_attrs(wq, &attrs), 0);
  ASSERT_EQ(cmwq_workqueue_set_unbound_cpumask(one.words(), platform::CpuSet::kBytes), 0);
  ASSERT_EQ(cmwq_workqueue_set_unbound_cpumask(nullptr, 0), 0);
  ASSERT_EQ(cmwq_schedule_on_each_cpu([](struct cmwq_work*) {}), 0);
  const auto show = [](struct cmwq_workqueue* queue) {
    char value[16] = "";
    EXPECT_GT(cmwq_workqueue_attr_show(queue, "nice", value, sizeof(value)), 0);
    return std::string(value);
  };
  FailEachAllocation([&] { return cmwq_apply_workqueue_attrs(other, &attrs); },
                     [&] { return show(other) == "0"; });
  EXPECT_EQ(show(other), "4");
  FailEachAllocation(
      [&] { return cmwq_workqueue_set_unbound_cpumask(one.words(), platform::CpuSet::kBytes); },
      [&] {
        sync::MutexLock hold(core::Runtime::Get().pools()->mu);
        return core::Runtime::Get().pools()->unbound_cpus() == cpus;
      });
  ASSERT_EQ(cmwq_workqueue_set_unbound_cpumask(nullptr, 0), 0);
  FailEachAllocation([] { return cmwq_schedule_on_each_cpu([](struct cmwq_work*) {}); },
                     [] { return true; });
  for (struct cmwq_workqueue* const queue : {wq, other}) {
    Item item;
    EXPECT_TRUE(cmwq_queue_work(queue, item.work()));
    cmwq_destroy_workqueue(queue);
    EXPECT_EQ(item.Runs(), 1);
  }
}

// 47, the thread of the rescuer instead of memory: the same.
TEST(AllocScenario, Scenario47NoThreadForTheRescuer) {
  LogCapture log;
  Engine& e = Engine::Make(2);
  for (int round = 0; round < 3; ++round) {
    e.env.fail_next = 1;
    const long alive = g_alive;
    int err = 0;
    wq::Workqueue* const wq =
        wq::CreateWorkqueue("q", CMWQ_MEM_RECLAIM, 0, false, &e.table, &e.env, &err);
    const long after = g_alive;
    EXPECT_EQ(wq, nullptr);
    EXPECT_EQ(err, EAGAIN);
    log.Take();
    EXPECT_LE(after, alive + 3);  // the captured line, and the memory of the queue, which is kept
  }
  wq::Workqueue* const wq = e.Alloc(CMWQ_MEM_RECLAIM);
  ASSERT_NE(wq, nullptr);
  e.Destroy(wq);
}

}  // namespace
}  // namespace cmwq::test
