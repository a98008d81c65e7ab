// StateWord, one thread: every activity, every combination of flags, every changer. Races are the
// business of tests/model.

#include "runtime/pool/state_word.h"

#include <gtest/gtest.h>

#include <vector>

#include "runtime/pool/concurrency.h"

namespace cmwq::pool {
namespace {

constexpr uint32_t kFlags[] = {WorkerFlag::kPrep, WorkerFlag::kCpuIntensive, WorkerFlag::kUnbound,
                               WorkerFlag::kRebound};

uint32_t FlagSet(int bits) {
  uint32_t flags = 0;
  for (int i = 0; i < 4; ++i) flags |= (bits >> i & 1) != 0 ? kFlags[i] : 0;
  return flags;
}

constexpr uint32_t FlagsOf(uint32_t w) { return w & WorkerFlag::kNotRunningMask; }

TEST(StateWord, StartsInPrepAndUncounted) {
  StateWord word;
  EXPECT_EQ(FlagsOf(word.Load()), WorkerFlag::kPrep);
  EXPECT_FALSE(StateWord::Counted(word.Load()));
}

TEST(StateWord, TheMaskIsAllFlags) {
  EXPECT_EQ(WorkerFlag::kNotRunningMask, FlagSet(15));
  EXPECT_EQ(WorkerFlag::kNotRunningMask & 0xffff00ffu, 0u) << "flags live in bits 8 to 15";
}

TEST(StateWord, CountsExactlyWhenRunningWithoutFlags) {
  for (int bits = 0; bits < 16; ++bits) {
    for (uint32_t activity = 0; activity < 3; ++activity) {
      EXPECT_EQ(StateWord::Counted(FlagSet(bits) | activity), bits == 0 && activity == 0);
    }
  }
}

// Every changer from every state: the returned change is the difference, whatever it was.
TEST(StateWord, ReturnedChangesAreTheDifferences) {
  for (int bits = 0; bits < 16; ++bits) {
    for (uint32_t activity = 0; activity < 3; ++activity) {
      for (int action = 0; action < 6; ++action) {
        StateWord word;
        word.Reset(FlagSet(bits) | activity);
        const uint32_t before = word.Load();
        int change = 0;
        switch (action) {
          case 0:
            change = word.Sleep();
            break;
          case 1:
            change = word.Run();
            break;
          case 2:
            change = word.SetFlags(WorkerFlag::kCpuIntensive);
            break;
          case 3:
            change = word.ClearFlags(WorkerFlag::kCpuIntensive | WorkerFlag::kPrep);
            break;
          case 4:
            change = word.Presume(before);
            break;
          case 5:
            change = word.Unpresume(before);
            break;
        }
        const int difference = static_cast<int>(StateWord::Counted(word.Load())) -
                               static_cast<int>(StateWord::Counted(before));
        EXPECT_EQ(change, difference)
            << "flags " << FlagSet(bits) << " activity " << activity << " action " << action;
      }
    }
  }
}

TEST(StateWord, HooksKeepTheFlags) {
  for (int bits = 0; bits < 16; ++bits) {
    StateWord word;
    word.Reset(FlagSet(bits));
    word.Sleep();
    EXPECT_EQ(FlagsOf(word.Load()), FlagSet(bits));
    EXPECT_EQ(StateWord::ActivityOf(word.Load()), Activity::kSleeping);
    word.Run();
    EXPECT_EQ(FlagsOf(word.Load()), FlagSet(bits));
    EXPECT_EQ(StateWord::ActivityOf(word.Load()), Activity::kRunning);
  }
}

TEST(StateWord, OnlyTheFirstAndTheLastFlagCount) {
  // For every order of setting and clearing two different flags.
  for (const uint32_t first : kFlags) {
    for (const uint32_t second : kFlags) {
      if (first == second) continue;
      StateWord word;
      word.Reset(0);
      EXPECT_EQ(word.SetFlags(first), -1);
      EXPECT_EQ(word.SetFlags(second), 0);
      EXPECT_EQ(word.SetFlags(first), 0) << "set twice";
      EXPECT_EQ(word.ClearFlags(first), 0);
      EXPECT_EQ(word.ClearFlags(second), 1);
      EXPECT_EQ(word.ClearFlags(second), 0) << "cleared twice";
    }
  }
}

TEST(StateWord, AFlagSetWhileSleepingChangesNothing) {
  StateWord word;
  word.Reset(0);
  EXPECT_EQ(word.Sleep(), -1);
  EXPECT_EQ(word.SetFlags(WorkerFlag::kCpuIntensive), 0);
  EXPECT_EQ(word.Run(), 0);
  EXPECT_EQ(word.ClearFlags(WorkerFlag::kCpuIntensive), 1);
}

TEST(StateWord, ReplacingFlagsIsOneChange) {
  StateWord word;
  word.Reset(WorkerFlag::kUnbound);
  EXPECT_EQ(word.ReplaceFlags(WorkerFlag::kUnbound, WorkerFlag::kRebound), 0);
  EXPECT_EQ(FlagsOf(word.Load()), WorkerFlag::kRebound);
  EXPECT_EQ(word.ReplaceFlags(WorkerFlag::kRebound, 0), 1);
}

TEST(StateWord, EveryChangeMakesAnOlderLookWorthless) {
  StateWord word;
  word.Reset(0);
  const uint32_t seen = word.Load();
  word.Sleep();
  word.Run();
  EXPECT_EQ(word.Presume(seen), 0);
  EXPECT_TRUE(StateWord::Counted(word.Load()));
  EXPECT_EQ(word.Presume(word.Load()), -1);
  const uint32_t presumed = word.Load();
  EXPECT_EQ(word.Run(), 1);
  EXPECT_EQ(word.Unpresume(presumed), 0);
}

TEST(StateWord, TheSequenceMayWrap) {
  StateWord word;
  word.Reset(0);
  for (int i = 0; i < 70'000; ++i) {
    ASSERT_EQ(word.Sleep(), -1) << i;
    ASSERT_EQ(word.Run(), 1) << i;
  }
  EXPECT_EQ(FlagsOf(word.Load()), 0u);
}

TEST(Concurrency, CountersHaveTheirOwnCacheLines) {
  EXPECT_EQ(alignof(Concurrency), 64u);
  EXPECT_EQ(sizeof(Concurrency), 128u);
}

TEST(Concurrency, KicksOnlyWhenTheLastOneLeavesWithWorkPending) {
  Concurrency conc;
  StateWord a, b;
  conc.ClearFlags(a, WorkerFlag::kPrep);
  conc.ClearFlags(b, WorkerFlag::kPrep);
  EXPECT_EQ(conc.nr_running(), 2);
  EXPECT_FALSE(conc.SetPending(1));
  EXPECT_FALSE(conc.Sleeping(a));
  EXPECT_TRUE(conc.Sleeping(b));
  EXPECT_TRUE(conc.SetPending(2));
  conc.Running(a);
  EXPECT_FALSE(conc.SetPending(3));
  conc.LowerPending(0);
  EXPECT_FALSE(conc.Sleeping(a)) << "nothing is pending";
}

TEST(Concurrency, NeverReadsNegative) {
  Concurrency conc;
  conc.Repair(-3);
  EXPECT_EQ(conc.nr_running(), 0);
  EXPECT_EQ(conc.RawRunning(), -3);
  conc.Repair(3);
  EXPECT_EQ(conc.RawRunning(), 0);
}

TEST(Concurrency, ResetForgetsEverything) {
  Concurrency conc;
  StateWord word;
  conc.ClearFlags(word, WorkerFlag::kPrep);
  conc.SetPending(4);
  conc.Reset();
  EXPECT_EQ(conc.nr_running(), 0);
  EXPECT_EQ(conc.nr_pending(), 0u);
}

}  // namespace
}  // namespace cmwq::pool
