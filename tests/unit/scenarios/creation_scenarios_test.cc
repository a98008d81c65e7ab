// What io-wq taught about making and listing workers, translated to pools.

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/short_handed.h"
#include "tests/unit/scenarios/scenario.h"

namespace cmwq::test {
namespace {

// 40: a worker is on the one list of all workers in every state, so whoever goes through them meets it
// exactly once between two of its states as well.
TEST(CreationScenario, Scenario40OneListOfAllWorkers) {
  CMWQ_NEEDS_TEST_POINTS();
  Engine& e = Engine::Make(1);
  wq::Workqueue* const wq = e.Alloc();
  Item warm;
  ASSERT_TRUE(Engine::Queue(wq, warm));
  WaitRuns(warm, 1);
  Engine::WaitIdle(e.Pool());
  const uint64_t executed = e.Pool().Stats().executed;
  int visits = 0;
  for (const char* where : {"worker.woken", "worker.before_fn", "worker.after_fn"}) {
    SCOPED_TRACE(where);
    Item item;
    AtTestPoint point(where, [&] {
      ++visits;
      const pool::Worker* const self = pool::CurrentWorker();
      // The counts go through the same list, and miss nobody's share.
      const pool::PoolStats stats = e.Pool().Stats();
      EXPECT_EQ(stats.nr_workers, 2);
      EXPECT_EQ(stats.executed, executed + static_cast<uint64_t>(visits) - 1);
      const bool executing = std::string(where) != "worker.woken";
      EXPECT_EQ(stats.nr_idle, executing ? 1 : 2);
      pool::Suspect suspects[8];
      const int n = e.Pool().ListSuspects(suspects, 8);
      EXPECT_EQ(n, executing ? 1 : 0);
      if (n == 1) {
        EXPECT_EQ(suspects[0].slot, self->slot);
      }
      sync::MutexLock hold(e.Pool().lock);
      EXPECT_EQ(e.Pool().FindExecuting(item.work(), item.work()->fn_), executing ? self : nullptr);
    });
    ASSERT_TRUE(Engine::Queue(wq, item));
    WaitRuns(item, 1);
    Engine::WaitIdle(e.Pool());
  }
  EXPECT_EQ(visits, 3);
  e.Destroy(wq);
}

// 41: the right to create is taken before the thread exists, so two queuers do not both create; when the
// creation fails it is undone once.
TEST(CreationScenario, Scenario41TwoQueuersOneCreation) {
  Engine& e = Engine::Make(1);
  wq::Workqueue* const wq = e.Alloc();
  Gate creating, go_on;
  e.env.before_create = [&] {
    creating.Open();
    go_on.Wait();
  };
  e.env.fail_next = 1;
  Item items[3];
  std::atomic<int> queued{0};
  std::vector<std::thread> queuers;
  for (Item& item : items) {
    queuers.emplace_back([&] {
      EXPECT_TRUE(Engine::Queue(wq, item));
      queued.fetch_add(1);
    });
  }
  creating.Wait();
  EXPECT_EQ(e.env.creations, 1);
  EXPECT_TRUE(PoolTestPeer::Managing(e.Pool()));
  go_on.Open();
  for (std::thread& t : queuers) t.join();
  EXPECT_EQ(e.env.creations, 1);
  EXPECT_EQ(e.Pool().Stats().nr_workers, 0);
  EXPECT_EQ(e.Pool().Stats().create_failures, 1u);
  e.Pool().CheckInvariants();
  e.Advance(1100);
  for (Item& item : items) WaitRuns(item, 1);
  Engine::WaitIdle(e.Pool());
  // The first worker and the spare; the slot of the failed attempt was used again.
  EXPECT_EQ(e.env.creations, 3);
  EXPECT_EQ(e.Pool().Stats().nr_workers, 2);
  e.Destroy(wq);
}

// 41, with workers: the last idle one creates and is still at it; another need arises; one attempt.
TEST(CreationScenario, Scenario41TwoNeedsOneCreation) {
  Engine& e = Engine::Make(1);
  wq::Workqueue* const wq = e.Alloc();
  Held first;
  Item next[2];
  ASSERT_TRUE(Engine::Queue(wq, first.item));
  first.started.Wait();
  Eventually([&] { return e.Pool().Stats().nr_running == 0 && e.Pool().Stats().nr_idle == 1; });
  const int creations = e.env.creations;
  Gate creating, go_on;
  e.env.before_create = [&] {
    creating.Open();
    go_on.Wait();
  };
  ASSERT_TRUE(Engine::Queue(wq, next[0]));
  creating.Wait();
  // Nobody is idle and nobody runs: each of these asks for one more worker.
  ASSERT_TRUE(Engine::Queue(wq, next[1]));
  e.Pool().Kick();
  e.Pool().Nudge();
  first.end.Open();  // comes back, needs nobody, serves what there is
  WaitRuns(next[0], 1);
  WaitRuns(next[1], 1);
  // Now it is the last idle one itself, and starts without a spare: somebody is making one.
  Eventually([&] { return e.Pool().Stats().nr_idle == 1; });
  Item third;
  ASSERT_TRUE(Engine::Queue(wq, third));
  Eventually([&] { return third.Runs() == 1 || e.env.creations > creations + 1; });
  EXPECT_EQ(e.env.creations, creations + 1);
  go_on.Open();
  Engine::WaitIdle(e.Pool());
  EXPECT_EQ(e.env.creations, creations + 1);
  EXPECT_EQ(e.Pool().Stats().nr_workers, 3);
  e.Destroy(wq);
}

// 42: a creation that fails for a moment, however often, is tried again without a limit.
TEST(CreationScenario, Scenario42FailedCreationIsRetriedWithoutLimit) {
  for (const int err : {EAGAIN, EINTR, ENOMEM}) {
    SCOPED_TRACE(err);
    constexpr int kFailures = 50;
    Engine& e = Engine::Make(1);
    wq::Workqueue* const wq = e.Alloc();
    e.env.fail_errno = err;
    e.env.fail_next = kFailures;
    Item item;
    ASSERT_TRUE(Engine::Queue(wq, item));
    for (int attempt = 1; attempt <= kFailures; ++attempt) {
      ASSERT_EQ(e.env.creations, attempt);
      ASSERT_EQ(item.Runs(), 0);
      e.Advance(attempt == 1 ? 1010 : 1000);
    }
    WaitRuns(item, 1);
    EXPECT_EQ(e.Pool().Stats().create_failures, static_cast<uint64_t>(kFailures));
    Engine::WaitIdle(e.Pool());
    e.Destroy(wq);
  }
}

// 43: many workers leave together: one firing of the timer lets all of them go, each in a step of its own
// that looks at no other worker, and their objects are used again.
TEST(CreationScenario, Scenario43ManyWorkersLeaveAtOnce) {
  constexpr int kWorkers = 300, kTimeoutMs = 100;
  Engine& e = Engine::Make(1, [](base::Conf* conf) { conf->idle_timeout_ms = kTimeoutMs; });
  wq::Workqueue* const wq = e.Alloc();
  for (int round = 0; round < 2; ++round) {
    std::vector<std::unique_ptr<Held>> held;
    for (int i = 0; i < kWorkers; ++i) {
      held.push_back(std::make_unique<Held>());
      ASSERT_TRUE(Engine::Queue(wq, held.back()->item));
    }
    for (const auto& h : held) h->started.Wait();
    Eventually([&] { return e.Pool().Stats().nr_idle == 1; });
    EXPECT_EQ(e.Pool().Stats().nr_workers, kWorkers + 1);
    EXPECT_EQ(e.Pool().Stats().peak_workers, static_cast<uint64_t>(kWorkers) + 1);
    const uint64_t destroyed = e.Pool().Stats().destroyed;
    for (const auto& h : held) h->end.Open();
    for (const auto& h : held) WaitRuns(h->item, 1);
    Eventually([&] { return e.Pool().Stats().nr_idle == kWorkers + 1; });
    Eventually([&] { return PoolTestPeer::CullDue(e.Pool()) != base::kNever; });
    e.Advance(kTimeoutMs - 1);
    EXPECT_EQ(e.Pool().Stats().destroyed, destroyed);
    e.Advance(1);
    EXPECT_EQ(e.Pool().Stats().destroyed, destroyed + kWorkers - 1);
    EXPECT_EQ(e.Pool().Stats().nr_idle, 2);
    EXPECT_EQ(PoolTestPeer::CullDue(e.Pool()), base::kNever);
    Eventually([&] { return PoolTestPeer::FreeSlots(e.Pool()) == kWorkers - 1; });
  }
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

}  // namespace
}  // namespace cmwq::test
