// Wrong calls have defined results: a refusal, an errno, one clear line; never the end of the process.

#include <cmwq/cmwq.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <set>
#include <string>
#include <vector>

#include "tests/support/gate.h"
#include "tests/support/log_capture.h"

namespace cmwq::test {
namespace {

// A misuse is told once per function and process: at most `functions` lines, all different.
void ExpectOneLinePerFunction(const std::vector<std::string>& lines, size_t functions) {
  EXPECT_LE(lines.size(), functions);
  std::set<std::string> names;
  for (const std::string& line : lines) {
    EXPECT_EQ(line.rfind("cmwq: cmwq_", 0), 0u) << line;
    EXPECT_TRUE(names.insert(line.substr(0, line.find(':', 6))).second) << line;
  }
}

TEST(Misuse, BadArgumentsOfAlloc) {
  errno = 0;
  EXPECT_EQ(cmwq_alloc_workqueue(nullptr, 0, 0), nullptr);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(cmwq_alloc_workqueue("q", 1u << 20, 0), nullptr);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(cmwq_alloc_workqueue("q", 0, -1), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(cmwq_alloc_ordered_workqueue(nullptr, 0), nullptr);
}

TEST(Misuse, NullQueues) {
  LogCapture log;
  Item item;
  EXPECT_FALSE(cmwq_queue_work(nullptr, item.work()));
  EXPECT_FALSE(cmwq_queue_work_on(0, nullptr, item.work()));
  EXPECT_FALSE(cmwq_queue_delayed_work(nullptr, &item.d, 1));
  EXPECT_FALSE(cmwq_mod_delayed_work(nullptr, &item.d, 1));
  cmwq_flush_workqueue(nullptr);
  cmwq_drain_workqueue(nullptr);
  ExpectOneLinePerFunction(log.Take(), 6);
  cmwq_destroy_workqueue(nullptr);
  EXPECT_EQ(cmwq_workqueue_set_max_active(nullptr, 1), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_TRUE(log.Take().empty());
}

TEST(Misuse, NullAndUninitialisedItems) {
  LogCapture log;
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("q", 0, 0);
  ASSERT_NE(wq, nullptr);
  struct cmwq_delayed_work blank = {};
  for (struct cmwq_work* w : {static_cast<struct cmwq_work*>(nullptr), &blank.work}) {
    EXPECT_FALSE(cmwq_queue_work(wq, w));
    EXPECT_FALSE(cmwq_flush_work(w));
    EXPECT_FALSE(cmwq_cancel_work(w));
    EXPECT_FALSE(cmwq_cancel_work_sync(w));
    EXPECT_FALSE(cmwq_disable_work(w));
    EXPECT_FALSE(cmwq_disable_work_sync(w));
    EXPECT_FALSE(cmwq_enable_work(w));
  }
  for (struct cmwq_delayed_work* d : {static_cast<struct cmwq_delayed_work*>(nullptr), &blank}) {
    EXPECT_FALSE(cmwq_queue_delayed_work(wq, d, 1));
    EXPECT_FALSE(cmwq_mod_delayed_work(wq, d, 1));
    EXPECT_FALSE(cmwq_cancel_delayed_work(d));
    EXPECT_FALSE(cmwq_cancel_delayed_work_sync(d));
    EXPECT_FALSE(cmwq_flush_delayed_work(d));
  }
  EXPECT_EQ(cmwq_work_busy(nullptr), 0u);
  cmwq_work_init(nullptr, nullptr);
  cmwq_delayed_work_init(nullptr, nullptr);
  ExpectOneLinePerFunction(log.Take(), 15);
  cmwq_destroy_workqueue(wq);
}

TEST(Misuse, UnknownCpusAreReplaced) {
  LogCapture log;
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("q", 0, 0);
  for (int cpu : {4095, 5000, -7, INT32_MAX, INT32_MIN}) {
    Item item;
    EXPECT_TRUE(cmwq_queue_work_on(cpu, wq, item.work()));
    cmwq_flush_workqueue(wq);
    EXPECT_EQ(item.Runs(), 1);
  }
  EXPECT_LE(log.Take().size(), 1u);  // once per process
  cmwq_destroy_workqueue(wq);
}

TEST(Misuse, LimitsOfOrderedQueues) {
  struct cmwq_workqueue* const wq = cmwq_alloc_ordered_workqueue("q", 0);
  errno = 0;
  EXPECT_EQ(cmwq_workqueue_set_max_active(wq, 2), -1);
  EXPECT_EQ(errno, EINVAL);
  cmwq_destroy_workqueue(wq);
}

TEST(Misuse, DestroyFromAnOwnItem) {
  LogCapture log;
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("q", 0, 0);
  Item item([&] { cmwq_destroy_workqueue(wq); });
  EXPECT_TRUE(cmwq_queue_work(wq, item.work()));
  cmwq_flush_work(item.work());
  ExpectOneLinePerFunction(log.Take(), 1);
  Item after;
  EXPECT_TRUE(cmwq_queue_work(wq, after.work()));
  cmwq_destroy_workqueue(wq);
  EXPECT_EQ(after.Runs(), 1);
}

TEST(Misuse, BlockingRegionsOutsideAndLeftOpen) {
  LogCapture log;
  cmwq_block_end();
  cmwq_block_begin();
  cmwq_block_begin();
  cmwq_block_end();
  cmwq_block_end();
  cmwq_block_end();
  EXPECT_TRUE(log.Take().empty());
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("q", 0, 0);
  for (int i = 0; i < 3; ++i) {
    Item open([] { cmwq_block_begin(); }), close([] { cmwq_block_end(); }), plain;
    for (Item* item : {&open, &close, &plain}) EXPECT_TRUE(cmwq_queue_work(wq, item->work()));
    cmwq_flush_workqueue(wq);
    EXPECT_EQ(plain.Runs(), 1);
  }
  EXPECT_LE(log.Take().size(), 1u);  // once per process
  cmwq_destroy_workqueue(wq);
}

TEST(Misuse, CurrentWorkOutsideIsNull) {
  EXPECT_EQ(cmwq_current_work(), nullptr);
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("q", 0, 0);
  struct cmwq_work* seen = nullptr;
  Item item([&] { seen = cmwq_current_work(); });
  cmwq_queue_work(wq, item.work());
  cmwq_flush_workqueue(wq);
  EXPECT_EQ(seen, item.work());
  cmwq_destroy_workqueue(wq);
}

}  // namespace
}  // namespace cmwq::test
