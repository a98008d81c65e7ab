// The table that CMWQ_REPORT=1 prints at exit.

#include "runtime/base/raw_log.h"
#include "runtime/base/sys.h"
#include "runtime/core/cpus.h"
#include "runtime/core/io_loop.h"
#include "runtime/core/runtime.h"
#include "runtime/pool/dump.h"
#include "runtime/pool/switch_audit.h"

namespace cmwq::core {
namespace {

void WriteLine(int fd, const char* line, size_t length) { base::Sys(SYS_write, fd, line, length); }

// Right-aligned number of the given width.
size_t Column(char* at, uint64_t value, size_t width) {
  char digits[24];
  const size_t n = base::RawFormat(digits, sizeof(digits), "%lu", static_cast<unsigned long>(value));
  size_t used = 0;
  while (used + n < width) at[used++] = ' ';
  for (size_t i = 0; i < n; ++i) at[used++] = digits[i];
  return used;
}

void ReportPool(int fd, pool::WorkerPool* pool) {
  const pool::PoolStats s = pool->Stats();
  if (s.created == 0 && s.create_failures == 0) return;
  char line[200];
  char name[16];
  if (pool->bound()) {
    base::RawFormat(name, sizeof(name), "cpu%d%s", pool->attrs().cpu,
                    pool->attrs().nice < 0 ? "/high" : "");
  } else {
    base::RawFormat(name, sizeof(name), "unbound%s", pool->attrs().nice < 0 ? "/high" : "");
  }
  size_t n = base::RawFormat(line, sizeof(line), "  %s", name);
  while (n < 16) line[n++] = ' ';
  n += Column(line + n, s.created, 8);
  n += Column(line + n, s.peak_workers, 7);
  n += Column(line + n, static_cast<uint64_t>(s.nr_workers), 7);
  n += Column(line + n, s.executed, 12);
  n += Column(line + n, s.sleeps, 11);
  n += Column(line + n, s.presumed, 10);
  n += Column(line + n, s.create_failures, 9);
  n += Column(line + n, s.maydays, 9);
  n += Column(line + n, s.drift, 7);
  line[n++] = '\n';
  WriteLine(fd, line, n);
}

}  // namespace

// Context: exit handler. Locks: takes kPool.
void Runtime::Report(int fd) {
  if (!started()) return;
  char line[200];
  const size_t n = base::RawFormat(line, sizeof(line), "cmwq report, pid %d (library)\n", base::Pid());
  WriteLine(fd, line, n);
  pool::FdWriter cpus(fd);
  WriteCpus(&cpus);
  constexpr char kColumns[] =
      "  pool           created   peak  alive    executed  announced     found failures  maydays  drift\n";
  WriteLine(fd, kColumns, sizeof(kColumns) - 1);
  table_.ForEachPool([fd](pool::WorkerPool& pool) { ReportPool(fd, &pool); });
  pool::FdWriter out(fd);
  IoLoop::Get().Show(&out);
  pool::WriteSwitches(&out);
}

}  // namespace cmwq::core
