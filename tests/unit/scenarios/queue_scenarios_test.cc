// A queue: its limits, those who wait for it, its end.

#include <gtest/gtest.h>

#include <optional>
#include <set>
#include <thread>

#include "tests/support/log_capture.h"
#include "tests/unit/scenarios/scenario.h"

namespace cmwq::test {
namespace {

class QueueScenario : public ::testing::Test {
 protected:
  static constexpr int kCpus = 4;
  void TearDown() override {
    for (int cpu = 0; cpu < kCpus; ++cpu) {
      if (e.Pool(cpu).Stats().nr_workers > 0) Engine::WaitIdle(e.Pool(cpu));
    }
  }
  Engine& e = Engine::Make(kCpus);
};

// 16: the waiter of a flush is gone, its barrier is still in a worker's hand when the queue is destroyed;
// the queue is not empty until the barrier is through, and a drain waits for it.
TEST_F(QueueScenario, Scenario16DestroyWaitsForBarriers) {
  CMWQ_NEEDS_TEST_POINTS();
  wq::Workqueue* const wq = e.Alloc();
  Held held;
  Gate paused, go_on;
  // The first function to return is the item's, the second one the barrier's.
  std::optional<AtTestPoint> barrier;
  AtTestPoint item("worker.after_fn", [&] {
    barrier.emplace("worker.after_fn", [&] {
      paused.Open();
      go_on.Wait();
    });
  });
  ASSERT_TRUE(Engine::Queue(wq, held.item));
  held.started.Wait();
  std::thread flusher([&] { EXPECT_TRUE(e.Flush(held.item)); });
  Eventually([&] { return InFlight(wq) == 2; });
  held.end.Open();
  flusher.join();
  paused.Wait();
  EXPECT_FALSE(wq::WorkqueueEmpty(wq));
  std::atomic<bool> drained{false};
  std::thread destroyer([&] {
    wq->state = wq::WqState::kDestroying;
    wq::DrainWorkqueue(wq);
    EXPECT_TRUE(wq::WorkqueueEmpty(wq));
    drained = true;
  });
  Eventually([&] { return wq->flush.current() == 1; });
  EXPECT_FALSE(drained);
  go_on.Open();
  destroyer.join();
  wq::FreeWorkqueue(wq);
}

// 21: what max_active limits, in numbers: of a bound queue the items of each CPU, of an unbound one those
// of the whole process, whichever CPU they were queued on.
TEST_F(QueueScenario, Scenario21MaxActiveInTotal) {
  constexpr int kLimit = 3;
  for (const bool unbound : {false, true}) {
    SCOPED_TRACE(unbound);
    wq::Workqueue* const wq = e.Alloc(unbound ? CMWQ_UNBOUND : 0, kLimit);
    const int total = unbound ? kLimit : kLimit * kCpus;
    std::atomic<int> inside{0}, most{0};
    Gate end;
    std::vector<std::unique_ptr<Item>> items;
    for (int i = 0; i < 8 * kCpus; ++i) {
      items.push_back(std::make_unique<Item>([&] {
        const int now = inside.fetch_add(1) + 1;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        end.WaitAnnounced();
        inside.fetch_sub(1);
      }));
      ASSERT_TRUE(Engine::Queue(wq, *items.back(), i % kCpus));
    }
    Eventually([&] { return inside == total; });
    int active = 0;
    wq->ForEachPwq([&](wq::Pwq* pwq) {
      sync::MutexLock hold(pwq->pool->lock);
      active += pwq->nr_active;
    });
    EXPECT_EQ(active, total);
    end.Open();
    wq::FlushWorkqueue(wq);
    EXPECT_EQ(most, total);
    for (const auto& item : items) EXPECT_EQ(item->Runs(), 1);
    if (unbound) Engine::WaitIdle(*wq->PwqFor(0)->pool);
    e.Destroy(wq);
  }
}

// 35: flushers with a generation each, more than there are colours, while others queue all the time: each
// returns when what was queued before its call is done, and does not wait for what came later.
TEST_F(QueueScenario, Scenario35FlushOverflow) {
  constexpr int kFlushers = 24;
  wq::Workqueue* const wq = e.Alloc();
  std::atomic<bool> stop{false};
  std::vector<std::thread> producers, flushers;
  std::vector<std::unique_ptr<Held>> held;
  std::atomic<bool> returned[kFlushers] = {};
  for (int cpu = 1; cpu < 3; ++cpu) {
    producers.emplace_back([&, cpu] {
      Item items[4];
      while (!stop) {
        for (Item& item : items) Engine::Queue(wq, item, cpu);
        base::SchedYield();
      }
      for (Item& item : items) e.CancelSync(item);
    });
  }
  for (int i = 0; i < kFlushers; ++i) {
    held.push_back(std::make_unique<Held>());
    ASSERT_TRUE(Engine::Queue(wq, held.back()->item));
    flushers.emplace_back([&, i] {
      wq::FlushWorkqueue(wq);
      for (int earlier = 0; earlier <= i; ++earlier) EXPECT_EQ(held[earlier]->item.Runs(), 1);
      returned[i] = true;
    });
    // What is queued next has another colour.
    if (i < wq::kColours - 1) Eventually([&] { return Colour(wq) == i + 1; });
  }
  EXPECT_EQ(wq->flush.current(), static_cast<uint64_t>(wq::kColours - 1));
  // One after the other; those with a colour of their own return while all later items are still held.
  for (int i = 0; i < kFlushers; ++i) {
    if (i < wq::kColours - 1) {
      EXPECT_FALSE(returned[i]);
    }
    held[i]->end.Open();
    if (i < wq::kColours - 1) {
      Eventually([&] { return returned[i].load(); });
      EXPECT_EQ(held[i + 1]->item.Runs(), 0);
    }
  }
  for (std::thread& t : flushers) t.join();
  stop = true;
  for (std::thread& t : producers) t.join();
  e.Destroy(wq);
}

// 36: a flush takes each pool's lock once: a queue has at most one half per pool, however many CPUs the
// pool stands for, and there is no list of halves to go through under one lock after the other.
TEST_F(QueueScenario, Scenario36OneHalfPerPool) {
  for (const unsigned flags : {0u, unsigned{CMWQ_UNBOUND}, unsigned{CMWQ_HIGHPRI}}) {
    wq::Workqueue* const wq = e.Alloc(flags);
    std::set<const pool::WorkerPool*> pools;
    int halves = 0;
    wq->ForEachPwq([&](wq::Pwq* pwq) {
      pools.insert(pwq->pool);
      ++halves;
    });
    EXPECT_EQ(static_cast<size_t>(halves), pools.size());
    EXPECT_LE(halves, kCpus);
    wq::FlushWorkqueue(wq);
    e.Destroy(wq);
  }
}

// 45: A queues B and B queues C on the queue that drains, an outsider is refused; C is done when the drain
// returns.
TEST_F(QueueScenario, Scenario45DrainWithChainedQueueing) {
  LogCapture log;
  wq::Workqueue* const wq = e.Alloc();
  Gate started, go_on;
  Item c, outsider;
  Item b([&] { EXPECT_TRUE(Engine::Queue(wq, c, 2)); });
  Item a([&] {
    started.Open();
    go_on.WaitAnnounced();
    EXPECT_TRUE(Engine::Queue(wq, b, 1));
  });
  ASSERT_TRUE(Engine::Queue(wq, a));
  started.Wait();
  std::atomic<int> c_runs{-1};
  std::thread drainer([&] {
    wq::DrainWorkqueue(wq);
    c_runs = c.Runs();
  });
  Eventually([&] { return wq->nr_drainers == 1; });
  EXPECT_FALSE(Engine::Queue(wq, outsider));
  EXPECT_FALSE(Pending(outsider));
  // An item of another queue is an outsider as well.
  wq::Workqueue* const other = e.Alloc();
  Item foreign([&] { EXPECT_FALSE(Engine::Queue(wq, outsider)); });
  ASSERT_TRUE(Engine::Queue(other, foreign, 3));
  wq::FlushWorkqueue(other);
  EXPECT_EQ(foreign.Runs(), 1);
  go_on.Open();
  drainer.join();
  EXPECT_EQ(c_runs, 1);
  EXPECT_EQ(outsider.Runs(), 0);
  EXPECT_TRUE(Engine::Queue(wq, outsider));
  e.Destroy(wq);
  EXPECT_EQ(outsider.Runs(), 1);
  e.Destroy(other);
  EXPECT_LE(log.Take().size(), 1u);  // once per process
}

// 48: frozen in the middle of a burst, the limit raised meanwhile, thawed: nothing becomes active while
// frozen, the order stays, and the limit is the one that was asked for last.
TEST_F(QueueScenario, Scenario48FreezeWithABacklog) {
  constexpr int kItems = 12, kLimit = 2, kRaised = 5;
  wq::Workqueue* const wq = e.Alloc(CMWQ_FREEZABLE, kLimit);
  Trace trace;
  std::vector<std::unique_ptr<Gate>> ends;
  std::vector<std::unique_ptr<Item>> items;
  std::atomic<int> started{0};
  for (int i = 0; i < kItems; ++i) {
    ends.push_back(std::make_unique<Gate>());
    items.push_back(std::make_unique<Item>([&, i] {
      trace.Add(std::to_string(i));
      started.fetch_add(1);
      ends[i]->WaitAnnounced();
    }));
  }
  const auto queue = [&](int from, int to) {
    for (int i = from; i < to; ++i) ASSERT_TRUE(Engine::Queue(wq, *items[i]));
  };
  queue(0, kItems / 2);
  Eventually([&] { return started == kLimit; });
  SetFrozen(wq, true);
  queue(kItems / 2, kItems);
  EXPECT_EQ(NrInactive(wq), kItems - kLimit);
  ASSERT_TRUE(wq::SetMaxActive(wq, kRaised));
  EXPECT_EQ(NrInactive(wq), kItems - kLimit);
  for (int i = 0; i < kLimit; ++i) ends[i]->Open();
  Eventually([&] { return NrActive(wq) == 0; });
  EXPECT_EQ(started, kLimit);
  EXPECT_EQ(NrInactive(wq), kItems - kLimit);
  SetFrozen(wq, false);
  Eventually([&] { return started == kLimit + kRaised; });
  EXPECT_EQ(NrActive(wq), kRaised);
  EXPECT_EQ(NrInactive(wq), kItems - kLimit - kRaised);
  for (const auto& end : ends) end->Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(trace.Text(), "0 1 2 3 4 5 6 7 8 9 10 11");
  e.Destroy(wq);
}

}  // namespace
}  // namespace cmwq::test
