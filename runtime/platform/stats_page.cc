#include "runtime/platform/stats_page.h"

#include <cmwq/cmwq.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "runtime/base/check.h"
#include "runtime/base/raw_log.h"
#include "runtime/base/sys.h"
#include "runtime/platform/text_file.h"

namespace cmwq::platform {

constinit StatsPage g_stats_page;

namespace {

constexpr uint32_t kPools = 0, kGates = 0, kWorkers = 1;  // tables; an edition has pools or gates

#define CMWQ_STATS_FIELD(row, scope, name, type, unit) \
  {#name, scope, offsetof(row, name), sizeof(row::name), StatsType::type, StatsUnit::unit}

constexpr StatsField kWorkerFields[] = {
    CMWQ_STATS_FIELD(StatsWorker, kWorkers, executed, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsWorker, kWorkers, blocks, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsWorker, kWorkers, unblocks, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsWorker, kWorkers, function, kU64, kAddress),
    CMWQ_STATS_FIELD(StatsWorker, kWorkers, tid, kU32, kNone),
    CMWQ_STATS_FIELD(StatsWorker, kWorkers, pool, kU32, kNone),
    CMWQ_STATS_FIELD(StatsWorker, kWorkers, since_ns, kU64, kNanoseconds),
    CMWQ_STATS_FIELD(StatsWorker, kWorkers, presumed, kU32, kNone),
    CMWQ_STATS_FIELD(StatsWorker, kWorkers, queue, kText, kNone),
};

constexpr StatsField kPoolFields[] = {
    CMWQ_STATS_FIELD(StatsPool, kPools, seq, kU32, kNone),
    CMWQ_STATS_FIELD(StatsPool, kPools, used, kU32, kNone),
    CMWQ_STATS_FIELD(StatsPool, kPools, published_ns, kU64, kNanoseconds),
    CMWQ_STATS_FIELD(StatsPool, kPools, cpu, kU32, kNone),
    CMWQ_STATS_FIELD(StatsPool, kPools, nice, kU32, kNone),
    CMWQ_STATS_FIELD(StatsPool, kPools, workers, kU32, kNone),
    CMWQ_STATS_FIELD(StatsPool, kPools, idle, kU32, kNone),
    CMWQ_STATS_FIELD(StatsPool, kPools, running, kU32, kNone),
    CMWQ_STATS_FIELD(StatsPool, kPools, pending, kU32, kNone),
    CMWQ_STATS_FIELD(StatsPool, kPools, queued, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsPool, kPools, created, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsPool, kPools, destroyed, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsPool, kPools, create_failures, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsPool, kPools, peak_workers, kU64, kNone),
    CMWQ_STATS_FIELD(StatsPool, kPools, found, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsPool, kPools, maydays, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsPool, kPools, hogs, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsPool, kPools, stalls, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsPool, kPools, drift, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsPool, kPools, failed, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsPool, kPools, repatriated, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsPool, kPools, delay, kHistogram, kNanoseconds),
};

constexpr StatsField kGateFields[] = {
    CMWQ_STATS_FIELD(StatsGate, kGates, used, kU32, kNone),
    CMWQ_STATS_FIELD(StatsGate, kGates, cpu, kU32, kNone),
    CMWQ_STATS_FIELD(StatsGate, kGates, members, kU32, kNone),
    CMWQ_STATS_FIELD(StatsGate, kGates, waiting, kU32, kNone),
    CMWQ_STATS_FIELD(StatsGate, kGates, held, kU32, kNone),
    CMWQ_STATS_FIELD(StatsGate, kGates, requests, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsGate, kGates, direct, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsGate, kGates, held_total, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsGate, kGates, held_ns, kU64, kNanoseconds),
    CMWQ_STATS_FIELD(StatsGate, kGates, held_max_ns, kU64, kNanoseconds),
    CMWQ_STATS_FIELD(StatsGate, kGates, over_limit, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsGate, kGates, leads, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsGate, kGates, found, kU64, kEvents),
    CMWQ_STATS_FIELD(StatsGate, kGates, hold, kHistogram, kNanoseconds),
};

#undef CMWQ_STATS_FIELD

template <class T, size_t N>
constexpr uint32_t Length(const T (&)[N]) {
  return N;
}

constexpr uint32_t Round(uint32_t n, uint32_t to) { return (n + to - 1) / to * to; }

// Field 22 of /proc/self/stat, counted from behind the name, which may contain anything. 0: no /proc.
uint64_t StartTime() {
  char text[1024];
  if (ReadText("/proc/self/stat", text, sizeof(text)) <= 0) return 0;
  const char* at = strrchr(text, ')');
  for (int field = 2; at != nullptr && field < 22; ++field) at = strchr(at + 1, ' ');
  uint64_t value = 0;
  if (at != nullptr) {
    for (++at; *at >= '0' && *at <= '9'; ++at) value = value * 10 + static_cast<uint64_t>(*at - '0');
  }
  return value;
}

uint64_t PidNamespace() {
  char text[64] = "";
  const long n = base::Sys(SYS_readlinkat, AT_FDCWD, "/proc/self/ns/pid", text, sizeof(text) - 1);
  const char* at = n > 0 ? strchr(text, '[') : nullptr;
  uint64_t value = 0;
  if (at != nullptr) {
    for (++at; *at >= '0' && *at <= '9'; ++at) value = value * 10 + static_cast<uint64_t>(*at - '0');
  }
  return value;
}

// Those that may ever be there, as numbers go.
uint32_t PossibleCpus() {
  CpuSet possible;
  if (!ReadCpuList("/sys/devices/system/cpu/possible", &possible)) possible.LoadAffinity(0);
  uint32_t n = 1;
  for (int cpu = possible.Next(0); cpu >= 0; cpu = possible.Next(cpu + 1)) n = static_cast<uint32_t>(cpu) + 1;
  return n;
}

// Of a page called `name` in the folder `dir`: its process has ended, in our pid name space.
bool IsStale(int dir, const char* name, uint64_t own_ns) {
  long pid = 0;
  const char* at = name + sizeof(kStatsPrefix) - 1;
  for (; *at >= '0' && *at <= '9' && pid < 100'000'000; ++at) pid = pid * 10 + (*at - '0');
  if (pid == 0 || *at != '.' || base::Sys(SYS_kill, pid, 0) != -ESRCH) return false;
  // O_NONBLOCK: whatever lies there under that name.
  const long fd = base::Sys(SYS_openat, dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0);
  if (fd < 0) return false;
  alignas(StatsHeader) char bytes[sizeof(StatsHeader)] = {};
  const long n = base::Sys(SYS_read, fd, bytes, sizeof(bytes));
  base::SysClose(static_cast<int>(fd));
  const auto* const header = reinterpret_cast<const StatsHeader*>(bytes);
  return n == static_cast<long>(sizeof(bytes)) && own_ns != 0 && header->pid_ns == own_ns &&
         header->magic == kStatsMagic;
}

const char* NameOf(StatsPage::Edition edition) {
  return edition == StatsPage::Edition::kLibrary ? "library" : "preload";
}

}  // namespace

// Where everything lies.
void StatsPage::Lay() {
  const bool library = edition_ == Edition::kLibrary;
  nr_tables_ = 2;
  nr_fields_ = (library ? Length(kPoolFields) : Length(kGateFields)) + Length(kWorkerFields);
  tables_at_ = Round(sizeof(StatsHeader), 64);
  fields_at_ = tables_at_ + nr_tables_ * static_cast<uint32_t>(sizeof(StatsTable));
  uint32_t at = Round(fields_at_ + nr_fields_ * static_cast<uint32_t>(sizeof(StatsField)), 4096);
  if (library) {
    pools_at_ = at;
    nr_pools_ = 2 * PossibleCpus() + kUnboundPools;
    at += nr_pools_ * static_cast<uint32_t>(sizeof(StatsPool));
  } else {
    gates_at_ = at;
    nr_gates_ = PossibleCpus();
    at += nr_gates_ * static_cast<uint32_t>(sizeof(StatsGate));
  }
  workers_at_ = Round(at, 4096);
  size_ = Round(workers_at_ + kMaxWorkers * static_cast<uint32_t>(sizeof(StatsWorker)), 4096);
}

// Everything but the rows; the magic last.
void StatsPage::Describe(char* page) {
  const bool library = edition_ == Edition::kLibrary;
  auto* const tables = reinterpret_cast<StatsTable*>(page + tables_at_);
  if (library) {
    tables[kPools] = {"pools", pools_at_, sizeof(StatsPool), nr_pools_, 0};
  } else {
    tables[kGates] = {"gates", gates_at_, sizeof(StatsGate), nr_gates_, 0};
  }
  tables[kWorkers] = {"workers", workers_at_, sizeof(StatsWorker), kMaxWorkers, 0};
  auto* fields = reinterpret_cast<StatsField*>(page + fields_at_);
  if (library) {
    for (const StatsField& f : kPoolFields) *fields++ = f;
  } else {
    for (const StatsField& f : kGateFields) *fields++ = f;
  }
  for (const StatsField& f : kWorkerFields) *fields++ = f;

  auto* const header = reinterpret_cast<StatsHeader*>(page);
  header->version = kStatsVersion;
  header->pid = static_cast<uint32_t>(base::Pid());
  header->start_time = StartTime();
  header->pid_ns = PidNamespace();
  header->size = size_;
  header->created_ns = base::MonotonicNs();
  header->tables_offset = tables_at_;
  header->nr_tables = nr_tables_;
  header->fields_offset = fields_at_;
  header->nr_fields = nr_fields_;
  base::RawFormat(header->edition, sizeof(header->edition), "%s", NameOf(edition_));
  base::RawFormat(header->release, sizeof(header->release), "%d.%d.%d", CMWQ_VERSION_MAJOR,
                  CMWQ_VERSION_MINOR, CMWQ_VERSION_PATCH);
  const long n = ReadText("/proc/self/comm", header->command, sizeof(header->command));
  if (n > 0 && header->command[n - 1] == '\n') header->command[n - 1] = '\0';
  // Release pairs with the readers' load.
  std::atomic_ref<uint64_t>(header->magic).store(kStatsMagic, std::memory_order_release);
}

// Children that end with _exit leave their pages: the next one takes them away. Looks at what fits into one
// reading of the folder, the newest first there, so that it is done in microseconds.
void StatsPage::Sweep() {
  struct Entry {  // linux_dirent64
    uint64_t inode, offset;
    uint16_t length;
    uint8_t type;
    char name[];
  };
  const long dir = base::Sys(SYS_openat, AT_FDCWD, folder_, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (dir < 0) return;
  alignas(8) char entries[4096];
  const long size = base::Sys(SYS_getdents64, dir, entries, sizeof(entries));
  const uint64_t own_ns = PidNamespace();
  for (long at = 0; at < size;) {
    const auto* const entry = reinterpret_cast<const Entry*>(entries + at);
    at += entry->length;
    if (strncmp(entry->name, kStatsPrefix, sizeof(kStatsPrefix) - 1) != 0) continue;
    if (IsStale(static_cast<int>(dir), entry->name, own_ns)) base::Sys(SYS_unlinkat, dir, entry->name, 0);
  }
  base::SysClose(static_cast<int>(dir));
}

// Makes the file and maps it. The memory is taken now: a full file system must not end the process at
// some later store.
int StatsPage::Map(char** to) {
  Sweep();
  base::RawFormat(path_, sizeof(path_), "%s/%s%d.%lu.%s", folder_, kStatsPrefix, base::Pid(),
                  static_cast<unsigned long>(StartTime()), NameOf(edition_));
  long fd = 0;
  for (int tries = 0; tries < 2; ++tries) {
    fd = base::Sys(SYS_openat, AT_FDCWD, path_, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd != -EEXIST) break;
    // Of a process that had our number and the same start time, before the machine was started anew or
    // in another name space; or of ourselves, before exec.
    base::Sys(SYS_unlinkat, AT_FDCWD, path_, 0);
  }
  if (fd < 0) return static_cast<int>(fd);
  long err = base::Sys(SYS_fallocate, fd, 0, 0, size_);
  long p = err;
  if (err == 0) {
    p = base::Sys(SYS_mmap, 0, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  base::SysClose(static_cast<int>(fd));
  if (p < 0 && p > -4096) {
    base::Sys(SYS_unlinkat, AT_FDCWD, path_, 0);
    return static_cast<int>(p);
  }
  *to = reinterpret_cast<char*>(p);
  return 0;
}

int StatsPage::CreateIn(const char* folder, Edition edition) {
  if (base_ != nullptr || folder_ != nullptr) return 0;
  edition_ = edition;
  folder_ = folder;
  Lay();
  char* page = nullptr;
  const int err = Map(&page);
  if (err != 0) {
    base::RawLog(base::LogLevel::kWarn,
                 "no statistics page: cannot make %s (errno %d); cmwq top will not see this process. "
                 "CMWQ_CONF=stats=0 leaves it out", path_, -err);
    nr_pools_ = nr_gates_ = 0;
    return err;
  }
  base_ = page;
  Describe(page);
  published_.store(true, std::memory_order_relaxed);
  return 0;
}

void StatsPage::Unlink() {
  if (!published()) return;
  // A child made without fork handlers has a copy of this object.
  const auto* const header = reinterpret_cast<const StatsHeader*>(base_);
  if (header->pid != static_cast<uint32_t>(base::Pid())) return;
  published_.store(false, std::memory_order_relaxed);
  base::Sys(SYS_unlinkat, AT_FDCWD, path_, 0);
}

void StatsPage::ResetAfterFork() {
  published_.store(false, std::memory_order_relaxed);
  workers_used_.store(0, std::memory_order_relaxed);
  if (base_ == nullptr) return;
  const long p = base::Sys(SYS_mmap, base_, size_, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (p >= 0 || p <= -4096) return;
  // Out of memory. The rows are in use: rather counted into the parent's than a store into nothing.
  CMWQ_WARN_ONCE("fork child: no memory for its statistics (errno %ld)", -p);
}

void StatsPage::Again() {
  if (base_ == nullptr || published()) return;
  char* page = nullptr;
  if (Map(&page) != 0) return;  // the parent has said why, or it is no worse than none
  Describe(page);
  const long p = base::Sys(SYS_mremap, page, size_, size_, MREMAP_MAYMOVE | MREMAP_FIXED, base_);
  if (p < 0 && p > -4096) {
    base::Sys(SYS_munmap, page, size_);
    base::Sys(SYS_unlinkat, AT_FDCWD, path_, 0);
    return;
  }
  published_.store(true, std::memory_order_relaxed);
}

StatsWorker* StatsPage::TakeWorker() {
  if (base_ == nullptr) return nullptr;
  // Workers come and go, their objects do not: rows are never given back.
  const uint32_t row = workers_used_.fetch_add(1, std::memory_order_relaxed);
  if (row >= kMaxWorkers) {
    workers_used_.store(kMaxWorkers, std::memory_order_relaxed);
    return nullptr;
  }
  return reinterpret_cast<StatsWorker*>(base_ + workers_at_) + row;
}

}  // namespace cmwq::platform
