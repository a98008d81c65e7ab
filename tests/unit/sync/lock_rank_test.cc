#include "runtime/sync/lock_rank.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "runtime/sync/mutex.h"

namespace cmwq::sync {
namespace {

TEST(LockRank, EveryRankHasItsName) {
  std::set<std::string> names;
  for (int r = static_cast<int>(Rank::kAttrs); r <= static_cast<int>(Rank::kLeaf); ++r) {
    names.insert(RankName(static_cast<Rank>(r)));
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(Rank::kLeaf));
  EXPECT_EQ(names.count("?"), 0u);
  EXPECT_STREQ(RankName(static_cast<Rank>(99)), "?");
}

TEST(LockRank, PoolIsBelowWorkqueueAndAboveMayday) {
  EXPECT_LT(Rank::kWorkqueue, Rank::kPool);
  EXPECT_LT(Rank::kTimer, Rank::kPool);
  EXPECT_LT(Rank::kPool, Rank::kMayday);
  EXPECT_LT(Rank::kGate, Rank::kLeaf);
}

#if defined(CMWQ_DEBUG)

class LockRankDeathTest : public ::testing::Test {
 protected:
  LockRankDeathTest() { ::testing::FLAGS_gtest_death_test_style = "threadsafe"; }
  Mutex workqueue_{Rank::kWorkqueue};
  Mutex pool_{Rank::kPool};
  Mutex other_pool_{Rank::kPool};
  Mutex leaf_{Rank::kLeaf};
};

TEST_F(LockRankDeathTest, RisingRanksAreFine) {
  MutexLock a(workqueue_);
  EXPECT_EQ(RanksHeld(), 1);
  MutexLock b(pool_);
  MutexLock c(leaf_);
  EXPECT_EQ(RanksHeld(), 3);
}

TEST_F(LockRankDeathTest, AnyOrderOfRelease) {
  workqueue_.Lock();
  pool_.Lock();
  workqueue_.Unlock();
  leaf_.Lock();
  pool_.Unlock();
  leaf_.Unlock();
  EXPECT_EQ(RanksHeld(), 0);
}

TEST_F(LockRankDeathTest, FallingRanksAbortAndNameBoth) {
  EXPECT_DEATH(
      {
        pool_.Lock();
        workqueue_.Lock();
      },
      "held: pool.*\n.*wanted: workqueue.*\n.*lock order");
}

TEST_F(LockRankDeathTest, TwoOfOneRankAbort) {
  EXPECT_DEATH(
      {
        pool_.Lock();
        other_pool_.Lock();
      },
      "lock order");
}

TEST_F(LockRankDeathTest, ForkHandlersMayTakeTwoOfOneRank) {
  pool_.LockSameRank();
  other_pool_.LockSameRank();
  EXPECT_EQ(RanksHeld(), 2);
  other_pool_.Unlock();
  pool_.Unlock();
  EXPECT_EQ(RanksHeld(), 0);
}

TEST_F(LockRankDeathTest, TryLockIsCheckedToo) {
  EXPECT_DEATH(
      {
        leaf_.Lock();
        (void)pool_.TryLock();
      },
      "lock order");
}

TEST_F(LockRankDeathTest, AFailedTryLockLeavesNoTrace) {
  pool_.Lock();
  MutexLock hold(leaf_);
  pool_.Unlock();
  EXPECT_EQ(RanksHeld(), 1);
}

#endif

}  // namespace
}  // namespace cmwq::sync
