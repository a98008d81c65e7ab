// Items that wait for items and queues: what must be reported, what must not.

#include "runtime/wq/dependency.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>

#include "tests/support/fake_env.h"
#include "tests/support/log_capture.h"

namespace cmwq::test {
namespace {

std::string Joined(LogCapture& log) {
  std::string all;
  for (const std::string& line : log.Take()) all += line;
  return all;
}
bool Has(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

#if defined(CMWQ_TEST_POINTS)  // set together with CMWQ_DEBUG
constexpr bool kGraph = true;
#else
constexpr bool kGraph = false;
#endif

class DependencyTest : public ::testing::Test {
 protected:
  void RunToEnd(wq::Workqueue* wq, Item& item) {
    ASSERT_TRUE(Engine::Queue(wq, item));
    Eventually([&] { return item.Runs() == 1; });
  }
  LogCapture log_;
  Engine& e_ = Engine::Make(1);
};

TEST_F(DependencyTest, AReclaimQueueWaitsForOneWithout) {
  wq::Workqueue* const reclaim = e_.Alloc(CMWQ_MEM_RECLAIM);
  wq::Workqueue* const plain = e_.Alloc();
  Item by_queue([&] { wq::FlushWorkqueue(plain); });
  RunToEnd(reclaim, by_queue);
  const std::string said = Joined(log_);
  EXPECT_TRUE(Has(said, "CMWQ_MEM_RECLAIM: dependency_test")) << said;
  EXPECT_TRUE(Has(said, " waits for queue test, which has no rescuer")) << said;
  // Once per pair.
  Item again([&] { wq::FlushWorkqueue(plain); });
  RunToEnd(reclaim, again);
  EXPECT_FALSE(Has(Joined(log_), "CMWQ_MEM_RECLAIM"));
  e_.Destroy(reclaim);
  e_.Destroy(plain);
}

TEST_F(DependencyTest, AnItemOfAReclaimQueueWaitsForAnItemWithout) {
  wq::Workqueue* const reclaim = e_.Alloc(CMWQ_MEM_RECLAIM);
  wq::Workqueue* const plain = e_.Alloc();
  Gate started, stop;
  Item slow([&] {
    started.Open();
    stop.WaitAnnounced();
  });
  Item waits([&] { e_.Flush(slow); });
  ASSERT_TRUE(Engine::Queue(plain, slow));
  started.Wait();
  ASSERT_TRUE(Engine::Queue(reclaim, waits));
  Eventually([&] { return e_.Pool().Stats().nr_running == 0 && e_.Pool().Stats().sleeps >= 2; });
  stop.Open();
  Eventually([&] { return waits.Runs() == 1; });
  EXPECT_TRUE(Has(Joined(log_), "CMWQ_MEM_RECLAIM"));
  e_.Destroy(reclaim);
  e_.Destroy(plain);
}

TEST_F(DependencyTest, CancellationsAreExempt) {
  wq::Workqueue* const reclaim = e_.Alloc(CMWQ_MEM_RECLAIM);
  wq::Workqueue* const plain = e_.Alloc();
  Gate started, stop;
  Item slow([&] {
    started.Open();
    stop.WaitAnnounced();
  });
  Item cancels([&] { e_.CancelSync(slow); });
  ASSERT_TRUE(Engine::Queue(plain, slow));
  started.Wait();
  ASSERT_TRUE(Engine::Queue(reclaim, cancels));
  Eventually([&] { return e_.Pool().Stats().nr_running == 0 && e_.Pool().Stats().sleeps >= 2; });
  stop.Open();
  Eventually([&] { return cancels.Runs() == 1; });
  EXPECT_EQ(Joined(log_), "");
  e_.Destroy(reclaim);
  e_.Destroy(plain);
}

TEST_F(DependencyTest, FromOutsideNothingIsChecked) {
  wq::Workqueue* const plain = e_.Alloc();
  Item item;
  ASSERT_TRUE(Engine::Queue(plain, item));
  wq::FlushWorkqueue(plain);
  EXPECT_EQ(Joined(log_), "");
  e_.Destroy(plain);
}

// Two items that wait for each other.
TEST_F(DependencyTest, ACycleOfTwoItemsIsToldWhenItHappens) {
  wq::Workqueue* const a = e_.Alloc();
  wq::Workqueue* const b = e_.Alloc();
  static Item* x;
  static Item* y;
  Gate both;
  // Leaked with their workers: this deadlock is real.
  x = new Item([&, this] {
    both.WaitAnnounced();
    e_.Flush(*y);
  });
  y = new Item([&, this] {
    both.WaitAnnounced();
    e_.Flush(*x);
  });
  ASSERT_TRUE(Engine::Queue(a, *x));
  ASSERT_TRUE(Engine::Queue(b, *y));
  Eventually([&] { return e_.Pool().Stats().sleeps >= 2; });
  both.Open();
  std::string said;
  Eventually([&] {
    said += Joined(log_);
    return Has(said, "deadlock: 2 items wait for each other") &&
           said.find(" waits for ") != said.rfind(" waits for ");
  });
  EXPECT_TRUE(Has(said, "of queue test")) << said;
}

TEST_F(DependencyTest, AChainIsNoCycle) {
  wq::Workqueue* const wq = e_.Alloc();
  Gate stop;
  Item last([&] { stop.WaitAnnounced(); });
  Item middle([&] { e_.Flush(last); });
  Item first([&] { e_.Flush(middle); });
  for (Item* item : {&last, &middle, &first}) ASSERT_TRUE(Engine::Queue(wq, *item));
  Eventually([&] { return e_.Pool().Stats().sleeps >= 3; });
  stop.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(first.Runs(), 1);
  EXPECT_FALSE(Has(Joined(log_), "deadlock"));
  e_.Destroy(wq);
}

// A flush waits for what was queued before it: a later item of that queue may wait for the flusher.
TEST_F(DependencyTest, AnItemQueuedAfterTheFlushMayWaitForTheFlusher) {
  wq::Workqueue* const flushed = e_.Alloc();
  wq::Workqueue* const other = e_.Alloc();
  Gate stop;
  Item before([&] { stop.WaitAnnounced(); });
  Item flusher([&] { wq::FlushWorkqueue(flushed); });
  Item after([&] { e_.Flush(flusher); });
  const uint64_t sleeps = e_.Pool().Stats().sleeps;
  ASSERT_TRUE(Engine::Queue(flushed, before));
  ASSERT_TRUE(Engine::Queue(other, flusher));
  Eventually([&] { return e_.Pool().Stats().sleeps == sleeps + 2; });  // the flush has begun
  ASSERT_TRUE(Engine::Queue(flushed, after));
  Eventually([&] { return e_.Pool().Stats().sleeps == sleeps + 3; });
  EXPECT_FALSE(Has(Joined(log_), "items wait for each other"));
  stop.Open();
  wq::FlushWorkqueue(flushed);
  EXPECT_EQ(after.Runs(), 1);
  e_.Destroy(flushed);
  e_.Destroy(other);
}

// The other way round it is one: the flush covers the item that waits for the flusher.
TEST_F(DependencyTest, AFlushThatCoversTheItemIsACycle) {
  wq::Workqueue* const flushed = e_.Alloc();
  wq::Workqueue* const other = e_.Alloc();
  static Item* flusher;
  Gate go_on;
  // Leaked with their workers: this deadlock is real.
  Item* const waits = new Item([&, this] {
    go_on.WaitAnnounced();
    e_.Flush(*flusher);
  });
  flusher = new Item([=] { wq::FlushWorkqueue(flushed); });
  ASSERT_TRUE(Engine::Queue(flushed, *waits));
  Eventually([&] { return e_.Pool().Stats().sleeps == 1; });
  ASSERT_TRUE(Engine::Queue(other, *flusher));
  Eventually([&] { return e_.Pool().Stats().sleeps == 2; });  // the flush has begun
  go_on.Open();
  std::string said;
  Eventually([&] {
    said += Joined(log_);
    return Has(said, "deadlock: 2 items wait for each other") && Has(said, "waits for queue test");
  });
}

// The limit was lowered while both were running: the other one needs no slot any more.
TEST_F(DependencyTest, ALoweredLimitIsNoDeadlock) {
  wq::Workqueue* const wq = e_.Alloc(0, 2);
  Gate lowered, stop;
  Item other([&] { stop.WaitAnnounced(); });
  Item waits([&] {
    lowered.WaitAnnounced();
    e_.Flush(other);
  });
  ASSERT_TRUE(Engine::Queue(wq, other));
  ASSERT_TRUE(Engine::Queue(wq, waits));
  Eventually([&] { return e_.Pool().Stats().sleeps == 2; });
  ASSERT_TRUE(wq::SetMaxActive(wq, 1));
  lowered.Open();
  Eventually([&] { return e_.Pool().Stats().sleeps == 3; });
  EXPECT_FALSE(Has(Joined(log_), "runs one at a time"));
  stop.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(waits.Runs(), 1);
  e_.Destroy(wq);
}

struct Chains {
  static wq::WaitGraph::Class Function(uintptr_t n) {
    wq::WaitGraph::Class c;
    c.key = reinterpret_cast<const void*>(n);
    return c;
  }
  static wq::WaitGraph::Class Queue(const char* name) {
    wq::WaitGraph::Class c;
    c.key = name;
    strncpy(c.queue, name, sizeof(c.queue) - 1);
    return c;
  }
  int Add(const wq::WaitGraph::Class& a, const wq::WaitGraph::Class& b) {
    return graph->Add(a, b, chain);
  }
  std::unique_ptr<wq::WaitGraph> graph = std::make_unique<wq::WaitGraph>();
  wq::WaitGraph::Class chain[wq::WaitGraph::kMaxChain];
};

TEST(WaitGraph, FindsCyclesOnce) {
  Chains c;
  const auto a = Chains::Queue("a"), b = Chains::Queue("b");
  const auto f = Chains::Function(8), g = Chains::Function(16);
  EXPECT_EQ(c.Add(a, f), 0);
  EXPECT_EQ(c.Add(f, b), 0);
  EXPECT_EQ(c.Add(b, g), 0);
  EXPECT_EQ(c.Add(a, g), 0);
  ASSERT_EQ(c.Add(g, a), 3);  // by the shortest way
  EXPECT_EQ(c.chain[0].key, g.key);
  EXPECT_STREQ(c.chain[1].queue, "a");
  EXPECT_EQ(c.chain[2].key, g.key);
  EXPECT_EQ(c.Add(g, a), 0);
}

TEST(WaitGraph, ASelfEdgeIsACycle) {
  Chains c;
  const auto a = Chains::Queue("a");
  EXPECT_EQ(c.Add(a, a), 2);
}

TEST(WaitGraph, ForgottenQueuesAreNew) {
  Chains c;
  const auto a = Chains::Queue("a"), b = Chains::Queue("b");
  EXPECT_EQ(c.Add(a, b), 0);
  c.graph->Forget(a.key);
  EXPECT_EQ(c.Add(b, a), 0);
}

TEST(WaitGraph, FullIsSilent) {
  Chains c;
  for (uintptr_t i = 1; i <= wq::WaitGraph::kClasses; ++i) {
    EXPECT_EQ(c.Add(Chains::Function(i * 8), Chains::Function(i * 8 + 8)), 0);
  }
  const auto beyond = Chains::Function(1 << 20);
  EXPECT_EQ(c.Add(beyond, beyond), 0);
}

void WaitsForB(struct cmwq_work*);
void WaitsForA(struct cmwq_work*);
wq::Workqueue *g_a, *g_b;
void WaitsForB(struct cmwq_work*) { wq::FlushWorkqueue(g_b); }
void WaitsForA(struct cmwq_work*) { wq::FlushWorkqueue(g_a); }

// One after the other: no deadlock this time.
TEST_F(DependencyTest, QueuesThatCouldWaitForEachOther) {
  if (!kGraph) GTEST_SKIP() << "needs CMWQ_DEBUG";
  g_a = e_.Alloc();
  g_b = e_.Alloc();
  struct cmwq_work first, second;
  cmwq_work_init(&first, &WaitsForB);
  cmwq_work_init(&second, &WaitsForA);
  ASSERT_TRUE(wq::QueueWork(g_a, 0, &first));
  wq::FlushWorkqueue(g_a);
  EXPECT_EQ(Joined(log_), "");
  ASSERT_TRUE(wq::QueueWork(g_b, 0, &second));
  wq::FlushWorkqueue(g_b);
  const std::string said = Joined(log_);
  EXPECT_TRUE(Has(said, "possible deadlock")) << said;
  EXPECT_TRUE(Has(said, "queue test")) << said;
  e_.Destroy(g_a);
  e_.Destroy(g_b);
}

// An item of an ordered queue that waits for another one of it would wait for ever.
TEST_F(DependencyTest, FlushWithinAnOrderedQueue) {
  for (wq::Workqueue* const wq : {e_.Alloc(0, 0, true), e_.Alloc(0, 1)}) {
    Item second;
    Gate queued;
    Item first([&] {
      queued.WaitAnnounced();
      e_.Flush(second);
    });
    ASSERT_TRUE(Engine::Queue(wq, first));
    ASSERT_TRUE(Engine::Queue(wq, second));
    queued.Open();
    std::string said;
    Eventually([&] {
      said += Joined(log_);
      return Has(said, "of the same queue, which runs one at a time");
    });
    // The flush ends when its item is cancelled.
    e_.Cancel(second);
    wq::FlushWorkqueue(wq);
    EXPECT_EQ(first.Runs(), 1);
    e_.Destroy(wq);
  }
}

}  // namespace
}  // namespace cmwq::test
