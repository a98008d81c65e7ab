// Waiting: for one item, for a queue, until it is empty; and the end of a queue.

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

#include "runtime/wq/work_word.h"
#include "tests/support/fake_env.h"
#include "tests/support/log_capture.h"

namespace cmwq::test {
namespace {

class FlushTest : public ::testing::Test {
 protected:
  void TearDown() override {
    e.Destroy(wq);
    if (e.Pool().Stats().nr_workers > 0) Engine::WaitIdle(e.Pool());
  }
  int InFlight() {
    wq::Pwq* const pwq = wq->PwqFor(0);
    sync::MutexLock hold(pwq->pool->lock);
    int n = 0;
    for (int colour : pwq->nr_in_flight) n += colour;
    return n;
  }
  Engine& e = Engine::Make(2);
  wq::Workqueue* wq = e.Alloc();
};

TEST_F(FlushTest, AnIdleItem) {
  Item item;
  EXPECT_FALSE(e.Flush(item));
  ASSERT_TRUE(Engine::Queue(wq, item));
  wq::FlushWorkqueue(wq);
  EXPECT_FALSE(e.Flush(item));
}

TEST_F(FlushTest, PendingAndRunningItems) {
  Gate started, end;
  Item running([&] {
    started.Open();
    end.Wait();
  });
  Item pending;
  ASSERT_TRUE(Engine::Queue(wq, running));
  started.Wait();
  ASSERT_TRUE(Engine::Queue(wq, pending));
  std::thread one([&] {
    EXPECT_TRUE(e.Flush(running));
    EXPECT_EQ(running.Runs(), 1);
  });
  std::thread two([&] {
    EXPECT_TRUE(e.Flush(pending));
    EXPECT_EQ(pending.Runs(), 1);
  });
  std::thread three([&] { EXPECT_TRUE(e.Flush(pending)); });
  Eventually([&] { return InFlight() == 5; });  // two items and three barriers
  end.Open();
  one.join();
  two.join();
  three.join();
}

// The barrier outlives the item it was linked to.
TEST_F(FlushTest, OfAnItemThatIsCancelled) {
  Gate end;
  Item busy([&] { end.Wait(); }), item, after;
  ASSERT_TRUE(Engine::Queue(wq, busy));
  ASSERT_TRUE(Engine::Queue(wq, item));
  ASSERT_TRUE(Engine::Queue(wq, after));
  std::thread one([&] { e.Flush(item); }), two([&] { e.Flush(item); });
  Eventually([&] { return PoolTestPeer::Pending(e.Pool()) == 4; });
  EXPECT_TRUE(e.Cancel(item));
  end.Open();
  one.join();
  two.join();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 0);
  EXPECT_EQ(after.Runs(), 1);
}

// The same behind an item that waits for a slot: the flushers must not wait for that slot.
TEST_F(FlushTest, OfAnInactiveItemThatIsCancelled) {
  wq::Workqueue* const one = e.Alloc(0, 1);
  Gate end;
  Item busy([&] { end.WaitAnnounced(); }), item, after;
  ASSERT_TRUE(Engine::Queue(one, busy));
  ASSERT_TRUE(Engine::Queue(one, item));
  ASSERT_TRUE(Engine::Queue(one, after));
  std::thread a([&] { e.Flush(item); }), b([&] { e.Flush(item); });
  wq::Pwq* const pwq = one->PwqFor(0);
  Eventually([&] {
    sync::MutexLock hold(pwq->pool->lock);
    int n = 0;
    for (base::ListNode* node = pwq->inactive.front(); node != nullptr;
         node = pwq->inactive.next(node)) {
      ++n;
    }
    return n == 4;
  });
  EXPECT_TRUE(e.Cancel(item));
  a.join();
  b.join();
  {
    sync::MutexLock hold(pwq->pool->lock);
    EXPECT_EQ(pwq->nr_active, 1);
  }
  EXPECT_EQ(after.Runs(), 0);
  end.Open();
  wq::FlushWorkqueue(one);
  EXPECT_EQ(after.Runs(), 1);
  e.Destroy(one);
}

TEST_F(FlushTest, InactiveItemsWithBarriersBecomeActive) {
  wq::Workqueue* const one = e.Alloc(0, 1);
  Gate end;
  Item busy([&] { end.WaitAnnounced(); });
  std::vector<std::unique_ptr<Item>> items;
  std::vector<std::thread> flushers;
  ASSERT_TRUE(Engine::Queue(one, busy));
  for (int i = 0; i < 5; ++i) {
    items.push_back(std::make_unique<Item>());
    ASSERT_TRUE(Engine::Queue(one, *items.back()));
    Item* const item = items.back().get();
    flushers.emplace_back([this, item] {
      EXPECT_TRUE(e.Flush(*item));
      EXPECT_EQ(item->Runs(), 1);
    });
    Eventually([item] {
      return (wq::WordOf(item->work()).load() & wq::Word::kLinked) != 0;
    });
  }
  end.Open();
  for (std::thread& t : flushers) t.join();
  e.Destroy(one);
}

TEST_F(FlushTest, OfItselfIsReported) {
  LogCapture log;
  Item* self = nullptr;
  Item item([&] { EXPECT_FALSE(e.Flush(*self)); });
  self = &item;
  Item queue([&] { wq::FlushWorkqueue(wq); }), drain([&] { wq::DrainWorkqueue(wq); });
  for (Item* i : {&item, &queue, &drain}) ASSERT_TRUE(Engine::Queue(wq, *i));
  wq::FlushWorkqueue(wq);
  const std::vector<std::string> lines = log.Take();
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_NE(lines[0].find("called from itself"), std::string::npos);
  EXPECT_NE(lines[1].find("one of its own items"), std::string::npos);
}

// One item flushes another of its queue: allowed, and it does not hold the CPU meanwhile.
TEST_F(FlushTest, FromAnotherItem) {
  Item second;
  Item first([&] {
    ASSERT_TRUE(Engine::Queue(wq, second));
    EXPECT_TRUE(e.Flush(second));
    EXPECT_EQ(second.Runs(), 1);
  });
  ASSERT_TRUE(Engine::Queue(wq, first));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(first.Runs(), 1);
}

TEST_F(FlushTest, AQueueOnlyForWhatWasThere) {
  Item* chain = nullptr;
  std::atomic<bool> stop{false};
  Item endless([&] {
    if (!stop) Engine::Queue(wq, *chain);
  });
  chain = &endless;
  Item earlier;
  ASSERT_TRUE(Engine::Queue(wq, endless));
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(Engine::Queue(wq, earlier, 1));
    wq::FlushWorkqueue(wq);  // ends although the queue is never empty
    EXPECT_EQ(earlier.Runs(), i + 1);
  }
  stop = true;
  wq::FlushWorkqueue(wq);
}

// More flushers than colours, each behind an item of its own that is still held.
TEST_F(FlushTest, MoreFlushersThanColours) {
  constexpr int kFlushers = 40;
  Gate end;
  std::vector<std::unique_ptr<Item>> items;
  std::vector<std::thread> flushers;
  std::atomic<int> flushed{0};
  for (int i = 0; i < kFlushers; ++i) {
    items.push_back(std::make_unique<Item>([&] { end.WaitAnnounced(); }));
    Item* const item = items.back().get();
    ASSERT_TRUE(Engine::Queue(wq, *item, i % 2));
    const uint64_t before = wq->flush.current();
    flushers.emplace_back([this, item, &flushed] {
      wq::FlushWorkqueue(wq);
      EXPECT_EQ(item->Runs(), 1);
      flushed.fetch_add(1);
    });
    if (i < wq::kColours - 1) Eventually([&] { return wq->flush.current() > before; });
  }
  EXPECT_EQ(flushed, 0);
  EXPECT_EQ(wq->flush.current(), static_cast<uint64_t>(wq::kColours - 1));
  end.Open();
  for (std::thread& t : flushers) t.join();
  EXPECT_EQ(flushed, kFlushers);
}

TEST_F(FlushTest, ColoursWrap) {
  for (int i = 0; i < 100; ++i) {
    Item item;
    ASSERT_TRUE(Engine::Queue(wq, item));
    wq::FlushWorkqueue(wq);
    EXPECT_EQ(item.Runs(), 1);
  }
  EXPECT_EQ(wq->flush.current(), 100u);
  EXPECT_EQ(wq->flush.done(), 100u);
}

TEST_F(FlushTest, DrainWaitsForChains) {
  std::atomic<int> left{50};
  Item* self = nullptr;
  Item item([&] {
    if (left.fetch_sub(1) > 1) {
      EXPECT_TRUE(Engine::Queue(wq, *self));
    }
  });
  self = &item;
  ASSERT_TRUE(Engine::Queue(wq, item));
  wq::DrainWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 50);
}

// While a queue drains, outsiders are refused. A timer that fires then gives the item back, or the next
// cancel would wait for ever.
TEST_F(FlushTest, DrainRefusesOutsiders) {
  LogCapture log;
  Gate started, end;
  Item busy([&] {
    started.Open();
    end.WaitAnnounced();
  });
  Item outsider, delayed;
  ASSERT_TRUE(Engine::Queue(wq, busy));
  started.Wait();
  ASSERT_TRUE(e.QueueDelayed(wq, delayed, 5));
  std::thread drainer([&] { wq::DrainWorkqueue(wq); });
  Eventually([&] { return wq->nr_drainers == 1; });
  EXPECT_FALSE(Engine::Queue(wq, outsider));
  EXPECT_FALSE(e.ModDelayed(wq, outsider, 0));
  e.Advance(5);
  EXPECT_EQ(wq::WordOf(delayed.work()).load() & wq::Word::kPending, 0u);
  EXPECT_FALSE(e.CancelSync(delayed));
  end.Open();
  drainer.join();
  EXPECT_EQ(outsider.Runs() + delayed.Runs(), 0);
  EXPECT_TRUE(e.QueueDelayed(wq, delayed, 1));
  e.Advance(1);
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(delayed.Runs(), 1);
  for (const std::string& line : log.Take()) {
    EXPECT_NE(line.find("is draining: queueing from outside was refused"), std::string::npos);
  }
}

TEST_F(FlushTest, DestroyRunsWhatIsQueued) {
  std::vector<std::unique_ptr<Item>> items;
  wq::Workqueue* const other = e.Alloc(0, 1);
  for (int i = 0; i < 100; ++i) {
    items.push_back(std::make_unique<Item>());
    ASSERT_TRUE(Engine::Queue(other, *items.back(), i % 2));
  }
  e.Destroy(other);
  for (const auto& item : items) EXPECT_EQ(item->Runs(), 1);
}

// A flusher's barrier may still be running when the queue is destroyed.
TEST_F(FlushTest, DestroyRightAfterAFlushOfAnItem) {
  for (int i = 0; i < 200; ++i) {
    wq::Workqueue* const other = e.Alloc();
    Item item;
    ASSERT_TRUE(Engine::Queue(other, item));
    e.Flush(item);
    e.Destroy(other);
  }
}

}  // namespace
}  // namespace cmwq::test
