#include "runtime/base/check.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "tests/support/log_capture.h"

namespace cmwq::base {
namespace {

TEST(Check, PassesQuietly) {
  test::LogCapture log;
  int evaluated = 0;
  CMWQ_CHECK(++evaluated == 1);
  CMWQ_CHECK_OP(evaluated, ==, 1);
  CMWQ_ASSERT(evaluated == 1);
  EXPECT_EQ(evaluated, 1);
  EXPECT_TRUE(log.Take().empty());
}

TEST(CheckDeathTest, EndsTheProcessWithOneLine) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(CMWQ_CHECK(1 + 1 == 3), ::testing::KilledBySignal(SIGABRT),
              "check_test.cc:[0-9]+: check failed: 1 \\+ 1 == 3");
}

TEST(CheckDeathTest, PrintsTheOperands) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  const int a = 3, b = -7;
  EXPECT_EXIT(CMWQ_CHECK_OP(a, <, b), ::testing::KilledBySignal(SIGABRT), "a < b \\(3, -7\\)");
}

TEST(CheckDeathTest, AssertsCountInDebugBuildsOnly) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  int evaluated = 0;
#if defined(CMWQ_DEBUG)
  EXPECT_DEATH(CMWQ_ASSERT(evaluated == 1), "check failed");
#else
  CMWQ_ASSERT(++evaluated == 5);
#endif
  EXPECT_EQ(evaluated, 0);
}

TEST(WarnOnce, OncePerPlace) {
  test::LogCapture log;
  for (int i = 0; i < 3; ++i) CMWQ_WARN_ONCE("first place %d", i);
  for (int i = 0; i < 3; ++i) CMWQ_WARN_ONCE("second place %d", i);
  EXPECT_EQ(log.Take(),
            (std::vector<std::string>{"cmwq: first place 0\n", "cmwq: second place 0\n"}));
}

}  // namespace
}  // namespace cmwq::base
