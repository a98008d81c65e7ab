#include "hooks/detect/task_state.h"

#include <cerrno>

#include "runtime/base/sys.h"
#include "runtime/platform/facility.h"

namespace cmwq::detect {
namespace {

// The state letter follows the command in parentheses, which may itself hold parentheses and
// blanks: it is the letter after the last ')'. 0: not such a line.
char StateLetter(const char* text, long length) {
  long close = -1;
  // comm is at most 15 bytes (63 for kernel threads): no need to search the whole line.
  for (long i = 0; i < length && i < 90; ++i) {
    if (text[i] == ')') close = i;
  }
  return close >= 0 && close + 2 < length ? text[close + 2] : 0;
}

TaskState StateOf(bool stat, const char* text, long length) {
  if (length <= 0) return TaskState::kUnknown;
  if (!stat) return StateOfSyscall(text);
  const char letter = StateLetter(text, length);
  if (letter == 0) return TaskState::kUnknown;
  return letter == 'R' ? TaskState::kRunnable : TaskState::kAsleep;
}

}  // namespace

TaskStateReader::Entry& TaskStateReader::EntryFor(int tid) {
  for (Entry& e : entries_) {
    if (e.tid == tid) return e;
  }
  Entry& e = entries_[next_];
  next_ = (next_ + 1) % kCached;
  Close(e);
  e = Entry();
  e.tid = tid;
  e.stat = tid == base::Tid();  // of the reader itself `syscall` tells the reading
  return e;
}

bool TaskStateReader::Open(Entry& e) {
  if (e.fd < 0 && !e.stat) e.fd = platform::OpenTaskFile(e.tid, "syscall");
  if (e.fd >= 0) return true;
  e.stat = true;
  e.fd = platform::OpenTaskFile(e.tid, "stat");
  return e.fd >= 0;
}

void TaskStateReader::Close(Entry& e) {
  if (e.fd >= 0) base::SysClose(e.fd);
  e.fd = -1;
}

TaskState TaskStateReader::Read(int tid) {
  Entry& e = EntryFor(tid);
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (!Open(e)) return ReadClock(e);
    char text[128];
    const long n = base::Sys(SYS_pread64, e.fd, text, sizeof(text), 0);
    const TaskState state = StateOf(e.stat, text, n);
    if (!keep_ || state == TaskState::kUnknown) Close(e);
    if (state != TaskState::kUnknown) return state;
    // The thread is gone; another one may have its number by now: open anew.
    e.stat = false;
  }
  return ReadClock(e);
}

TaskState TaskStateReader::ReadClock(Entry& e) {
  // CLOCK of another thread by number: ((~tid) << 3) | CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED.
  const clockid_t clock = static_cast<clockid_t>((~static_cast<uint32_t>(e.tid) << 3) | 6);
  struct timespec ts;
  const long err = base::Sys(SYS_clock_gettime, clock, &ts);
  if (err == -EINVAL || err == -ESRCH)
    return TaskState::kAsleep;  // there is no such thread any more
  if (err < 0) return TaskState::kUnknown;
  by_clock_ = true;
  const uint64_t cpu = static_cast<uint64_t>(ts.tv_sec) * base::kNsPerSec + ts.tv_nsec;
  if (cpu != e.last_cpu_ns) {
    e.last_cpu_ns = cpu;
    e.unchanged = 0;
    return TaskState::kRunnable;
  }
  return ++e.unchanged < quiet_looks_ ? TaskState::kRunnable : TaskState::kAsleep;
}

void TaskStateReader::CloseAll() {
  for (Entry& e : entries_) Close(e);
  Forget();
}

void TaskStateReader::Forget() {
  for (Entry& e : entries_) e = Entry();
}

}  // namespace cmwq::detect
