// The process's own engine follows the process's own affinity: noticed by work, with nobody telling.

#include <cmwq/cmwq.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmwq/attrs.h>

#include <atomic>
#include <cerrno>
#include <string>

#include "runtime/core/cpus.h"
#include "runtime/core/runtime.h"
#include "tests/support/fake_sysfs.h"
#include "tests/support/gate.h"

namespace {
std::atomic<bool> g_no_threads{false};
}  // namespace

// Linked with --wrap: the engine's threads are made here.
extern "C" int __real_pthread_create(pthread_t* thread, const pthread_attr_t* attr, void* (*fn)(void*),
                                     void* arg);
extern "C" int __wrap_pthread_create(pthread_t* thread, const pthread_attr_t* attr, void* (*fn)(void*),
                                     void* arg) {
  return g_no_threads.load() ? EAGAIN : __real_pthread_create(thread, attr, fn, arg);
}

namespace cmwq::test {
namespace {

using platform::CpuSet;

// Work goes on until the usable CPUs are these.
void WorkUntil(const CpuSet& expected) {
  cmwq_workqueue* const wq = cmwq_alloc_workqueue("watched", 0, 0);
  ASSERT_NE(wq, nullptr);
  Item item([] {});
  Eventually([&] {
    cmwq_queue_work(wq, item.work());
    cmwq_flush_work(item.work());
    return core::UsableCpus() == expected;
  });
  cmwq_destroy_workqueue(wq);
}

TEST(CpuWatch, WorkNoticesANewMaskOfTheProcess) {
  CpuSet all;
  ASSERT_EQ(all.LoadAffinity(getpid()), 0);
  if (all.Count() < 2) GTEST_SKIP() << "one CPU: nothing can be taken away";
  const CpuSet one = CpuSet::Of(all.Next(all.Next(0) + 1));
  if (one.StoreAffinity(getpid()) != 0) GTEST_SKIP() << "setting affinity is refused here";
  ASSERT_EQ(all.StoreAffinity(getpid()), 0);
  WorkUntil(all);
  ASSERT_EQ(one.StoreAffinity(getpid()), 0);
  WorkUntil(one);
  ASSERT_EQ(all.StoreAffinity(getpid()), 0);
  WorkUntil(all);
}

// The CPUs of the pool that executes what is queued to the queue of this name.
std::string PodOf(const char* name) {
  std::string pod;
  core::Runtime::Get().ForEachQueue([&](wq::Workqueue* wq) {
    if (std::string(wq->name) == name) {
      pod = ListOf(wq->PwqFor(core::UsableCpus().Next(0))->pool->attrs().pod);
    }
  });
  return pod;
}

// No first worker can be made for the pool that an unbound queue is to have: it keeps its old one. With
// work going on that is tried again until it succeeds; nobody asks twice, and no CPU changes.
TEST(CpuWatch, AQueueThatCouldNotBeMappedIsMappedLater) {
  ASSERT_EQ(cmwq_workqueue_set_cpumask(nullptr, 0), 0);
  const CpuSet all = core::UsableCpus();
  if (all.Count() < 2) GTEST_SKIP() << "needs two CPUs";
  const CpuSet one = CpuSet::Of(all.Next(0));
  cmwq_workqueue* const bound = cmwq_alloc_workqueue("bound", 0, 0);
  cmwq_workqueue* const unbound = cmwq_alloc_workqueue("unbound", CMWQ_UNBOUND, 0);
  ASSERT_TRUE(bound != nullptr && unbound != nullptr);
  Item item([] {});
  for (cmwq_workqueue* const wq : {bound, unbound}) {
    cmwq_queue_work_on(one.Next(0), wq, item.work());
    cmwq_flush_work(item.work());
  }
  const std::string before = PodOf("unbound");
  ASSERT_NE(before, ListOf(one));
  g_no_threads = true;
  EXPECT_EQ(cmwq_workqueue_set_cpumask(one.words(), CpuSet::kBytes), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(PodOf("unbound"), before);
  g_no_threads = false;
  Eventually([&] {
    cmwq_queue_work(bound, item.work());
    cmwq_flush_work(item.work());
    return PodOf("unbound") == ListOf(one);
  });
  EXPECT_EQ(cmwq_workqueue_set_cpumask(nullptr, 0), 0);
  cmwq_destroy_workqueue(bound);
  cmwq_destroy_workqueue(unbound);
}

class Lines final : public pool::LineWriter {
 public:
  void Line(const char* line) override { text += line; }
  std::string text;
};

TEST(CpuWatch, CpusAreShown) {
  ASSERT_EQ(core::Runtime::Get().Start(), 0);
  Lines lines;
  core::WriteCpus(&lines);
  EXPECT_EQ(lines.text.rfind("  CPUs " + ListOf(core::UsableCpus()), 0), 0u) << lines.text;
}

}  // namespace
}  // namespace cmwq::test
