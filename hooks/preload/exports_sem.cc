// Exported wrappers: semaphores, POSIX and System V.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.

#include "hooks/preload/hook.h"

namespace cmwq::preload {
namespace {

// Takes the semaphore if that needs no wait. The waiting calls act on a pending cancellation even
// when they need not wait, which the trying one does not.
bool TryFirst(sem_t* sem) {
  pthread_testcancel();
  const int saved = errno;
  if (CMWQ_REAL(sem_trywait)(sem) == 0) return true;
  errno = saved;
  return false;
}

bool AllNoWait(const struct sembuf* ops, size_t count) {
  if (ops == nullptr) return false;
  for (size_t i = 0; i < count; ++i) {
    if ((ops[i].sem_flg & IPC_NOWAIT) == 0) return false;
  }
  return true;
}

}  // namespace
}  // namespace cmwq::preload

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace

CMWQ_EXPORT(int, sem_wait, (sem_t * sem)) {
  if (!Adopted()) return CMWQ_REAL(sem_wait)(sem);
  return TryFirst(sem) ? 0 : Bracketed(Hook::kSem, CMWQ_REAL(sem_wait), sem);
}

CMWQ_EXPORT(int, sem_timedwait, (sem_t * sem, const struct timespec* deadline)) {
  if (!Adopted() || !IsValid(deadline)) return CMWQ_REAL(sem_timedwait)(sem, deadline);
  return TryFirst(sem) ? 0 : Bracketed(Hook::kSem, CMWQ_REAL(sem_timedwait), sem, deadline);
}

CMWQ_EXPORT(int, sem_clockwait, (sem_t * sem, clockid_t clock, const struct timespec* deadline)) {
  if (!Adopted() || !IsValid(clock) || !IsValid(deadline)) {
    return CMWQ_REAL(sem_clockwait)(sem, clock, deadline);
  }
  return TryFirst(sem) ? 0 : Bracketed(Hook::kSem, CMWQ_REAL(sem_clockwait), sem, clock, deadline);
}

CMWQ_EXPORT(int, semop, (int set, struct sembuf* ops, size_t count)) {
  if (!Adopted() || AllNoWait(ops, count)) return CMWQ_REAL(semop)(set, ops, count);
  return Bracketed(Hook::kSem, CMWQ_REAL(semop), set, ops, count);
}

CMWQ_EXPORT(int, semtimedop,
            (int set, struct sembuf* ops, size_t count, const struct timespec* timeout)) {
  if (!Adopted() || IsZero(timeout) || AllNoWait(ops, count)) {
    return CMWQ_REAL(semtimedop)(set, ops, count, timeout);
  }
  return Bracketed(Hook::kSem, CMWQ_REAL(semtimedop), set, ops, count, timeout);
}
