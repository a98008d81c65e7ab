// Flags that are set and cleared between a hook's steps. The state word and the counter are the
// product's code on atomics that stop after every change, so that each window is met once.

#include <gtest/gtest.h>

#include <functional>

#include "runtime/pool/concurrency.h"
#include "tests/unit/scenarios/scenario.h"

namespace cmwq::test {
namespace {

using pool::WorkerFlag;

// Calls `act` after the `at`-th access of this thread's run.
struct Stepper {
  int step = 0, at = 0;
  std::function<void()> act;
  std::function<void(uint32_t word)> seen;  // each new value of a state word

  void Step() {
    if (++step != at) return;
    const std::function<void()> now = std::move(act);
    act = nullptr;
    now();
  }
};
Stepper* g_stepper = nullptr;

struct SteppedSync {
  template <class T>
  class Atomic {
   public:
    Atomic(T value) : value_(value) {}  // NOLINT: implicit, as std::atomic
    T load(std::memory_order) const {
      const T value = value_;
      g_stepper->Step();
      return value;
    }
    void store(T value, std::memory_order) {
      value_ = value;
      g_stepper->Step();
    }
    T fetch_add(T change, std::memory_order) {
      const T old = value_;
      value_ += change;
      g_stepper->Step();
      return old;
    }
    T fetch_sub(T change, std::memory_order order) { return fetch_add(-change, order); }
    bool compare_exchange_strong(T& expected, T desired, std::memory_order, std::memory_order) {
      const bool done = value_ == expected;
      if (done) {
        value_ = desired;
        if (g_stepper->seen != nullptr) g_stepper->seen(static_cast<uint32_t>(desired));
      } else {
        expected = value_;
      }
      g_stepper->Step();
      return done;
    }
    bool compare_exchange_weak(T& expected, T desired, std::memory_order a, std::memory_order b) {
      return compare_exchange_strong(expected, desired, a, b);
    }

   private:
    T value_;
  };
};

using Word = pool::BasicStateWord<SteppedSync>;
using Conc = pool::BasicConcurrency<SteppedSync>;

// One counted worker with work pending behind it; each function returns what it was told about kicks.
struct Bench {
  Bench() {
    g_stepper = &stepper;
    conc.ClearFlags(word, WorkerFlag::kPrep);
    conc.SetPending(1);
  }
  ~Bench() { g_stepper = nullptr; }
  int Recount() const { return Word::Counted(word.Load()) ? 1 : 0; }
  // Runs `hook` with `between` after its `at`-th step; false when the hook has fewer steps.
  bool Run(int at, const std::function<void()>& hook, const std::function<void()>& between) {
    stepper.step = 0;
    stepper.at = at;
    stepper.act = between;
    hook();
    const bool met = stepper.act == nullptr;
    stepper.act = nullptr;
    stepper.at = 0;
    return met;
  }

  Stepper stepper;
  Conc conc;
  Word word;
  int kicks = 0;
};

using Hook = void (*)(Bench& b);
// A worker that blocks, one that returns, a detector, a worker that starts.
constexpr Hook kHooks[] = {
    [](Bench& b) { b.kicks += b.conc.Sleeping(b.word) ? 1 : 0; },
    [](Bench& b) { b.conc.Running(b.word); },
    [](Bench& b) {
      if (b.conc.Presume(b.word, b.word.Load()) && b.conc.nr_running() == 0) ++b.kicks;
    },
    [](Bench& b) { b.conc.ClearFlags(b.word, WorkerFlag::kPrep); },
};

// 3: management is switched off in the middle of any hook; nobody counts afterwards, neither 1 nor -1
// remains, somebody was told to look, and switching back finds the right number.
TEST(FlagScenario, Scenario03UnbindAgainstHooks) {
  for (const Hook hook : kHooks) {
    for (const Hook before : kHooks) {
      int windows = 0;
      for (int at = 1;; ++at) {
        Bench b;
        before(b);
        const bool was_counted = b.Recount() == 1;
        b.kicks = 0;
        const bool met = b.Run(at, [&] { hook(b); }, [&] {
          b.kicks += b.conc.SetFlags(b.word, WorkerFlag::kUnbound) ? 1 : 0;
        });
        if (!met) break;
        ++windows;
        EXPECT_EQ(b.conc.RawRunning(), 0) << at;
        EXPECT_EQ(b.Recount(), 0);
        if (was_counted) {
          EXPECT_GE(b.kicks, 1) << at;
        }
        b.conc.ReplaceFlags(b.word, WorkerFlag::kUnbound, WorkerFlag::kRebound);
        b.conc.Running(b.word);
        b.conc.ClearFlags(b.word, WorkerFlag::kRebound);
        EXPECT_EQ(b.conc.RawRunning(), 1);
      }
      EXPECT_GE(windows, 1);
    }
  }
}

// 3, in a pool: a worker that blocks and returns all the time while management is switched off and on;
// the pool still serves, and the counter agrees with the words.
TEST(FlagScenario, Scenario03UnbindWhileAWorkerBlocksAndReturns) {
  Engine& e = Engine::Make(1);
  wq::Workqueue* const wq = e.Alloc();
  std::atomic<bool> stop{false};
  std::atomic<pool::Worker*> worker{nullptr};
  Item restless([&] {
    worker = pool::CurrentWorker();
    while (!stop) {
      cmwq_block_begin();
      cmwq_block_end();
    }
  });
  ASSERT_TRUE(Engine::Queue(wq, restless));
  Eventually([&] { return worker != nullptr; });
  for (int round = 0; round < 500; ++round) {
    PoolTestPeer::SetFlags(e.Pool(), worker, WorkerFlag::kUnbound);
    PoolTestPeer::ReplaceFlags(e.Pool(), worker, WorkerFlag::kUnbound, WorkerFlag::kRebound);
    if (round % 2 == 0) PoolTestPeer::ReplaceFlags(e.Pool(), worker, WorkerFlag::kRebound, 0);
  }
  if (PoolTestPeer::SetFlags(e.Pool(), worker, WorkerFlag::kUnbound)) e.Pool().Kick();
  Item other;
  ASSERT_TRUE(Engine::Queue(wq, other));
  WaitRuns(other, 1);
  stop = true;
  WaitRuns(restless, 1);
  Engine::WaitIdle(e.Pool());
  EXPECT_EQ(PoolTestPeer::RawRunning(e.Pool()), 0);
  e.Destroy(wq);
}

// 4: UNBOUND becomes REBOUND in one store: no value of the word in between has neither, and a hook in any
// window changes nothing.
TEST(FlagScenario, Scenario04FlagsAreReplacedInOneStore) {
  for (const Hook hook : kHooks) {
    for (int at = 1;; ++at) {
      Bench b;
      b.conc.SetFlags(b.word, WorkerFlag::kUnbound);
      int stores = 0;
      b.stepper.seen = [&](uint32_t word) {
        EXPECT_NE(word & (WorkerFlag::kUnbound | WorkerFlag::kRebound), 0u);
        ++stores;
      };
      const bool met = b.Run(at, [&] {
        b.conc.ReplaceFlags(b.word, WorkerFlag::kUnbound, WorkerFlag::kRebound);
      }, [&] {
        b.stepper.seen = nullptr;
        hook(b);
        EXPECT_EQ(b.conc.RawRunning(), 0);
        b.stepper.seen = [&](uint32_t) { ++stores; };
      });
      b.stepper.seen = nullptr;
      EXPECT_EQ(b.conc.RawRunning(), 0);
      EXPECT_EQ(stores, 1);
      if (!met) break;
    }
  }
}

// 23: the item is declared a hog at any moment of going to sleep, or the other way round; it leaves the
// count once, and comes back once.
TEST(FlagScenario, Scenario23HogMarkWhileFallingAsleep) {
  const std::function<void(Bench&)> sleep = [](Bench& b) { kHooks[0](b); };
  const std::function<void(Bench&)> mark = [](Bench& b) {
    b.kicks += b.conc.SetFlags(b.word, WorkerFlag::kCpuIntensive) ? 1 : 0;
  };
  for (const bool mark_between : {true, false}) {
    const auto& hook = mark_between ? sleep : mark;
    const auto& between = mark_between ? mark : sleep;
    for (int at = 1;; ++at) {
      Bench b;
      const bool met = b.Run(at, [&] { hook(b); }, [&] {
        between(b);
        EXPECT_LE(b.conc.RawRunning(), 1);
        EXPECT_GE(b.conc.RawRunning(), 0);
      });
      if (!met) between(b);
      EXPECT_EQ(b.conc.RawRunning(), 0);
      EXPECT_EQ(b.kicks, 1);
      b.conc.Running(b.word);
      EXPECT_EQ(b.conc.RawRunning(), 0);  // to the end of the item
      b.conc.ClearFlags(b.word, WorkerFlag::kCpuIntensive);
      EXPECT_EQ(b.conc.RawRunning(), 1);
      if (!met) break;
    }
  }
}

}  // namespace
}  // namespace cmwq::test
