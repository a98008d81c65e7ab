// The table that CMWQ_REPORT=1 prints: one head, one line per pool that was used.

#include <gtest/gtest.h>
#include <unistd.h>

#include <sstream>
#include <string>

#include "runtime/core/runtime.h"
#include "tests/support/gate.h"

namespace cmwq::test {
namespace {

std::string Report() {
  int ends[2];
  if (pipe(ends) != 0) return "";
  core::Runtime::Get().Report(ends[1]);
  close(ends[1]);
  std::string text(16384, '\0');
  size_t used = 0;
  for (ssize_t n; (n = read(ends[0], &text[used], text.size() - used)) > 0;) {
    used += static_cast<size_t>(n);
  }
  close(ends[0]);
  text.resize(used);
  return text;
}

TEST(Report, EmptyBeforeTheStartThenOneLinePerUsedPool) {
  if (!core::Runtime::Get().started()) {
    EXPECT_EQ(Report(), "");
  }
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("q", CMWQ_UNBOUND, 1);
  ASSERT_NE(wq, nullptr);
  for (int i = 0; i < 5; ++i) {
    Item item;
    cmwq_queue_work(wq, item.work());
    cmwq_flush_workqueue(wq);
  }
  cmwq_destroy_workqueue(wq);
  std::istringstream lines(Report());
  std::string head, cpus, columns, row;
  ASSERT_TRUE(std::getline(lines, head));
  EXPECT_NE(head.find("cmwq report, pid " + std::to_string(getpid())), std::string::npos) << head;
  ASSERT_TRUE(std::getline(lines, cpus));
  EXPECT_EQ(cpus.rfind("  CPUs ", 0), 0u) << cpus;
  ASSERT_TRUE(std::getline(lines, columns));
  // Where CPUs share no cache the test's thread may have moved from one unbound pool to another.
  long rows = 0, all_executed = 0;
  while (std::getline(lines, row)) {
    std::istringstream fields(row);
    std::string pool;
    long created = 0, peak = 0, alive = 0, executed = 0;
    fields >> pool >> created >> peak >> alive >> executed;
    EXPECT_EQ(pool, "unbound") << row;
    EXPECT_GE(created, 1) << row;
    EXPECT_EQ(peak, alive) << row;
    ++rows;
    all_executed += executed;
  }
  EXPECT_GE(rows, 1);
  EXPECT_EQ(all_executed % 5, 0);
  EXPECT_GT(all_executed, 0);
}

}  // namespace
}  // namespace cmwq::test
