// The five questions on a full small cube, against the rules as the kernel's documentation words
// them.

#include "runtime/pool/policy.h"

#include <gtest/gtest.h>

namespace cmwq::pool {
namespace {

constexpr int kRatio = 4;  // kernel MAX_IDLE_WORKERS_RATIO

template <class F>
void ForAll(F check) {
  for (int workers = 0; workers <= 9; ++workers) {
    for (int idle = 0; idle <= workers; ++idle) {
      for (int running = 0; running <= workers - idle; ++running) {
        for (int bits = 0; bits < 4; ++bits) {
          const bool managing = (bits & 2) != 0;
          if (managing && idle == workers) continue;  // the manager is a worker that is not idle
          const PoolCounts c = {(bits & 1) != 0, running, idle, workers, managing};
          SCOPED_TRACE(::testing::Message()
                       << "worklist " << c.worklist << " running " << running << " idle " << idle
                       << " workers " << workers << " managing " << managing);
          check(c);
        }
      }
    }
  }
}

TEST(Policy, OneMoreIsNeededWhenWorkWaitsAndNobodyRuns) {
  ForAll([](const PoolCounts& c) {
    bool expected = false;
    if (c.worklist) {
      if (c.nr_running == 0) expected = true;
    }
    EXPECT_EQ(NeedMoreWorker(c), expected);
  });
}

TEST(Policy, AWorkerMayStartWhileAnotherIsIdle) {
  ForAll([](const PoolCounts& c) { EXPECT_EQ(MayStartWorking(c), c.nr_idle != 0); });
}

TEST(Policy, AWorkerGoesOnWhileItIsTheOnlyOneRunning) {
  ForAll([](const PoolCounts& c) {
    bool expected = false;
    switch (c.nr_running) {
      case 0:  // it is not counted itself: unbound or CPU intensive
      case 1:
        expected = c.worklist;
        break;
      default:
        break;
    }
    EXPECT_EQ(KeepWorking(c), expected);
  });
}

TEST(Policy, CreationIsNeededOnlyWithoutAnIdleWorker) {
  ForAll([](const PoolCounts& c) {
    const bool expected = c.worklist && c.nr_running == 0 && c.nr_idle == 0;
    EXPECT_EQ(NeedToCreateWorker(c), expected);
    EXPECT_FALSE(NeedToCreateWorker(c) && MayStartWorking(c));
  });
}

TEST(Policy, TooManyIsTwoPlusAQuarterOfTheBusyOnes) {
  ForAll([](const PoolCounts& c) {
    int idle = c.nr_idle;
    if (c.managing) idle += 1;
    int busy = c.nr_workers;
    busy -= idle;
    bool expected = true;
    if (idle <= 2) expected = false;
    if ((idle - 2) * kRatio < busy) expected = false;
    EXPECT_EQ(TooManyWorkers(c, kRatio), expected);
  });
}

// Idle workers left when culling stops, with `busy` working all the time.
int Survivors(int busy, bool managing, int ratio = kRatio) {
  const int role = managing ? 1 : 0;
  int idle = 100 - role;
  while (TooManyWorkers({false, busy > 0 ? 1 : 0, idle, idle + busy + role, managing}, ratio)) {
    --idle;
  }
  return idle + role;
}

TEST(Policy, CullingLeavesWhatTheKernelLeaves) {
  const struct {
    int first, last, idle;
  } kTable[] = {
      {0, 4, 2}, {5, 8, 3}, {9, 12, 4}, {13, 16, 5}, {32, 32, 9}, {64, 64, 17}, {128, 128, 33},
  };
  for (const auto& row : kTable) {
    for (int busy = row.first; busy <= row.last; ++busy) {
      EXPECT_EQ(Survivors(busy, false), row.idle) << "busy " << busy;
      EXPECT_EQ(Survivors(busy, true), row.idle) << "busy " << busy << " with a manager";
    }
  }
}

TEST(Policy, CullingNeverLeavesFewerThanTwo) {
  for (int ratio = 1; ratio <= 16; ++ratio) {
    for (int busy = 0; busy <= 80; ++busy) {
      EXPECT_GE(Survivors(busy, false, ratio), 2) << busy << " busy, ratio " << ratio;
    }
  }
}

static_assert(NeedMoreWorker({true, 0, 0, 1, false}), "usable at compile time");

}  // namespace
}  // namespace cmwq::pool
