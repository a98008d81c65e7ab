// The process's own engine follows the process's own affinity: noticed by work, with nobody telling.

#include <cmwq/cmwq.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "runtime/core/cpus.h"
#include "runtime/core/runtime.h"
#include "tests/support/fake_sysfs.h"
#include "tests/support/gate.h"

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
