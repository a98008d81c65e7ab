// Exported wrapper: syscall(), which programs use for futexes and for what their libc does not
// know.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.
//
// The raw numbers of ordinary calls get the bracket of their wrappers, but no boundary: a program
// that goes around libc for them wants the call as it is.

#include <linux/futex.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include "hooks/preload/fd_notes.h"

// Newer than the headers of some supported systems; the numbers are the same on every architecture.
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef SYS_futex_wait
#define SYS_futex_wait 455
#endif
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef FUTEX_LOCK_PI2
#define FUTEX_LOCK_PI2 13
#endif

namespace cmwq::preload {
namespace {

constexpr Hook kNone = Hook::kCount;

// `a` holds the six arguments.
Hook FutexHook(const long* a) {
  switch (a[1] & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
    case FUTEX_WAIT_REQUEUE_PI:
      return Hook::kFutex;
    default:
      return kNone;
  }
}

Hook UnlessFlag(long flags, long flag, Hook hook) { return (flags & flag) != 0 ? kNone : hook; }
Hook UnlessZero(long value, Hook hook) { return value == 0 ? kNone : hook; }
Hook UnlessZeroTime(long timeout, Hook hook) {
  return IsZero(reinterpret_cast<const struct timespec*>(timeout)) ? kNone : hook;
}

// Calls of waits and of sockets.
Hook WaitHook(long number, const long* a) {
  switch (number) {
    case SYS_futex:
      return FutexHook(a);
    case SYS_futex_waitv:
    case SYS_futex_wait:
      return Hook::kFutex;
    case SYS_io_uring_enter:
      return (a[3] & IORING_ENTER_GETEVENTS) != 0 ? UnlessZero(a[2], Hook::kUring) : kNone;
    case SYS_io_getevents:
      return UnlessZero(a[1], UnlessZeroTime(a[4], Hook::kAio));
#ifdef SYS_poll
    case SYS_poll:
      return UnlessZero(a[2], Hook::kPoll);
    case SYS_select:
      return Hook::kSelect;
    case SYS_epoll_wait:
      return UnlessZero(a[3], Hook::kEpoll);
    case SYS_pause:
      return Hook::kSignal;
#endif
    case SYS_ppoll:
      return UnlessZeroTime(a[2], Hook::kPoll);
    case SYS_pselect6:
      return UnlessZeroTime(a[4], Hook::kSelect);
    case SYS_epoll_pwait:
      return UnlessZero(a[3], Hook::kEpoll);
    case SYS_epoll_pwait2:
      return UnlessZeroTime(a[3], Hook::kEpoll);
    case SYS_accept:
    case SYS_accept4:
      return Hook::kAccept;
    case SYS_connect:
      return Hook::kConnect;
    case SYS_recvfrom:
      return UnlessFlag(a[3], MSG_DONTWAIT, Hook::kRecv);
    case SYS_recvmsg:
      return UnlessFlag(a[2], MSG_DONTWAIT, Hook::kRecv);
    case SYS_recvmmsg:
      return UnlessFlag(a[3], MSG_DONTWAIT, Hook::kRecv);
    case SYS_sendto:
      return UnlessFlag(a[3], MSG_DONTWAIT, Hook::kSend);
    case SYS_sendmsg:
      return UnlessFlag(a[2], MSG_DONTWAIT, Hook::kSend);
    case SYS_sendmmsg:
      return UnlessFlag(a[3], MSG_DONTWAIT, Hook::kSend);
    default:
      return kNone;
  }
}

// Calls of files, processes, signals and System V objects.
Hook OtherHook(long number, const long* a) {
  switch (number) {
    case SYS_read:
    case SYS_readv:
    case SYS_pread64:
    case SYS_preadv:
    case SYS_preadv2:
      return Hook::kRead;
    case SYS_write:
    case SYS_writev:
    case SYS_pwrite64:
    case SYS_pwritev:
    case SYS_pwritev2:
      return Hook::kWrite;
    case SYS_fsync:
    case SYS_fdatasync:
    case SYS_syncfs:
    case SYS_sync:
    case SYS_sync_file_range:
      return Hook::kSync;
    case SYS_fallocate:
    case SYS_copy_file_range:
    case SYS_splice:
      return Hook::kFile;
    case SYS_sendfile:
      return Hook::kSend;
    case SYS_flock:
      return UnlessFlag(a[1], LOCK_NB | LOCK_UN, Hook::kFlock);
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
      return Hook::kSleep;
    case SYS_sched_yield:
      return Hook::kYield;
    case SYS_wait4:
      return UnlessFlag(a[2], WNOHANG, Hook::kProcess);
    case SYS_waitid:
      return UnlessFlag(a[3], WNOHANG, Hook::kProcess);
    case SYS_rt_sigtimedwait:
      return UnlessZeroTime(a[2], Hook::kSignal);
    case SYS_rt_sigsuspend:
      return Hook::kSignal;
    case SYS_semtimedop:
      return UnlessZeroTime(a[3], Hook::kSem);
    case SYS_semop:
      return Hook::kSem;
    case SYS_msgrcv:
      return UnlessFlag(a[4], IPC_NOWAIT, Hook::kIpc);
    case SYS_msgsnd:
      return UnlessFlag(a[3], IPC_NOWAIT, Hook::kIpc);
    case SYS_mq_timedreceive:
    case SYS_mq_timedsend:
      return Hook::kIpc;
    default:
      return kNone;
  }
}

bool IsOursToSpare(int fd) { return Active() && gate::IsOwnFd(fd); }

// A call that returns a second time in a process of its own.
bool Forks(long number, const long* a) {
  switch (number) {
#ifdef SYS_fork
    case SYS_fork:
      return true;
#endif
    case SYS_clone:
      return (a[0] & CLONE_VM) == 0;
    case SYS_clone3:
      return a[0] != 0 && (*reinterpret_cast<const uint64_t*>(a[0]) & CLONE_VM) == 0;
    default:
      return false;
  }
}

// Keeps our descriptors out of calls that close or replace. False: *result is the call's.
bool MindDescriptors(long number, const long* a, long* result) {
  const int fd = static_cast<int>(a[0]);
  switch (number) {
    case SYS_close:
      if (!IsOursToSpare(fd)) break;
      errno = EBADF;
      *result = -1;
      return false;
    case SYS_close_range:
      *result = CloseRangeAround(static_cast<unsigned>(a[0]), static_cast<unsigned>(a[1]),
                                 static_cast<int>(a[2]));
      return false;
#ifdef SYS_dup2
    case SYS_dup2:
#endif
    case SYS_dup3:
      if (a[0] == a[1]) return true;
      *result = -1;
      if (!MakeRoomAt(static_cast<int>(a[1]))) return false;
      NoteClose(static_cast<int>(a[1]));
      return true;
    default:
      return true;
  }
  NoteClose(fd);
  return true;
}

}  // namespace
}  // namespace cmwq::preload

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace

// All six arguments are handed on whether the program gave them or not, as the original does.
CMWQ_EXPORT(long, syscall, (long number, ...)) {
  long a[6];
  va_list args;
  va_start(args, number);
  for (long& argument : a) argument = va_arg(args, long);
  va_end(args);
  const auto original = CMWQ_REAL(syscall);
  long result;
  if (Active() && !MindDescriptors(number, a, &result)) return result;
  if (Active() && Forks(number, a)) {
    result = original(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (result == 0) OnNewProcess();
    return result;
  }
  if (!Adopted()) return original(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  Hook hook = WaitHook(number, a);
  if (hook == kNone) hook = OtherHook(number, a);
  if (hook == kNone) return original(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  cmwq::gate::Bracket bracket(hook);
  return original(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
