// Reading the statistics pages of other processes. Maps them read-only; the processes notice nothing.

#ifndef CMWQ_TOOLS_STATS_PAGE_H_
#define CMWQ_TOOLS_STATS_PAGE_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/platform/stats_layout.h"

namespace cmwq::tools::stats {

// What the name of a page says.
struct PageName {
  std::string path;
  pid_t pid = 0;
  uint64_t start_time = 0;
  std::string edition;
};

// The pages in `folder`, by process and edition.
std::vector<PageName> ListPages(const std::string& folder);

enum class Liveness {
  kAlive,
  kStale,    // the process is gone, has another page by now, or executes another program
  kForeign,  // of another pid name space: nobody here can know
};
Liveness Judge(const PageName& name);

// One row, by the names of its fields. A field that the page does not have reads as 0 or "".
class Row {
 public:
  uint64_t operator[](std::string_view field) const;
  std::string Text(std::string_view field) const;
  std::vector<uint64_t> Counts(std::string_view field) const;
  uint32_t index() const { return index_; }

 private:
  friend class Page;
  const class Page* page_ = nullptr;
  uint32_t scope_ = 0, index_ = 0;
  std::string bytes_;
};

class Page {
 public:
  Page() = default;
  ~Page();
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;

  // False with the reason in `error`: not readable, no page, another version.
  bool Open(const PageName& name, std::string* error);

  pid_t pid() const { return name_.pid; }
  const PageName& name() const { return name_; }
  const std::string& edition() const { return name_.edition; }
  std::string command() const;
  std::string release() const;
  uint64_t created_ns() const;
  uint64_t pid_ns() const;

  // The rows of a table that are in use, each a copy in which what was written together is together. `key` is
  // the field that is not 0 in them.
  std::vector<Row> Rows(std::string_view table, std::string_view key) const;

 private:
  friend class Row;
  const platform::StatsField* Find(uint32_t scope, std::string_view name) const;
  bool Check(std::string* error) const;
  bool CopyRow(uint32_t scope, uint32_t row, std::string* bytes) const;

  PageName name_;
  const char* base_ = nullptr;
  size_t size_ = 0;
};

// Where in the histogram a fraction of what was counted lies: the upper end of the bucket in ns; 0: empty.
uint64_t Quantile(const std::vector<uint64_t>& counts, double fraction);

// "libfoo.so+0x12a0" for an address of the process; the bare number where its map cannot be read.
std::string Where(pid_t pid, uint64_t address);

}  // namespace cmwq::tools::stats

#endif  // CMWQ_TOOLS_STATS_PAGE_H_
