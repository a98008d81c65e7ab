// Exported wrappers: sleeping, yielding, waiting for signals.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.

#include "hooks/preload/hook.h"

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace

CMWQ_EXPORT(int, nanosleep, (const struct timespec* request, struct timespec* remain)) {
  return Bracketed(Hook::kSleep, CMWQ_REAL(nanosleep), request, remain);
}
CMWQ_ALIAS(__nanosleep, nanosleep)

CMWQ_EXPORT(int, clock_nanosleep,
            (clockid_t clock, int flags, const struct timespec* request, struct timespec* remain)) {
  return Bracketed(Hook::kSleep, CMWQ_REAL(clock_nanosleep), clock, flags, request, remain);
}

CMWQ_EXPORT(unsigned, sleep, (unsigned seconds)) {
  return Bracketed(Hook::kSleep, CMWQ_REAL(sleep), seconds);
}

CMWQ_EXPORT(int, usleep, (useconds_t microseconds)) {
  return Bracketed(Hook::kSleep, CMWQ_REAL(usleep), microseconds);
}

CMWQ_EXPORT(int, thrd_sleep, (const struct timespec* request, struct timespec* remain)) {
  return Bracketed(Hook::kSleep, CMWQ_REAL(thrd_sleep), request, remain);
}

CMWQ_EXPORT(int, pause, ()) { return Bracketed(Hook::kSignal, CMWQ_REAL(pause)); }

// A yield is an offer of the CPU. Spinning programs rely on it to let the holder run, who may be
// waiting for the very CPU the spinner has.
CMWQ_EXPORT(int, sched_yield, ()) { return Bracketed(Hook::kYield, CMWQ_REAL(sched_yield)); }
CMWQ_ALIAS(__sched_yield, sched_yield)
CMWQ_ALIAS(pthread_yield, sched_yield)

CMWQ_EXPORT(void, thrd_yield, ()) { return Bracketed(Hook::kYield, CMWQ_REAL(thrd_yield)); }

CMWQ_EXPORT(int, sigwait, (const sigset_t* set, int* signal)) {
  return Bracketed(Hook::kSignal, CMWQ_REAL(sigwait), set, signal);
}

CMWQ_EXPORT(int, sigwaitinfo, (const sigset_t* set, siginfo_t* info)) {
  return Bracketed(Hook::kSignal, CMWQ_REAL(sigwaitinfo), set, info);
}

CMWQ_EXPORT(int, sigtimedwait,
            (const sigset_t* set, siginfo_t* info, const struct timespec* timeout)) {
  if (IsZero(timeout)) return CMWQ_REAL(sigtimedwait)(set, info, timeout);
  return Bracketed(Hook::kSignal, CMWQ_REAL(sigtimedwait), set, info, timeout);
}

CMWQ_EXPORT(int, sigsuspend, (const sigset_t* mask)) {
  return Bracketed(Hook::kSignal, CMWQ_REAL(sigsuspend), mask);
}
CMWQ_ALIAS(__sigsuspend, sigsuspend)

// Three functions behind one name of the headers: BSD's takes a mask, X/Open's a signal number.
CMWQ_EXPORT(int, sigpause, (int mask)) {
  return Bracketed(Hook::kSignal, CMWQ_REAL(sigpause), mask);
}

CMWQ_EXPORT(int, __xpg_sigpause, (int signal)) {
  return Bracketed(Hook::kSignal, CMWQ_REAL(__xpg_sigpause), signal);
}

CMWQ_EXPORT(int, __sigpause, (int signal_or_mask, int is_signal)) {
  return Bracketed(Hook::kSignal, CMWQ_REAL(__sigpause), signal_or_mask, is_signal);
}
