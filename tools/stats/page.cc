#include "tools/stats/page.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "tools/common/text.h"

namespace cmwq::tools::stats {
namespace {

using platform::StatsField;
using platform::StatsHeader;
using platform::StatsHistogram;
using platform::StatsTable;
using platform::StatsType;

bool ParseU64(std::string_view text, uint64_t* value) {
  if (text.empty() || text.size() > 20) return false;
  uint64_t v = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return false;
    v = v * 10 + static_cast<uint64_t>(c - '0');
  }
  *value = v;
  return true;
}

// cmwq.PID.STARTTIME.EDITION
bool ParseName(const std::string& folder, const std::string& file, PageName* name) {
  const std::vector<std::string> parts = Split(file, '.');
  long pid = 0;
  if (parts.size() != 4 || parts[0] != "cmwq" || !ParseInt(parts[1], 1, 1L << 30, &pid) ||
      !ParseU64(parts[2], &name->start_time) || (parts[3] != "library" && parts[3] != "preload")) {
    return false;
  }
  name->path = folder + "/" + file;
  name->pid = static_cast<pid_t>(pid);
  name->edition = parts[3];
  return true;
}

// Of a running process; 0: there is none. A zombie has ended as far as its page is concerned.
uint64_t StartTimeOf(pid_t pid) {
  const std::string text = ReadFile(StrPrintf("/proc/%d/stat", pid));
  const size_t end = text.rfind(") ");
  if (end == std::string::npos) return 0;
  const std::vector<std::string> fields = Split(std::string_view(text).substr(end + 2), ' ');
  uint64_t value = 0;
  if (fields.size() < 20 || fields[0] == "Z" || fields[0] == "X") return 0;
  return ParseU64(fields[19], &value) ? value : 0;
}

uint64_t OwnPidNamespace() {
  struct stat st;
  return stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0;
}

std::string FixedText(const char* text, size_t size) { return {text, strnlen(text, size)}; }

// Eight bytes at a time, as they were written.
void CopyWords(const char* from, size_t size, std::string* to) {
  to->resize(size);
  for (size_t at = 0; at + 8 <= size; at += 8) {
    const uint64_t word =
        __atomic_load_n(reinterpret_cast<const uint64_t*>(from + at), __ATOMIC_ACQUIRE);
    memcpy(to->data() + at, &word, 8);
  }
}

}  // namespace

std::vector<PageName> ListPages(const std::string& folder) {
  std::vector<PageName> pages;
  DIR* const dir = opendir(folder.c_str());
  if (dir == nullptr) return pages;
  while (const dirent* entry = readdir(dir)) {
    PageName name;
    if (ParseName(folder, entry->d_name, &name)) pages.push_back(name);
  }
  closedir(dir);
  std::sort(pages.begin(), pages.end(), [](const PageName& a, const PageName& b) {
    return a.pid != b.pid ? a.pid < b.pid : a.edition < b.edition;
  });
  return pages;
}

Liveness Judge(const PageName& name) {
  Page page;
  std::string error;
  // A page that its writer did not finish says nothing of its name space, and is judged by its name.
  const uint64_t ns = page.Open(name, &error) ? page.pid_ns() : 0;
  const uint64_t own = OwnPidNamespace();
  if (ns != 0 && own != 0 && ns != own) return Liveness::kForeign;
  if (own == 0) return Liveness::kForeign;  // no /proc
  const uint64_t start = StartTimeOf(name.pid);
  if (start == 0 || (name.start_time != 0 && start != name.start_time)) return Liveness::kStale;
  // After exec the number and the start time stay; what was mapped does not.
  const std::string maps = ReadFile(StrPrintf("/proc/%d/maps", name.pid));
  if (!maps.empty() && !error.empty()) return Liveness::kAlive;  // it is being made
  return maps.empty() || maps.find(name.path) != std::string::npos ? Liveness::kAlive
                                                                    : Liveness::kStale;
}

uint64_t Row::operator[](std::string_view field) const {
  const StatsField* const f = page_->Find(scope_, field);
  if (f == nullptr || (f->type != StatsType::kU32 && f->type != StatsType::kU64)) return 0;
  uint64_t value = 0;
  memcpy(&value, bytes_.data() + f->offset, f->type == StatsType::kU32 ? 4 : 8);
  return value;
}

std::string Row::Text(std::string_view field) const {
  const StatsField* const f = page_->Find(scope_, field);
  if (f == nullptr || f->type != StatsType::kText) return {};
  return FixedText(bytes_.data() + f->offset, f->size);
}

std::vector<uint64_t> Row::Counts(std::string_view field) const {
  const StatsField* const f = page_->Find(scope_, field);
  if (f == nullptr || f->type != StatsType::kHistogram) return {};
  std::vector<uint64_t> counts(f->size / 8);
  memcpy(counts.data(), bytes_.data() + f->offset, counts.size() * 8);
  return counts;
}

Page::~Page() {
  if (base_ != nullptr) munmap(const_cast<char*>(base_), size_);
}

// Nothing outside of the file is ever looked at, whatever it says.
bool Page::Check(std::string* error) const {
  const auto* const h = reinterpret_cast<const StatsHeader*>(base_);
  // Acquire pairs with the release in Describe.
  if (__atomic_load_n(&h->magic, __ATOMIC_ACQUIRE) != platform::kStatsMagic) {
    *error = "it is not finished, or no statistics page";
    return false;
  }
  if (h->version != platform::kStatsVersion) {
    *error = StrPrintf("its format is %u, this cmwq knows %u", h->version, platform::kStatsVersion);
    return false;
  }
  *error = "it is damaged";
  const uint64_t size = size_;
  if (h->size > size || h->tables_offset % 8 != 0 || h->fields_offset % 4 != 0 ||
      h->tables_offset + uint64_t{h->nr_tables} * sizeof(StatsTable) > size ||
      h->fields_offset + uint64_t{h->nr_fields} * sizeof(StatsField) > size) {
    return false;
  }
  const auto* const tables = reinterpret_cast<const StatsTable*>(base_ + h->tables_offset);
  for (uint32_t i = 0; i < h->nr_tables; ++i) {
    if (tables[i].offset % 8 != 0 || tables[i].stride % 8 != 0 || tables[i].stride == 0 ||
        tables[i].offset + uint64_t{tables[i].stride} * tables[i].rows > size) {
      return false;
    }
  }
  const auto* const fields = reinterpret_cast<const StatsField*>(base_ + h->fields_offset);
  for (uint32_t i = 0; i < h->nr_fields; ++i) {
    const StatsField& f = fields[i];
    const uint32_t least = f.type == StatsType::kU32 ? 4 : f.type == StatsType::kU64 ? 8 : 1;
    if (f.scope >= h->nr_tables || f.size < least ||
        uint64_t{f.offset} + f.size > tables[f.scope].stride) {
      return false;
    }
  }
  error->clear();
  return true;
}

bool Page::Open(const PageName& name, std::string* error) {
  name_ = name;
  const int fd = open(name.path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0) {
    *error = strerror(errno);
    if (fd >= 0) close(fd);
    return false;
  }
  if (!S_ISREG(st.st_mode) || static_cast<size_t>(st.st_size) < sizeof(StatsHeader)) {
    *error = "it is not finished, or no statistics page";
    close(fd);
    return false;
  }
  size_ = static_cast<size_t>(st.st_size);
  void* const p = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (p == MAP_FAILED) {
    *error = strerror(errno);
    return false;
  }
  base_ = static_cast<const char*>(p);
  return Check(error);
}

namespace {
const StatsHeader& Header(const char* base) { return *reinterpret_cast<const StatsHeader*>(base); }
}  // namespace

std::string Page::command() const {
  return FixedText(Header(base_).command, sizeof(StatsHeader::command));
}
std::string Page::release() const {
  return FixedText(Header(base_).release, sizeof(StatsHeader::release));
}
uint64_t Page::created_ns() const { return Header(base_).created_ns; }
uint64_t Page::pid_ns() const { return Header(base_).pid_ns; }

const StatsField* Page::Find(uint32_t scope, std::string_view name) const {
  const StatsHeader& h = Header(base_);
  const auto* const fields = reinterpret_cast<const StatsField*>(base_ + h.fields_offset);
  for (uint32_t i = 0; i < h.nr_fields; ++i) {
    if (fields[i].scope == scope && name == FixedText(fields[i].name, sizeof(fields[i].name))) {
      return &fields[i];
    }
  }
  return nullptr;
}

// False: it was being written in each of many tries; the copy is of two moments then.
bool Page::CopyRow(uint32_t scope, uint32_t row, std::string* bytes) const {
  constexpr int kTries = 1000;
  const auto* const tables =
      reinterpret_cast<const StatsTable*>(base_ + Header(base_).tables_offset);
  const char* const from = base_ + tables[scope].offset + size_t{tables[scope].stride} * row;
  const StatsField* const seq = Find(scope, "seq");
  for (int i = 0; i < kTries; ++i) {
    uint32_t before = 0, after = 0;
    const auto* const word =
        seq != nullptr ? reinterpret_cast<const uint32_t*>(from + seq->offset) : nullptr;
    if (word != nullptr) before = __atomic_load_n(word, __ATOMIC_ACQUIRE);  // pairs with PublishStats
    CopyWords(from, tables[scope].stride, bytes);
    if (word != nullptr) after = __atomic_load_n(word, __ATOMIC_RELAXED);
    if (before == after && before % 2 == 0) return true;
  }
  return false;
}

std::vector<Row> Page::Rows(std::string_view table, std::string_view key) const {
  std::vector<Row> rows;
  const StatsHeader& h = Header(base_);
  const auto* const tables = reinterpret_cast<const StatsTable*>(base_ + h.tables_offset);
  for (uint32_t scope = 0; scope < h.nr_tables; ++scope) {
    if (table != FixedText(tables[scope].name, sizeof(tables[scope].name))) continue;
    const StatsField* const f = Find(scope, key);
    if (f == nullptr) return rows;
    for (uint32_t i = 0; i < tables[scope].rows; ++i) {
      Row row;
      row.page_ = this;
      row.scope_ = scope;
      row.index_ = i;
      const char* const at = base_ + tables[scope].offset + size_t{tables[scope].stride} * i;
      // Most rows are free: one look each.
      uint64_t used = 0;
      memcpy(&used, at + f->offset, f->type == StatsType::kU32 ? 4 : 8);
      if (used == 0) continue;
      CopyRow(scope, i, &row.bytes_);
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

uint64_t Quantile(const std::vector<uint64_t>& counts, double fraction) {
  uint64_t total = 0;
  for (uint64_t n : counts) total += n;
  if (total == 0) return 0;
  const double want = fraction * static_cast<double>(total);
  uint64_t sum = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    sum += counts[i];
    if (counts[i] > 0 && static_cast<double>(sum) >= want) {
      return StatsHistogram::LowerBound(static_cast<int>(i) + 1);
    }
  }
  return StatsHistogram::LowerBound(static_cast<int>(counts.size()));
}

std::string Where(pid_t pid, uint64_t address) {
  for (const std::string& line : Split(ReadFile(StrPrintf("/proc/%d/maps", pid)), '\n')) {
    unsigned long from = 0, to = 0, offset = 0;
    int path = 0;
    if (sscanf(line.c_str(), "%lx-%lx %*4s %lx %*s %*s %n", &from, &to, &offset, &path) != 3) continue;
    if (address < from || address >= to || path == 0 || line.size() <= static_cast<size_t>(path)) continue;
    return Basename(line.substr(static_cast<size_t>(path))) +
           StrPrintf("+0x%lx", static_cast<unsigned long>(address - from + offset));
  }
  return StrPrintf("0x%lx", static_cast<unsigned long>(address));
}

}  // namespace cmwq::tools::stats
