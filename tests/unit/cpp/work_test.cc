// Work and DelayedWork: destruction from inside and outside, disabling.

#include <gtest/gtest.h>

#include <cmwq/workqueue.hpp>
#include <functional>
#include <memory>

#include "tests/support/gate.h"

namespace cmwq::test {
namespace {

using namespace std::chrono_literals;

TEST(Work, DestroyedByItsOwnFunction) {
  Workqueue queue("work");
  using Item = Work<std::function<void()>>;
  Gate gone;
  auto* const item = new std::unique_ptr<Item>;
  item->reset(new Item([item, &gone] {
    // Captures are gone with the item: copies on the stack are not.
    auto* const owner = item;
    Gate* const done = &gone;
    owner->reset();
    delete owner;
    done->Open();
  }));
  queue.queue(**item);
  gone.Wait();
}

TEST(Work, DestructionCancelsOrWaits) {
  Workqueue queue = Workqueue::ordered("work");
  Gate begun, go;
  std::atomic<int> runs{0};
  {
    Work first([&] {
      begun.Open();
      go.WaitAnnounced();
      ++runs;
    });
    Work second([&] { runs += 100; });
    EXPECT_TRUE(queue.queue(first));
    EXPECT_TRUE(queue.queue(second));
    begun.Wait();
    EXPECT_EQ(first.busy(), unsigned{CMWQ_WORK_RUNNING});
    EXPECT_EQ(second.busy(), unsigned{CMWQ_WORK_PENDING});
    EXPECT_TRUE(second.cancel());
    go.Open();
  }
  EXPECT_EQ(runs.load(), 1);
}

TEST(DelayedWork, DisableStopsTheTimer) {
  Workqueue queue("work");
  std::atomic<int> runs{0};
  DelayedWork item([&] { ++runs; });
  EXPECT_TRUE(queue.queue_after(item, 1h));
  EXPECT_EQ(item.busy(), unsigned{CMWQ_WORK_PENDING});
  EXPECT_TRUE(item.disable());
  EXPECT_EQ(item.busy(), 0u);
  EXPECT_FALSE(queue.queue_after(item, 0s));
  EXPECT_FALSE(item.disable_sync());
  EXPECT_FALSE(item.enable());
  EXPECT_TRUE(item.enable());
  EXPECT_TRUE(queue.queue_after(item, 1h));
  item.flush();
  EXPECT_EQ(runs.load(), 1);
}

TEST(DelayedWork, NewDelays) {
  Workqueue queue("work");
  Gate ran;
  DelayedWork item([&] { ran.Open(); });
  EXPECT_FALSE(queue.requeue_after(item, 1h));
  EXPECT_TRUE(queue.requeue_after(item, 1ms));
  ran.Wait();
  EXPECT_TRUE(queue.queue_after(item, 1h));
  EXPECT_TRUE(item.cancel());
}

}  // namespace
}  // namespace cmwq::test
