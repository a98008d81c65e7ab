// Limits, order, freezing.

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/support/fake_env.h"
#include "tests/support/log_capture.h"

namespace cmwq::test {
namespace {

class WorkqueueTest : public ::testing::Test {
 protected:
  void SetFrozen(wq::Workqueue* wq, bool frozen) {
    sync::MutexLock hold(wq->mutex);
    wq->frozen = frozen;
    wq::ApplyMaxActive(wq);
  }
  void SetMaxActive(wq::Workqueue* wq, int limit) {
    sync::MutexLock hold(wq->mutex);
    wq->saved_max_active = limit;
    wq::ApplyMaxActive(wq);
  }
  int NrActive(wq::Workqueue* wq, int cpu = 0) {
    wq::Pwq* const pwq = wq->PwqFor(cpu);
    sync::MutexLock hold(pwq->pool->lock);
    return pwq->nr_active;
  }
  // Items that append their number and block until `gate`.
  void Fill(wq::Workqueue* wq, int n, Gate* gate) {
    for (int i = 0; i < n; ++i) {
      items_.push_back(std::make_unique<Item>([this, i, gate] {
        trace.Add(std::to_string(i));
        started.fetch_add(1);
        if (gate != nullptr) gate->WaitAnnounced();
      }));
      ASSERT_TRUE(Engine::Queue(wq, *items_.back()));
    }
  }
  Engine& e = Engine::Make(2);
  Trace trace;
  std::atomic<int> started{0};
  std::vector<std::unique_ptr<Item>> items_;
};

TEST_F(WorkqueueTest, ItemsOfOneCpuStartInOrder) {
  wq::Workqueue* const wq = e.Alloc();
  Fill(wq, 10, nullptr);
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(trace.Text(), "0 1 2 3 4 5 6 7 8 9");
  e.Destroy(wq);
}

TEST_F(WorkqueueTest, MaxActiveHoldsAndKeepsTheOrder) {
  wq::Workqueue* const wq = e.Alloc(0, 2);
  Gate gate;
  Fill(wq, 6, &gate);
  Eventually([&] { return started == 2; });
  EXPECT_EQ(NrActive(wq), 2);
  EXPECT_EQ(trace.Text(), "0 1");
  gate.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(trace.Text(), "0 1 2 3 4 5");
  EXPECT_EQ(NrActive(wq), 0);
  e.Destroy(wq);
}

TEST_F(WorkqueueTest, RaisingMaxActiveStartsWaitingItemsInOrder) {
  wq::Workqueue* const wq = e.Alloc(0, 1);
  Gate gate;
  Fill(wq, 6, &gate);
  Eventually([&] { return started == 1; });
  SetMaxActive(wq, 3);
  Eventually([&] { return started == 3; });
  EXPECT_EQ(trace.Text(), "0 1 2");
  SetMaxActive(wq, 1);
  gate.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(trace.Text(), "0 1 2 3 4 5");
  e.Destroy(wq);
}

TEST_F(WorkqueueTest, MaxActiveIsPerCpuForBoundQueues) {
  wq::Workqueue* const wq = e.Alloc(0, 1);
  Gate gate;
  std::atomic<int> inside{0};
  Item a([&] { inside.fetch_add(1), gate.WaitAnnounced(); });
  Item b([&] { inside.fetch_add(1), gate.WaitAnnounced(); });
  ASSERT_TRUE(Engine::Queue(wq, a, 0));
  ASSERT_TRUE(Engine::Queue(wq, b, 1));
  Eventually([&] { return inside == 2; });
  gate.Open();
  wq::FlushWorkqueue(wq);
  e.Destroy(wq);
}

TEST_F(WorkqueueTest, MaxActiveIsOneNumberForUnboundQueues) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND, 2);
  std::atomic<int> inside{0}, most{0};
  for (int i = 0; i < 50; ++i) {
    items_.push_back(std::make_unique<Item>([&] {
      const int now = inside.fetch_add(1) + 1;
      int seen = most;
      while (now > seen && !most.compare_exchange_weak(seen, now)) {
      }
      base::SchedYield();
      inside.fetch_sub(1);
    }));
    ASSERT_TRUE(Engine::Queue(wq, *items_.back(), i % 2));
  }
  wq::FlushWorkqueue(wq);
  EXPECT_LE(most, 2);
  e.Destroy(wq);
}

// Cancelling a waiting item gives no slot back, for it had none.
TEST_F(WorkqueueTest, CancelOfAWaitingItemKeepsTheCount) {
  wq::Workqueue* const wq = e.Alloc(0, 1);
  Gate gate;
  Fill(wq, 3, &gate);
  Eventually([&] { return started == 1; });
  EXPECT_TRUE(e.Cancel(*items_[1]));
  EXPECT_EQ(NrActive(wq), 1);
  EXPECT_EQ(started, 1);
  gate.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(trace.Text(), "0 2");
  EXPECT_EQ(NrActive(wq), 0);
  e.Destroy(wq);
}

// Cancelling one that is active but has not started lets the next in.
TEST_F(WorkqueueTest, CancelOfAnActiveItemGivesTheSlotOn) {
  wq::Workqueue* const wq = e.Alloc(0, 1);
  wq::Workqueue* const other = e.Alloc();
  Gate hold;
  Item busy([&] { hold.Wait(); });
  ASSERT_TRUE(Engine::Queue(other, busy));
  Fill(wq, 3, nullptr);
  EXPECT_TRUE(e.Cancel(*items_[0]));
  EXPECT_EQ(NrActive(wq), 1);
  hold.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(trace.Text(), "1 2");
  e.Destroy(wq);
  e.Destroy(other);
}

TEST_F(WorkqueueTest, OrderedQueuesRunOneAtATimeInOrder) {
  wq::Workqueue* const wq = e.Alloc(0, 1, true);
  std::atomic<int> inside{0}, overlaps{0};
  std::string expected;
  for (int i = 0; i < 200; ++i) {
    expected += (i == 0 ? "" : " ") + std::to_string(i);
    items_.push_back(std::make_unique<Item>([&, i] {
      if (inside.fetch_add(1) != 0) overlaps.fetch_add(1);
      trace.Add(std::to_string(i));
      inside.fetch_sub(1);
    }));
    ASSERT_TRUE(Engine::Queue(wq, *items_.back(), i % 2));
  }
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(trace.Text(), expected);
  EXPECT_EQ(overlaps, 0);
  e.Destroy(wq);
}

TEST_F(WorkqueueTest, FreezeHoldsBackAndThawKeepsTheOrder) {
  wq::Workqueue* const wq = e.Alloc(CMWQ_FREEZABLE, 2);
  Gate gate;
  Fill(wq, 2, &gate);
  Eventually([&] { return started == 2; });
  SetFrozen(wq, true);
  Fill(wq, 4, &gate);
  gate.Open();
  Eventually([&] { return NrActive(wq) == 0; });
  EXPECT_EQ(started, 2);
  SetMaxActive(wq, 8);  // takes effect when thawed
  EXPECT_EQ(started, 2);
  SetFrozen(wq, false);
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(trace.Text(), "0 1 0 1 2 3");
  e.Destroy(wq);
}

TEST_F(WorkqueueTest, NamesAreCutWithOneWarning) {
  LogCapture log;
  int err = 0;
  const char* const name = "a-name-that-is-much-longer-than-31-bytes";
  wq::Workqueue* const wq = wq::CreateWorkqueue(name, 0, 0, false, &e.table, &e.env, &err);
  ASSERT_NE(wq, nullptr);
  EXPECT_EQ(std::string(wq->name), std::string(name).substr(0, 31));
  EXPECT_LE(log.Take().size(), 1u);  // once per process
  e.Destroy(wq);
}

TEST_F(WorkqueueTest, ClampsMaxActive) {
  EXPECT_EQ(wq::ClampMaxActive(0), CMWQ_DFL_ACTIVE);
  EXPECT_EQ(wq::ClampMaxActive(1), 1);
  EXPECT_EQ(wq::ClampMaxActive(1 << 20), CMWQ_MAX_ACTIVE);
}

// A queue comes whole or not at all.
TEST_F(WorkqueueTest, NoRescuerNoQueue) {
  LogCapture log;
  e.env.fail_next = 1;
  int err = 0;
  EXPECT_EQ(wq::CreateWorkqueue("q", CMWQ_MEM_RECLAIM, 0, false, &e.table, &e.env, &err), nullptr);
  EXPECT_EQ(err, EAGAIN);
  EXPECT_EQ(log.Take().size(), 1u);
  wq::Workqueue* const second = e.Alloc(CMWQ_MEM_RECLAIM);
  ASSERT_NE(second, nullptr);
  e.Destroy(second);
}

}  // namespace
}  // namespace cmwq::test
