#include "hooks/detect/peer_states.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>

#include "runtime/base/sys.h"
#include "runtime/platform/facility.h"

namespace cmwq::detect {
namespace {

// Kept descriptors of the process, of all CPUs.
constinit std::atomic<int> g_kept{0};  // AT(Keep, Close): relaxed, for a limit

TaskState ReadState(int fd) {
  char text[128];
  const long n = base::Sys(SYS_pread64, fd, text, sizeof(text), 0);
  return n > 0 ? StateOfSyscall(text) : TaskState::kUnknown;
}

bool Stat(int fd, struct stat* st) { return base::Sys(SYS_fstat, fd, st) == 0; }

}  // namespace

bool PeerStates::Ours(const Entry& e) {
  struct stat st;
  return Stat(e.fd, &st) && st.st_dev == e.device && st.st_ino == e.inode;
}

// Not if the number is the program's by now.
void PeerStates::Close(Entry* e) {
  if (e->tid == 0) return;
  if (Ours(*e)) base::SysClose(e->fd);
  *e = Entry();
  g_kept.fetch_sub(1, std::memory_order_relaxed);
}

// *stale: the descriptor is not that thread's any more, and the entry is free.
TaskState PeerStates::ReadKept(Entry* e, bool* stale) {
  const TaskState state = Ours(*e) ? ReadState(e->fd) : TaskState::kUnknown;
  *stale = state == TaskState::kUnknown;
  if (*stale) Close(e);
  return state;
}

void PeerStates::Keep(int tid, int fd) {
  struct rlimit limit;
  struct stat st;
  const bool room = base::Sys(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit) == 0 &&
                    static_cast<rlim_t>(g_kept.load(std::memory_order_relaxed)) <
                        limit.rlim_cur / kShare;
  if (fd <= 2 || !room || !Stat(fd, &st)) {
    base::SysClose(fd);
    return;
  }
  Entry* e = &entries_[next_];
  for (Entry& other : entries_) {
    if (other.tid == 0) e = &other;
  }
  if (e->tid != 0) next_ = (next_ + 1) % kMaxKept;
  Close(e);
  *e = {tid, fd, st.st_dev, st.st_ino};
  g_kept.fetch_add(1, std::memory_order_relaxed);
}

TaskState PeerStates::Read(int tid) {
  for (Entry& e : entries_) {
    if (e.tid != tid) continue;
    bool stale;
    const TaskState state = ReadKept(&e, &stale);
    if (!stale) return state;
    break;  // another thread may have the number by now
  }
  const int fd = platform::OpenTaskFile(tid, "syscall");
  if (fd < 0) return TaskState::kUnknown;
  const TaskState state = ReadState(fd);
  if (state != TaskState::kUnknown) {
    Keep(tid, fd);
  } else {
    base::SysClose(fd);
  }
  return state;
}

void PeerStates::Drop(int tid) {
  for (Entry& e : entries_) {
    if (e.tid == tid) Close(&e);
  }
}

void PeerStates::DropAll() {
  for (Entry& e : entries_) Close(&e);
}

}  // namespace cmwq::detect
