// Exported wrappers: making, copying and closing descriptors.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.
//
// A daemon that closes everything must not close what is ours: to it our descriptors do not exist.

#include <limits.h>
#include <stdarg.h>

#include "hooks/preload/fd_notes.h"

namespace cmwq::preload {
namespace {

constexpr bool TakesMode(int flags) {
  return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
}

bool IsOurs(int fd) { return Active() && gate::IsOwnFd(fd); }

int NotOpen() {
  errno = EBADF;
  return -1;
}

void CloseFrom(int first) {
  if (first < 0) first = 0;
  unsigned from = static_cast<unsigned>(first);
  NoteCloseRange(from, INT_MAX);
  for (int own; (own = NextOurs(from, INT_MAX)) >= 0; from = static_cast<unsigned>(own) + 1) {
    const unsigned end = static_cast<unsigned>(own);
    if (from == end || CMWQ_REAL(close_range)(from, end - 1, 0) == 0) continue;
    // A kernel or a filter without close_range().
    for (unsigned fd = from; fd < end; ++fd) CMWQ_REAL(close)(static_cast<int>(fd));
  }
  CMWQ_REAL(closefrom)(static_cast<int>(from));
}

}  // namespace
}  // namespace cmwq::preload

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace

CMWQ_EXPORT(int, open, (const char* path, int flags, ...)) {
  mode_t mode = 0;
  if (TakesMode(flags)) {
    va_list args;
    va_start(args, flags);
    mode = va_arg(args, mode_t);
    va_end(args);
  }
  cmwq::gate::Bracket bracket(Hook::kOpen);
  return NoteNew(CMWQ_REAL(open)(path, flags, mode));
}
CMWQ_ALIAS(open64, open)
CMWQ_ALIAS(__open, open)
CMWQ_ALIAS(__open64, open)

CMWQ_EXPORT(int, __open_2, (const char* path, int flags)) {
  return NoteNew(Bracketed(Hook::kOpen, CMWQ_REAL(__open_2), path, flags));
}
CMWQ_ALIAS(__open64_2, __open_2)

CMWQ_EXPORT(int, openat, (int dir, const char* path, int flags, ...)) {
  mode_t mode = 0;
  if (TakesMode(flags)) {
    va_list args;
    va_start(args, flags);
    mode = va_arg(args, mode_t);
    va_end(args);
  }
  cmwq::gate::Bracket bracket(Hook::kOpen);
  return NoteNew(CMWQ_REAL(openat)(dir, path, flags, mode));
}
CMWQ_ALIAS(openat64, openat)

CMWQ_EXPORT(int, __openat_2, (int dir, const char* path, int flags)) {
  return NoteNew(Bracketed(Hook::kOpen, CMWQ_REAL(__openat_2), dir, path, flags));
}
CMWQ_ALIAS(__openat64_2, __openat_2)

CMWQ_EXPORT(int, creat, (const char* path, mode_t mode)) {
  return NoteNew(Bracketed(Hook::kOpen, CMWQ_REAL(creat), path, mode));
}
CMWQ_ALIAS(creat64, creat)

CMWQ_EXPORT(int, close, (int fd)) {
  if (IsOurs(fd)) return NotOpen();
  NoteClose(fd);
  return Bracketed(Hook::kClose, CMWQ_REAL(close), fd);
}
CMWQ_ALIAS(__close, close)

CMWQ_EXPORT(int, close_range, (unsigned first, unsigned last, int flags)) {
  return CloseRangeAround(first, last, flags);
}

CMWQ_EXPORT(void, closefrom, (int first)) { return CloseFrom(first); }

CMWQ_EXPORT(int, dup, (int fd)) {
  if (IsOurs(fd)) return NotOpen();
  return NoteCopy(fd, CMWQ_REAL(dup)(fd));
}

CMWQ_EXPORT(int, dup2, (int fd, int target)) {
  if (fd != target) {
    if (IsOurs(fd)) return NotOpen();
    if (!MakeRoomAt(target)) return -1;
    NoteClose(target);
  }
  return NoteCopy(fd, Bracketed(Hook::kClose, CMWQ_REAL(dup2), fd, target));
}
CMWQ_ALIAS(__dup2, dup2)

CMWQ_EXPORT(int, dup3, (int fd, int target, int flags)) {
  if (fd != target) {
    if (IsOurs(fd)) return NotOpen();
    if (!MakeRoomAt(target)) return -1;
    NoteClose(target);
  }
  return NoteCopy(fd, Bracketed(Hook::kClose, CMWQ_REAL(dup3), fd, target, flags));
}

CMWQ_EXPORT(int, pipe, (int fds[2])) { return NoteNewPair(CMWQ_REAL(pipe)(fds), fds); }
CMWQ_ALIAS(__pipe, pipe)

CMWQ_EXPORT(int, pipe2, (int fds[2], int flags)) {
  return NoteNewPair(CMWQ_REAL(pipe2)(fds, flags), fds);
}

CMWQ_EXPORT(int, socket, (int domain, int type, int protocol)) {
  return NoteNew(CMWQ_REAL(socket)(domain, type, protocol));
}

CMWQ_EXPORT(int, socketpair, (int domain, int type, int protocol, int fds[2])) {
  return NoteNewPair(CMWQ_REAL(socketpair)(domain, type, protocol, fds), fds);
}

CMWQ_EXPORT(int, eventfd, (unsigned count, int flags)) {
  return NoteNew(CMWQ_REAL(eventfd)(count, flags));
}

CMWQ_EXPORT(int, timerfd_create, (int clock, int flags)) {
  return NoteNew(CMWQ_REAL(timerfd_create)(clock, flags));
}

CMWQ_EXPORT(int, signalfd, (int fd, const sigset_t* mask, int flags)) {
  return NoteNew(CMWQ_REAL(signalfd)(fd, mask, flags));
}

CMWQ_EXPORT(int, inotify_init, ()) { return NoteNew(CMWQ_REAL(inotify_init)()); }

CMWQ_EXPORT(int, inotify_init1, (int flags)) { return NoteNew(CMWQ_REAL(inotify_init1)(flags)); }

CMWQ_EXPORT(int, epoll_create, (int size)) { return NoteNew(CMWQ_REAL(epoll_create)(size)); }

CMWQ_EXPORT(int, epoll_create1, (int flags)) { return NoteNew(CMWQ_REAL(epoll_create1)(flags)); }

CMWQ_EXPORT(int, memfd_create, (const char* name, unsigned flags)) {
  return NoteNew(CMWQ_REAL(memfd_create)(name, flags));
}
