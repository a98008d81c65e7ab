// The table that CMWQ_REPORT=1 prints when a preloaded process ends.

#include <cstring>

#include "hooks/detect/spawn.h"
#include "hooks/gate/cpus.h"
#include "hooks/gate/gate.h"
#include "hooks/gate/gates.h"
#include "runtime/base/conf.h"
#include "runtime/base/raw_log.h"
#include "runtime/base/sys.h"
#include "runtime/pool/dump.h"
#include "runtime/pool/switch_audit.h"

namespace cmwq::gate {
namespace {

constexpr const char* kHookNames[] = {
    "mutex", "cond",  "rwlock",  "barrier", "once",  "sem",    "join", "sleep", "yield",
    "read",  "write", "sync",    "file",    "open",  "close",  "connect", "accept", "recv", "send",
    "poll",  "select", "epoll",  "futex",   "flock", "signal", "process", "ipc", "aio",
    "resolve", "stdio", "dl",    "mmap",    "uring", "other",
};
static_assert(sizeof(kHookNames) / sizeof(kHookNames[0]) == static_cast<size_t>(Hook::kCount));

class Line {
 public:
  explicit Line(int fd) : fd_(fd) {}
  ~Line() {
    text_[length_++] = '\n';
    base::Sys(SYS_write, fd_, text_, length_);
  }
  // Left-aligned, at least `width` wide.
  Line& Name(const char* s, size_t width) {
    const size_t n = strlen(s);
    for (size_t i = 0; i < n; ++i) Put(s[i]);
    for (size_t i = n; i < width; ++i) Put(' ');
    return *this;
  }
  // Right-aligned.
  Line& Text(const char* s, size_t width) {
    const size_t n = strlen(s);
    for (size_t i = n; i < width; ++i) Put(' ');
    return Name(s, 0);
  }
  Line& Number(uint64_t v, size_t width) {
    char digits[24];
    base::RawFormat(digits, sizeof(digits), "%lu", static_cast<unsigned long>(v));
    return Text(digits, width);
  }

 private:
  void Put(char c) {
    if (length_ + 1 < sizeof(text_)) text_[length_++] = c;
  }
  const int fd_;
  char text_[240];
  size_t length_ = 0;
};

void ReportGate(int fd, CpuGate* gate) {
  const GateStats s = gate->Stats();
  char name[16];
  base::RawFormat(name, sizeof(name), "  cpu%d", gate->cpu());
  Line(fd)
      .Name(name, 8)
      .Number(static_cast<uint64_t>(gate->population()), 9)
      .Number(static_cast<uint64_t>(gate->peak()), 7)
      .Number(s.requests, 11)
      .Number(s.direct, 11)
      .Number(s.held, 11)
      .Number(s.held > 0 ? s.held_ns / s.held / 1000 : 0, 9)
      .Number(s.held_max_ns / 1000, 10)
      .Number(s.over_limit, 9)
      .Number(s.leads, 10)
      .Number(gate->presumed(), 8);
}

void ReportDetector(int cpu, const pool::BlockingSource& source, void* arg) {
  Line(*static_cast<int*>(arg))
      .Name("  detector cpu", 0)
      .Number(static_cast<uint64_t>(cpu), 0)
      .Name(": ", 0)
      .Name(source.name(), 0)
      .Name(", blocks found ", 0)
      .Number(source.blocks_found(), 0)
      .Name(", by the tick ", 0)
      .Number(source.found_by_tick(), 0);
}

class AuditLines final : public pool::LineWriter {
 public:
  explicit AuditLines(int fd) : fd_(fd) {}
  void Line(const char* line) override { gate::Line(fd_).Name(line, 0); }

 private:
  const int fd_;
};

void ReportHooks(int fd, Gates* gates) {
  Line(fd).Name("  announced blocks by hook", 0);
  for (int h = 0; h < static_cast<int>(Hook::kCount); ++h) {
    uint64_t sum = 0;
    for (int i = 0; i < gates->n; ++i) {
      gates->gate[i]->ForEachMember([&sum, h](const Member* m) {
        sum += m->blocks[h].load(std::memory_order_relaxed);
      });
    }
    if (sum > 0) Line(fd).Name("    ", 0).Name(kHookNames[h], 10).Number(sum, 12);
  }
}

}  // namespace

const char* HookName(Hook hook) { return kHookNames[static_cast<int>(hook)]; }

// Context: end of the process; other threads may still run. Locks: takes kGate.
void Report(int fd) {
  if (sync::t_locks_held != 0) return;  // a handler ends the process in one of our own sections
  Gates* const gates = CurrentGates();
  char title[96];
  base::RawFormat(title, sizeof(title), "cmwq report, pid %d (preload, limit %ld per CPU)",
                  base::Pid(), static_cast<long>(base::g_conf.gate_limit));
  Line(fd).Name(title, 0);
  if (gates == nullptr) {
    Line(fd).Name("  no thread waited for input on an accepted descriptor: nothing was managed", 0);
    return;
  }
  char cpus[128];
  AllowedCpus().Format(cpus, sizeof(cpus));
  const uint32_t quota = CpuQuotaMilli();
  {
    Line line(fd);
    line.Name("  CPUs ", 0).Name(cpus, 0);
    if (quota != 0) line.Name(", quota in thousandths ", 0).Number(quota, 0);
  }
  Line(fd)
      .Name("  pool", 8)
      .Text("threads", 9)
      .Text("peak", 7)
      .Text("requests", 11)
      .Text("direct", 11)
      .Text("held", 11)
      .Text("mean us", 9)
      .Text("max us", 10)
      .Text("overdue", 9)
      .Text("led", 10)
      .Text("canary", 8);
  for (int i = 0; i < gates->n; ++i) ReportGate(fd, gates->gate[i]);
  int out = fd;
  detect::ForEachDetector(&ReportDetector, &out);
  AuditLines lines(fd);
  pool::WriteSwitches(&lines);
  ReportHooks(fd, gates);
}

}  // namespace cmwq::gate
