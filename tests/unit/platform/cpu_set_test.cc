// Lists and masks of CPUs.

#include "runtime/platform/cpu_set.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <string>

#include "tests/support/fake_sysfs.h"

namespace cmwq::test {
namespace {

using platform::CpuSet;

TEST(CpuSet, ListsThatParse) {
  EXPECT_EQ(ListOf(Cpus("0-3,8")), "0-3,8");
  EXPECT_EQ(ListOf(Cpus(" 1, 3-3 ,2\n")), "1-3");
  EXPECT_EQ(ListOf(Cpus("")), "");
  EXPECT_EQ(ListOf(Cpus("\n")), "");
  EXPECT_EQ(ListOf(Cpus("4095")), "4095");
  EXPECT_EQ(Cpus("0-4095").Count(), 4096);
}

TEST(CpuSet, ListsThatDoNot) {
  for (const char* bad : {"a", "1,", ",1", "3-1", "1-", "-1", "1 2", "4096", "0-4096", "99999999999",
                          "1,,2", "0x1", "1-2-3"}) {
    CpuSet set;
    EXPECT_FALSE(set.Parse(bad)) << bad;
  }
}

TEST(CpuSet, FormatCutsAtAComma) {
  const CpuSet set = Cpus("10-12,20,30");
  char text[10];
  EXPECT_EQ(set.Format(text, sizeof(text)), 8u);
  EXPECT_STREQ(text, "10-12,20");
  EXPECT_EQ(set.Format(text, 6), 5u);
  EXPECT_STREQ(text, "10-12");
  EXPECT_EQ(set.Format(text, 1), 0u);
  EXPECT_STREQ(text, "");
  EXPECT_EQ(set.Format(text, 0), 0u);
}

TEST(CpuSet, MaskIsThatOfSchedSetaffinity) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  for (int cpu : {0, 7, 8, 63, 64, 1023}) CPU_SET(cpu, &mask);
  CpuSet set;
  ASSERT_TRUE(set.FromMask(&mask, sizeof(mask)));
  EXPECT_EQ(ListOf(set), "0,7-8,63-64,1023");
  ASSERT_TRUE(set.FromMask(&mask, 8));
  EXPECT_EQ(ListOf(set), "0,7-8,63");
  ASSERT_TRUE(set.FromMask(&mask, 0));
  EXPECT_TRUE(set.Empty());
  std::string wide(1024, '\0');
  ASSERT_TRUE(set.FromMask(wide.data(), wide.size()));
  wide[512] = 1;  // CPU 4096
  EXPECT_FALSE(set.FromMask(wide.data(), wide.size()));
}

TEST(CpuSet, Algebra) {
  EXPECT_EQ(ListOf(Cpus("0-3") & Cpus("2-5")), "2-3");
  EXPECT_TRUE(Cpus("2-3").SubsetOf(Cpus("0-3")));
  EXPECT_FALSE(Cpus("2-4").SubsetOf(Cpus("0-3")));
  EXPECT_TRUE(CpuSet().SubsetOf(Cpus("0")));
  EXPECT_TRUE(Cpus("1,2") == Cpus("1-2"));
}

}  // namespace
}  // namespace cmwq::test
