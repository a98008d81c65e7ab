#include "hooks/detect/task_state.h"

#include "runtime/base/sys.h"
#include "runtime/platform/facility.h"

namespace cmwq::detect {
namespace {

// The state letter follows the command in parentheses, which may itself hold parentheses and blanks:
// it is the letter after the last ')'. The line must begin with the thread's number, or the
// descriptor is no longer ours.
char StateLetter(const char* text, long length, int tid) {
  long i = 0;
  int seen = 0;
  for (; i < length && text[i] >= '0' && text[i] <= '9'; ++i) seen = seen * 10 + (text[i] - '0');
  if (i == 0 || seen != tid) return 0;
  long close = -1;
  // comm is at most 15 bytes (63 for kernel threads): no need to search the whole line.
  for (; i < length && i < 90; ++i) {
    if (text[i] == ')') close = i;
  }
  return close >= 0 && close + 2 < length ? text[close + 2] : 0;
}

}  // namespace

TaskStateReader::Entry& TaskStateReader::EntryFor(int tid) {
  for (Entry& e : entries_) {
    if (e.tid == tid) return e;
  }
  Entry& e = entries_[next_];
  next_ = (next_ + 1) % kCached;
  if (e.fd >= 0) base::SysClose(e.fd);
  e = Entry();
  e.tid = tid;
  return e;
}

TaskState TaskStateReader::Read(int tid) {
  Entry& e = EntryFor(tid);
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (e.fd < 0) {
      e.fd = platform::OpenTaskStat(tid);
      if (e.fd < 0) return ReadClock(e);
    }
    char text[128];
    const long n = base::Sys(SYS_pread64, e.fd, text, sizeof(text), 0);
    const char letter = n > 0 ? StateLetter(text, n, tid) : 0;
    if (letter != 0) return letter == 'R' ? TaskState::kRunnable : TaskState::kAsleep;
    // The thread is gone, or somebody closed our descriptor and the number was used again. Never
    // close a number that may be the program's: forget it and open anew.
    e.fd = -1;
  }
  return TaskState::kUnknown;
}

TaskState TaskStateReader::ReadClock(Entry& e) {
  // CLOCK of another thread by number: ((~tid) << 3) | CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED.
  const clockid_t clock = static_cast<clockid_t>((~static_cast<uint32_t>(e.tid) << 3) | 6);
  struct timespec ts;
  if (base::Sys(SYS_clock_gettime, clock, &ts) < 0) return TaskState::kUnknown;
  by_clock_ = true;
  const uint64_t cpu = static_cast<uint64_t>(ts.tv_sec) * base::kNsPerSec + ts.tv_nsec;
  if (cpu != e.last_cpu_ns) {
    e.last_cpu_ns = cpu;
    e.unchanged = 0;
    return TaskState::kRunnable;
  }
  // The caller yields between looks; three without progress on an idle CPU mean asleep.
  return ++e.unchanged < 3 ? TaskState::kRunnable : TaskState::kAsleep;
}

void TaskStateReader::CloseAll() {
  for (Entry& e : entries_) {
    if (e.fd >= 0) base::SysClose(e.fd);
    e = Entry();
  }
}

}  // namespace cmwq::detect
