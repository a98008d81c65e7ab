// The statistics page without a process around it: the histogram, the file, its life over fork.

#include "runtime/platform/stats_page.h"

#include <gtest/gtest.h>
#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "runtime/platform/stats_layout.h"
#include "tests/support/log_capture.h"

namespace cmwq::test {
namespace {

using platform::StatsHeader;
using platform::StatsHistogram;
using platform::StatsPage;

TEST(StatsHistogram, EveryValueLiesInItsBucket) {
  for (uint64_t value = 1; value < uint64_t{1} << 40; value += value / 7 + 1) {
    const int bucket = StatsHistogram::BucketOf(value);
    ASSERT_GE(bucket, 0);
    ASSERT_LT(bucket, StatsHistogram::kBuckets);
    EXPECT_GE(value, StatsHistogram::LowerBound(bucket)) << value;
    if (bucket + 1 < StatsHistogram::kBuckets) {
      EXPECT_LT(value, StatsHistogram::LowerBound(bucket + 1)) << value;
    }
  }
  EXPECT_EQ(StatsHistogram::BucketOf(0), 0);
  EXPECT_EQ(StatsHistogram::BucketOf(~uint64_t{0}), StatsHistogram::kBuckets - 1);
}

TEST(StatsHistogram, BucketsAreAtMostAQuarterWide) {
  for (int b = 1; b + 1 < StatsHistogram::kBuckets - 1; ++b) {
    const uint64_t from = StatsHistogram::LowerBound(b), to = StatsHistogram::LowerBound(b + 1);
    EXPECT_LE(to - from, from / 4) << b;
    EXPECT_GT(to, from) << b;
  }
}

class StatsPageTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/cmwq-stats-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    page_->Unlink();
    for (const std::string& file : Files()) unlink((folder_ + "/" + file).c_str());
    EXPECT_EQ(rmdir(folder_.c_str()), 0);
  }
  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    DIR* const dir = opendir(folder_.c_str());
    while (const dirent* entry = readdir(dir)) {
      if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    }
    closedir(dir);
    return names;
  }
  std::string Content() const {
    std::ifstream file(page_->path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  const std::unique_ptr<StatsPage> page_ = std::make_unique<StatsPage>();  // what it maps stays
  std::string folder_;
};

TEST_F(StatsPageTest, DescribesItself) {
  ASSERT_EQ(page_->CreateIn(folder_.c_str(), StatsPage::Edition::kLibrary), 0);
  ASSERT_EQ(Files().size(), 1u);
  struct stat st;
  ASSERT_EQ(stat(page_->path(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  page_->PoolRow(3)->pending.store(0x1234);
  const std::string content = Content();
  StatsHeader header;
  memcpy(static_cast<void*>(&header), content.data(), sizeof(header));
  EXPECT_EQ(header.magic, platform::kStatsMagic);
  EXPECT_EQ(header.pid, static_cast<uint32_t>(getpid()));
  EXPECT_EQ(header.size, content.size());
  const auto* const tables =
      reinterpret_cast<const platform::StatsTable*>(content.data() + header.tables_offset);
  const auto* const fields =
      reinterpret_cast<const platform::StatsField*>(content.data() + header.fields_offset);
  const auto* const field = std::find_if(fields, fields + header.nr_fields, [](const auto& f) {
    return std::string(f.name) == "pending";
  });
  ASSERT_NE(field, fields + header.nr_fields);
  EXPECT_STREQ(tables[field->scope].name, "pools");
  uint32_t value = 0;
  memcpy(&value, content.data() + tables[field->scope].offset + 3 * tables[field->scope].stride + field->offset, 4);
  EXPECT_EQ(value, 0x1234u);
  for (uint32_t i = 0; i < header.nr_fields; ++i) {
    EXPECT_LE(fields[i].offset + fields[i].size, tables[fields[i].scope].stride) << fields[i].name;
    EXPECT_LT(strnlen(fields[i].name, sizeof(fields[i].name)), sizeof(fields[i].name));
  }
  page_->Unlink();
  EXPECT_TRUE(Files().empty());
  page_->PoolRow(3)->pending.store(1);  // rows outlive the file
}

TEST_F(StatsPageTest, RowsEnd) {
  ASSERT_EQ(page_->CreateIn(folder_.c_str(), StatsPage::Edition::kPreload), 0);
  std::vector<platform::StatsWorker*> rows;
  for (uint32_t i = 0; i < StatsPage::kMaxWorkers; ++i) rows.push_back(page_->TakeWorker());
  std::sort(rows.begin(), rows.end());
  EXPECT_NE(rows.front(), nullptr);
  EXPECT_EQ(std::unique(rows.begin(), rows.end()), rows.end());
  EXPECT_EQ(page_->TakeWorker(), nullptr);
  EXPECT_EQ(page_->TakeWorker(), nullptr);
  EXPECT_EQ(page_->PoolRow(0), nullptr);  // the other edition's
  EXPECT_NE(page_->GateRow(0), nullptr);
  EXPECT_EQ(page_->GateRow(1u << 20), nullptr);
}

TEST_F(StatsPageTest, RefusedItIsInert) {
  LogCapture log;
  EXPECT_LT(page_->CreateIn("/tmp/cmwq-stats-there-is-none", StatsPage::Edition::kLibrary), 0);
  EXPECT_FALSE(page_->published());
  EXPECT_EQ(page_->TakeWorker(), nullptr);
  EXPECT_EQ(page_->PoolRow(0), nullptr);
  page_->Unlink();
  page_->ResetAfterFork();
  page_->Again();
  const std::vector<std::string> lines = log.Take();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("no statistics page"), std::string::npos);
}

TEST_F(StatsPageTest, ForkedChildWritesItsOwn) {
  ASSERT_EQ(page_->CreateIn(folder_.c_str(), StatsPage::Edition::kLibrary), 0);
  platform::StatsPool* const row = page_->PoolRow(0);
  row->queued.store(7);
  const pid_t pid = fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    page_->Unlink();  // before the handler: not ours
    if (Files().size() != 1) _exit(1);
    page_->ResetAfterFork();
    row->queued.store(8);  // nobody's page
    if (Files().size() != 1) _exit(2);
    page_->Again();
    if (Files().size() != 2 || row->queued.load() != 0) _exit(3);
    row->queued.store(9);
    page_->Unlink();
    _exit(Files().size() == 1 ? 0 : 4);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0) << WEXITSTATUS(status);
  EXPECT_EQ(row->queued.load(), 7u);
}

TEST_F(StatsPageTest, PagesOfTheDeadAreTakenAway) {
  const pid_t pid = fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) _exit(page_->CreateIn(folder_.c_str(), StatsPage::Edition::kLibrary) == 0 ? 0 : 1);
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  ASSERT_EQ(status, 0);
  ASSERT_EQ(Files().size(), 1u);
  const std::string left = Files()[0];
  std::ofstream(folder_ + "/cmwq.other") << "not a page";
  ASSERT_EQ(page_->CreateIn(folder_.c_str(), StatsPage::Edition::kLibrary), 0);
  const std::vector<std::string> files = Files();
  EXPECT_EQ(files.size(), 2u);
  EXPECT_EQ(std::count(files.begin(), files.end(), left), 0);
  EXPECT_EQ(std::count(files.begin(), files.end(), "cmwq.other"), 1);
}

}  // namespace
}  // namespace cmwq::test
