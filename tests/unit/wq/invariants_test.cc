// Each checker is seen to fail: the structure is broken by hand, named, and mended, all under the lock.

#include "runtime/pool/invariants.h"

#include <gtest/gtest.h>

#include <string>

#include "runtime/wq/work_word.h"
#include "tests/support/fake_env.h"

namespace cmwq::test {
namespace {

using pool::Worker;
using wq::Word;

// One CPU. Items a and b run and wait, c and d are on the worklist, e waits for a slot of its own queue.
class InvariantsTest : public ::testing::Test {
 protected:
  InvariantsTest() {
    EXPECT_TRUE(Engine::Queue(wq, a));
    a_in.Wait();
    EXPECT_TRUE(Engine::Queue(wq, b));
    EXPECT_TRUE(Engine::Queue(narrow, n));
    n_in.Wait();
    EXPECT_TRUE(Engine::Queue(narrow, e_item));
    // The last one counts as running: what is queued from now on stays on the worklist.
    EXPECT_TRUE(Engine::Queue(wq, busy));
    busy_in.Wait();
    EXPECT_TRUE(Engine::Queue(wq, c));
    EXPECT_TRUE(Engine::Queue(wq, d));
    Eventually([this] { return e.Pool().Stats().nr_idle >= 1; });
  }
  ~InvariantsTest() override {
    go.Open();
    wq::FlushWorkqueue(wq);
    wq::FlushWorkqueue(narrow);
    Engine::WaitIdle(p);
    e.Destroy(wq);
    e.Destroy(narrow);
  }

  // What is found while `value` is `wrong`; nothing before and after.
  template <class T, class U>
  void ExpectNamedAt(const char* name, T& value, U wrong) {
    const T right = value;
    ExpectNamed(name, [&] { value = static_cast<T>(wrong); }, [&] { value = right; });
  }
  template <class Break, class Mend>
  void ExpectNamed(const char* name, Break destroy, Mend mend) {
    sync::MutexLock hold(p.lock);
    ASSERT_STREQ(pool::Inspector::Broken(&p), nullptr);
    destroy();
    const char* const found = pool::Inspector::Broken(&p);
    mend();
    ASSERT_STREQ(pool::Inspector::Broken(&p), nullptr);
    ASSERT_NE(found, nullptr) << name << " was not noticed";
    EXPECT_EQ(std::string(found).substr(0, std::string(name).size()), name) << found;
  }
  Worker* Runs(Item& item) {
    sync::MutexLock hold(p.lock);
    return PoolTestPeer::Executing(p, item.work());
  }
  Worker* Idle() {
    sync::MutexLock hold(p.lock);
    return base::ListOwner<Worker>(PoolTestPeer::IdleList(p).front(), offsetof(Worker, entry));
  }
  wq::Pwq* PwqOf(wq::Workqueue* q) { return q->PwqFor(0); }

  Engine& e = Engine::Make(1);
  pool::WorkerPool& p = e.Pool();
  wq::Workqueue* const wq = e.Alloc();
  wq::Workqueue* const narrow = e.Alloc(0, 1);
  Gate go, a_in, n_in, busy_in;
  Item a{[this] { a_in.Open(), go.WaitAnnounced(); }};
  Item b{[this] { go.WaitAnnounced(); }};
  Item n{[this] { n_in.Open(), go.WaitAnnounced(); }};
  Item e_item;
  Item busy{[this] { busy_in.Open(), go.Wait(); }};
  Item c, d;
};

TEST_F(InvariantsTest, I1WorkersAreInOneState) {
  Worker* const idle = Idle();
  Worker* const runs = Runs(busy);
  ExpectNamedAt("I1: nr_idle", PoolTestPeer::NrIdle(p), 0);
  ExpectNamedAt("I1: on the idle list, but not idle", idle->idle, false);
  ExpectNamedAt("I1: nr_workers", PoolTestPeer::NrWorkers(p), 40);
  ExpectNamedAt("I1: idle and busy", idle->current_work, c.work());
  ExpectNamed("I1: busy, but not in the busy hash", [&] { PoolTestPeer::HashRemove(p, runs); },
              [&] { PoolTestPeer::HashInsert(p, runs); });
  ExpectNamedAt("I1: in the busy hash without an item", runs->current_work, nullptr);
  ExpectNamed("I1: idle, but not on the idle list",
              [&] {
                base::ListUnlink(&idle->entry);
                --PoolTestPeer::NrIdle(p);
              },
              [&] {
                PoolTestPeer::IdleList(p).PushFront(&idle->entry);
                ++PoolTestPeer::NrIdle(p);
              });
}

TEST_F(InvariantsTest, I2NoMoreRunThanAreNotIdle) {
  pool::Concurrency& conc = PoolTestPeer::Conc(p);
  ExpectNamed("I2: more run", [&] { conc.Repair(20); }, [&] { conc.Repair(-20); });
  Worker* const idle = Idle();
  ExpectNamed("I2: an idle worker counts",
              [&] { conc.ClearFlags(*idle->word, pool::WorkerFlag::kPrep); },
              [&] { conc.SetFlags(*idle->word, pool::WorkerFlag::kPrep); });
}

TEST_F(InvariantsTest, I4TheManagerHasTheRole) {
  ExpectNamedAt("I4: ", PoolTestPeer::Manager(p), Idle());
}

TEST_F(InvariantsTest, I8AnIdleWorkerHasNothing) {
  Worker* const idle = Idle();
  ExpectNamed("I8: ",
              [&] {
                base::ListUnlink(&d.work()->entry_);
                idle->scheduled.PushBack(&d.work()->entry_);
              },
              [&] {
                base::ListUnlink(&d.work()->entry_);
                PoolTestPeer::Worklist(p).PushBack(&d.work()->entry_);
              });
}

TEST_F(InvariantsTest, I9NobodyIsToldToExitAtWork) {
  ExpectNamedAt("I9: ", Runs(busy)->die, true);
  ExpectNamedAt("I9: ", Idle()->die, true);
}

TEST_F(InvariantsTest, P1ThePendingAreCounted) {
  ExpectNamedAt("P1: nr_pending", PoolTestPeer::NrPending(p), 0u);
  pool::Concurrency& conc = PoolTestPeer::Conc(p);
  ExpectNamed("P1: what sleepers see", [&] { conc.LowerPending(1); }, [&] { conc.LowerPending(2); });
}

TEST_F(InvariantsTest, L1L2TheWordSaysWhereTheItemIs) {
  uint64_t& word = c.work()->word_;
  ExpectNamedAt("L1: ", word, word & ~Word::kPending);
  ExpectNamedAt("L1: ", word, word | Word::kTimer);
  ExpectNamedAt("L2: ", word, word & ~Word::kQueued);
  ExpectNamedAt("L2: ", word, (word & ~Word::kPoolMask) | uint64_t{1} << Word::kPoolShift);
  ExpectNamedAt("L2: item of another pool", c.work()->pwq_, nullptr);
}

TEST_F(InvariantsTest, L4AnItemRunsOnce) {
  // Both are in the bucket of the item that they execute.
  Worker* const v = Runs(a);
  Worker* const w = Runs(b);
  ExpectNamed("L4: ",
              [&] {
                PoolTestPeer::HashRemove(p, w);
                v->current_fresh = w->current_fresh = false;  // a fresh one would be another item
                w->current_work = a.work();
                PoolTestPeer::HashInsert(p, w);
                ASSERT_EQ(v->current_fn, w->current_fn);
              },
              [&] {
                PoolTestPeer::HashRemove(p, w);
                w->current_work = b.work();
                PoolTestPeer::HashInsert(p, w);
              });
}

TEST_F(InvariantsTest, I11SlotsAreCounted) {
  ExpectNamedAt("I11: ", PwqOf(wq)->nr_active, 0);
  ExpectNamedAt("I11: ", PwqOf(narrow)->nr_active, 2);
}

TEST_F(InvariantsTest, I12NobodyWaitsForAFreeSlot) {
  ExpectNamedAt("I12: ", PwqOf(narrow)->max_active, 2);
}

TEST_F(InvariantsTest, I13InactiveMeansOnTheInactiveList) {
  ExpectNamedAt("I13: ", c.work()->word_, c.work()->word_ | Word::kInactive);
  ExpectNamedAt("I13: ", e_item.work()->word_, e_item.work()->word_ & ~Word::kInactive);
}

TEST_F(InvariantsTest, I14ColoursAreCounted) {
  wq::Pwq* const pwq = PwqOf(wq);
  ExpectNamedAt("I14: nr_in_flight of a colour", pwq->nr_in_flight[pwq->colour], 1);
  ExpectNamedAt("I14: nr_in_flight", pwq->nr_in_flight[pwq->colour], 9);
}

TEST_F(InvariantsTest, I15ABarrierFollowsALinkedItem) {
  // Last on the list, and before an ordinary item.
  ExpectNamedAt("I15: nothing behind", d.work()->word_, d.work()->word_ | Word::kLinked);
  ExpectNamedAt("I15: no barrier behind", c.work()->word_, c.work()->word_ | Word::kLinked);
}

TEST_F(InvariantsTest, I16OneItemOfAnOrderedQueueRuns) {
  // Three items of `wq` run: as if it were an ordered queue.
  ExpectNamedAt("I16: ", const_cast<bool&>(wq->ordered), true);
}

#if defined(CMWQ_DEBUG)
TEST(InvariantsDeathTest, I10ABusyQueueIsNotFreed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Engine& e = Engine::Make(1);
        wq::Workqueue* const wq = e.Alloc();
        wq->PwqFor(0)->nr_active = 1;
        wq::FreeWorkqueue(wq);
      },
      "WorkqueueEmpty");
}
#endif

// The wrapper ends the process, and says where.
TEST(InvariantsDeathTest, CheckInvariantsNamesWhatIsBroken) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Engine& e = Engine::Make(1);
        PoolTestPeer::NrIdle(e.Pool()) = 3;
        e.Pool().CheckInvariants();
      },
      "CheckInvariants: I1: nr_idle");
}

// A flush barrier and what it follows are consistent at every stage, waiting, queued or running.
TEST_F(InvariantsTest, BarriersAreConsistent) {
  std::atomic<int> returned{0};
  pthread_t flushers[3];
  Item* const items[] = {&c, &e_item, &busy};
  struct Flusher {
    Engine* engine;
    Item* item;
    std::atomic<int>* returned;
  } arguments[3];
  for (int i = 0; i < 3; ++i) {
    arguments[i] = {&e, items[i], &returned};
    pthread_create(&flushers[i], nullptr, [](void* arg) -> void* {
      Flusher* const f = static_cast<Flusher*>(arg);
      f->engine->Flush(*f->item);
      f->returned->fetch_add(1);
      return nullptr;
    }, &arguments[i]);
  }
  const auto in_flight = [this] {
    sync::MutexLock hold(p.lock);
    return PwqOf(wq)->nr_in_flight[0] + PwqOf(narrow)->nr_in_flight[0];
  };
  Eventually([&] { return in_flight() == 10; });  // seven items, three barriers
  p.CheckInvariants();
  EXPECT_EQ(wq::BrokenInvariant(wq), nullptr);
  EXPECT_EQ(wq::BrokenInvariant(narrow), nullptr);
  go.Open();
  for (pthread_t flusher : flushers) pthread_join(flusher, nullptr);
  EXPECT_EQ(returned, 3);
}

}  // namespace
}  // namespace cmwq::test
