// Where a thread sleeps: the texts of /proc, real ones, and the table of samples.

#include "hooks/detect/block_sites.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "hooks/detect/task_state.h"
#include "tests/support/gate.h"

namespace cmwq::test {
namespace {

using detect::ParseSyscall;
using detect::SiteTable;
using pool::BlockSite;

TEST(BlockSites, TextsOfSyscall) {
  BlockSite site = {};
  ASSERT_TRUE(
      ParseSyscall("202 0x7ffd 0x80 0x0 0x0 0x0 0xffffffff 0x7ffd10 0x7f1234abcd\n", &site));
  EXPECT_EQ(site.nr, 202);
  EXPECT_EQ(site.pc, reinterpret_cast<void*>(0x7f1234abcd));
  ASSERT_TRUE(ParseSyscall("0 0x0 0x0 0x0 0x0 0x0 0x0 0x1 0x2\n", &site));
  EXPECT_EQ(site.nr, 0);
  ASSERT_TRUE(ParseSyscall("-1 0x7ffd10 0x55\n", &site));  // a page fault
  EXPECT_EQ(site.nr, -1);
  EXPECT_EQ(site.pc, reinterpret_cast<void*>(0x55));
  for (const char* text : {"running\n", "", "\n", "-", "12", "12 0x", "0x12 0x13", "3 4 5"}) {
    EXPECT_FALSE(ParseSyscall(text, &site)) << text;
  }
}

TEST(BlockSites, AThreadInARead) {
  if (access("/proc/self/syscall", R_OK) != 0)
    GTEST_SKIP() << "this kernel has no /proc/self/syscall";
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  std::atomic<int> tid{0};
  std::thread sleeper([&] {
    tid = base::Tid();
    char byte;
    EXPECT_EQ(read(ends[0], &byte, 1), 0);
  });
  detect::TaskStateReader reader;
  Eventually([&] { return tid != 0 && reader.Read(tid) == detect::TaskState::kAsleep; });
  BlockSite site = {};
  // It may have been asleep for something else, on its way there.
  Eventually([&] { return detect::ReadBlockSite(tid, &site) && site.nr == SYS_read; });
  EXPECT_NE(site.pc, nullptr);
  uint64_t sleeps = 0;
  EXPECT_TRUE(detect::ReadNvcsw(tid, &sleeps));
  EXPECT_GE(sleeps, 1u);
  close(ends[1]);
  sleeper.join();
  Eventually([&] { return !detect::ReadNvcsw(tid, &sleeps); });
  EXPECT_FALSE(detect::ReadBlockSite(tid, &site));
  reader.CloseAll();
  close(ends[0]);
}

BlockSite Site(long nr, const char* wchan = "") {
  BlockSite site = {};
  site.nr = nr;
  strcpy(site.wchan, wchan);
  return site;
}

TEST(BlockSites, TheMostFrequentFirst) {
  const auto table = std::make_unique<SiteTable>();
  for (int i = 0; i < 3; ++i) table->Count(Site(7, "pipe_read"));
  table->Count(Site(7, "futex_wait"));
  for (int i = 0; i < 5; ++i) table->Count(Site(-1));
  BlockSite got[4];
  ASSERT_EQ(table->Copy(got, 4), 3);
  EXPECT_EQ(got[0].nr, -1);
  EXPECT_EQ(got[0].samples, 5u);
  EXPECT_EQ(std::string(got[1].wchan), "pipe_read");
  EXPECT_EQ(got[1].samples, 3u);
  EXPECT_EQ(std::string(got[2].wchan), "futex_wait");
  ASSERT_EQ(table->Copy(got, 2), 2);
  EXPECT_EQ(got[0].samples, 5u);
  EXPECT_EQ(got[1].samples, 3u);
  table->Reset();
  EXPECT_EQ(table->Copy(got, 4), 0);
}

TEST(BlockSites, AFullTableCountsTheRest) {
  const auto table = std::make_unique<SiteTable>();
  for (int nr = 0; nr < 1000; ++nr) table->Count(Site(nr));
  BlockSite got[1000];
  const int n = table->Copy(got, 1000);
  EXPECT_EQ(static_cast<uint64_t>(n) + table->overflow(), 1000u);
  EXPECT_GT(table->overflow(), 0u);
}

TEST(BlockSites, ManyWritersLoseNoSample) {
  const auto table = std::make_unique<SiteTable>();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&table] {
      for (int i = 0; i < 2000; ++i) table->Count(Site(i % 20));
    });
  }
  for (std::thread& t : threads) t.join();
  BlockSite got[64];
  const int n = table->Copy(got, 64);
  EXPECT_EQ(n, 20);
  uint64_t sum = 0;
  for (int i = 0; i < n; ++i) sum += got[i].samples;
  EXPECT_EQ(sum, 8000u);
}

}  // namespace
}  // namespace cmwq::test
