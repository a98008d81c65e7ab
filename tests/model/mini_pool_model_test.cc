// A pool under every schedule: every item is executed although some wait for others, and in the end
// all workers are idle and the counter is zero.

#include <gtest/gtest.h>

#include "tests/model/explore.h"
#include "tests/model/mini_pool.h"

namespace cmwq::model {
namespace {

void Nothing(MiniPool*, int) {}

// Items that wait for a later one: each needs one more worker, or nothing moves.
void ChainOfWaits(World& world, uint32_t flags, PoolDefects defects) {
  MiniPool* pool = world.Make<MiniPool>("pool", flags, defects);
  pool->AddWorkers(world);
  world.Thread("queuer", [=] {
    pool->Queue([](MiniPool* p, int w) { p->AnnouncedWait(w, 0); });
    pool->Queue([](MiniPool* p, int w) {
      p->AnnouncedWait(w, 1);
      p->Signal(0);
    });
    pool->Queue([](MiniPool* p, int) { p->Signal(1); });
  });
  world.AtEnd([=] { pool->CheckEnd(3); });
}

Program Chain(uint32_t flags, PoolDefects defects = {}) {
  return [=](World& world) { ChainOfWaits(world, flags, defects); };
}

TEST(MiniPool, NoWorkIsLostWhenItemsWaitForEachOther) { ExpectHolds(Chain(0)); }

TEST(MiniPool, UncountedWorkersStartEachOther) { ExpectHolds(Chain(pool::WorkerFlag::kUnbound)); }

TEST(MiniPool, PlantedDefectsAreCaught) {
  PoolDefects d;
  d.sleeper_never_kicks = true;
  ExpectCaught("executed_ == expected", Chain(0, d));
  d = {};
  d.queuer_never_kicks = true;
  ExpectCaught("executed_ == expected", Chain(0, d));
  d = {};
  d.start_without_spare = true;
  ExpectCaught("executed_ == expected", Chain(0, d));
}

// A block that is over soon, and one that only the next item ends: whoever was needed in the first need not
// be any more, and is in the second.
Program ShortBlockThenLong(PoolDefects defects = {}) {
  return [=](World& world) {
    MiniPool* pool = world.Make<MiniPool>("pool", 0u, defects);
    pool->AddWorkers(world);
    world.Thread("queuer", [=] {
      pool->Queue([](MiniPool* p, int w) {
        p->AnnouncedWait(w, 0);
        p->AnnouncedWait(w, 1);
      });
      pool->Queue([](MiniPool* p, int) { p->Signal(1); });
    });
    world.Thread("signaller", [=] { pool->Signal(0); });
    world.AtEnd([=] { pool->CheckEnd(2); });
  };
}

TEST(MiniPool, AnAvoidedCreationLosesNothing) { ExpectHolds(ShortBlockThenLong()); }

TEST(MiniPool, MovementTakenForAnEndOfTheNeedIsCaught) {
  PoolDefects d;
  d.idle_when_others_moved = true;
  ExpectCaught("executed_ == expected", ShortBlockThenLong(d));
}

// Two queuers and items that only run: the simplest race between "last one goes idle" and "one more
// arrives".
Program TwoQueuers(PoolDefects defects = {}) {
  return [=](World& world) {
    MiniPool* pool = world.Make<MiniPool>("pool", 0u, defects);
    pool->AddWorkers(world);
    for (const char* name : {"queuer-0", "queuer-1"}) {
      world.Thread(name, [=] {
        pool->Queue(Nothing);
        pool->Queue(Nothing);
      });
    }
    world.AtEnd([=] { pool->CheckEnd(4); });
  };
}

TEST(MiniPool, QueuersRaceWithWorkersGoingIdle) { ExpectHolds(TwoQueuers()); }

// A worker that came back from blocking makes two run; one of them goes idle with work on the list
// while the other blocks. Whoever leaves last must look again.
Program ReturnersAndLeavers(PoolDefects defects = {}) {
  return [=](World& world) {
    MiniPool* pool = world.Make<MiniPool>("pool", 0u, defects);
    pool->AddWorkers(world);
    world.Thread("queuer", [=] {
      pool->Queue([](MiniPool* p, int w) {
        p->AnnouncedWait(w, 0);
        p->AnnouncedWait(w, 1);
      });
      pool->Queue([](MiniPool* p, int) { p->Signal(0); });
      pool->Queue([](MiniPool* p, int) { p->Signal(1); });
    });
    world.AtEnd([=] { pool->CheckEnd(3); });
  };
}

TEST(MiniPool, SomebodyLooksAgainBeforeGoingIdle) { ExpectHolds(ReturnersAndLeavers()); }

TEST(MiniPool, GoingIdleWithoutALookIsCaught) {
  PoolDefects d;
  d.no_recheck_before_idle = true;
  ExpectCaught("executed_ == expected", ReturnersAndLeavers(d));
}

// An item queues the item it waits for, as a work function may.
TEST(MiniPool, AnItemMayWaitForOneThatItQueues) {
  ExpectHolds([](World& world) {
    MiniPool* pool = world.Make<MiniPool>("pool");
    pool->AddWorkers(world);
    world.Thread("queuer", [=] {
      pool->Queue([](MiniPool* p, int w) {
        p->Queue([](MiniPool* q, int) { q->Signal(0); });
        p->AnnouncedWait(w, 0);
      });
    });
    world.AtEnd([=] { pool->CheckEnd(2); });
  });
}

// Nobody announces the wait: the detector is the only one who can start the second worker.
Program SilentWaits(PoolDefects defects = {}) {
  return [=](World& world) {
    MiniPool* pool = world.Make<MiniPool>("pool", 0u, defects);
    pool->AddWorkers(world);
    world.Thread("queuer", [=] {
      pool->Queue([](MiniPool* p, int w) { p->SilentWait(w, 0); });
      pool->Queue([](MiniPool* p, int) { p->Signal(0); });
    });
    world.Thread("detector", [=] {
      int rounds = 0;
      while (pool->executed() < 2) {
        if (++rounds > 1000) Fail("the detector does not get the second item started");
        Yield();
        pool->Detect();
      }
    });
    world.AtEnd([=] { pool->CheckEnd(2); });
  };
}

TEST(MiniPool, ADetectorKeepsThePoolGoing) { ExpectHolds(SilentWaits()); }

TEST(MiniPool, ADetectorThatDoesNotNudgeIsCaught) {
  PoolDefects d;
  d.detector_never_nudges = true;
  ExpectCaught("does not get the second item started", SilentWaits(d));
}

// A random program: each item may wait, announced or not, for the end of a later one, so that all
// can finish only if a worker is found for every item. The detector sleeps whenever it cannot help;
// the culler takes idle workers away, whose objects then serve new threads.
Program RandomItems(PoolDefects defects = {}) {
  return [=](World& world) {
    constexpr int kItems = 4;
    MiniPool* pool = world.Make<MiniPool>("pool", 0u, defects);
    pool->AddWorkers(world);
    int waits_for[kItems];
    bool silent[kItems];
    for (int i = 0; i < kItems; ++i) {
      const uint32_t later = static_cast<uint32_t>(kItems - 1 - i);
      waits_for[i] =
          world.Random(3) != 0 && later > 0 ? i + 1 + static_cast<int>(world.Random(later)) : -1;
      silent[i] = world.Random(2) == 0;
    }
    world.Thread("queuer", [=] {
      for (int i = 0; i < kItems; ++i) {
        const int event = waits_for[i];
        const bool quiet = silent[i];
        pool->Queue([=](MiniPool* p, int w) {
          if (event >= 0 && quiet) p->SilentWait(w, event);
          if (event >= 0 && !quiet) p->AnnouncedWait(w, event);
          p->Signal(i);
        });
      }
    });
    world.Thread("culler", [=] {
      for (int i = 0; i < 3; ++i) pool->Cull(2);
    });
    world.Daemon("detector", [=] { pool->DetectorLoop(); });
    world.AtEnd([=] { pool->CheckEnd(kItems); });
  };
}

TEST(MiniPool, EveryItemFindsAWorker) { ExpectHolds(RandomItems()); }

TEST(MiniPool, ADetectorThatIsNotToldIsCaught) {
  PoolDefects d;
  d.no_arm_when_queued = true;
  ExpectCaught("executed_ == expected", RandomItems(d));
  d = {};
  d.no_arm_when_started = true;
  ExpectCaught("executed_ == expected", RandomItems(d));
  d = {};
  d.no_arm_when_idle = true;
  ExpectCaught("executed_ == expected", RandomItems(d));
  d = {};
  d.dormant_without_look = true;
  ExpectCaught("executed_ == expected", RandomItems(d));
}

// Waking happens after the lock was dropped: by then the worker may have been culled, and its
// object may serve a thread that is not on the idle list yet.
Program QueuersAndACuller(PoolDefects defects = {}) {
  return [=](World& world) {
    MiniPool* pool = world.Make<MiniPool>("pool", 0u, defects);
    pool->AddWorkers(world);
    for (const char* name : {"queuer-0", "queuer-1"}) {
      world.Thread(name, [=] {
        pool->Queue(Nothing);
        pool->Queue([](MiniPool* p, int w) { p->AnnouncedWait(w, 0); });
        pool->Queue([](MiniPool* p, int) { p->Signal(0); });
      });
    }
    world.Thread("culler", [=] {
      for (; pool->executed() < 6; Yield()) pool->Cull(1);
    });
    world.Thread("late-waker", [=] {
      for (; pool->executed() < 6; Yield()) pool->LateWake(0);
    });
    world.AtEnd([=] { pool->CheckEnd(6); });
  };
}

TEST(MiniPool, CulledWorkersAreReused) { ExpectHolds(QueuersAndACuller()); }

TEST(MiniPool, ATokenForAFormerWorkerIsCaught) {
  PoolDefects d;
  d.wake_means_idle = true;
  ExpectCaught("workers_[self].idle", QueuersAndACuller(d));
}

}  // namespace
}  // namespace cmwq::model
