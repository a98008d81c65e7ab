// Exported wrappers: mutexes, conditions, once, POSIX and C11.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.
//
// A lock is tried before it is announced as a sleep. Only a result other than "busy" may be
// returned from the try: an error-checking mutex says EBUSY where the lock call says EDEADLK.

#include "hooks/preload/hook.h"

namespace cmwq::preload {
namespace {

// Counts a mutex as held. EOWNERDEAD is an acquisition too: the caller now owns a robust mutex.
inline int Acquired(int rc) {
  if (rc == 0 || rc == EOWNERDEAD) gate::LockAcquired();
  return rc;
}

inline int Released(int rc) {
  if (rc == 0) gate::LockReleased();
  return rc;
}

inline int AcquiredC11(int rc) {
  if (rc == thrd_success) gate::LockAcquired();
  return rc;
}

// glibc's once control word: 1 while an initialiser runs, 2 when it is done.
inline bool RunsElsewhere(const int* control) {
  return Adopted() && (__atomic_load_n(control, __ATOMIC_RELAXED) & 3) == 1;
}

}  // namespace
}  // namespace cmwq::preload

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace
namespace gate = cmwq::gate;

CMWQ_EXPORT(int, pthread_mutex_lock, (pthread_mutex_t * mutex)) {
  if (!Adopted()) return Acquired(CMWQ_REAL(pthread_mutex_lock)(mutex));
  int rc = CMWQ_REAL(pthread_mutex_trylock)(mutex);
  if (rc == EBUSY) rc = Bracketed(Hook::kMutex, CMWQ_REAL(pthread_mutex_lock), mutex);
  return Acquired(rc);
}
CMWQ_ALIAS(__pthread_mutex_lock, pthread_mutex_lock)

CMWQ_EXPORT(int, pthread_mutex_trylock, (pthread_mutex_t * mutex)) {
  return Acquired(CMWQ_REAL(pthread_mutex_trylock)(mutex));
}
CMWQ_ALIAS(__pthread_mutex_trylock, pthread_mutex_trylock)

CMWQ_EXPORT(int, pthread_mutex_timedlock,
            (pthread_mutex_t * mutex, const struct timespec* deadline)) {
  if (!Adopted()) return Acquired(CMWQ_REAL(pthread_mutex_timedlock)(mutex, deadline));
  int rc = IsValid(deadline) ? CMWQ_REAL(pthread_mutex_trylock)(mutex) : EBUSY;
  if (rc == EBUSY) {
    rc = Bracketed(Hook::kMutex, CMWQ_REAL(pthread_mutex_timedlock), mutex, deadline);
  }
  return Acquired(rc);
}

CMWQ_EXPORT(int, pthread_mutex_clocklock,
            (pthread_mutex_t * mutex, clockid_t clock, const struct timespec* deadline)) {
  if (!Adopted()) return Acquired(CMWQ_REAL(pthread_mutex_clocklock)(mutex, clock, deadline));
  int rc = IsValid(clock) && IsValid(deadline) ? CMWQ_REAL(pthread_mutex_trylock)(mutex) : EBUSY;
  if (rc == EBUSY) {
    rc = Bracketed(Hook::kMutex, CMWQ_REAL(pthread_mutex_clocklock), mutex, clock, deadline);
  }
  return Acquired(rc);
}

CMWQ_EXPORT(int, pthread_mutex_unlock, (pthread_mutex_t * mutex)) {
  return Released(CMWQ_REAL(pthread_mutex_unlock)(mutex));
}
CMWQ_ALIAS(__pthread_mutex_unlock, pthread_mutex_unlock)

CMWQ_EXPORT(int, mtx_lock, (mtx_t * mutex)) {
  if (!Adopted()) return AcquiredC11(CMWQ_REAL(mtx_lock)(mutex));
  int rc = CMWQ_REAL(mtx_trylock)(mutex);
  if (rc == thrd_busy) rc = Bracketed(Hook::kMutex, CMWQ_REAL(mtx_lock), mutex);
  return AcquiredC11(rc);
}

CMWQ_EXPORT(int, mtx_trylock, (mtx_t * mutex)) {
  return AcquiredC11(CMWQ_REAL(mtx_trylock)(mutex));
}

CMWQ_EXPORT(int, mtx_timedlock, (mtx_t * mutex, const struct timespec* deadline)) {
  if (!Adopted()) return AcquiredC11(CMWQ_REAL(mtx_timedlock)(mutex, deadline));
  int rc = IsValid(deadline) ? CMWQ_REAL(mtx_trylock)(mutex) : static_cast<int>(thrd_busy);
  if (rc == thrd_busy) rc = Bracketed(Hook::kMutex, CMWQ_REAL(mtx_timedlock), mutex, deadline);
  return AcquiredC11(rc);
}

CMWQ_EXPORT(int, mtx_unlock, (mtx_t * mutex)) { return Released(CMWQ_REAL(mtx_unlock)(mutex)); }

// A wait gives the mutex back and returns with it held, whether by signal, time-out or
// cancellation: the count of held locks is the same before and after, and nobody looks at it in
// between.
CMWQ_EXPORT(int, pthread_cond_wait, (pthread_cond_t * cond, pthread_mutex_t* mutex)) {
  return Bracketed(Hook::kCond, CMWQ_REAL(pthread_cond_wait), cond, mutex);
}

CMWQ_EXPORT(int, pthread_cond_timedwait,
            (pthread_cond_t * cond, pthread_mutex_t* mutex, const struct timespec* deadline)) {
  return Bracketed(Hook::kCond, CMWQ_REAL(pthread_cond_timedwait), cond, mutex, deadline);
}

CMWQ_EXPORT(int, pthread_cond_clockwait,
            (pthread_cond_t * cond, pthread_mutex_t* mutex, clockid_t clock,
             const struct timespec* deadline)) {
  return Bracketed(Hook::kCond, CMWQ_REAL(pthread_cond_clockwait), cond, mutex, clock, deadline);
}

CMWQ_EXPORT(int, cnd_wait, (cnd_t * cond, mtx_t* mutex)) {
  return Bracketed(Hook::kCond, CMWQ_REAL(cnd_wait), cond, mutex);
}

CMWQ_EXPORT(int, cnd_timedwait, (cnd_t * cond, mtx_t* mutex, const struct timespec* deadline)) {
  return Bracketed(Hook::kCond, CMWQ_REAL(cnd_timedwait), cond, mutex, deadline);
}

// The initialiser is the program's code and may itself sleep or wait for a request, so only a wait
// for another thread's initialiser is a sleep of its own.
CMWQ_EXPORT(int, pthread_once, (pthread_once_t * control, void (*init)())) {
  if (!RunsElsewhere(control)) return CMWQ_REAL(pthread_once)(control, init);
  return Bracketed(Hook::kOnce, CMWQ_REAL(pthread_once), control, init);
}
CMWQ_ALIAS(__pthread_once, pthread_once)

CMWQ_EXPORT(void, call_once, (once_flag * flag, void (*init)())) {
  if (!RunsElsewhere(&flag->__data)) return CMWQ_REAL(call_once)(flag, init);
  return Bracketed(Hook::kOnce, CMWQ_REAL(call_once), flag, init);
}
