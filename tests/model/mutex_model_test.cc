// The lock word of sync/mutex_word.h under every schedule: one owner at a time, what the last owner
// wrote is visible to the next, and nobody sleeps on a free lock.

#include <gtest/gtest.h>

#include "runtime/sync/mutex_word.h"
#include "tests/model/explore.h"
#include "tests/model/model_sync.h"

namespace cmwq::model {
namespace {

constexpr int kSpins = 1;  // the product's 60 would only make the runs longer

template <class Sync>
using Word = sync::BasicMutexWord<Sync, kSpins>;

// Defects of the slow path.
enum class Defect { kSleepsUnmarked, kNeverWakes, kWakesWithoutFreeing };

template <class Sync, Defect kDefect>
class MutantMutex {
 public:
  bool TryLock() {
    int32_t seen = 0;
    return word_.compare_exchange_strong(seen, 1, std::memory_order_acquire);
  }
  void Lock() {
    if (TryLock()) return;
    // Unmarked: takes the lock as if nobody else waited, and sleeps without saying so.
    const int32_t mark = kDefect == Defect::kSleepsUnmarked ? 1 : 2;
    while (word_.exchange(mark, std::memory_order_acquire) != 0) Sync::FutexWait(&word_, mark);
  }
  void Unlock() {
    if (kDefect == Defect::kWakesWithoutFreeing) {
      if (word_.load() == 2) Sync::FutexWake(&word_, 1);
      word_.store(0);
      return;
    }
    const int32_t old = word_.exchange(0, std::memory_order_release);
    if (old == 2 && kDefect != Defect::kNeverWakes) Sync::FutexWake(&word_, 1);
  }

 private:
  typename Sync::template Atomic<int32_t> word_{0};
};

template <class Mutex, class Sync>
struct Shared {
  Mutex mutex;
  int inside = 0;
  typename Sync::template Atomic<int32_t> value{0};  // plain in the product: relaxed is as weak
  void Section() {
    MODEL_CHECK(++inside == 1);
    value.store(value.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    --inside;
  }
};

template <class Mutex, class Sync, int kThreads, int kRounds>
void Contenders(World& world) {
  auto* s = world.Make<Shared<Mutex, Sync>>("mutex");
  static const char* const kNames[] = {"a", "b", "c", "d"};
  for (int i = 0; i < kThreads; ++i) {
    world.Thread(kNames[i], [=] {
      for (int round = 0; round < kRounds; ++round) {
        s->mutex.Lock();
        s->Section();
        s->mutex.Unlock();
      }
    });
  }
  world.AtEnd([=] { MODEL_CHECK(s->value.load() == kThreads * kRounds); });
}

TEST(Mutex, OneOwnerAndNoLostWakeUp) {
  ExpectHolds(Contenders<Word<ModelSync>, ModelSync, 2, 3>);
  ExpectHolds(Contenders<Word<ModelSync>, ModelSync, 3, 2>);
  ExpectHolds(Contenders<Word<ModelSync>, ModelSync, 4, 1>);
}

TEST(Mutex, TryLockTakesPart) {
  ExpectHolds([](World& world) {
    auto* s = world.Make<Shared<Word<ModelSync>, ModelSync>>("mutex");
    int* taken = world.Make<int>("taken");
    for (const char* name : {"a", "b"}) {
      world.Thread(name, [=] {
        s->mutex.Lock();
        s->Section();
        s->mutex.Unlock();
      });
    }
    world.Thread("tries", [=] {
      for (int i = 0; i < 2; ++i) {
        if (!s->mutex.TryLock()) continue;
        s->Section();
        ++*taken;
        s->mutex.Unlock();
      }
    });
    world.AtEnd([=] { MODEL_CHECK(s->value.load() == 2 + *taken); });
  });
}

TEST(Mutex, WeakerOrdersAreCaught) {
  using Relaxed = Weakened<AllRelaxed>;
  ExpectCaught("s->value.load()", Contenders<Word<Relaxed>, Relaxed, 2, 2>);
}

TEST(Mutex, DefectsOfTheSlowPathAreCaught) {
  ExpectCaught("deadlock",
               Contenders<MutantMutex<ModelSync, Defect::kSleepsUnmarked>, ModelSync, 3, 2>);
  ExpectCaught("deadlock",
               Contenders<MutantMutex<ModelSync, Defect::kNeverWakes>, ModelSync, 2, 2>);
  ExpectCaught("deadlock",
               Contenders<MutantMutex<ModelSync, Defect::kWakesWithoutFreeing>, ModelSync, 2, 2>);
}

}  // namespace
}  // namespace cmwq::model
