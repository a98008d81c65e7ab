// Queues with a fail callback: when no thread can be made their items come back instead of waiting.
// Creation fails on demand, time is the test's; the event thread is the thread that calls Advance.

#include <gtest/gtest.h>

#include <mutex>
#include <thread>

#include "runtime/wq/work_word.h"
#include "tests/support/short_handed.h"
#include "tests/support/test_points.h"

namespace cmwq::test {
namespace {

constexpr uint64_t kRetryMs = 1200;  // past the cool-down: the second attempt has failed

// What the callback saw. It is a plain function, so this is the process's.
struct Failures {
  std::mutex mu;
  std::vector<struct cmwq_work*> works;
  int err = 0;
  std::thread::id thread;
  std::function<void(struct cmwq_work*)> also;
  static Failures& Get() {
    static Failures* const f = new Failures;
    return *f;
  }
  static void Add(struct cmwq_work* work, int err) {
    Failures& f = Get();
    {
      std::lock_guard<std::mutex> hold(f.mu);
      f.works.push_back(work);
      f.err = err;
      f.thread = std::this_thread::get_id();
    }
    if (f.also) f.also(work);
  }
  static size_t Count() {
    std::lock_guard<std::mutex> hold(Get().mu);
    return Get().works.size();
  }
};

class FailTest : public ::testing::Test {
 protected:
  FailTest() {
    Failures& f = Failures::Get();
    f.works.clear();
    f.err = 0;
    f.also = nullptr;
    s_.plain->fail = &Failures::Add;
  }
  ShortHanded s_{INT_MAX};
};

TEST_F(FailTest, AtTheSecondFailureAndNotBefore) {
  Item a, b;
  ASSERT_TRUE(Engine::Queue(s_.plain, a));
  ASSERT_TRUE(Engine::Queue(s_.plain, b));
  s_.e.Advance(900);
  EXPECT_EQ(Failures::Count(), 0u);
  s_.e.Advance(kRetryMs - 900);
  ASSERT_EQ(Failures::Count(), 2u);
  Failures& f = Failures::Get();
  EXPECT_EQ(f.works[0], a.work());
  EXPECT_EQ(f.works[1], b.work());
  EXPECT_EQ(f.err, EAGAIN);
  EXPECT_EQ(f.thread, std::this_thread::get_id());
  EXPECT_EQ(a.Runs(), 0);
  EXPECT_EQ(s_.e.Pool().Stats().failed, 2u);
  EXPECT_EQ(PoolTestPeer::Pending(s_.e.Pool()), 0u);
  s_.e.Pool().CheckInvariants();
  // Idle again: it can be queued, and runs when threads can be made.
  ASSERT_TRUE(Engine::Queue(s_.plain, a));
  s_.e.env.fail_next = 0;
  s_.e.Advance(kRetryMs);
  Eventually([&] { return a.Runs() == 1; });
}

TEST_F(FailTest, QueuesWithoutACallbackWait) {
  wq::Workqueue* const other = s_.e.Alloc();
  Item waits, fails;
  ASSERT_TRUE(Engine::Queue(other, waits));
  ASSERT_TRUE(Engine::Queue(s_.plain, fails));
  s_.e.Advance(kRetryMs);
  EXPECT_EQ(Failures::Count(), 1u);
  EXPECT_EQ(PoolTestPeer::Pending(s_.e.Pool()), 1u);
  s_.e.env.fail_next = 0;
  s_.e.Advance(kRetryMs);
  Eventually([&] { return waits.Runs() == 1; });
  s_.e.Destroy(other);
}

TEST_F(FailTest, TheCallbackMayQueueAgainAndFree) {
  Item again;
  Item* const freed = new Item;
  Failures::Get().also = [&](struct cmwq_work* work) {
    if (work == again.work()) {
      EXPECT_TRUE(Engine::Queue(s_.plain, again));
    } else {
      delete reinterpret_cast<Item*>(work);
    }
  };
  ASSERT_TRUE(Engine::Queue(s_.plain, again));
  ASSERT_TRUE(Engine::Queue(s_.plain, *freed));
  s_.e.Advance(kRetryMs);
  // One pass ends although the item comes back each time.
  EXPECT_GE(Failures::Count(), 2u);
  EXPECT_EQ(PoolTestPeer::Pending(s_.e.Pool()), 1u);
  Failures::Get().also = nullptr;
  s_.e.env.fail_next = 0;
  s_.e.Advance(kRetryMs);
  Eventually([&] { return again.Runs() == 1; });
}

// Slots go on as items fail, so that those over max_active fail in turn, each once.
TEST_F(FailTest, InactiveItemsFailInTurn) {
  wq::Workqueue* const narrow = s_.e.Alloc(0, 1);
  narrow->fail = &Failures::Add;
  Item items[20];
  for (Item& item : items) ASSERT_TRUE(Engine::Queue(narrow, item));
  s_.e.Advance(kRetryMs);
  ASSERT_EQ(Failures::Count(), 20u);
  for (size_t i = 0; i < 20; ++i) EXPECT_EQ(Failures::Get().works[i], items[i].work());
  EXPECT_TRUE(wq::WorkqueueEmpty(narrow));
  s_.e.Destroy(narrow);
}

TEST_F(FailTest, FlushesAreReleased) {
  wq::Workqueue* const wq = s_.e.Alloc();
  wq->fail = &Failures::Add;
  Item item, behind;
  ASSERT_TRUE(Engine::Queue(wq, item));
  ASSERT_TRUE(Engine::Queue(wq, behind));
  std::atomic<int> done{0};
  std::thread flush_item([&] {
    EXPECT_TRUE(s_.e.Flush(item));
    done.fetch_add(1);
  });
  std::thread flush_queue([&] {
    wq::FlushWorkqueue(wq);
    done.fetch_add(1);
  });
  // The barrier stands on the worklist: two items and it.
  Eventually([&] { return PoolTestPeer::Pending(s_.e.Pool()) == 3; });
  EXPECT_EQ(done, 0);
  s_.e.Advance(kRetryMs);
  flush_item.join();
  flush_queue.join();
  EXPECT_EQ(Failures::Count(), 2u);
  EXPECT_TRUE(wq::WorkqueueEmpty(wq));
  s_.e.Destroy(wq);
}

// A barrier whose item was cancelled stands alone on the worklist. It is nobody's item: it is run.
TEST_F(FailTest, ABarrierLeftAloneIsNotHandedOut) {
  Item item;
  ASSERT_TRUE(Engine::Queue(s_.plain, item));
  std::thread flusher([&] { EXPECT_TRUE(s_.e.Flush(item)); });
  Eventually([&] { return PoolTestPeer::Pending(s_.e.Pool()) == 2; });
  ASSERT_TRUE(s_.e.Cancel(item));
  ASSERT_EQ(PoolTestPeer::Pending(s_.e.Pool()), 1u);
  s_.e.Advance(kRetryMs);
  // Before the join: a barrier that was handed out keeps the flusher for ever.
  ASSERT_EQ(Failures::Count(), 0u);
  flusher.join();
  EXPECT_EQ(s_.e.Pool().Stats().failed, 0u);
  EXPECT_EQ(PoolTestPeer::Pending(s_.e.Pool()), 0u);
}

// The callback is taken back while an item is on its way to it: the item must not be lost.
TEST_F(FailTest, ACallbackTakenBackLosesNoItem) {
  if (!kHaveTestPoints) GTEST_SKIP() << "needs test points";
  Item item;
  AtTestPoint taken("fail.decided", [&] { s_.plain->fail = nullptr; });
  ASSERT_TRUE(Engine::Queue(s_.plain, item));
  s_.e.Advance(kRetryMs);
  EXPECT_EQ(Failures::Count(), 1u);
}

// For others the callback is the execution: who cancels and frees waits for it.
TEST_F(FailTest, ACancelWaitsForTheCallback) {
  Item item;
  Gate inside, go_on;
  Failures::Get().also = [&](struct cmwq_work* work) {
    EXPECT_EQ(cmwq_current_work(), work);
    EXPECT_FALSE(cmwq_current_is_workqueue_rescuer());
    inside.Open();
    go_on.Wait();
  };
  ASSERT_TRUE(Engine::Queue(s_.plain, item));
  std::thread events([&] { s_.e.Advance(kRetryMs); });
  inside.Wait();
  std::atomic<bool> cancelled{false};
  std::thread canceller([&] {
    EXPECT_FALSE(s_.e.CancelSync(item));
    cancelled = true;
  });
  // Its barrier is on the list behind the callback.
  Eventually([&] { return wq::Word::Disabled(wq::WordOf(item.work()).load()); });
  EXPECT_FALSE(cancelled);
  go_on.Open();
  events.join();
  canceller.join();
  EXPECT_EQ(item.Runs(), 0);
}

// At the cap the user's own limit is reached: no failure.
TEST(Fail, MaxWorkersIsNoFailure) {
  Failures::Get().works.clear();
  Failures::Get().also = nullptr;
  Engine& e = Engine::Make(1, [](base::Conf* conf) { conf->max_workers = 2; });
  wq::Workqueue* const wq = e.Alloc();
  wq->fail = &Failures::Add;
  Gate gate;
  std::atomic<int> blocked{0};
  Item first([&] {
    blocked.fetch_add(1);
    gate.WaitAnnounced();
  });
  Item second([&] {
    blocked.fetch_add(1);
    gate.WaitAnnounced();
  });
  Item third;
  ASSERT_TRUE(Engine::Queue(wq, first));
  ASSERT_TRUE(Engine::Queue(wq, second));
  Eventually([&] { return blocked == 2; });
  ASSERT_TRUE(Engine::Queue(wq, third));
  e.Advance(5000);
  EXPECT_EQ(Failures::Count(), 0u);
  gate.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(third.Runs(), 1);
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

}  // namespace
}  // namespace cmwq::test
