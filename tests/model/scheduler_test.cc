// The model itself: classic litmus programs, dead locks and step bounds must come out as they
// should, otherwise a green protocol test would mean nothing.

#include "tests/model/scheduler.h"

#include <gtest/gtest.h>

#include "tests/model/explore.h"
#include "tests/model/model_sync.h"

namespace cmwq::model {
namespace {

using Int = ModelAtomic<int32_t>;

struct Pair {
  Int x, y;
  int32_t r1 = -1, r2 = -1;
};

// x := 1; read y  ||  y := 1; read x.
Program StoreBuffering(std::memory_order store, std::memory_order load) {
  return [=](World& world) {
    Pair* p = world.Make<Pair>("pair");
    world.Thread("left", [=] {
      p->x.store(1, store);
      p->r1 = p->y.load(load);
    });
    world.Thread("right", [=] {
      p->y.store(1, store);
      p->r2 = p->x.load(load);
    });
    world.AtEnd([=] { MODEL_CHECK(p->r1 == 1 || p->r2 == 1); });
  };
}

TEST(Litmus, StoreBufferingNeedsSeqCstStoresAndLoads) {
  ExpectHolds(StoreBuffering(std::memory_order_seq_cst, std::memory_order_seq_cst));
  ExpectCaught("p->r1 == 1", StoreBuffering(std::memory_order_release, std::memory_order_seq_cst));
  ExpectCaught("p->r1 == 1", StoreBuffering(std::memory_order_seq_cst, std::memory_order_acquire));
}

TEST(Litmus, TsoAloneShowsStoreBuffering) {
  bool seen = false;
  for (uint64_t seed = 2; seed < 2000 && !seen; seed += 2) {  // even seeds run the TSO machine
    World world(seed);
    StoreBuffering(std::memory_order_release, std::memory_order_acquire)(world);
    const World::Outcome outcome = world.Run();
    seen = outcome.failed && outcome.message.find("TSO") != std::string::npos;
  }
  EXPECT_TRUE(seen);
}

Program MessagePassing(std::memory_order store, std::memory_order load) {
  return [=](World& world) {
    Pair* p = world.Make<Pair>("pair");
    world.Thread("writer", [=] {
      p->x.store(1, std::memory_order_relaxed);
      p->y.store(1, store);
    });
    world.Thread("reader", [=] {
      if (p->y.load(load) == 1) MODEL_CHECK(p->x.load(std::memory_order_relaxed) == 1);
    });
  };
}

TEST(Litmus, MessagePassingNeedsReleaseAndAcquire) {
  ExpectHolds(MessagePassing(std::memory_order_release, std::memory_order_acquire));
  ExpectCaught("== 1", MessagePassing(std::memory_order_relaxed, std::memory_order_acquire));
  ExpectCaught("== 1", MessagePassing(std::memory_order_release, std::memory_order_relaxed));
}

TEST(Litmus, ReleaseSequenceSurvivesARelaxedModify) {
  ExpectHolds([](World& world) {
    Pair* p = world.Make<Pair>("pair");
    world.Thread("writer", [=] {
      p->x.store(1, std::memory_order_relaxed);
      p->y.store(1, std::memory_order_release);
    });
    world.Thread("middle", [=] { p->y.fetch_add(1, std::memory_order_relaxed); });
    world.Thread("reader", [=] {
      if (p->y.load(std::memory_order_acquire) == 2) {
        MODEL_CHECK(p->x.load(std::memory_order_relaxed) == 1);
      }
    });
  });
}

TEST(Litmus, ReadsOfOneLocationNeverGoBack) {
  ExpectHolds([](World& world) {
    Pair* p = world.Make<Pair>("pair");
    world.Thread("writer", [=] {
      for (int i = 1; i <= 4; ++i) p->x.store(i, std::memory_order_relaxed);
    });
    world.Thread("reader", [=] {
      int32_t last = 0;
      for (int i = 0; i < 4; ++i) {
        const int32_t now = p->x.load(std::memory_order_relaxed);
        MODEL_CHECK(now >= last);
        last = now;
      }
    });
  });
}

TEST(Litmus, ModifiesAreAtomicAndLoadThenStoreIsNot) {
  const auto program = [](bool atomic) {
    return [=](World& world) {
      Pair* p = world.Make<Pair>("pair");
      for (const char* name : {"left", "right"}) {
        world.Thread(name, [=] {
          if (atomic)
            p->x.fetch_add(1, std::memory_order_relaxed);
          else
            p->x.store(p->x.load() + 1);
        });
      }
      world.AtEnd([=] { MODEL_CHECK(p->x.load() == 2); });
    };
  };
  ExpectHolds(program(true));
  ExpectCaught("p->x.load() == 2", program(false));
}

TEST(Scheduler, ReportsADeadlock) {
  ExpectCaught("deadlock", [](World& world) {
    Pair* p = world.Make<Pair>("pair");
    world.Thread("waiter", [=] {
      // Looks, then sleeps without telling the futex what it saw: the wake falls in between.
      if (p->x.load() == 0) ModelSync::FutexWait(&p->y, 0);
    });
    world.Thread("waker", [=] {
      p->x.store(1);
      ModelSync::FutexWake(&p->y, 1);
    });
  });
}

TEST(Scheduler, ReportsALockCycle) {
  struct Locks {
    ModelMutex a, b;
  };
  const auto program = [](World& world) {
    Locks* l = world.Make<Locks>("locks");
    world.Thread("ab", [=] {
      ModelLock first(&l->a);
      ModelLock second(&l->b);
    });
    world.Thread("ba", [=] {
      ModelLock first(&l->b);
      ModelLock second(&l->a);
    });
  };
  ExpectCaught("waits for lock", program);
}

TEST(Scheduler, ReportsAnEndlessProgram) {
  World world(7, 500);
  Pair* p = world.Make<Pair>("pair");
  world.Thread("spinner", [=] {
    while (p->x.load() == 0) Yield();
  });
  EXPECT_NE(world.Run().message.find("step bound"), std::string::npos);
}

TEST(Scheduler, ATimedWaitIsNoDeadlock) {
  ExpectHolds([](World& world) {
    Pair* p = world.Make<Pair>("pair");
    world.Thread("waiter", [=] {
      while (ModelSync::FutexWait(&p->x, 0, kSomeDeadline)) {
      }
    });
  });
}

TEST(Scheduler, OneSeedGivesOneRun) {
  const auto run = [](uint64_t seed) {
    World world(seed);
    Pair* p = world.Make<Pair>("pair");
    for (const char* name : {"a", "b", "c"}) {
      world.Thread(name, [=] {
        for (int i = 0; i < 5; ++i) p->x.store(p->x.load() + 1);
      });
    }
    int32_t* last = world.Make<int32_t>("last");
    world.AtEnd([=] { *last = p->x.load(); });
    world.Run();
    return *last;
  };
  bool varies = false;
  for (uint64_t seed = 1; seed < 50; ++seed) {
    EXPECT_EQ(run(seed), run(seed)) << "seed " << seed;
    varies = varies || run(seed) != run(1);
  }
  EXPECT_TRUE(varies);
}

}  // namespace
}  // namespace cmwq::model
