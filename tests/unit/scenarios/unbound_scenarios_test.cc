// Unbound queues: attributes that change while items run, limits per node, pools that come and go.

#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "runtime/wq/attrs.h"
#include "tests/unit/scenarios/fake_sysfs.h"
#include "tests/unit/scenarios/scenario.h"

namespace cmwq::test {
namespace {

using platform::CpuSet;
using platform::Scope;

wq::WqAttrs Attrs(Engine& e, Scope scope, bool strict = false, int nice = 0) {
  wq::WqAttrs attrs;
  attrs.nice = nice;
  attrs.mask = e.table.cpus();
  attrs.scope = scope;
  attrs.strict = strict;
  return attrs;
}

bool Reusable(pool::WorkerPool& pool) {
  sync::MutexLock hold(pool.lock);
  return pool.Reusable();
}

bool Used(pool::WorkerPool& pool) {
  sync::MutexLock hold(pool.lock);
  return pool.used();
}

// A rescuer that is on its way to a pool: it is held where it asks for the pool's CPUs.
struct RescuersPlace {
  void Hold(const CpuSet& cpus) {
    const CpuSet before = cpus;
    attached.Open();
    go_on.Wait();
    same_place = cpus == before;
  }
  Gate attached, go_on;
  std::atomic<bool> same_place{false};
};

// 17: the attributes of a reclaim queue change while its rescuer is on the way to the old pool; the pool
// is not given to others before the rescuer has left it.
TEST(UnboundScenario, Scenario17PoolStaysUntilTheRescuerLeft) {
  Engine& e = Engine::Make(4);
  // Workers of the engine may come by after the test.
  const auto rescuer = std::make_shared<RescuersPlace>();
  e.env.on_bind = [rescuer](const CpuSet& cpus) {
    const pool::Worker* const w = pool::CurrentWorker();
    if (w != nullptr && w->is_rescuer) rescuer->Hold(cpus);
  };
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND | CMWQ_MEM_RECLAIM);
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(e, Scope::kCpu, true)), 0);
  pool::WorkerPool& old = *wq->PwqFor(1)->pool;
  const CpuSet pod = old.attrs().pod;
  ASSERT_TRUE(pod == CpuSet::Of(1));
  Held blocked;
  Item rescued;
  e.env.fail_next = INT_MAX;
  ASSERT_TRUE(Engine::Queue(wq, blocked.item, 1));
  blocked.started.Wait();
  ASSERT_TRUE(Engine::Queue(wq, rescued, 1));
  e.Advance(10);
  rescuer->attached.Wait();
  // The pool recovers, does what there is, and loses its only queue.
  blocked.end.Open();
  WaitRuns(rescued, 1);
  e.env.fail_next = 0;
  e.Advance(1200);
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(e, Scope::kSystem, false, 5)), 0);
  // Still used, by the call; or its workers leave, and others may have it.
  Eventually([&] { return Used(old) || Reusable(old); });
  EXPECT_TRUE(Used(old));
  // Somebody needs a pool for attributes that nobody had before.
  wq::Workqueue* const other = e.Alloc(CMWQ_UNBOUND);
  ASSERT_EQ(wq::ApplyAttrs(other, Attrs(e, Scope::kCpu, true, 7)), 0);
  EXPECT_TRUE(old.attrs().pod == pod);
  EXPECT_EQ(old.attrs().nice, 0);
  rescuer->go_on.Open();
  Eventually([&] { return Reusable(old); });
  EXPECT_TRUE(rescuer->same_place);
  e.Destroy(wq);
  e.Destroy(other);
}

// 18: many pwqs of a queue are given up at once, by items that end at the same time while the queue is
// destroyed; the last of a pool's users lets it go, once, and the pools are used again.
TEST(UnboundScenario, Scenario18ManyPwqsReleasedAtOnce) {
  constexpr int kCpus = 8, kRounds = 20;
  Engine& e = Engine::Make(kCpus);
  for (int round = 0; round < kRounds; ++round) {
    wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND);
    Gate end;
    std::atomic<int> started{0};
    std::vector<std::unique_ptr<Item>> items;
    for (int change = 0; change < 3; ++change) {
      ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(e, Scope::kCpu, true, change + 1)), 0);
      for (int cpu = 0; cpu < kCpus; ++cpu) {
        items.push_back(std::make_unique<Item>([&] {
          started.fetch_add(1);
          end.WaitAnnounced();
        }));
        ASSERT_TRUE(Engine::Queue(wq, *items.back(), cpu));
      }
    }
    Eventually([&] { return started == 3 * kCpus; });
    std::vector<pool::WorkerPool*> used;
    wq->ForEachPwq([&](wq::Pwq* pwq) { used.push_back(pwq->pool); });
    EXPECT_GE(used.size(), 3u * kCpus);
    std::thread destroyer([&] { e.Destroy(wq); });
    end.Open();
    destroyer.join();
    for (const auto& item : items) EXPECT_EQ(item->Runs(), 1);
    for (pool::WorkerPool* const pool : used) {
      if (pool->attrs().nice != 0) {
        Eventually([pool] { return Reusable(*pool); });  // neither users nor threads left over
      }
    }
  }
  // Two per CPU, the one of new queues, and what three changes need at most: a pool per CPU and one more.
  EXPECT_LE(e.table.nr_pools, 2 * kCpus + 1 + 3 * (kCpus + 1));
}

// 19: the attributes of an ordered queue change while an item runs, twice; what is queued meanwhile waits
// for it, and all of it runs, in order, one at a time.
TEST(UnboundScenario, Scenario19PluggedGenerationsRunInOrder) {
  Engine& e = Engine::Make(4);
  wq::Workqueue* const wq = e.Alloc(0, 0, true);
  Trace trace;
  std::atomic<int> inside{0}, overlaps{0};
  Held old;
  std::vector<std::unique_ptr<Item>> items;
  const auto add = [&](int n) {
    for (int i = 0; i < n; ++i) {
      const std::string name = std::to_string(items.size());
      items.push_back(std::make_unique<Item>([&, name] {
        if (inside.fetch_add(1) != 0) overlaps.fetch_add(1);
        trace.Add(name);
        cmwq_block_begin();
        base::SchedYield();
        cmwq_block_end();
        inside.fetch_sub(1);
      }));
      ASSERT_TRUE(Engine::Queue(wq, *items.back(), i % 4));
    }
  };
  ASSERT_TRUE(Engine::Queue(wq, old.item));
  old.started.Wait();
  add(3);
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(e, Scope::kSystem, false, 3)), 0);
  add(5);
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(e, Scope::kSystem, false, 4)), 0);
  add(5);
  EXPECT_EQ(trace.Text(), "");
  old.end.Open();
  for (const auto& item : items) WaitRuns(*item, 1);
  EXPECT_EQ(trace.Text(), "0 1 2 3 4 5 6 7 8 9 10 11 12");
  EXPECT_EQ(overlaps, 0);
  e.Destroy(wq);
}

// A chain on CPU 0's node: each item waits for the next one. Returns how many have started once no more
// will.
struct Chain {
  Chain(wq::Workqueue* wq, int n) : done(static_cast<size_t>(n) + 1) {
    for (int i = 0; i < n; ++i) {
      items.push_back(std::make_unique<Item>([this, i, n] {
        started.fetch_add(1);
        if (i + 1 < n) done[static_cast<size_t>(i) + 1].WaitAnnounced();
        done[static_cast<size_t>(i)].Open();
      }));
      EXPECT_TRUE(Engine::Queue(wq, *items.back(), 0));
    }
  }
  std::vector<Gate> done;
  std::atomic<int> started{0};
  std::vector<std::unique_ptr<Item>> items;
};

// 20: items of an unbound queue that wait for each other: as many as min_active (8) always fit on a node,
// however small its share of max_active is; a longer chain needs the knob.
TEST(UnboundScenario, Scenario20ChainLongerThanMinActive) {
  constexpr int kMinActive = 8;
  const FakeSysfs sysfs(8, 2);
  Engine& e = Engine::Make(16, nullptr, sysfs.root());
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND, 4 * kMinActive);  // 4 for each node by CPUs
  {
    Chain fits(wq, kMinActive);
    for (const auto& item : fits.items) WaitRuns(*item, 1);
  }
  wq::FlushWorkqueue(wq);
  {
    Chain longer(wq, kMinActive + 1);
    Eventually([&] { return longer.started == kMinActive; });
    EXPECT_EQ(NrActive(wq), kMinActive);
    EXPECT_EQ(NrInactive(wq), 1);
    ASSERT_TRUE(wq::SetMinActive(wq, kMinActive + 1));
    for (const auto& item : longer.items) WaitRuns(*item, 1);
  }
  e.Destroy(wq);
}

CpuSet Cpus12() {
  CpuSet set = CpuSet::Of(1);
  set.Add(2);
  return set;
}

// 22: no CPU is left in a queue's mask; there is no division by zero, the limit falls to the floor, and
// work goes on where it may.
TEST(UnboundScenario, Scenario22NoCpuLeftInTheMask) {
  const FakeSysfs sysfs(2, 2);
  Engine& e = Engine::Make(4, nullptr, sysfs.root());
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND, 20);
  wq::WqAttrs attrs = Attrs(e, Scope::kNuma);
  attrs.mask = CpuSet::Of(3);
  // All CPUs of its mask go away: what is left serves.
  {
    sync::MutexLock hold(e.table.mu);
    e.table.SetUnboundCpus(CpuSet::Of(0));
  }
  ASSERT_EQ(wq::ApplyAttrs(wq, attrs), 0);
  EXPECT_TRUE(wq->PwqFor(3)->pool->attrs().mask == CpuSet::Of(0));
  for (int cpu = 0; cpu < 4; ++cpu) {
    Item item;
    ASSERT_TRUE(Engine::Queue(wq, item, cpu));
    WaitRuns(item, 1);
  }
  EXPECT_EQ(wq->nodes[1].count.max(), 8);  // none of its CPUs: min_active
  // Then those that unbound queues may use go away as well: what is left of the process's serves.
  ASSERT_EQ(e.Cpus("1-2"), 0);
  EXPECT_TRUE(wq->PwqFor(3)->pool->attrs().mask == Cpus12());
  EXPECT_EQ(wq->nodes[0].count.max(), 10);
  EXPECT_EQ(wq->nodes[1].count.max(), 10);
  for (int cpu = 0; cpu < 4; ++cpu) {
    Item item;
    ASSERT_TRUE(Engine::Queue(wq, item, cpu));
    WaitRuns(item, 1);
  }
  e.Destroy(wq);
}

// 34, with a change of attributes: the item that queues itself stays where it runs and goes on; when it
// stops the old pool is done.
TEST(UnboundScenario, Scenario34SelfRequeueingItemOverAChange) {
  Engine& e = Engine::Make(2);
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND);
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(e, Scope::kSystem, false, 2)), 0);
  pool::WorkerPool& old = *wq->PwqFor(0)->pool;
  std::atomic<bool> stop{false};
  Item* self = nullptr;
  std::atomic<int> elsewhere{0};
  Item endless([&] {
    if (pool::CurrentWorker()->pool != &old) elsewhere.fetch_add(1);
    if (!stop) Engine::Queue(wq, *self);
  });
  self = &endless;
  ASSERT_TRUE(Engine::Queue(wq, endless));
  WaitRuns(endless, 10);
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(e, Scope::kSystem, false, 3)), 0);
  const int runs = endless.Runs();
  WaitRuns(endless, runs + 10);
  Item fresh;
  ASSERT_TRUE(Engine::Queue(wq, fresh));
  WaitRuns(fresh, 1);
  EXPECT_EQ(elsewhere, 0);
  EXPECT_TRUE(Used(old));
  stop = true;
  wq::DrainWorkqueue(wq);
  EXPECT_FALSE(Pending(endless));
  Eventually([&] { return Reusable(old); });
  e.Destroy(wq);
}

// 36: over changes of attributes a queue gets one half per pool and no more, and comes back to those that
// it had: what a flush goes through does not grow with CPUs or with changes.
TEST(UnboundScenario, Scenario36OneHalfPerPoolOverChanges) {
  constexpr int kCpus = 16;
  const FakeSysfs sysfs(4, 4);
  Engine& e = Engine::Make(kCpus, nullptr, sysfs.root());
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND);
  for (int change = 0; change < 50; ++change) {
    ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(e, change % 2 == 0 ? Scope::kNuma : Scope::kSystem)), 0);
    std::set<const pool::WorkerPool*> pools;
    int halves = 0;
    wq->ForEachPwq([&](wq::Pwq* pwq) {
      pools.insert(pwq->pool);
      ++halves;
    });
    EXPECT_EQ(static_cast<size_t>(halves), pools.size());
    EXPECT_LE(halves, 5);  // four nodes, and the whole system
    wq::FlushWorkqueue(wq);
  }
  e.Destroy(wq);
}

// 37: a creation is under way, or waits to be tried again, when the pool loses its last user; nobody goes
// on trying for a pool that nobody wants, and a worker that was made after all leaves.
TEST(UnboundScenario, Scenario37CreationForAPoolThatNobodyWants) {
  Engine& e = Engine::Make(2);
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND);
  pool::WorkerPool* wanted = nullptr;
  // The request is registered, then the user is gone: the change of attributes fails with its creation.
  e.env.fail_next = INT_MAX;
  EXPECT_EQ(wq::ApplyAttrs(wq, Attrs(e, Scope::kSystem, true, 6)), EAGAIN);
  e.table.ForEachPool([&](pool::WorkerPool& pool) {
    if (pool.attrs().nice == 6) wanted = &pool;
  });
  ASSERT_NE(wanted, nullptr);
  const int creations = e.env.creations;
  e.Advance(5000);
  EXPECT_EQ(e.env.creations, creations);
  EXPECT_TRUE(Reusable(*wanted));
  EXPECT_EQ(PoolTestPeer::ManageDue(*wanted), base::kNever);
  // The user goes while the thread is being made.
  e.env.fail_next = 0;
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(e, Scope::kSystem, true, 6)), 0);
  pool::WorkerPool& pool = *wq->PwqFor(0)->pool;
  Gate creating, go_on;
  Held held;
  e.env.before_create = [&] {
    creating.Open();
    go_on.Wait();
  };
  ASSERT_TRUE(Engine::Queue(wq, held.item));
  creating.Wait();  // the only worker makes its spare
  EXPECT_TRUE(e.Cancel(held.item));
  std::thread changer([&] { EXPECT_EQ(wq::ApplyAttrs(wq, Attrs(e, Scope::kSystem)), 0); });
  Eventually([&] { return wq->PwqFor(0)->pool != &pool || e.env.creations > creations + 3; });
  go_on.Open();
  changer.join();
  Eventually([&] { return Reusable(pool); });
  EXPECT_EQ(pool.Stats().nr_workers, 0);
  e.Destroy(wq);
}

// 38: no worker changes its class here, but a queue changes its pools: what runs on the old ones counts
// against the limit until it ends.
TEST(UnboundScenario, Scenario38LimitHoldsOverAChangeOfPools) {
  constexpr int kLimit = 2;
  Engine& e = Engine::Make(2);
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND, kLimit);
  std::vector<std::unique_ptr<Held>> held;
  const auto started = [&] {
    int n = 0;
    for (const auto& h : held) n += h->started.opened() ? 1 : 0;
    return n;
  };
  for (int i = 0; i < 8; ++i) held.push_back(std::make_unique<Held>());
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(Engine::Queue(wq, held[i]->item, i % 2));
  Eventually([&] { return started() == kLimit; });
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(e, Scope::kSystem, false, 4)), 0);
  for (int i = 4; i < 8; ++i) ASSERT_TRUE(Engine::Queue(wq, held[i]->item, i % 2));
  for (int ended = 0; ended < 8; ++ended) {
    Eventually([&] { return started() == std::min(ended + kLimit, 8); });
    EXPECT_LE(wq->nodes[0].count.nr(), kLimit);
    // One of those that run ends.
    for (const auto& h : held) {
      if (h->started.opened() && !h->end.opened()) {
        h->end.Open();
        WaitRuns(h->item, 1);
        break;
      }
    }
  }
  wq::FlushWorkqueue(wq);
  e.Destroy(wq);
}

// 44, with a change of affinity: items in flight need so many workers and a reserve per pool, wherever
// they are sent.
TEST(UnboundScenario, Scenario44NoSurplusWorkersAfterAChangeOfAffinity) {
  constexpr int kInFlight = 8, kReserve = 2;
  Engine& e = Engine::Make(2);
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND);
  for (int round = 0; round < 10; ++round) {
    wq::WqAttrs attrs = Attrs(e, Scope::kSystem, true);
    attrs.mask = CpuSet::Of(round % 2);
    ASSERT_EQ(wq::ApplyAttrs(wq, attrs), 0);
    std::vector<std::unique_ptr<Item>> items;
    for (int i = 0; i < kInFlight; ++i) {
      items.push_back(std::make_unique<Item>([] {
        cmwq_block_begin();
        base::SchedYield();
        cmwq_block_end();
      }));
    }
    for (int burst = 0; burst < 20; ++burst) {
      for (const auto& item : items) Engine::Queue(wq, *item, burst % 2);
    }
    wq::FlushWorkqueue(wq);
  }
  e.table.ForEachPool([](pool::WorkerPool& pool) {
    EXPECT_LE(pool.Stats().peak_workers, static_cast<uint64_t>(kInFlight + kReserve));
  });
  e.Destroy(wq);
}

// 46: unbound work is kept off a CPU; an item of a bound queue still runs on it.
TEST(UnboundScenario, Scenario46BoundItemsDoNotMindTheUnboundMask) {
  Engine& e = Engine::Make(2);
  {
    sync::MutexLock hold(e.table.mu);
    e.table.SetUnboundCpus(CpuSet::Of(0));
  }
  wq::Workqueue* const bound = e.Alloc();
  wq::Workqueue* const unbound = e.Alloc(CMWQ_UNBOUND);
  pool::WorkerPool* pool = nullptr;
  Item item([&] { pool = pool::CurrentWorker()->pool; });
  ASSERT_TRUE(Engine::Queue(bound, item, 1));
  WaitRuns(item, 1);
  EXPECT_EQ(pool, &e.Pool(1));
  Item other([&] { pool = pool::CurrentWorker()->pool; });
  ASSERT_TRUE(Engine::Queue(unbound, other, 1));
  WaitRuns(other, 1);
  EXPECT_FALSE(PoolTestPeer::Place(*pool).Has(1));
  e.Destroy(bound);
  e.Destroy(unbound);
}

}  // namespace
}  // namespace cmwq::test
