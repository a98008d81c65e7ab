// Fork: the child starts afresh, the parent does not notice.

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

#include "runtime/core/runtime.h"
#include "tests/support/child.h"
#include "tests/support/gate.h"
#include "tests/support/quiet.h"

#if defined(CMWQ_TEST_TSAN)
// The child of a process with threads starts threads of its own: that is what is tested.
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }
#endif

namespace cmwq::test {
namespace {

struct Queues {
  Queues()
      : plain(cmwq_alloc_workqueue("plain", 0, 0)),
        one(cmwq_alloc_workqueue("one", 0, 1)),
        reclaim(cmwq_alloc_workqueue("reclaim", CMWQ_MEM_RECLAIM, 0)),
        unbound(cmwq_alloc_workqueue("unbound", CMWQ_UNBOUND, 4)) {}
  template <class F>
  void ForEach(F visit) {
    for (struct cmwq_workqueue* wq : {plain, one, reclaim, unbound}) visit(wq);
  }
  struct cmwq_workqueue* const plain;
  struct cmwq_workqueue* const one;
  struct cmwq_workqueue* const reclaim;
  struct cmwq_workqueue* const unbound;
};

// In the child: everything works on the queues of the parent and on new ones.
void UseEverything(Queues& queues) {
  struct cmwq_workqueue* const fresh = cmwq_alloc_workqueue("fresh", CMWQ_MEM_RECLAIM, 1);
  CHILD_CHECK(fresh != nullptr);
  queues.ForEach([](struct cmwq_workqueue* wq) {
    Item items[5];
    for (Item& item : items) CHILD_CHECK(cmwq_queue_work(wq, item.work()));
    cmwq_flush_workqueue(wq);
    for (Item& item : items) CHILD_CHECK(item.Runs() == 1);
    Gate done;
    Item late([&done] { done.Open(); });
    CHILD_CHECK(cmwq_queue_delayed_work(wq, &late.d, base::kNsPerMs));
    done.Wait();
    cmwq_flush_work(late.work());
  });
  Item item;
  CHILD_CHECK(cmwq_queue_work(fresh, item.work()));
  cmwq_flush_work(item.work());
  CHILD_CHECK(item.Runs() == 1);
  cmwq_destroy_workqueue(fresh);
}

class ForkTest : public ::testing::Test {
 protected:
  // Leaves more idle workers than are kept: the culling timer is armed at the fork.
  void SetUp() override {
    Gate gate;
    std::atomic<int> started{0};
    std::vector<Item*> items;
    for (int i = 0; i < 5; ++i) {
      items.push_back(new Item([&] {
        started.fetch_add(1);
        gate.WaitAnnounced();
      }));
      cmwq_queue_work_on(FirstCpu(), queues.plain, items.back()->work());
    }
    Eventually([&] { return started == 5; });
    gate.Open();
    cmwq_flush_workqueue(queues.plain);
    for (Item* const item : items) delete item;
    AwaitOthersAsleep();
  }
  void TearDown() override {
    queues.ForEach([](struct cmwq_workqueue* wq) { cmwq_destroy_workqueue(wq); });
  }
  int FirstCpu() { return core::Runtime::Get().pools()->cpus().Next(0); }
  Queues queues;
};

TEST_F(ForkTest, TheChildStartsAfresh) {
  Gate started, go;
  Item running([&] {
    started.Open();
    go.Wait();
  });
  std::vector<Item*> waiting;
  Item later;
  cmwq_queue_work_on(FirstCpu(), queues.one, running.work());
  started.Wait();
  for (int i = 0; i < 4; ++i) {
    waiting.push_back(new Item);
    cmwq_queue_work_on(FirstCpu(), i % 2 == 0 ? queues.one : queues.plain, waiting.back()->work());
  }
  Item again;  // re-queued while it runs: on the private list of its worker
  cmwq_queue_work_on(FirstCpu(), queues.one, running.work());
  cmwq_queue_delayed_work(queues.reclaim, &later.d, 3600 * base::kNsPerSec);

  AwaitOthersAsleep();
  EXPECT_EQ(0, InChild([&] {
    CHILD_CHECK(cmwq_work_busy(running.work()) == 0);
    CHILD_CHECK(cmwq_work_busy(later.work()) == 0);
    CHILD_CHECK(!cmwq_cancel_delayed_work_sync(&later.d));
    CHILD_CHECK(!cmwq_flush_work(running.work()));
    for (Item* const item : waiting) {
      CHILD_CHECK(cmwq_work_busy(item->work()) == 0);
      const int runs = item->Runs();
      CHILD_CHECK(cmwq_queue_work(queues.one, item->work()));
      CHILD_CHECK(cmwq_flush_work(item->work()) || item->Runs() == runs + 1);
    }
    UseEverything(queues);
  }));

  EXPECT_NE(cmwq_work_busy(later.work()), 0u);
  EXPECT_TRUE(cmwq_cancel_delayed_work_sync(&later.d));
  go.Open();
  queues.ForEach([](struct cmwq_workqueue* wq) { cmwq_flush_workqueue(wq); });
  EXPECT_EQ(running.Runs(), 2);
  for (Item* const item : waiting) {
    EXPECT_EQ(item->Runs(), 1);
    delete item;
  }
}

TEST_F(ForkTest, QueuesCanBeDestroyedUnused) {
  EXPECT_EQ(0, InChild([&] {
    queues.ForEach([](struct cmwq_workqueue* wq) { cmwq_destroy_workqueue(wq); });
    struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("new", CMWQ_MEM_RECLAIM, 0);
    Item item;
    CHILD_CHECK(cmwq_queue_work(wq, item.work()));
    cmwq_destroy_workqueue(wq);
    CHILD_CHECK(item.Runs() == 1);
  }));
}

TEST_F(ForkTest, GrandchildrenToo) {
  EXPECT_EQ(0, InChild([&] {
    CHILD_CHECK(InChild([&] { UseEverything(queues); }) == 0);
    UseEverything(queues);
    AwaitOthersAsleep();
    CHILD_CHECK(InChild([&] { UseEverything(queues); }) == 0);
  }));
  Item item;
  EXPECT_TRUE(cmwq_queue_work(queues.plain, item.work()));
  cmwq_flush_workqueue(queues.plain);
  EXPECT_EQ(item.Runs(), 1);
}

// Brings the pool that serves `wq` from the first CPU to `workers` workers and a spare.
void Populate(struct cmwq_workqueue* wq, int cpu, int workers) {
  Gate gate;
  std::atomic<int> started{0};
  std::vector<std::unique_ptr<Item>> items;
  for (int i = 0; i < workers; ++i) {
    items.push_back(std::make_unique<Item>([&] {
      started.fetch_add(1);
      gate.WaitAnnounced();
    }));
    EXPECT_TRUE(cmwq_queue_work_on(cpu, wq, items.back()->work()));
  }
  Eventually([&] { return started == workers; });
  gate.Open();
  cmwq_flush_workqueue(wq);
}

TEST_F(ForkTest, WhileManyThreadsQueue) {
  // A sanitizer's own locks do not survive a fork in the middle of a thread creation or an allocation,
  // as libc's do. So nobody makes a thread or allocates below while a fork may come: all is queued on
  // one CPU, whose pools have more workers than there are items and barriers at a time, and the
  // first fork waits until every thread here is past its own beginning.
  constexpr int kThreads = 8;
  const int cpu = FirstCpu();
  struct cmwq_workqueue* const wide = cmwq_alloc_workqueue("wide", CMWQ_UNBOUND, 0);
  Populate(queues.plain, cpu, 2 * kThreads);
  Populate(wide, cpu, 2 * kThreads);  // the pool is that of queues.unbound
  cmwq_destroy_workqueue(wide);
  AwaitOthersAsleep();
  std::atomic<bool> stop{false}, pause{false};
  std::vector<std::thread> threads;
  std::atomic<int> ready{0};
  std::atomic<uint64_t> queued{0}, ran{0};
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Item item([&ran] { ran.fetch_add(1); });
      struct cmwq_workqueue* const all[] = {queues.plain, queues.one, queues.reclaim,
                                            queues.unbound};
      struct cmwq_workqueue* const wq = all[t % 4];
      ready.fetch_add(1);
      for (int i = 0; !stop; ++i) {
        if (pause) Eventually([&pause] { return !pause; });
        if (t < 4) {
          if (cmwq_queue_work_on(cpu, wq, item.work())) queued.fetch_add(1);
        } else if (cmwq_queue_delayed_work_on(cpu, wq, &item.d, 1000)) {
          queued.fetch_add(1);
          cmwq_flush_delayed_work(&item.d);
        }
        if (i % 64 == 0) cmwq_flush_workqueue(wq);
      }
      cmwq_flush_work(item.work());
    });
  }
  Eventually([&ready] { return ready == kThreads; });
  for (int round = 0; round < 20; ++round) {
    const uint64_t before = ran;
    Eventually([&] { return ran > before + 100; });
    const pid_t pid = fork();
    if (pid == 0) {
      alarm(kChildSeconds);
      UseEverything(queues);
      _exit(0);
    }
    pause = true;  // the child needs the CPU, not the parent
    EXPECT_EQ(WaitFor(pid), 0) << "round " << round;
    pause = false;
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  queues.ForEach([](struct cmwq_workqueue* wq) { cmwq_flush_workqueue(wq); });
  EXPECT_EQ(queued, ran);
}

TEST_F(ForkTest, InsideAWorkFunction) {
  int status = -1;
  Item item([&] {
    status = InChild([&] {
      CHILD_CHECK(cmwq_current_work() == nullptr);
      UseEverything(queues);
    });
  });
  ASSERT_TRUE(cmwq_queue_work_on(FirstCpu(), queues.plain, item.work()));  // it has a spare
  cmwq_flush_work(item.work());
  EXPECT_EQ(status, 0);
}

// Forbidden, and told so instead of going on as a worker of nothing.
TEST_F(ForkTest, ReturningInTheChildEndsIt) {
  ChildResult result;
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  pid_t pid = 0;
  Item item([&] {
    pid = fork();
    if (pid == 0) dup2(ends[1], 2);
  });
  ASSERT_TRUE(cmwq_queue_work_on(FirstCpu(), queues.plain, item.work()));  // it has a spare
  cmwq_flush_work(item.work());
  EXPECT_EQ(WaitFor(pid), 1);
  close(ends[1]);
  char text[256] = {};
  EXPECT_GT(read(ends[0], text, sizeof(text) - 1), 0);
  EXPECT_NE(std::string(text).find("must call exec or _exit"), std::string::npos) << text;
  close(ends[0]);
}

}  // namespace
}  // namespace cmwq::test
