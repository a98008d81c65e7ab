// The order of an announced wait (core/announced_wait.h) under every schedule, in a pool whose next item
// is what changes the word: it runs only once the wait is announced, and its wake must not be missed.

#include <gtest/gtest.h>

#include <cerrno>

#include "runtime/core/announced_wait.h"
#include "tests/model/explore.h"
#include "tests/model/mini_pool.h"

namespace cmwq::model {
namespace {

struct Word {
  ModelAtomic<int32_t> value{0};
  ModelAtomic<int32_t> data{0};  // written before the word changes
};

// As core/futex.cc.
struct Wait {
  MiniPool* pool;
  int worker;
  Word* word;
  uint64_t deadline_ns = base::kNever;

  int Look() { return word->value.load(std::memory_order_acquire) != 0 ? -EAGAIN : 0; }
  void Sleeping() { pool->Sleeping(worker); }
  int Block() { return ModelSync::FutexWait(&word->value, 0, deadline_ns) ? 0 : -ETIMEDOUT; }
  void Running() { pool->Running(worker); }
};

// Defect: compares on its own and waits then, whatever the word is by now.
struct ComparesOnce : Wait {
  int Block() {
    ModelSync::FutexWait(&word->value, word->value.load(std::memory_order_relaxed));
    return 0;
  }
};

struct InOrder {
  template <class W>
  static int Do(W& wait) {
    return core::AnnouncedWait(wait);
  }
};
// Defect: tells when it is over.
struct AnnouncesLate {
  template <class W>
  static int Do(W& wait) {
    if (const int result = wait.Look()) return result;
    const int result = wait.Block();
    wait.Sleeping();
    wait.Running();
    return result;
  }
};
// Defect: the worker does not come back.
struct StaysAway {
  template <class W>
  static int Do(W& wait) {
    if (const int result = wait.Look()) return result;
    wait.Sleeping();
    return wait.Block();
  }
};

enum class Waker { kChangesThenWakes, kWakesThenChanges };

// One item waits, its successor releases it.
template <class W, class Order>
void TwoItems(World& world, Waker waker, uint64_t deadline_ns) {
  auto* pool = world.Make<MiniPool>("pool");
  auto* word = world.Make<Word>("word");
  pool->AddWorkers(world);
  world.Thread("queuer", [=] {
    pool->Queue([=](MiniPool* p, int worker) {
      while (word->value.load(std::memory_order_acquire) == 0) {
        W wait;
        wait.pool = p;
        wait.worker = worker;
        wait.word = word;
        wait.deadline_ns = deadline_ns;
        Order::Do(wait);
        MODEL_CHECK(p->Counts(worker));
      }
      MODEL_CHECK(word->data.load(std::memory_order_relaxed) == 1);
    });
    pool->Queue([=](MiniPool*, int) {
      word->data.store(1, std::memory_order_relaxed);
      if (waker == Waker::kWakesThenChanges) ModelSync::FutexWake(&word->value, 1);
      word->value.store(1, std::memory_order_release);
      if (waker == Waker::kChangesThenWakes) ModelSync::FutexWake(&word->value, 1);
    });
  });
  world.AtEnd([=] { pool->CheckEnd(2); });
}

template <class W, class Order>
Program Items(Waker waker = Waker::kChangesThenWakes, uint64_t deadline_ns = base::kNever) {
  return [=](World& world) { TwoItems<W, Order>(world, waker, deadline_ns); };
}

TEST(FutexOrder, NoWakeIsMissed) { ExpectHolds(Items<Wait, InOrder>()); }

TEST(FutexOrder, NorWithTimes) {
  ExpectHolds(Items<Wait, InOrder>(Waker::kChangesThenWakes, kSomeDeadline));
}

TEST(FutexOrder, LateAnnouncementsAreCaught) {
  ExpectCaught("executed_ == expected", Items<Wait, AnnouncesLate>());
}

TEST(FutexOrder, WorkersThatStayAwayAreCaught) {
  ExpectCaught("Counts(worker)", Items<Wait, StaysAway>());
}

TEST(FutexOrder, AWaitThatDoesNotCompareIsCaught) {
  ExpectCaught("executed_ == expected", Items<ComparesOnce, InOrder>());
}

TEST(FutexOrder, WakingBeforeTheChangeIsCaught) {
  ExpectCaught("executed_ == expected", Items<Wait, InOrder>(Waker::kWakesThenChanges));
}

}  // namespace
}  // namespace cmwq::model
