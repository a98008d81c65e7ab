// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers.
//
// A child made by vfork() has its parent's memory but descriptors of its own: what it opens and
// closes says nothing about the parent's. Asking costs a system call, so only an entry whose loss
// would hurt (an accepted descriptor's) is worth the question.

#include "hooks/preload/fd_notes.h"

#include <limits.h>

namespace cmwq::preload {
namespace {

// Arbitrary, but above every limit a service is run with; keeps a close of "everything" under a few
// milliseconds.
constexpr unsigned kMaxNoted = 1u << 20;

bool MustSpare(int fd) { return gate::IsBoundary(fd) && InSharedChild(); }

}  // namespace

int NoteNew(int fd) {
  if (fd >= 0 && Active() && !MustSpare(fd)) gate::NoteFresh(fd);
  return fd;
}

int NoteNewPair(int rc, const int fds[2]) {
  if (rc == 0) {
    NoteNew(fds[0]);
    NoteNew(fds[1]);
  }
  return rc;
}

int NoteFromAccept(int fd) {
  if (fd >= 0 && Active()) gate::NoteAccepted(fd);
  return fd;
}

int NoteCopy(int original, int copy) {
  if (copy < 0 || copy == original || !Active()) return copy;
  if (!gate::IsBoundary(original)) return NoteNew(copy);
  if (!InSharedChild()) gate::NoteAccepted(copy);
  return copy;
}

void NoteClose(int fd) {
  if (fd >= 0 && Active() && !MustSpare(fd)) gate::NoteClosing(fd);
}

void NoteCloseRange(unsigned first, unsigned last) {
  if (!Active() || InSharedChild()) return;
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = kMaxNoted;
  unsigned end = limit.rlim_cur < kMaxNoted ? static_cast<unsigned>(limit.rlim_cur) : kMaxNoted;
  if (last < end) end = last + 1;
  for (unsigned fd = first; fd < end; ++fd) gate::NoteClosing(static_cast<int>(fd));
}

int NextOurs(unsigned from, unsigned last) {
  if (!Active() || from > INT_MAX) return -1;
  const int own = gate::NextOwnFd(static_cast<int>(from));
  return own >= 0 && static_cast<unsigned>(own) <= last ? own : -1;
}

int CloseRangeAround(unsigned first, unsigned last, int flags) {
  const auto original = CMWQ_REAL(close_range);
  if (first > last) return original(first, last, flags);
  if ((flags & CLOSE_RANGE_CLOEXEC) == 0) NoteCloseRange(first, last);
  unsigned from = first;
  for (int own; (own = NextOurs(from, last)) >= 0; from = static_cast<unsigned>(own) + 1) {
    if (from == static_cast<unsigned>(own)) continue;
    const int rc = original(from, static_cast<unsigned>(own) - 1, flags);
    if (rc != 0) return rc;
  }
  // A range that ends in one of ours: its last part is empty.
  return from > last || from < first ? 0 : original(from, last, flags);
}

bool MakeRoomAt(int fd) {
  // A vfork child's copy is its own table's affair, and our numbers are the parent's.
  if (!Active() || !gate::IsOwnFd(fd) || InSharedChild() || gate::MoveOwnFd(fd)) return true;
  errno = EBUSY;
  return false;
}

}  // namespace cmwq::preload
