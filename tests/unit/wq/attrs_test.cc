// Attributes of unbound queues: who shares workers, changes under way, slots per node, order.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/log_capture.h"
#include "tests/unit/wq/attrs_fixture.h"

namespace cmwq::test {
namespace {

TEST_F(AttrsTest, EqualAttributesShareAPool) {
  wq::Workqueue *a = e.Alloc(CMWQ_UNBOUND), *b = e.Alloc(CMWQ_UNBOUND);
  wq::Workqueue* const high = e.Alloc(CMWQ_UNBOUND | CMWQ_HIGHPRI);
  EXPECT_EQ(PoolFor(a, 0), PoolFor(b, 1));  // cache_shard: one per node here
  EXPECT_NE(PoolFor(a, 0), PoolFor(a, 2));
  EXPECT_NE(PoolFor(a, 0), PoolFor(high, 0));
  ASSERT_EQ(wq::ApplyAttrs(a, Attrs(Scope::kCpu)), 0);
  EXPECT_NE(PoolFor(a, 0), PoolFor(a, 1));
  ASSERT_EQ(wq::ApplyAttrs(b, Attrs(Scope::kSmt)), 0);  // comes to the same here
  EXPECT_EQ(PoolFor(a, 3), PoolFor(b, 3));
  ASSERT_EQ(wq::ApplyAttrs(b, Attrs(Scope::kCpu, "0-3", true)), 0);
  EXPECT_NE(PoolFor(a, 3), PoolFor(b, 3));
  EXPECT_EQ(ListOf(PoolTestPeer::Place(*PoolFor(a, 3))), "0-3");
  EXPECT_EQ(ListOf(PoolTestPeer::Place(*PoolFor(b, 3))), "3");
  for (wq::Workqueue* wq : {a, b, high}) e.Destroy(wq);
}

TEST_F(AttrsTest, MaskAndFallback) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND);
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kCache, "0,1,2")), 0);
  EXPECT_EQ(ListOf(PoolFor(wq, 2)->attrs().pod), "2");
  // No CPU of node 1 is in the mask: the default pwq, which covers the mask, takes its items.
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kCache, "0-1")), 0);
  EXPECT_EQ(ListOf(PoolFor(wq, 3)->attrs().pod), "0-1");
  Item item;
  ASSERT_TRUE(Engine::Queue(wq, item, 3));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 1);
  e.Destroy(wq);
}

TEST_F(AttrsTest, Refusals) {
  wq::Workqueue *bound = e.Alloc(), *wq = e.Alloc(CMWQ_UNBOUND);
  EXPECT_EQ(wq::ApplyAttrs(bound, Attrs(Scope::kCpu)), EINVAL);
  EXPECT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kCpu, "")), EINVAL);
  EXPECT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kCpu, "4-9")), EINVAL);
  EXPECT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kCpu, "0-3", false, 20)), EINVAL);
  EXPECT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kCpu, "0-3", false, -21)), EINVAL);
  e.Destroy(bound);
  e.Destroy(wq);
}

// No worker for one of the new pools: the old attributes stay, and nothing is left behind.
TEST_F(AttrsTest, ChangeThatFailsChangesNothing) {
  LogCapture log;
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND);
  pool::WorkerPool* const before = PoolFor(wq, 0);
  Item item;
  ASSERT_TRUE(Engine::Queue(wq, item));
  wq::FlushWorkqueue(wq);
  e.env.fail_next = INT_MAX;
  EXPECT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kCpu)), EAGAIN);
  EXPECT_EQ(PoolFor(wq, 0), before);
  e.env.fail_next = 0;
  e.Advance(static_cast<uint64_t>(e.conf.create_cooldown_ms) + 100);
  ASSERT_TRUE(Engine::Queue(wq, item));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 2);
  EXPECT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kCpu)), 0);
  EXPECT_NE(PoolFor(wq, 0), before);
  e.Destroy(wq);
}

// What was queued before the change is executed by the old workers, what comes after by the new ones;
// an item that re-queues itself stays where it runs.
TEST_F(AttrsTest, ItemsUnderWayFinishWhereTheyAre) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND);
  pool::WorkerPool* const before = PoolFor(wq, 0);
  Gate started, gate;
  std::vector<pool::WorkerPool*> where;
  Item* self = nullptr;
  Item* const item = New([&] {
    where.push_back(pool::CurrentWorker()->pool);
    if (where.size() == 1) {
      started.Open();
      gate.Wait();
      EXPECT_TRUE(Engine::Queue(wq, *self));
    }
  });
  self = item;
  ASSERT_TRUE(Engine::Queue(wq, *item));
  started.Wait();
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kCpu)), 0);
  ASSERT_NE(PoolFor(wq, 0), before);
  Item other;
  ASSERT_TRUE(Engine::Queue(wq, other));
  EXPECT_TRUE(e.Flush(other) || other.Runs() == 1);
  EXPECT_EQ(other.Runs(), 1);
  gate.Open();
  wq::DrainWorkqueue(wq);  // not flush: the item may queue itself after the flush began
  EXPECT_EQ(where, (std::vector<pool::WorkerPool*>{before, before}));
  ASSERT_TRUE(Engine::Queue(wq, *item));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(where.back(), PoolFor(wq, 0));
  e.Destroy(wq);
}

// The workers of a pool that nobody uses go at once; the pool serves the next attributes.
TEST_F(AttrsTest, PoolsWithoutUsersAreTakenAgain) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND);
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kSystem, "0-3", true, 5)), 0);
  pool::WorkerPool* const first = PoolFor(wq, 0);
  EXPECT_GT(first->Stats().nr_workers, 0);
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kSystem, "0-3", true, 6)), 0);
  const auto reusable = [&first] {
    sync::MutexLock hold(first->lock);
    return first->Reusable();
  };
  Eventually(reusable);
  EXPECT_EQ(first->Stats().nr_workers, 0);
  const int pools = e.table.nr_pools;
  for (int nice = 7; nice < 17; ++nice) {
    // Whoever was told to go has gone.
    Eventually([this] {
      bool settled = true;
      e.table.ForEachPool([&settled](pool::WorkerPool& pool) {
        sync::MutexLock hold(pool.lock);
        if (!pool.used() && !pool.Reusable()) settled = false;
      });
      return settled;
    });
    ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kSystem, "0-3", true, nice)), 0);
    Item item;
    ASSERT_TRUE(Engine::Queue(wq, item));
    wq::FlushWorkqueue(wq);
    EXPECT_EQ(item.Runs(), 1);
  }
  // At a change the old two, with the mask as pod and for CPUs outside of it, and the new two are in use.
  EXPECT_LE(e.table.nr_pools, pools + 2);
  EXPECT_EQ(first->attrs().id, e.table.ById(first->attrs().id)->attrs().id);
  e.Destroy(wq);
}

// Back to the same attributes while the old pwq still works: it is taken into use again.
TEST_F(AttrsTest, BackAndForth) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND);
  wq::Pwq* const before = wq->PwqFor(0);
  Gate started, gate;
  Item* const busy = New([&] {
    started.Open();
    gate.Wait();
  });
  ASSERT_TRUE(Engine::Queue(wq, *busy));
  started.Wait();
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kCpu)), 0);
  EXPECT_NE(wq->PwqFor(0), before);
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kDefault)), 0);
  EXPECT_EQ(wq->PwqFor(0), before);
  gate.Open();
  wq::FlushWorkqueue(wq);
  e.Destroy(wq);
}

// max_active 10 with a floor of 2: nodes with equal CPUs get 5 each; without a CPU in the mask the floor.
TEST_F(AttrsTest, NodesShareMaxActive) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND, 10);
  ASSERT_TRUE(wq::SetMinActive(wq, 2));
  EXPECT_EQ(wq->nodes[0].count.max(), 5);
  EXPECT_EQ(wq->nodes[1].count.max(), 5);
  EXPECT_EQ(wq->nodes[2].count.max(), 10);
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kCache, "0-2")), 0);
  EXPECT_EQ(wq->nodes[0].count.max(), 7);  // 10 * 2 / 3, rounded up
  EXPECT_EQ(wq->nodes[1].count.max(), 4);
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kCache, "0-1")), 0);
  EXPECT_EQ(wq->nodes[0].count.max(), 10);
  EXPECT_EQ(wq->nodes[1].count.max(), 2);
  ASSERT_TRUE(wq::SetMaxActive(wq, 1));
  EXPECT_EQ(wq->nodes[1].count.max(), 1);
  EXPECT_FALSE(wq::SetMinActive(wq, -1));
  wq::Workqueue *bound = e.Alloc(), *ordered = e.Alloc(0, 0, true);
  EXPECT_FALSE(wq::SetMinActive(bound, 1));
  EXPECT_FALSE(wq::SetMinActive(ordered, 1));
  EXPECT_FALSE(wq::SetMaxActive(ordered, 2));
  for (wq::Workqueue* q : {wq, bound, ordered}) e.Destroy(q);
}

// Two pools of one node share its two slots; who waits is served in turn, what was cancelled is skipped.
TEST_F(AttrsTest, SlotsOfANodeGoRound) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND, 4);
  ASSERT_TRUE(wq::SetMinActive(wq, 1));
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kCpu)), 0);
  ASSERT_EQ(wq->nodes[0].count.max(), 2);
  Trace trace;
  Gate gates[8];
  std::atomic<int> started{0};
  for (int i = 0; i < 8; ++i) {
    // 0, 1 on CPU 0 take both slots; then CPU 0: 2, 4, 6; CPU 1: 3, 5, 7
    const int cpu = i < 2 || i % 2 == 0 ? 0 : 1;
    Item* const item = New([&, i] {
      trace.Add(std::to_string(i));
      started.fetch_add(1);
      gates[i].Wait();
    });
    ASSERT_TRUE(Engine::Queue(wq, *item, cpu));
  }
  Eventually([&] { return started == 2; });
  EXPECT_EQ(NrActive(wq, 0), 2);
  EXPECT_EQ(NrActive(wq, 1), 0);
  EXPECT_TRUE(e.Cancel(*items_[5]));
  const auto next = [&](int done, int running) {
    gates[done].Open();
    Eventually([&] { return started == running; });
  };
  next(0, 3);  // 2: CPU 0 was first in line
  next(1, 4);  // 3
  next(2, 5);  // 4
  next(3, 6);  // 7
  next(4, 7);  // 6
  EXPECT_EQ(trace.Text().substr(4), "2 3 4 7 6");
  for (Gate& gate : gates) gate.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(wq->nodes[0].count.nr(), 0);
  e.Destroy(wq);
}

TEST_F(AttrsTest, RaisedLimitsStartWhatWaits) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND | CMWQ_FREEZABLE, 2);
  Gate gate;
  std::atomic<int> started{0};
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(Engine::Queue(wq, *New([&] {
      started.fetch_add(1);
      gate.Wait();
    }), 0));
  }
  Eventually([&] { return started == 2; });  // min_active is 2 as well
  ASSERT_TRUE(wq::SetMaxActive(wq, 10));     // 5 for the node
  Eventually([&] { return started == 5; });
  EXPECT_EQ(NrActive(wq, 0), 5);
  ASSERT_TRUE(wq::SetMinActive(wq, 6));
  Eventually([&] { return started == 6; });
  {
    sync::MutexLock hold(wq->mutex);
    wq->frozen = true;
    wq::ApplyMaxActive(wq);
  }
  gate.Open();
  Eventually([&] { return NrActive(wq, 0) == 0; });
  EXPECT_EQ(started, 6);
  {
    sync::MutexLock hold(wq->mutex);
    wq->frozen = false;
    wq::ApplyMaxActive(wq);
  }
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(started, 8);
  e.Destroy(wq);
}

// Three generations; the ones that wait start in order, one item at a time, wherever.
TEST_F(AttrsTest, OrderedQueueStaysInOrderOverChanges) {
  wq::Workqueue* const wq = e.Alloc(0, 0, true);
  Trace trace;
  Gate started, gate;
  std::atomic<int> inside{0};
  std::string expected;
  for (int i = 0; i < 15; ++i) {
    if (i > 0) expected += " ";
    expected += std::to_string(i);
    ASSERT_TRUE(Engine::Queue(wq, *New([&, i] {
      EXPECT_EQ(inside.fetch_add(1), 0);
      trace.Add(std::to_string(i));
      if (i == 0) {
        started.Open();
        gate.Wait();
      }
      inside.fetch_sub(1);
    })));
    if (i == 0) started.Wait();
    if (i == 4) { ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kDefault, "0-1")), 0); }
    if (i == 7) { ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kDefault, "0-3")), 0); }  // the first again
    if (i == 10) { ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kDefault, "2-3")), 0); }
  }
  EXPECT_EQ(trace.Text(), "0");
  EXPECT_TRUE(e.Cancel(*items_[6]));
  gate.Open();
  wq::FlushWorkqueue(wq);
  expected.erase(expected.find(" 6"), 2);
  EXPECT_EQ(trace.Text(), expected);
  // Through: the next change starts anew and does not wait for anybody.
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kDefault, "0-1")), 0);
  ASSERT_TRUE(Engine::Queue(wq, *items_[6]));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(items_[6]->Runs(), 1);
  e.Destroy(wq);
}

// The last items of the oldest generation are cancelled, not run: the next one starts all the same.
TEST_F(AttrsTest, OrderedQueueGoesOnAfterACancel) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_FREEZABLE, 0, true);
  {
    sync::MutexLock hold(wq->mutex);
    wq->frozen = true;
    wq::ApplyMaxActive(wq);
  }
  Item old, item;
  ASSERT_TRUE(Engine::Queue(wq, old));
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kDefault, "0-1")), 0);
  ASSERT_TRUE(Engine::Queue(wq, item));
  {
    sync::MutexLock hold(wq->mutex);
    wq->frozen = false;
  }
  EXPECT_TRUE(e.Cancel(old));
  {
    sync::MutexLock hold(wq->mutex);
    wq::ApplyMaxActive(wq);
  }
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 1);
  EXPECT_EQ(old.Runs(), 0);
  e.Destroy(wq);
}

TEST_F(AttrsTest, UnboundCpusAreTakenInTurn) {
  {
    sync::MutexLock hold(e.table.mu);
    e.table.SetUnboundCpus(Cpus("1,3"));
  }
  EXPECT_EQ(e.table.PickUnboundCpu(1), 1);
  const int first = e.table.PickUnboundCpu(0);
  int seen[4] = {};
  for (int i = 0; i < 8; ++i) ++seen[e.table.PickUnboundCpu(0)];
  EXPECT_TRUE(first == 1 || first == 3);
  EXPECT_GT(seen[1], 0);
  EXPECT_GT(seen[3], 0);
  EXPECT_EQ(seen[0] + seen[2], 0);
}

// A worker that the scheduler moved out of its pod starts the next item inside it.
TEST_F(AttrsTest, StrayWorkersAreSteeredBack) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND);
  e.env.cpu = 0;
  Item item;
  ASSERT_TRUE(Engine::Queue(wq, item));
  wq::FlushWorkqueue(wq);
  Engine::WaitIdle(*PoolFor(wq, 0));
  EXPECT_EQ(PoolFor(wq, 0)->Stats().repatriated, 0u);
  e.env.cpu = 2;  // the other node
  ASSERT_TRUE(Engine::Queue(wq, item, 0));
  wq::FlushWorkqueue(wq);
  Engine::WaitIdle(*PoolFor(wq, 0));
  EXPECT_GE(PoolFor(wq, 0)->Stats().repatriated, 1u);
  e.Destroy(wq);
}

// A queuer found its pwq before the change and comes to the lock after it.
TEST_F(AttrsTest, QueueingRacesWithChanges) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND, 3);
  wq::Workqueue* const ordered = e.Alloc(0, 0, true);
  constexpr int kThreads = 3, kEach = 2000;
  std::atomic<int> ran{0}, inside{0}, running{kThreads};
  std::vector<int> last(kThreads, -1);
  std::vector<std::unique_ptr<Item>> all[kThreads];
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const bool in_order = i % 2 == 0;
        all[t].push_back(std::make_unique<Item>([&, t, i, in_order] {
          ran.fetch_add(1);
          if (!in_order) return;
          EXPECT_EQ(inside.fetch_add(1), 0);
          EXPECT_LT(last[t], i);
          last[t] = i;
          inside.fetch_sub(1);
        }));
        EXPECT_TRUE(Engine::Queue(in_order ? ordered : wq, *all[t].back(), i % 4));
      }
      running.fetch_sub(1);
    });
  }
  const wq::WqAttrs choices[] = {Attrs(Scope::kCpu), Attrs(Scope::kSystem, "0-2"),
                                 Attrs(Scope::kCache, "1-3", true), Attrs(Scope::kDefault)};
  for (int i = 0; running > 0; ++i) {
    ASSERT_EQ(wq::ApplyAttrs(i % 2 == 0 ? wq : ordered, choices[(i / 2) % 4]), 0);
  }
  for (std::thread& t : threads) t.join();
  wq::FlushWorkqueue(wq);
  wq::FlushWorkqueue(ordered);
  EXPECT_EQ(ran, kThreads * kEach);
  e.Destroy(wq);
  e.Destroy(ordered);
}

}  // namespace
}  // namespace cmwq::test
