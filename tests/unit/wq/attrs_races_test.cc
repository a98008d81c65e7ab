// Attributes change at the worst moment: stale places in line, half-published changes, pools between two
// users.

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <string>
#include <thread>

#include "tests/support/test_points.h"
#include "tests/unit/wq/attrs_fixture.h"

namespace cmwq::test {
namespace {

class AttrsRaces : public AttrsTest {};

// Nothing is left of the item that got in line for a slot: nobody will give one back for the next.
TEST_F(AttrsRaces, CancelledItemLeavesNoPlaceInLine) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND | CMWQ_FREEZABLE);
  const auto freeze = [wq](bool frozen) {
    sync::MutexLock hold(wq->mutex);
    wq->frozen = frozen;
    wq::ApplyMaxActive(wq);
  };
  Item cancelled, item;
  freeze(true);
  ASSERT_TRUE(Engine::Queue(wq, cancelled));
  EXPECT_TRUE(e.Cancel(cancelled));
  freeze(false);
  ASSERT_TRUE(Engine::Queue(wq, item));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 1);
  EXPECT_EQ(wq->nodes[0].count.nr(), 0);
  EXPECT_EQ(wq->nodes[0].count.waiting(), 0);
  e.Destroy(wq);
}

// What waited was started because the limit rose; the next item has a free slot and starts at once, or two
// that wait for it would wait for ever.
TEST_F(AttrsRaces, RaisedLimitLeavesNoPlaceInLine) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND, 1);
  Gate last;
  Item first([&] { last.Wait(); }), second([&] { last.Wait(); }), third([&] { last.Open(); });
  ASSERT_TRUE(Engine::Queue(wq, first));
  ASSERT_TRUE(Engine::Queue(wq, second));
  ASSERT_TRUE(wq::SetMaxActive(wq, 10));
  EXPECT_EQ(wq->nodes[0].count.waiting(), 0);
  ASSERT_TRUE(Engine::Queue(wq, third));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(third.Runs(), 1);
  EXPECT_EQ(wq->nodes[0].count.nr(), 0);
  e.Destroy(wq);
}

// The node has no CPU any more and no floor: what waits on the retired side ends all the same.
TEST_F(AttrsRaces, NodeWithoutCpusFinishesWhatItHas) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND, 1);
  ASSERT_TRUE(wq::SetMinActive(wq, 0));
  Gate gate;
  Item busy([&] { gate.Wait(); }), waits;
  ASSERT_TRUE(Engine::Queue(wq, busy, 0));
  ASSERT_TRUE(Engine::Queue(wq, waits, 0));
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kNuma, "2-3")), 0);
  gate.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(waits.Runs(), 1);
  e.Destroy(wq);
}

// A pool without users serves other attributes next: the retired pwq there counts on another node.
TEST_F(AttrsRaces, PwqsOfAReusedPoolCountOnItsNode) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND);
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kNuma, "0-1", true, 5)), 0);
  pool::WorkerPool* const first = PoolFor(wq, 0);
  pool::WorkerPool* const other = PoolFor(wq, 2);  // no CPU of its node: the default pwq
  EXPECT_EQ(wq->PwqFor(0)->node, &wq->nodes[0]);
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kDefault)), 0);
  for (pool::WorkerPool* const pool : {first, other}) {
    Eventually([pool] {
      sync::MutexLock hold(pool->lock);
      return pool->Reusable();
    });
  }
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kNuma, "2-3", true, 6)), 0);
  ASSERT_TRUE(PoolFor(wq, 2) == first || PoolFor(wq, 2) == other);
  EXPECT_EQ(wq->PwqFor(2)->node, &wq->nodes[1]);
  Item item;
  ASSERT_TRUE(Engine::Queue(wq, item, 2));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(item.Runs(), 1);
  e.Destroy(wq);
}

// While a change is half published, what is queued next must not go to the side that runs first.
TEST_F(AttrsRaces, OrderHoldsInTheMiddleOfAChange) {
  if (!kHaveTestPoints) GTEST_SKIP() << "no test points in this build";
  wq::Workqueue* const wq = e.Alloc(0, 0, true);
  Trace trace;
  Item first([&] { trace.Add("first"); }), second([&] { trace.Add("second"); });
  const AtTestPoint half("attrs.published_one", [&] {
    // From CPU 0, whose entry has changed, and from another one. A thread of its own: the change holds
    // locks, and their ranks are checked per thread.
    std::thread([&] {
      EXPECT_TRUE(Engine::Queue(wq, first, 0));
      EXPECT_TRUE(Engine::Queue(wq, second, 3));
    }).join();
  });
  ASSERT_EQ(wq::ApplyAttrs(wq, Attrs(Scope::kDefault, "0-1")), 0);
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(trace.Text(), "first second");
  e.Destroy(wq);
}

// A queuer comes to a pool whose last user goes away; the next user must find a worker there.
TEST_F(AttrsRaces, PoolBegunForNobodyServesTheNextUser) {
  if (!kHaveTestPoints) GTEST_SKIP() << "no test points in this build";
  wq::Workqueue *const a = e.Alloc(CMWQ_UNBOUND), *const b = e.Alloc(CMWQ_UNBOUND);
  ASSERT_EQ(wq::ApplyAttrs(a, Attrs(Scope::kSystem, "0-3", true, 5)), 0);
  pool::WorkerPool* const pool = PoolFor(a, 0);
  const auto gone = [pool] {
    sync::MutexLock hold(pool->lock);
    return pool->Reusable();
  };
  ASSERT_EQ(wq::ApplyAttrs(a, Attrs(Scope::kSystem, "0-3", true, 6)), 0);
  Eventually(gone);
  {  // begins anew, without a worker yet
    sync::MutexLock hold(pool->lock);
    pool->AddUser();
  }
  {
    const AtTestPoint created("manager.created", [&] {
      // The worker has ended for want of users before its creator goes on; then somebody comes.
      {
        sync::MutexLock hold(pool->lock);
        pool->DropUser();
      }
      Eventually(gone);
      sync::MutexLock hold(pool->lock);
      pool->AddUser();
    });
    pool->GoLive();
  }
  EXPECT_FALSE(pool->served());
  ASSERT_EQ(wq::ApplyAttrs(b, Attrs(Scope::kSystem, "0-3", true, 5)), 0);
  EXPECT_EQ(PoolFor(b, 0), pool);
  Item item;
  ASSERT_TRUE(Engine::Queue(b, item));
  wq::FlushWorkqueue(b);
  EXPECT_EQ(item.Runs(), 1);
  {
    sync::MutexLock hold(pool->lock);
    pool->DropUser();
  }
  e.Destroy(a);
  e.Destroy(b);
}

// A queuer is about to make the first worker for a queue that has left the pool; the next user makes it
// too. One of them does.
TEST_F(AttrsRaces, OneThreadBringsAPoolUp) {
  if (!kHaveTestPoints) GTEST_SKIP() << "no test points in this build";
  wq::Workqueue *const a = e.Alloc(CMWQ_UNBOUND), *const b = e.Alloc(CMWQ_UNBOUND);
  ASSERT_EQ(wq::ApplyAttrs(a, Attrs(Scope::kSystem, "0-3", true, 5)), 0);
  pool::WorkerPool* const pool = PoolFor(a, 0);
  ASSERT_EQ(wq::ApplyAttrs(a, Attrs(Scope::kSystem, "0-3", true, 6)), 0);
  Eventually([pool] {
    sync::MutexLock hold(pool->lock);
    return pool->Reusable();
  });
  {
    sync::MutexLock hold(pool->lock);
    pool->AddUser();
    pool->DropUser();
  }
  Gate there, go;
  bool served = false;
  {
    const AtTestPoint stopped("pool.go_live", [&] {
      there.Open();
      go.Wait();
    });
    std::thread late([&] { served = pool->GoLive(); });
    there.Wait();
    ASSERT_EQ(wq::ApplyAttrs(b, Attrs(Scope::kSystem, "0-3", true, 5)), 0);
    const int creations = e.env.creations;
    go.Open();
    late.join();
    EXPECT_EQ(e.env.creations, creations);  // there was one already
  }
  EXPECT_TRUE(served);
  e.Destroy(a);
  e.Destroy(b);
}

// A pool is made by whoever needs it first; nice 0 is not that thread's priority.
TEST_F(AttrsRaces, NiceZeroIsNotThatOfWhoeverMadeThePool) {
  wq::Workqueue* wq = nullptr;
  std::thread([&] {
    ASSERT_EQ(setpriority(PRIO_PROCESS, static_cast<id_t>(base::Tid()), 7), 0);
    wq = e.Alloc(CMWQ_UNBOUND);
  }).join();
  const int ours = platform::SelfNice();
  int nice = 99;
  Item item([&nice] { nice = platform::SelfNice(); });
  ASSERT_TRUE(Engine::Queue(wq, item));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(nice, ours);
  e.Destroy(wq);
}

// Reading, editing and changing are one section: two threads that set different attributes both succeed.
TEST_F(AttrsRaces, AnEditIsOneSectionWithItsChange) {
  static Engine* engine;
  engine = &e;
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND);
  EXPECT_EQ(wq::EditAttrs(wq, [](wq::WqAttrs* attrs, const char* value) {
              bool others_may = true;
              std::thread([&others_may]() CMWQ_NO_TSA {
                others_may = engine->table.mu.TryLock();
                if (others_may) engine->table.mu.Unlock();
              }).join();
              EXPECT_FALSE(others_may);
              attrs->nice = std::stoi(value);
              return true;
            }, "3"), 0);
  EXPECT_EQ(PoolFor(wq, 0)->attrs().nice, 3);
  EXPECT_EQ(wq::EditAttrs(wq, [](wq::WqAttrs*, const char*) { return false; }, ""), EINVAL);
  e.Destroy(wq);
}

}  // namespace
}  // namespace cmwq::test
