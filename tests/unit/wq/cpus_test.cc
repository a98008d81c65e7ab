// CPUs that come and go: what becomes of items, workers, queues and limits. The state machine itself is
// tried at every step in tests/model/trustee_model_test.cc.

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/wq/attrs.h"
#include "tests/support/fake_env.h"
#include "tests/support/fake_sysfs.h"
#include "tests/support/log_capture.h"
#include "tests/unit/scenarios/scenario.h"

namespace cmwq::test {
namespace {

using platform::CpuSet;
using pool::TrusteeState;
using pool::WorkerFlag;

// Where BindThread has put whom.
struct Places {
  explicit Places(Engine& e) {
    e.env.on_place = [this](int tid, const CpuSet& cpus) {
      std::lock_guard<std::mutex> hold(mu);
      of[tid] = ListOf(cpus);
      return answer.load();
    };
    env = &e.env;
  }
  ~Places() { env->on_place = nullptr; }
  std::string Of(int tid) {
    std::lock_guard<std::mutex> hold(mu);
    return of[tid];
  }
  FakeEnv* env;
  std::mutex mu;
  std::map<int, std::string> of;
  std::atomic<int> answer{0};
};

// Busy::item runs until it is told to end, without saying that it waits.
struct Busy {
  Busy()
      : item([this] {
          tid = base::Tid();
          pool = pool::CurrentWorker()->pool;
          started.Open();
          end.Wait();
        }) {}
  std::atomic<int> tid{0};
  std::atomic<pool::WorkerPool*> pool{nullptr};
  Gate started, end;
  Item item;
};

// What is behind a worker that counts starts when its CPU leaves; everybody may run anywhere, nobody counts.
TEST(Cpus, WorkersOfACpuThatLeavesRunAnywhere) {
  Engine& e = Engine::Make(2);
  Places places(e);
  wq::Workqueue* const wq = e.Alloc();
  Busy busy;
  Item behind;
  ASSERT_TRUE(Engine::Queue(wq, busy.item, 1));
  busy.started.Wait();
  ASSERT_TRUE(Engine::Queue(wq, behind, 1));
  EXPECT_EQ(PoolTestPeer::RawRunning(e.Pool(1)), 1);
  EXPECT_EQ(behind.Runs(), 0);
  ASSERT_EQ(e.Cpus("0"), 0);
  WaitRuns(behind, 1);
  EXPECT_EQ(PoolTestPeer::RawRunning(e.Pool(1)), 0);
  EXPECT_TRUE(PoolTestPeer::AllFlags(e.Pool(1), WorkerFlag::kUnbound));
  EXPECT_EQ(places.Of(busy.tid), "0");
  EXPECT_FALSE(PoolTestPeer::AnyFlag(e.Pool(0), WorkerFlag::kUnbound));
  // What comes now goes elsewhere, whoever asks for that CPU.
  EXPECT_EQ(e.table.UsableCpu(1), 0);
  busy.end.Open();
  Engine::WaitIdle(e.Pool(1));
  e.Destroy(wq);
}

// In the middle of a drain: the busy worker is bound again, and counts from its next item on.
TEST(Cpus, TheCpuReturnsInTheMiddleOfADrain) {
  Engine& e = Engine::Make(2);
  Places places(e);
  wq::Workqueue* const wq = e.Alloc();
  Busy busy;
  ASSERT_TRUE(Engine::Queue(wq, busy.item, 1));
  busy.started.Wait();
  ASSERT_EQ(e.Cpus("0"), 0);
  e.Advance(1);
  EXPECT_EQ(PoolTestPeer::State(e.Pool(1)), TrusteeState::kInCharge);
  ASSERT_EQ(e.Cpus("0-1"), 0);
  EXPECT_EQ(PoolTestPeer::State(e.Pool(1)), TrusteeState::kDone);
  EXPECT_EQ(places.Of(busy.tid), "1");
  EXPECT_TRUE(PoolTestPeer::AllFlags(e.Pool(1), WorkerFlag::kRebound));
  EXPECT_FALSE(PoolTestPeer::AnyFlag(e.Pool(1), WorkerFlag::kUnbound));
  busy.end.Open();
  WaitRuns(busy.item, 1);
  Engine::WaitIdle(e.Pool(1));
  Busy next;
  ASSERT_TRUE(Engine::Queue(wq, next.item, 1));
  next.started.Wait();
  EXPECT_EQ(next.pool, &e.Pool(1));
  EXPECT_EQ(PoolTestPeer::RawRunning(e.Pool(1)), 1);
  next.end.Open();
  Engine::WaitIdle(e.Pool(1));
  e.Destroy(wq);
}

// Once it is gone for good, and nothing is left to do, its workers go; not before. It may come back then,
// with a first worker before the first item.
TEST(Cpus, WorkersGoWhenTheCpuIsGoneForGood) {
  Engine& e = Engine::Make(2);
  wq::Workqueue* const wq = e.Alloc();
  pool::WorkerPool& pool = e.Pool(1);
  Held held;
  ASSERT_TRUE(Engine::Queue(wq, held.item, 1));
  held.started.Wait();
  Eventually([&] { return pool.Stats().nr_idle == 1; });
  ASSERT_EQ(e.Cpus("0"), 0);
  e.env.now += static_cast<uint64_t>(e.conf.idle_timeout_ms) * base::kNsPerMs;
  e.Advance(200);
  EXPECT_EQ(PoolTestPeer::State(pool), TrusteeState::kInCharge);
  EXPECT_EQ(pool.Stats().nr_workers, 2);
  held.end.Open();
  Eventually([&] { return pool.Stats().nr_idle == 2; });
  e.Advance(200);
  EXPECT_EQ(PoolTestPeer::State(pool), TrusteeState::kButcher);
  EXPECT_EQ(pool.Stats().nr_workers, 0);
  Eventually([&] { return PoolTestPeer::FreeSlots(pool) == 2; });
  EXPECT_EQ(PoolTestPeer::TrusteeDue(pool), base::kNever);
  ASSERT_EQ(e.Cpus("0-1"), 0);
  EXPECT_FALSE(pool.served());
  Item item([&] { EXPECT_EQ(pool::CurrentWorker()->pool, &pool); });
  ASSERT_TRUE(Engine::Queue(wq, item, 1));
  EXPECT_TRUE(pool.served());
  WaitRuns(item, 1);
  e.Destroy(wq);
}

// A CPU that was away for a moment keeps its idle workers.
TEST(Cpus, WorkersStayOverAShortAbsence) {
  Engine& e = Engine::Make(2);
  wq::Workqueue* const wq = e.Alloc();
  Item item;
  ASSERT_TRUE(Engine::Queue(wq, item, 1));
  WaitRuns(item, 1);
  Engine::WaitIdle(e.Pool(1));
  const int workers = e.Pool(1).Stats().nr_workers;
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(e.Cpus("0"), 0);
    e.Advance(static_cast<uint64_t>(e.conf.idle_timeout_ms) / 2);
    ASSERT_EQ(e.Cpus("0-1"), 0);
    e.Advance(10);
  }
  EXPECT_EQ(e.Pool(1).Stats().nr_workers, workers);
  EXPECT_EQ(e.Pool(1).Stats().created, static_cast<uint64_t>(workers));
  e.Destroy(wq);
}

// What is frozen while its CPU leaves, and thawed after the pool has lost its workers, is executed.
TEST(Cpus, FrozenItemsOfAPoolWithoutWorkersAreExecuted) {
  Engine& e = Engine::Make(2);
  wq::Workqueue* const wq = e.Alloc(CMWQ_FREEZABLE);
  Item first, frozen;
  ASSERT_TRUE(Engine::Queue(wq, first, 1));
  WaitRuns(first, 1);
  Engine::WaitIdle(e.Pool(1));
  SetFrozen(wq, true);
  ASSERT_TRUE(Engine::Queue(wq, frozen, 1));
  ASSERT_EQ(e.Cpus("0"), 0);
  e.Advance(1);
  e.env.now += static_cast<uint64_t>(e.conf.idle_timeout_ms) * base::kNsPerMs;
  e.Advance(1);
  ASSERT_EQ(e.Pool(1).Stats().nr_workers, 0);
  e.env.fail_next = 2;  // the first worker cannot be made at once, either
  SetFrozen(wq, false);
  EXPECT_EQ(frozen.Runs(), 0);
  e.Advance(3000);
  WaitRuns(frozen, 1);
  // It goes again when it has nothing to do.
  Eventually([&] { return e.Pool(1).Stats().nr_workers == 0; });
  e.Destroy(wq);
}

// Items that wait for each other, more of them than workers, while creation fails: the rescuer is called,
// and the others follow when threads can be made.
TEST(Cpus, ADrainWithoutThreadsCallsTheRescuer) {
  Engine& e = Engine::Make(2);
  wq::Workqueue* const wq = e.Alloc(CMWQ_MEM_RECLAIM);
  Held blocked[2];
  Item rescued;
  ASSERT_TRUE(Engine::Queue(wq, blocked[0].item, 1));
  blocked[0].started.Wait();
  Eventually([&] { return e.Pool(1).Stats().nr_idle == 1; });
  e.env.fail_next = INT_MAX;
  ASSERT_TRUE(Engine::Queue(wq, blocked[1].item, 1));
  blocked[1].started.Wait();
  ASSERT_TRUE(Engine::Queue(wq, rescued, 1));
  Eventually([&] { return PoolTestPeer::RawRunning(e.Pool(1)) == 0; });
  ASSERT_EQ(e.Cpus("0"), 0);
  e.Advance(20);
  WaitRuns(rescued, 1);
  Eventually([&] { return wq->rescuer->rescued() >= 1; });
  e.env.fail_next = 0;
  e.Advance(1200);
  for (Held& h : blocked) h.end.Open();
  Engine::WaitIdle(e.Pool(1));
  e.Destroy(wq);
}

// A timer that was armed for a CPU that has left expires on another.
TEST(Cpus, DelayedItemsGoToAnotherCpu) {
  Engine& e = Engine::Make(2);
  wq::Workqueue* const wq = e.Alloc();
  std::atomic<pool::WorkerPool*> pool{nullptr};
  Item item([&] { pool = pool::CurrentWorker()->pool; });
  e.env.cpu = 1;
  ASSERT_TRUE(e.QueueDelayed(wq, item, 50));
  ASSERT_EQ(e.Cpus("0"), 0);
  e.Advance(50);
  // Nobody has used the pool of CPU 0 so far: its first worker comes by the event thread.
  e.Advance(10);
  WaitRuns(item, 1);
  EXPECT_TRUE(pool == &e.Pool(0) || pool == &e.Pool(1));
  e.Destroy(wq);
}

// All CPUs of the process are exchanged for others, some of which it never had.
TEST(Cpus, CpusThatTheProcessNeverHadAreTakenIntoUse) {
  FakeSysfs sys;
  sys.Server(2, 2, 1);
  sys.Write("cpu/possible", "0-3");
  Engine& e = Engine::Make(1, nullptr, sys.root());
  wq::Workqueue* const bound = e.Alloc(CMWQ_HIGHPRI);
  wq::Workqueue* const unbound = e.Alloc(CMWQ_UNBOUND, 20);
  EXPECT_EQ(unbound->nr_nodes, 2);
  SetFrozen(bound, false);
  ASSERT_EQ(e.Cpus("2-3"), 0);
  EXPECT_FALSE(e.table.Usable(0));
  for (int cpu : {2, 3}) {
    Item a([&] { EXPECT_EQ(pool::CurrentWorker()->pool, &e.Pool(cpu, true)); }), b([&] {
      EXPECT_EQ(ListOf(pool::CurrentWorker()->pool->attrs().pod), "2-3");
    });
    ASSERT_TRUE(Engine::Queue(bound, a, cpu));
    ASSERT_TRUE(Engine::Queue(unbound, b, cpu));
    WaitRuns(a, 1);
    WaitRuns(b, 1);
  }
  // Node 1 is the same slot as it would have been with all CPUs.
  EXPECT_EQ(unbound->nodes[0].count.max() + unbound->nodes[1].count.max(), 28);
  ASSERT_EQ(e.Cpus("0-3"), 0);
  EXPECT_EQ(unbound->nodes[0].count.max(), 10);
  EXPECT_EQ(unbound->nodes[1].count.max(), 10);
  EXPECT_NE(unbound->PwqFor(0)->pool, unbound->PwqFor(2)->pool);
  e.Destroy(bound);
  e.Destroy(unbound);
}

// A queue that was made while a CPU was away, and one that is frozen, get their halves when it comes.
TEST(Cpus, QueuesGetAHalfForACpuThatComes) {
  FakeSysfs sys;
  sys.Server(1, 2, 1);
  sys.Write("cpu/possible", "0-1");
  Engine& e = Engine::Make(1, nullptr, sys.root());
  wq::Workqueue* const wq = e.Alloc(CMWQ_FREEZABLE | CMWQ_MEM_RECLAIM, 3);
  EXPECT_EQ(wq->PwqFor(1), nullptr);
  SetFrozen(wq, true);
  ASSERT_EQ(e.Cpus("0-1"), 0);
  Item item;
  ASSERT_TRUE(Engine::Queue(wq, item, 1));
  EXPECT_EQ(NrInactive(wq, 1), 1);
  SetFrozen(wq, false);
  WaitRuns(item, 1);
  EXPECT_EQ(wq->PwqFor(1)->rescuer, wq->rescuer);
  wq::FlushWorkqueue(wq);
  e.Destroy(wq);
}

// A CPU that cannot be had after all stays out, and its workers where they are.
TEST(Cpus, ACpuThatCannotBeHadStaysOut) {
  Engine& e = Engine::Make(2);
  Places places(e);
  wq::Workqueue* const wq = e.Alloc();
  Item item;
  ASSERT_TRUE(Engine::Queue(wq, item, 1));
  WaitRuns(item, 1);
  Engine::WaitIdle(e.Pool(1));
  ASSERT_EQ(e.Cpus("0"), 0);
  places.answer = -EINVAL;
  EXPECT_EQ(e.Cpus("0-1"), EAGAIN);
  EXPECT_FALSE(e.table.Usable(1));
  EXPECT_TRUE(e.Pool(1).disassociated());
  EXPECT_TRUE(PoolTestPeer::AllFlags(e.Pool(1), WorkerFlag::kUnbound));
  places.answer = 0;
  EXPECT_EQ(e.Cpus("0-1"), 0);
  EXPECT_TRUE(e.table.Usable(1));
  // None that is allowed can be had: what there is serves on.
  ASSERT_EQ(e.Cpus("0"), 0);
  places.answer = -EINVAL;
  EXPECT_EQ(e.Cpus("1"), EAGAIN);
  EXPECT_TRUE(e.table.Usable(0));
  e.Destroy(wq);
}

// Somebody has set the affinity of every thread (taskset -a), and the CPUs are the same as before.
TEST(Cpus, WorkersArePlacedAgainWithoutAChange) {
  Engine& e = Engine::Make(2);
  Places places(e);
  wq::Workqueue* const bound = e.Alloc();
  wq::Workqueue* const unbound = e.Alloc(CMWQ_UNBOUND);
  Busy a, b;
  ASSERT_TRUE(Engine::Queue(bound, a.item, 1));
  ASSERT_TRUE(Engine::Queue(unbound, b.item, 1));
  a.started.Wait();
  b.started.Wait();
  ASSERT_EQ(e.Cpus("0-1"), 0);
  EXPECT_EQ(places.Of(a.tid), "1");
  EXPECT_EQ(places.Of(b.tid), "0-1");
  a.end.Open();
  b.end.Open();
  wq::FlushWorkqueue(bound);
  wq::FlushWorkqueue(unbound);
  e.Destroy(bound);
  e.Destroy(unbound);
}

// Unbound queues are mapped to what is left; where a pool cannot have a worker, the one of all CPUs serves.
TEST(Cpus, UnboundQueuesFallBackToTheirDefaultPool) {
  FakeSysfs sys;
  sys.Server(2, 2, 1);
  Engine& e = Engine::Make(4, nullptr, sys.root());
  wq::Workqueue* const wq = e.Alloc(CMWQ_UNBOUND);
  wq::WqAttrs attrs;
  attrs.mask = CpuSet::First(4);
  attrs.scope = platform::Scope::kCpu;
  attrs.strict = true;
  ASSERT_EQ(wq::ApplyAttrs(wq, attrs), 0);
  ASSERT_EQ(e.Cpus("0-2"), 0);
  EXPECT_EQ(ListOf(wq->PwqFor(1)->pool->attrs().pod), "1");
  EXPECT_EQ(ListOf(wq->PwqFor(3)->pool->attrs().pod), "0-2");
  // One thread can be made, for the default pool of the new set; none for that of the CPU that is back.
  int left = 1;
  e.env.before_create = [&] {
    if (--left < 0) e.env.fail_next = 1;
  };
  ASSERT_EQ(e.Cpus("0-1,3"), 0);
  EXPECT_EQ(ListOf(wq->PwqFor(3)->pool->attrs().pod), "0-1,3");
  e.env.before_create = nullptr;
  for (int cpu = 0; cpu < 4; ++cpu) {
    Item item;
    ASSERT_TRUE(Engine::Queue(wq, item, cpu));
    WaitRuns(item, 1);
  }
  // Not even that one: the queue keeps what it has.
  e.env.fail_next = INT_MAX;
  EXPECT_EQ(e.Cpus("1,3"), EAGAIN);
  Item item;
  ASSERT_TRUE(Engine::Queue(wq, item, 1));
  WaitRuns(item, 1);
  e.env.fail_next = 0;
  e.Destroy(wq);
}

// An ordered queue keeps its order over changes, and a queue may be destroyed while its items drain.
TEST(Cpus, OrderAndDestructionOverChanges) {
  Engine& e = Engine::Make(2);
  wq::Workqueue* const ordered = e.Alloc(0, 0, true);
  wq::Workqueue* const bound = e.Alloc(0, 1);
  Trace trace;
  Held first, slow;
  Named more(&trace, 6), behind(&trace, 2, "b");
  ASSERT_TRUE(Engine::Queue(ordered, first.item));
  first.started.Wait();
  for (int i = 0; i < more.size(); ++i) {
    ASSERT_TRUE(Engine::Queue(ordered, more[i], i % 2));
    ASSERT_EQ(e.Cpus(i % 2 == 0 ? "0" : "0-1"), 0);
  }
  first.end.Open();
  more.WaitAll();
  EXPECT_EQ(trace.Text(), "0 1 2 3 4 5");
  ASSERT_TRUE(Engine::Queue(bound, slow.item, 1));
  slow.started.Wait();
  behind.Queue(bound, 1);
  ASSERT_EQ(e.Cpus("0"), 0);
  std::thread destroyer([&] { e.Destroy(bound); });
  slow.end.Open();
  destroyer.join();
  EXPECT_EQ(behind.Ran(), 2);
  e.Destroy(ordered);
}

// The leak check does not take the engine's own moves for the item's.
TEST(Cpus, MovesDuringAnItemAreNoLeak) {
  Engine& e = Engine::Make(2, [](base::Conf* conf) { conf->leak_check = 1; });
  CpuSet all;
  ASSERT_EQ(all.LoadAffinity(0), 0);
  if (all.Count() < 2) GTEST_SKIP() << "needs two CPUs";
  const int there = all.Next(all.Next(0) + 1);
  e.env.on_place = [there](int tid, const CpuSet&) { return CpuSet::Of(there).StoreAffinity(tid); };
  wq::Workqueue* const wq = e.Alloc();
  Busy busy;
  ASSERT_TRUE(Engine::Queue(wq, busy.item, 1));
  busy.started.Wait();
  LogCapture log;
  ASSERT_EQ(e.Cpus("0"), 0);
  busy.end.Open();
  WaitRuns(busy.item, 1);
  Engine::WaitIdle(e.Pool(1));
  EXPECT_TRUE(log.Take().empty());
  e.env.on_place = nullptr;
  e.Destroy(wq);
}

}  // namespace
}  // namespace cmwq::test
