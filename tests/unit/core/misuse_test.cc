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

// A misuse is told once per function, kind and process: at most `most` lines, all different.
void ExpectDifferentLines(const std::vector<std::string>& lines, size_t most) {
  EXPECT_LE(lines.size(), most);
  std::set<std::string> names;
  for (const std::string& line : lines) {
    EXPECT_EQ(line.rfind("cmwq: cmwq_", 0), 0u) << line;
    EXPECT_TRUE(names.insert(line).second) << line;
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
  ExpectDifferentLines(log.Take(), 6);
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
  ExpectDifferentLines(log.Take(), 30);
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
  ExpectDifferentLines(log.Take(), 1);
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

// Runs `misuse` and returns what was said.
template <class F>
std::string Said(F misuse) {
  LogCapture log;
  misuse();
  std::string all;
  for (const std::string& line : log.Take()) all += line;
  return all;
}

TEST(Misuse, NegativeMaxActive) {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("q", 0, 0);
  errno = 0;
  EXPECT_EQ(cmwq_workqueue_set_max_active(wq, -1), -1);
  EXPECT_EQ(errno, EINVAL);
  cmwq_destroy_workqueue(wq);
}

TEST(Misuse, HandlesOfDestroyedQueues) {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("gone", CMWQ_MEM_RECLAIM, 0);
  cmwq_destroy_workqueue(wq);
  Item item;
  const std::string said = Said([&] {
    cmwq_destroy_workqueue(wq);
    cmwq_destroy_workqueue(wq);
    EXPECT_FALSE(cmwq_queue_work(wq, item.work()));
    EXPECT_FALSE(cmwq_queue_work_on(0, wq, item.work()));
    EXPECT_FALSE(cmwq_queue_delayed_work(wq, &item.d, 1));
    EXPECT_FALSE(cmwq_mod_delayed_work(wq, &item.d, 1));
    cmwq_flush_workqueue(wq);
    cmwq_drain_workqueue(wq);
    errno = 0;
    EXPECT_EQ(cmwq_workqueue_set_max_active(wq, 1), -1);
    EXPECT_EQ(errno, EINVAL);
    EXPECT_EQ(cmwq_workqueue_set_fail(wq, nullptr), -1);
  });
  EXPECT_NE(said.find("the workqueue was destroyed; ignored\n"), std::string::npos) << said;
  EXPECT_EQ(cmwq_work_busy(item.work()), 0u);
  // The item is as good as new.
  struct cmwq_workqueue* const other = cmwq_alloc_workqueue("q", 0, 0);
  EXPECT_TRUE(cmwq_queue_work(other, item.work()));
  cmwq_destroy_workqueue(other);
  EXPECT_EQ(item.Runs(), 1);
}

// The newest handles are those that are misused: they are not given to new queues for a while.
TEST(Misuse, HandlesAreNotUsedAgainSoon) {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("gone", 0, 0);
  cmwq_destroy_workqueue(wq);
  LogCapture log;
  for (int i = 0; i < 200; ++i) {
    struct cmwq_workqueue* const next = cmwq_alloc_workqueue("q", 0, 0);
    EXPECT_NE(next, wq);
    cmwq_destroy_workqueue(next);
  }
  Item item;
  EXPECT_FALSE(cmwq_queue_work(wq, item.work()));
}

TEST(Misuse, ATimerOutlivesItsQueue) {
  Item item;
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("gone", 0, 0);
  EXPECT_TRUE(cmwq_queue_delayed_work(wq, &item.d, 5'000'000));
  cmwq_destroy_workqueue(wq);
  Eventually([&] { return cmwq_work_busy(item.work()) == 0; });
  EXPECT_FALSE(cmwq_cancel_delayed_work_sync(&item.d));
  EXPECT_EQ(item.Runs(), 0);
}

TEST(Misuse, InitialisingAPendingItem) {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("q", 0, 1);
  struct cmwq_workqueue* const unbound = cmwq_alloc_workqueue("u", CMWQ_UNBOUND, 1);
  for (struct cmwq_workqueue* queue : {wq, unbound}) {
    Gate started, stop;
    Item blocks([&] {
      started.Open();
      stop.WaitAnnounced();
    });
    Item waits, timed;
    EXPECT_TRUE(cmwq_queue_work(queue, blocks.work()));
    started.Wait();
    EXPECT_TRUE(cmwq_queue_work(queue, waits.work()));  // over max_active: on the inactive list
    EXPECT_TRUE(cmwq_queue_delayed_work(queue, &timed.d, 3'600'000'000'000));
    const std::string said = Said([&] {
      cmwq_work_init(waits.work(), &Item::Run);
      cmwq_delayed_work_init(&timed.d, &Item::Run);
    });
    if (queue == wq) {
      EXPECT_NE(said.find("cmwq_work_init: the work is pending"), std::string::npos) << said;
      EXPECT_NE(said.find("cmwq_delayed_work_init: the work is pending"), std::string::npos) << said;
    }
    EXPECT_TRUE(cmwq_cancel_delayed_work(&timed.d));
    stop.Open();
    cmwq_flush_workqueue(queue);
    EXPECT_EQ(waits.Runs(), 1);
  }
  cmwq_destroy_workqueue(wq);
  cmwq_destroy_workqueue(unbound);
}

// On the worklist itself, behind an item that computes.
TEST(Misuse, InitialisingAnActiveItem) {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("q", CMWQ_HIGHPRI, 0);
  Gate started, stop;
  Item computes([&] {
    started.Open();
    while (!stop.opened()) {
    }
  });
  Item waits;
  EXPECT_TRUE(cmwq_queue_work_on(0, wq, computes.work()));
  started.Wait();
  EXPECT_TRUE(cmwq_queue_work_on(0, wq, waits.work()));
  const auto init = [&] { cmwq_work_init(waits.work(), &Item::Run); };
  Said(init);
  stop.Open();
  cmwq_flush_workqueue(wq);
  EXPECT_EQ(waits.Runs(), 1);
  cmwq_destroy_workqueue(wq);
}

// Memory that was never initialised holds anything, also what looks like a pending item.
TEST(Misuse, GarbageIsInitialised) {
  LogCapture log;
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("q", 0, 0);
  uint64_t random = 88172645463325252u;
  for (int i = 0; i < 20'000; ++i) {
    uint64_t garbage[sizeof(Item::d) / 8];
    for (uint64_t& g : garbage) {
      random ^= random << 13;
      random ^= random >> 7;
      random ^= random << 17;
      g = random;
    }
    // Many of them: pending, queued or timed, to a pool that exists.
    const uint64_t timed = uint64_t{1} | uint64_t{1} << 40, queued = 5;
    if (i % 2 == 0) {
      garbage[0] = (garbage[0] & ~uint64_t{0x1fffff000000}) | (i % 4 == 0 ? queued : timed);
    }
    auto* const d = reinterpret_cast<struct cmwq_delayed_work*>(garbage);
    cmwq_delayed_work_init(d, &Item::Run);
    ASSERT_EQ(cmwq_work_busy(&d->work), 0u);
    ASSERT_FALSE(cmwq_cancel_delayed_work_sync(d));
  }
  EXPECT_TRUE(log.Take().empty());
  cmwq_destroy_workqueue(wq);
}

TEST(Misuse, OverwrittenItemsAreRefused) {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("q", 0, 0);
  LogCapture log;
  for (uint64_t word : {~uint64_t{0}, uint64_t{1}, uint64_t{2}, uint64_t{5} | uint64_t{0xfff0} << 24,
                        uint64_t{0xfff0} << 24, uint64_t{5} | uint64_t{1} << 40}) {
    Item item;
    item.work()->word_ = word;
    EXPECT_FALSE(cmwq_flush_work(item.work())) << word;
    EXPECT_FALSE(cmwq_cancel_work(item.work())) << word;
    EXPECT_FALSE(cmwq_cancel_work_sync(item.work())) << word;
    EXPECT_FALSE(cmwq_disable_work(item.work())) << word;
    EXPECT_FALSE(cmwq_disable_work_sync(item.work())) << word;
    EXPECT_FALSE(cmwq_enable_work(item.work())) << word;
    EXPECT_FALSE(cmwq_flush_delayed_work(&item.d)) << word;
    EXPECT_EQ(cmwq_work_busy(item.work()), 0u) << word;
    EXPECT_EQ(item.work()->word_, word);
    item.work()->word_ = 0;
  }
  cmwq_destroy_workqueue(wq);
}

TEST(Misuse, EnablingWhatWasNeverDisabled) {
  Item item;
  const std::string said = Said([&] { EXPECT_FALSE(cmwq_enable_work(item.work())); });
  EXPECT_NE(said.find("enabled without having been disabled"), std::string::npos) << said;
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("q", 0, 0);
  EXPECT_TRUE(cmwq_queue_work(wq, item.work()));
  cmwq_destroy_workqueue(wq);
  EXPECT_EQ(item.Runs(), 1);
}

}  // namespace
}  // namespace cmwq::test
