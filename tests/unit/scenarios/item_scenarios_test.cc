// One item: its memory, its token, those who cancel it.

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>

#include <cstring>
#include <new>
#include <thread>

#include "hooks/detect/task_state.h"
#include "tests/support/log_capture.h"
#include "tests/unit/scenarios/scenario.h"

namespace cmwq::test {
namespace {

class ItemScenario : public ::testing::Test {
 protected:
  void TearDown() override {
    wq::DrainWorkqueue(wq);
    e.Destroy(wq);
    for (int cpu = 0; cpu < 2; ++cpu) {
      if (e.Pool(cpu).Stats().nr_workers > 0) Engine::WaitIdle(e.Pool(cpu));
    }
  }
  Engine& e = Engine::Make(2);
  wq::Workqueue* const wq = e.Alloc();
};

// Memory in which one object follows another at the same address.
struct Reused {
  struct Object {
    struct cmwq_work work;  // first
    Reused* home;
  };
  static Object* Of(struct cmwq_work* work) { return reinterpret_cast<Object*>(work); }
  Object* Make(cmwq_work_fn fn) {
    Object* const object = new (memory) Object{{}, this};
    cmwq_work_init(&object->work, fn);
    return object;
  }
  void Free() { memset(memory, 0xdd, sizeof(memory)); }

  alignas(Object) char memory[sizeof(Object)];
  Engine* e = nullptr;
  wq::Workqueue* wq = nullptr;
  std::atomic<int> first_runs{0}, second_runs{0}, inside{0}, most{0};
  std::atomic<bool> flushed{false};
  Gate end;
};

// 9: a function frees its item, makes another at the same address with another function, queues it and
// waits for it; no deadlock, for a busy look-up asks for address and function.
TEST_F(ItemScenario, Scenario09RecycledItemIsAnotherItem) {
  Reused r;
  r.e = &e;
  r.wq = wq;
  Reused::Object* const first = r.Make([](struct cmwq_work* work) {
    Reused* const home = Reused::Of(work)->home;
    home->Free();
    Reused::Object* const second = home->Make([](struct cmwq_work* w) {
      Reused::Of(w)->home->second_runs.fetch_add(1);
    });
    EXPECT_TRUE(wq::QueueWork(home->wq, 0, &second->work));
    home->flushed = wq::FlushWork(&second->work, &home->e->table);
    EXPECT_EQ(home->second_runs, 1);
    home->end.Open();
  });
  ASSERT_TRUE(wq::QueueWork(wq, 0, &first->work));
  r.end.Wait();
  wq::FlushWorkqueue(wq);
  EXPECT_TRUE(r.flushed);
}

// 9, the same function: cannot be told from a re-queueing of the running item; it is executed after it,
// and to wait for it from there is refused instead of waiting for ever.
TEST_F(ItemScenario, Scenario09RecycledItemWithTheSameFunctionFollows) {
  LogCapture log;
  Reused r;
  r.e = &e;
  r.wq = wq;
  static const cmwq_work_fn fn = [](struct cmwq_work* work) {
    Reused* const home = Reused::Of(work)->home;
    const int now = home->inside.fetch_add(1) + 1;
    if (now > home->most) home->most = now;
    if (home->first_runs.fetch_add(1) == 0) {
      home->Free();
      Reused::Object* const second = home->Make(fn);
      EXPECT_TRUE(wq::QueueWork(home->wq, 0, &second->work));
      EXPECT_FALSE(wq::FlushWork(&second->work, &home->e->table));
    }
    home->inside.fetch_sub(1);
  };
  ASSERT_TRUE(wq::QueueWork(wq, 0, &r.Make(fn)->work));
  wq::FlushWorkqueue(wq);
  Eventually([&] { return r.first_runs == 2; });
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(r.most, 1);
  EXPECT_EQ(log.Take().size(), 1u);
}

// 10: whoever is told "pending already" is seen by the execution that is still to come. A bounded loop;
// all orders of it are in tests/model.
TEST_F(ItemScenario, Scenario10RefusedQueuerIsSeen) {
  constexpr int kRounds = 3000, kProducers = 2;
  std::atomic<int> value[kProducers] = {}, seen[kProducers] = {};  // relaxed: the queueing orders them
  std::atomic<int> refused{0}, missed{0};
  Item item([&] {
    for (int i = 0; i < kProducers; ++i) {
      seen[i].store(value[i].load(std::memory_order_relaxed), std::memory_order_relaxed);
    }
  });
  std::vector<std::thread> producers;
  for (int i = 0; i < kProducers; ++i) {
    producers.emplace_back([&, i] {
      for (int n = 1; n <= kRounds; ++n) {
        value[i].store(n, std::memory_order_relaxed);
        if (!Engine::Queue(wq, item)) refused.fetch_add(1);
        e.Flush(item);
        if (seen[i].load(std::memory_order_relaxed) < n) missed.fetch_add(1);
      }
    });
  }
  for (std::thread& t : producers) t.join();
  EXPECT_EQ(missed, 0);
  // The refusal itself, for certain.
  Gate end;
  Item busy([&] { end.Wait(); });
  ASSERT_TRUE(Engine::Queue(wq, busy));
  ASSERT_TRUE(Engine::Queue(wq, item));
  value[0].store(kRounds + 1, std::memory_order_relaxed);
  EXPECT_FALSE(Engine::Queue(wq, item));
  end.Open();
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(seen[0], kRounds + 1);
}

// 11: the token is given back before the function reads; a producer that never waits is not missed in the
// end, however its stores fall between the clearing and the reading.
TEST_F(ItemScenario, Scenario11GhostPending) {
  constexpr int kRounds = 500, kStores = 40;
  std::atomic<int> value{0}, seen{0};
  Item item([&] {
    seen.store(value.load(std::memory_order_relaxed), std::memory_order_relaxed);
  });
  int n = 0;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kStores; ++i) {
      value.store(++n, std::memory_order_relaxed);
      Engine::Queue(wq, item);
    }
    e.Flush(item);
    ASSERT_EQ(seen.load(std::memory_order_relaxed), n);
  }
}

// 12: a timer fires while its queue drains and is refused; it gives the token back, so a cancel returns
// at once and the item can be used again.
TEST_F(ItemScenario, Scenario12RefusedTimerGivesTheTokenBack) {
  LogCapture log;
  wq::Workqueue* const one = e.Alloc(0, 1);
  Held slow[2];
  for (Held& h : slow) ASSERT_TRUE(Engine::Queue(one, h.item));
  slow[0].started.Wait();
  Item delayed;
  ASSERT_TRUE(e.QueueDelayed(one, delayed, 5));
  std::thread drainer([&] { wq::DrainWorkqueue(one); });
  Eventually([&] { return one->nr_drainers == 1; });
  EXPECT_TRUE(Pending(delayed));
  e.Advance(5);
  EXPECT_FALSE(Pending(delayed));
  EXPECT_FALSE(e.CancelSync(delayed));
  for (Held& h : slow) h.end.Open();
  drainer.join();
  EXPECT_EQ(delayed.Runs(), 0);
  ASSERT_TRUE(e.QueueDelayed(one, delayed, 1));
  e.Advance(1);
  wq::FlushWorkqueue(one);
  EXPECT_EQ(delayed.Runs(), 1);
  EXPECT_FALSE(e.CancelSync(delayed));
  e.Destroy(one);
  EXPECT_LE(log.Take().size(), 1u);
}

// The calling thread onto one CPU, at real-time priority where that is allowed.
void PinSelf(bool real_time) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return;
  int cpu = 0;
  while (!CPU_ISSET(cpu, &set)) ++cpu;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof(set), &set);
  if (!real_time) return;
  struct sched_param param = {};
  param.sched_priority = 1;
  pthread_setschedparam(pthread_self(), SCHED_FIFO, &param);
}

// 13: two threads cancel_sync one running item on one CPU, the second at real-time priority; both sleep
// until it is done, nobody spins on what the other one has begun.
TEST_F(ItemScenario, Scenario13RacingCancelSyncDoesNotSpin) {
  Gate started, end;
  Item item([&] {
    cpu_set_t before;
    sched_getaffinity(0, sizeof(before), &before);
    PinSelf(false);
    started.Open();
    end.Wait();
    sched_setaffinity(0, sizeof(before), &before);
  });
  ASSERT_TRUE(Engine::Queue(wq, item));
  started.Wait();
  std::atomic<int> tids[2] = {}, done{0};
  std::vector<std::thread> cancellers;
  detect::TaskStateReader reader;
  for (int i = 0; i < 2; ++i) {
    cancellers.emplace_back([&, i] {
      PinSelf(i == 1);
      tids[i] = base::Tid();
      EXPECT_FALSE(e.CancelSync(item));
      done.fetch_add(1);
    });
    // Its barrier is in place, and it is asleep.
    Eventually([&] { return InFlight(wq) == i + 2; });
    Eventually([&] { return reader.Read(tids[i]) == detect::TaskState::kAsleep; });
  }
  EXPECT_EQ(done, 0);
  EXPECT_FALSE(Engine::Queue(wq, item));  // disabled by both
  end.Open();
  for (std::thread& t : cancellers) t.join();
  EXPECT_EQ(item.Runs(), 1);
  EXPECT_TRUE(Engine::Queue(wq, item));
  wq::FlushWorkqueue(wq);
  reader.CloseAll();
}

// 14: max_active 1, the running A and the waiting B; cancelling B gives no slot back: the limit still
// holds, and freezing still works.
TEST_F(ItemScenario, Scenario14CancelOfAnInactiveItemKeepsTheCount) {
  wq::Workqueue* const one = e.Alloc(CMWQ_FREEZABLE, 1);
  Held a, c, d;
  Item b;
  ASSERT_TRUE(Engine::Queue(one, a.item));
  a.started.Wait();
  ASSERT_TRUE(Engine::Queue(one, b));
  EXPECT_TRUE(e.Cancel(b));
  EXPECT_EQ(NrActive(one), 1);
  ASSERT_TRUE(Engine::Queue(one, c.item));
  ASSERT_TRUE(Engine::Queue(one, d.item));
  EXPECT_EQ(NrActive(one), 1);
  EXPECT_EQ(NrInactive(one), 2);
  a.end.Open();
  c.started.Wait();
  EXPECT_EQ(NrActive(one), 1);
  EXPECT_FALSE(d.started.opened());
  SetFrozen(one, true);
  c.end.Open();
  Eventually([&] { return NrActive(one) == 0; });
  EXPECT_EQ(NrInactive(one), 1);
  SetFrozen(one, false);
  d.started.Wait();
  d.end.Open();
  wq::FlushWorkqueue(one);
  EXPECT_EQ(b.Runs(), 0);
  e.Destroy(one);
}

// 15: B waits for a slot and a second thread flushes it, then B is cancelled; the flusher is released, and
// no barrier stays behind on the queue.
TEST_F(ItemScenario, Scenario15CancelOfAnInactiveItemReleasesItsFlusher) {
  wq::Workqueue* const one = e.Alloc(0, 1);
  Held a;
  Item b, after;
  ASSERT_TRUE(Engine::Queue(one, a.item));
  a.started.Wait();
  ASSERT_TRUE(Engine::Queue(one, b));
  ASSERT_TRUE(Engine::Queue(one, after));
  std::thread flusher([&] { EXPECT_TRUE(e.Flush(b)); });
  Eventually([&] { return NrInactive(one) == 3; });
  EXPECT_TRUE(e.Cancel(b));
  flusher.join();  // although A still holds the only slot
  EXPECT_EQ(NrActive(one), 1);
  EXPECT_EQ(NrInactive(one), 1);
  Eventually([&] { return InFlight(one) == 2; });
  EXPECT_EQ(after.Runs(), 0);
  a.end.Open();
  wq::FlushWorkqueue(one);
  EXPECT_EQ(b.Runs(), 0);
  EXPECT_EQ(after.Runs(), 1);
  EXPECT_EQ(InFlight(one), 0);
  e.Destroy(one);
}

// 39: an item that has left the worklist but whose function has not begun is found by whoever cancels,
// flushes or queues it: it is published as running before it leaves the list.
TEST_F(ItemScenario, Scenario39NeverBetweenListAndCurrent) {
  CMWQ_NEEDS_TEST_POINTS();
  for (const char* where : {"worker.before_fn", "worker.after_fn"}) {
    SCOPED_TRACE(where);
    Item item;
    std::atomic<bool> cancelled{false}, flushed{false};
    std::thread canceller, flusher;
    // The points are for barriers as well: none may still be on its way.
    const auto settle = [this] {
      if (e.Pool().Stats().nr_workers > 0) Engine::WaitIdle(e.Pool());
    };
    settle();
    {
      // In the worker's hand: no longer pending, and (in the first case) not begun.
      AtTestPoint point(where, [&] {
        EXPECT_FALSE(Pending(item));
        canceller = std::thread([&] {
          EXPECT_FALSE(e.CancelSync(item));
          cancelled = true;
        });
        Eventually([&] { return InFlight(wq) == 2 || cancelled; });
        EXPECT_FALSE(cancelled);
        flusher = std::thread([&] {
          EXPECT_TRUE(e.Flush(item));
          flushed = true;
        });
        Eventually([&] { return InFlight(wq) == 3 || flushed; });
        EXPECT_FALSE(flushed);
        EXPECT_FALSE(Engine::Queue(wq, item));  // disabled: the canceller waits
      });
      ASSERT_TRUE(Engine::Queue(wq, item));
      Eventually([&] { return cancelled && flushed; });
    }
    canceller.join();
    flusher.join();
    EXPECT_EQ(item.Runs(), 1);
    // Queued to another CPU from that window it goes to the pool that runs it.
    settle();
    {
      AtTestPoint point(where, [&] {
        EXPECT_TRUE(Engine::Queue(wq, item, 1));
        EXPECT_EQ(InFlight(wq, 0), 2);
        EXPECT_EQ(InFlight(wq, 1), 0);
      });
      ASSERT_TRUE(Engine::Queue(wq, item));
      WaitRuns(item, 3);
    }
  }
}

}  // namespace
}  // namespace cmwq::test
