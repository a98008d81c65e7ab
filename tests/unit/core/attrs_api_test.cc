// cmwq/attrs.h: every function, every attribute by name, every refusal.

#include <cmwq/attrs.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "runtime/core/runtime.h"
#include "tests/support/child.h"
#include "tests/support/gate.h"
#include "tests/support/log_capture.h"
#include "tests/support/test_points.h"

#if defined(CMWQ_TEST_TSAN)
// As in system_wq_test.cc.
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }
#endif

namespace cmwq::test {
namespace {

using Queue = struct cmwq_workqueue;
using Attrs = struct cmwq_workqueue_attrs;

// The value, or "-" and the errno.
std::string Show(Queue* wq, const char* attribute) {
  char value[8192];
  errno = 0;
  const int n = cmwq_workqueue_attr_show(wq, attribute, value, sizeof(value));
  if (n < 0) return "-" + std::to_string(errno);
  EXPECT_EQ(errno, 0);
  EXPECT_EQ(static_cast<size_t>(n), strlen(value));
  return value;
}

// 0 or errno. Success leaves errno alone.
int Store(Queue* wq, const char* attribute, const char* value) {
  errno = EDOM;
  if (cmwq_workqueue_attr_store(wq, attribute, value) == 0) {
    EXPECT_EQ(errno, EDOM);
    return 0;
  }
  return errno;
}

int Apply(Queue* wq, const Attrs& attrs) {
  errno = 0;
  return cmwq_apply_workqueue_attrs(wq, &attrs) == 0 ? 0 : errno;
}

int SetUnbound(const void* mask, size_t size) {
  errno = 0;
  return cmwq_workqueue_set_unbound_cpumask(mask, size) == 0 ? 0 : errno;
}

std::string Einval() { return "-" + std::to_string(EINVAL); }

Attrs Plain() { return {0, CMWQ_AFFN_DFL, false, nullptr, 0}; }

platform::CpuSet Usable() { return core::Runtime::Get().pools()->cpus(); }
std::string List(const platform::CpuSet& set) {
  char list[8192];
  set.Format(list, sizeof(list));
  return list;
}
int FirstCpu() { return Usable().Next(0); }
int LastCpu() {
  int last = 0;
  for (int cpu = FirstCpu(); cpu >= 0; cpu = Usable().Next(cpu + 1)) last = cpu;
  return last;
}

// CPUs that the workers which execute an item of `wq` may run on.
std::string Place(Queue* wq) {
  std::string place;
  Item item([&place] {
    platform::CpuSet set;
    set.LoadAffinity(0);
    place = List(set);
  });
  EXPECT_TRUE(cmwq_queue_work(wq, item.work()));
  cmwq_flush_work(item.work());
  return place;
}

class AttrsApi : public ::testing::Test {
 protected:
  ~AttrsApi() override {
    for (Queue* const wq : {bound, unbound, ordered}) cmwq_destroy_workqueue(wq);
    cmwq_workqueue_set_unbound_cpumask(nullptr, 0);
  }
  Queue* const bound = cmwq_alloc_workqueue("bound", 0, 0);
  Queue* const unbound = cmwq_alloc_workqueue("unbound", CMWQ_UNBOUND, 0);
  Queue* const ordered = cmwq_alloc_ordered_workqueue("ordered", 0);
};

constexpr const char* kUnboundOnly[] = {"min_active", "nice", "cpumask", "affinity_scope",
                                        "affinity_strict"};

// First: before anything started the engine.
TEST(AttrsApiFirst, NothingIsFoundBeforeTheFirstQueue) {
  EXPECT_EQ(cmwq_find_workqueue("events"), nullptr);
  EXPECT_EQ(cmwq_find_workqueue(nullptr), nullptr);
}

// In a process that has no queue yet the mask may be the first call.
TEST(AttrsApiFirst, UnboundMaskStartsTheEngine) {
  EXPECT_EQ(InChild([] {
              CHILD_CHECK(cmwq_workqueue_set_unbound_cpumask(nullptr, 0) == 0);
              Queue* const wq = cmwq_alloc_workqueue("q", CMWQ_UNBOUND, 0);
              CHILD_CHECK(wq != nullptr);
            }),
            0);
}

TEST_F(AttrsApi, Defaults) {
  EXPECT_EQ(Show(bound, "per_cpu"), "1");
  EXPECT_EQ(Show(bound, "max_active"), "1024");
  for (const char* const name : kUnboundOnly) {
    EXPECT_EQ(Show(bound, name), Einval()) << name;
    EXPECT_EQ(Store(bound, name, "1"), EINVAL) << name;
  }
  EXPECT_EQ(Show(unbound, "per_cpu"), "0");
  EXPECT_EQ(Show(unbound, "max_active"), "1024");
  EXPECT_EQ(Show(unbound, "min_active"), "8");
  EXPECT_EQ(Show(unbound, "nice"), "0");
  EXPECT_EQ(Show(unbound, "cpumask"), List(Usable()));
  EXPECT_EQ(Show(unbound, "affinity_scope"), "default");
  EXPECT_EQ(Show(unbound, "affinity_strict"), "0");
  EXPECT_EQ(Show(ordered, "per_cpu"), "0");
  EXPECT_EQ(Show(ordered, "max_active"), "1");
  EXPECT_EQ(Show(ordered, "min_active"), "1");
  Queue* const high = cmwq_alloc_workqueue("high", CMWQ_UNBOUND | CMWQ_HIGHPRI, 3);
  EXPECT_EQ(Show(high, "nice"), "-20");
  EXPECT_EQ(Show(high, "max_active"), "3");
  EXPECT_EQ(Show(high, "min_active"), "3");
  cmwq_destroy_workqueue(high);
}

TEST_F(AttrsApi, MaxActive) {
  for (Queue* const wq : {bound, unbound}) {
    EXPECT_EQ(Store(wq, "max_active", "5\n"), 0);
    EXPECT_EQ(Show(wq, "max_active"), "5");
    EXPECT_EQ(Store(wq, "max_active", "2049"), 0);
    EXPECT_EQ(Show(wq, "max_active"), "2048");
    for (const char* const bad : {"", "\n", " ", "x", "5x", "5 5", "0", "-1", "1.5", "0x10", "4294967297",
                                  "99999999999999999999", "-99999999999999999999"}) {
      EXPECT_EQ(Store(wq, "max_active", bad), EINVAL) << bad;
    }
    EXPECT_EQ(Show(wq, "max_active"), "2048");
  }
  EXPECT_EQ(Store(ordered, "max_active", "2"), EINVAL);
  EXPECT_EQ(Store(ordered, "max_active", "1"), EINVAL);
}

TEST_F(AttrsApi, MinActive) {
  ASSERT_EQ(Store(unbound, "max_active", "20"), 0);
  EXPECT_EQ(Store(unbound, "min_active", "12"), 0);
  EXPECT_EQ(Show(unbound, "min_active"), "12");
  EXPECT_EQ(Store(unbound, "min_active", "0"), 0);
  EXPECT_EQ(Show(unbound, "min_active"), "0");
  EXPECT_EQ(Store(unbound, "min_active", "100"), 0);
  EXPECT_EQ(Show(unbound, "min_active"), "20");
  ASSERT_EQ(Store(unbound, "max_active", "4"), 0);
  EXPECT_EQ(Show(unbound, "min_active"), "4");
  for (const char* const bad : {"", "x", "-1", "99999999999"}) {
    EXPECT_EQ(Store(unbound, "min_active", bad), EINVAL) << bad;
  }
  EXPECT_EQ(Store(ordered, "min_active", "1"), EINVAL);
}

TEST_F(AttrsApi, Nice) {
  for (Queue* const wq : {unbound, ordered}) {
    for (const char* const good : {"5", "19", "-1", "0"}) {
      EXPECT_EQ(Store(wq, "nice", good), 0) << good;
      EXPECT_EQ(Show(wq, "nice"), good);
    }
    for (const char* const bad : {"", "x", "20", "-21", "4294967296", "1 2"}) {
      EXPECT_EQ(Store(wq, "nice", bad), EINVAL) << bad;
    }
    EXPECT_EQ(Show(wq, "nice"), "0");
  }
}

TEST_F(AttrsApi, Cpumask) {
  const std::string first = std::to_string(FirstCpu()), all = List(Usable());
  EXPECT_EQ(Store(unbound, "cpumask", (first + "\n").c_str()), 0);
  EXPECT_EQ(Show(unbound, "cpumask"), first);
  EXPECT_EQ(Place(unbound), first);
  // What we may not use is kept in what was asked for.
  EXPECT_EQ(Store(unbound, "cpumask", "0-4095"), 0);
  EXPECT_EQ(Show(unbound, "cpumask"), "0-4095");
  EXPECT_EQ(Place(unbound), all);
  for (const char* const bad : {"", "\n", "x", "1,", ",1", "3-1", "-1", "1-", "0-4096", "4096", "1 2"}) {
    EXPECT_EQ(Store(unbound, "cpumask", bad), EINVAL) << bad;
  }
  if (!Usable().Has(4095)) { EXPECT_EQ(Store(unbound, "cpumask", "4095"), EINVAL); }
  EXPECT_EQ(Show(unbound, "cpumask"), "0-4095");
}

TEST_F(AttrsApi, AffinityScopeAndStrict) {
  for (const char* const scope : {"cpu", "smt", "cache_shard", "cache", "numa", "system", "default"}) {
    EXPECT_EQ(Store(unbound, "affinity_scope", scope), 0) << scope;
    EXPECT_EQ(Show(unbound, "affinity_scope"), scope);
    EXPECT_EQ(Place(unbound), List(Usable())) << scope;
  }
  EXPECT_EQ(Store(unbound, "affinity_scope", "cpu\n"), 0);
  for (const char* const bad : {"", "\n", "CPU", "cpus", "cpu ", "cpu\nx", "0",
                                "a name that is longer than any of them"}) {
    EXPECT_EQ(Store(unbound, "affinity_scope", bad), EINVAL) << bad;
  }
  EXPECT_EQ(Show(unbound, "affinity_scope"), "cpu");
  EXPECT_EQ(Store(unbound, "affinity_strict", "1\n"), 0);
  EXPECT_EQ(Show(unbound, "affinity_strict"), "1");
  EXPECT_EQ(Place(unbound).find_first_of("-,"), std::string::npos);  // one CPU
  EXPECT_EQ(Store(unbound, "affinity_strict", "0"), 0);
  EXPECT_EQ(Show(unbound, "affinity_strict"), "0");
  for (const char* const bad : {"", "2", "-1", "y", "true"}) {
    EXPECT_EQ(Store(unbound, "affinity_strict", bad), EINVAL) << bad;
  }
}

TEST_F(AttrsApi, ShowAndStoreRefuse) {
  char value[8];
  EXPECT_EQ(Store(unbound, "per_cpu", "1"), EINVAL);  // read only
  EXPECT_EQ(Store(bound, "per_cpu", "1"), EINVAL);
  for (const char* const name : {"", "nosuch", "max_active ", "Nice"}) {
    EXPECT_EQ(Show(unbound, name), Einval()) << name;
    EXPECT_EQ(Store(unbound, name, "1"), EINVAL) << name;
  }
  EXPECT_EQ(Show(nullptr, "nice"), Einval());
  EXPECT_EQ(Show(unbound, nullptr), Einval());
  errno = 0;
  EXPECT_EQ(cmwq_workqueue_attr_show(unbound, "nice", nullptr, 8), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(cmwq_workqueue_attr_show(unbound, "nice", value, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(Store(nullptr, "nice", "1"), EINVAL);
  EXPECT_EQ(Store(unbound, nullptr, "1"), EINVAL);
  EXPECT_EQ(Store(unbound, "nice", nullptr), EINVAL);
}

TEST_F(AttrsApi, ShowCutsToTheSize) {
  char value[8];
  memset(value, 'x', sizeof(value));
  EXPECT_EQ(cmwq_workqueue_attr_show(unbound, "affinity_scope", value, 4), 3);
  EXPECT_STREQ(value, "def");
  EXPECT_EQ(value[4], 'x');
  EXPECT_EQ(cmwq_workqueue_attr_show(unbound, "cpumask", value, 1), 0);
  EXPECT_STREQ(value, "");
  EXPECT_EQ(cmwq_workqueue_attr_show(unbound, "per_cpu", value, 2), 1);
  EXPECT_STREQ(value, "0");
}

TEST_F(AttrsApi, DestroyedQueue) {
  LogCapture log;
  Queue* const gone = cmwq_alloc_workqueue("gone", CMWQ_UNBOUND | CMWQ_SYSFS, 0);
  EXPECT_EQ(cmwq_find_workqueue("gone"), gone);
  cmwq_destroy_workqueue(gone);
  EXPECT_EQ(cmwq_find_workqueue("gone"), nullptr);
  EXPECT_EQ(Show(gone, "nice"), Einval());
  EXPECT_EQ(Store(gone, "nice", "1"), EINVAL);
  EXPECT_EQ(Apply(gone, Plain()), EINVAL);
  EXPECT_EQ(log.Take().size(), 3u);
}

TEST_F(AttrsApi, ApplyRefuses) {
  errno = 0;
  EXPECT_EQ(cmwq_apply_workqueue_attrs(unbound, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(Apply(nullptr, Plain()), EINVAL);
  EXPECT_EQ(Apply(bound, Plain()), EINVAL);
  for (const int nice : {-21, 20, INT32_MIN, INT32_MAX}) {
    Attrs attrs = Plain();
    attrs.nice = nice;
    EXPECT_EQ(Apply(unbound, attrs), EINVAL) << nice;
  }
  for (const int scope : {-1, CMWQ_AFFN_SYSTEM + 1, INT32_MAX}) {
    Attrs attrs = Plain();
    memcpy(&attrs.affinity_scope, &scope, sizeof(scope));
    EXPECT_EQ(Apply(unbound, attrs), EINVAL) << scope;
  }
  unsigned char mask[520] = {};
  Attrs attrs = Plain();
  attrs.cpumask = mask;
  EXPECT_EQ(Apply(unbound, attrs), EINVAL);  // no byte
  attrs.cpumask_size = sizeof(mask);
  EXPECT_EQ(Apply(unbound, attrs), EINVAL);  // no CPU
  mask[FirstCpu() / 8] = static_cast<unsigned char>(1 << (FirstCpu() % 8));
  EXPECT_EQ(Apply(unbound, attrs), 0);
  mask[512] = 1;  // CPU 4096
  EXPECT_EQ(Apply(unbound, attrs), EINVAL);
  EXPECT_EQ(Show(unbound, "cpumask"), std::to_string(FirstCpu()));
}

TEST_F(AttrsApi, ApplyChangesAllAtOnce) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(LastCpu()), &set);
  const Attrs attrs = {3, CMWQ_AFFN_NUMA, true, &set, sizeof(set)};
  for (Queue* const wq : {unbound, ordered}) {
    ASSERT_EQ(Apply(wq, attrs), 0);
    EXPECT_EQ(Show(wq, "nice"), "3");
    EXPECT_EQ(Show(wq, "cpumask"), std::to_string(LastCpu()));
    EXPECT_EQ(Show(wq, "affinity_scope"), "numa");
    EXPECT_EQ(Show(wq, "affinity_strict"), "1");
    EXPECT_EQ(Place(wq), std::to_string(LastCpu()));
    ASSERT_EQ(Apply(wq, Plain()), 0);
    EXPECT_EQ(Show(wq, "cpumask"), List(Usable()));
    EXPECT_EQ(Place(wq), List(Usable()));
  }
}

TEST_F(AttrsApi, UnboundMaskRefuses) {
  const unsigned char none[16] = {};
  unsigned char mask[520] = {};
  EXPECT_EQ(SetUnbound(none, sizeof(none)), EINVAL);
  EXPECT_EQ(SetUnbound(none, 0), EINVAL);
  mask[0] = 0xff;
  mask[512] = 1;
  EXPECT_EQ(SetUnbound(mask, sizeof(mask)), EINVAL);
  if (!Usable().Has(4095)) {
    memset(mask, 0, sizeof(mask));
    mask[511] = 0x80;
    EXPECT_EQ(SetUnbound(mask, 512), EINVAL);
  }
  EXPECT_EQ(Place(unbound), List(Usable()));
  EXPECT_EQ(SetUnbound(nullptr, 0), 0);
}

// Queues that are there, new ones, and what they show: their own wish, not what is left of it.
TEST_F(AttrsApi, UnboundMaskHoldsForEveryUnboundQueue) {
  const platform::CpuSet one = platform::CpuSet::Of(LastCpu());
  ASSERT_EQ(SetUnbound(one.words(), platform::CpuSet::kBytes), 0);
  Queue* const late = cmwq_alloc_workqueue("late", CMWQ_UNBOUND, 0);
  for (Queue* const wq : {unbound, ordered, late}) {
    EXPECT_EQ(Place(wq), List(one));
    EXPECT_EQ(Show(wq, "cpumask"), List(Usable()));
  }
  // Nothing of the wish is left: all those that may be used count.
  if (FirstCpu() != LastCpu()) {
    ASSERT_EQ(Store(late, "cpumask", std::to_string(FirstCpu()).c_str()), 0);
    EXPECT_EQ(Place(late), List(one));
  }
  ASSERT_EQ(SetUnbound(nullptr, 0), 0);
  EXPECT_EQ(Place(unbound), List(Usable()));
  EXPECT_EQ(Place(late), FirstCpu() != LastCpu() ? std::to_string(FirstCpu()) : List(Usable()));
  cmwq_destroy_workqueue(late);
}

// The mask changes while a queue is made that is not listed yet.
TEST_F(AttrsApi, UnboundMaskReachesAQueueThatIsBeingMade) {
  if (!kHaveTestPoints) GTEST_SKIP() << "no test points in this build";
  if (FirstCpu() == LastCpu()) GTEST_SKIP() << "one CPU";
  const platform::CpuSet one = platform::CpuSet::Of(LastCpu());
  Queue* made;
  {
    const AtTestPoint between("capi.created",
                              [&one] { EXPECT_EQ(SetUnbound(one.words(), platform::CpuSet::kBytes), 0); });
    made = cmwq_alloc_workqueue("made", CMWQ_UNBOUND, 0);
  }
  EXPECT_EQ(Place(made), List(one));
  cmwq_destroy_workqueue(made);
}

TEST_F(AttrsApi, FindTakesTheOldestOfAName) {
  EXPECT_EQ(cmwq_find_workqueue("unbound"), nullptr);  // no CMWQ_SYSFS
  EXPECT_EQ(cmwq_find_workqueue("nosuch"), nullptr);
  EXPECT_EQ(cmwq_find_workqueue(nullptr), nullptr);
  Queue* const first = cmwq_alloc_workqueue("twice", CMWQ_SYSFS, 0);
  Queue* const second = cmwq_alloc_ordered_workqueue("twice", CMWQ_SYSFS);
  EXPECT_EQ(cmwq_find_workqueue("twice"), first);
  cmwq_destroy_workqueue(first);
  EXPECT_EQ(cmwq_find_workqueue("twice"), second);
  cmwq_destroy_workqueue(second);
  EXPECT_EQ(cmwq_find_workqueue("twice"), nullptr);
}

}  // namespace
}  // namespace cmwq::test
