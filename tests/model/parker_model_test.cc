// Parker under every schedule: no wake-up is lost, a token is consumed once, what the waker wrote
// is seen.

#include <gtest/gtest.h>

#include "runtime/sync/parker.h"
#include "tests/model/explore.h"
#include "tests/model/model_sync.h"

namespace cmwq::model {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

using ModelParker = sync::BasicParker<ModelSync>;

template <class Sync>
struct LossyParker {
  // Defect: waits before it looks for a token, and an unpark counts only if somebody already waits.
  bool Park(uint64_t = base::kNever) {
    word.store(-1, std::memory_order_seq_cst);
    while (word.load(std::memory_order_acquire) == -1) Sync::FutexWait(&word, -1);
    return true;
  }
  bool Unpark() {
    if (word.load(std::memory_order_seq_cst) != -1) return false;
    word.store(1, std::memory_order_seq_cst);
    Sync::FutexWake(&word, 1);
    return true;
  }
  typename Sync::template Atomic<int32_t> word{0};
};

template <class Sync>
struct ForgetfulParker {
  // Defect: a time-out empties the word whatever has become of it.
  bool Park(uint64_t deadline_ns = base::kNever) {
    if (word.fetch_sub(1, std::memory_order_acquire) == 1) return true;
    for (;;) {
      const bool in_time = Sync::FutexWait(&word, -1, deadline_ns);
      int32_t seen = 1;
      if (word.compare_exchange_strong(seen, 0, std::memory_order_acquire)) return true;
      if (in_time) continue;
      word.store(0, kRelaxed);
      return false;
    }
  }
  bool Unpark() {
    if (word.exchange(1, std::memory_order_release) != -1) return false;
    Sync::FutexWake(&word, 1);
    return true;
  }
  typename Sync::template Atomic<int32_t> word{0};
};

template <class P>
struct Shared {
  P parker;
  ModelAtomic<int32_t> data[3];
  int unparks = 0, wakes = 0;
};

template <class P>
void OneWakeUp(World& world) {
  auto* s = world.Make<Shared<P>>("parker");
  world.Thread("owner", [=] {
    s->parker.Park();
    MODEL_CHECK(s->data[0].load(kRelaxed) == 1);
  });
  world.Thread("waker", [=] {
    s->data[0].store(1, kRelaxed);
    s->parker.Unpark();
  });
}

TEST(Parker, WakesAndPublishes) { ExpectHolds(OneWakeUp<ModelParker>); }

TEST(Parker, AMutantThatLosesTokensIsCaught) {
  ExpectCaught("deadlock", OneWakeUp<LossyParker<ModelSync>>);
}

TEST(Parker, RelaxedOrdersAreCaught) {
  ExpectCaught("data[0]", OneWakeUp<sync::BasicParker<Weakened<AllRelaxed>>>);
}

// Three wakers, each with its own condition: the owner parks until all hold.
template <class P>
void ManyWakers(World& world) {
  auto* s = world.Make<Shared<P>>("parker");
  world.Thread("owner", [=] {
    for (;;) {
      int sum = 0;
      for (auto& d : s->data) sum += d.load(kRelaxed);
      if (sum == 3) return;
      s->parker.Park();
    }
  });
  for (int i = 0; i < 3; ++i) {
    static const char* const kNames[] = {"waker-0", "waker-1", "waker-2"};
    world.Thread(kNames[i], [=] {
      s->data[i].store(1, kRelaxed);
      s->parker.Unpark();
    });
  }
}

TEST(Parker, SeveralWakersLeaveNobodyAsleep) { ExpectHolds(ManyWakers<ModelParker>); }

TEST(Parker, SeveralWakersWithRelaxedOrdersAreCaught) {
  ExpectCaught("deadlock", ManyWakers<sync::BasicParker<Weakened<AllRelaxed>>>);
}

// One token, first awaited with a deadline and then without: it is consumed exactly once.
template <class P>
void OneTokenAndADeadline(World& world) {
  auto* s = world.Make<Shared<P>>("parker");
  world.Thread("owner", [=] {
    if (s->parker.Park(kSomeDeadline)) {
      MODEL_CHECK(s->unparks == 1);
      MODEL_CHECK(!s->parker.Park(kSomeDeadline));
    } else {
      MODEL_CHECK(s->parker.Park());
      MODEL_CHECK(s->unparks == 1);
    }
  });
  world.Thread("waker", [=] {
    s->unparks = 1;  // before the exchange in Unpark, with no scheduling point in between
    s->parker.Unpark();
  });
}

TEST(Parker, ATimeOutEatsNoToken) { ExpectHolds(OneTokenAndADeadline<ModelParker>); }

TEST(Parker, AMutantWhoseTimeOutEatsATokenIsCaught) {
  ExpectCaught("deadlock", OneTokenAndADeadline<ForgetfulParker<ModelSync>>);
}

TEST(Parker, ATokenGivenInTimeIsNeverReportedAsTimeOut) {
  ExpectHolds([](World& world) {
    auto* s = world.Make<Shared<ModelParker>>("parker");
    world.Thread("owner", [=] {
      s->parker.Unpark();
      MODEL_CHECK(s->parker.Park(kSomeDeadline));
      MODEL_CHECK(!s->parker.Park(kSomeDeadline));
    });
  });
}

TEST(Parker, TokensDoNotAddUp) {
  ExpectHolds([](World& world) {
    auto* s = world.Make<Shared<ModelParker>>("parker");
    world.Thread("owner", [=] {
      MODEL_CHECK(!s->parker.Unpark());
      MODEL_CHECK(!s->parker.Unpark());
      MODEL_CHECK(s->parker.Park());
      MODEL_CHECK(!s->parker.Park(kSomeDeadline));
    });
  });
}

// Ping-pong over two parkers: every round needs both hand-overs.
TEST(Parker, HandsOverManyTimes) {
  ExpectHolds([](World& world) {
    auto* s = world.Make<Shared<ModelParker>>("ping");
    auto* t = world.Make<Shared<ModelParker>>("pong");
    world.Thread("ping", [=] {
      for (int i = 1; i <= 5; ++i) {
        s->data[0].store(i, kRelaxed);
        t->parker.Unpark();
        s->parker.Park();
        MODEL_CHECK(t->data[0].load(kRelaxed) == i);
      }
    });
    world.Thread("pong", [=] {
      for (int i = 1; i <= 5; ++i) {
        t->parker.Park();
        MODEL_CHECK(s->data[0].load(kRelaxed) == i);
        t->data[0].store(i, kRelaxed);
        s->parker.Unpark();
      }
    });
  });
}

// Unpark says whether it found the owner parked: at most one wake per park.
TEST(Parker, WakesAtMostOncePerPark) {
  ExpectHolds([](World& world) {
    auto* s = world.Make<Shared<ModelParker>>("parker");
    world.Thread("owner", [=] { s->parker.Park(); });
    for (const char* name : {"waker-0", "waker-1"}) {
      world.Thread(name, [=] { s->wakes += s->parker.Unpark() ? 1 : 0; });
    }
    world.AtEnd([=] { MODEL_CHECK(s->wakes <= 1); });
  });
}

}  // namespace
}  // namespace cmwq::model
