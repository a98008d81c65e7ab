// Exported wrappers: read-write locks and barriers.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.
//
// Tried before announced, as the mutexes are. The timed forms check their deadline (and clock)
// before they try, so a bad one must reach the original although the lock is free.

#include "hooks/preload/hook.h"

namespace cmwq::preload {
namespace {

inline int Acquired(int rc) {
  if (rc == 0) gate::LockAcquired();
  return rc;
}

template <typename Fn, typename... A>
inline int Lock(real::fn_pthread_rwlock_tryrdlock try_lock, bool may_try, Fn lock,
                pthread_rwlock_t* rwlock, A... args) {
  int rc = may_try ? try_lock(rwlock) : EBUSY;
  if (rc == EBUSY) rc = Bracketed(Hook::kRwlock, lock, rwlock, args...);
  return Acquired(rc);
}

}  // namespace
}  // namespace cmwq::preload

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace
namespace gate = cmwq::gate;

CMWQ_EXPORT(int, pthread_rwlock_rdlock, (pthread_rwlock_t * rwlock)) {
  if (!Adopted()) return Acquired(CMWQ_REAL(pthread_rwlock_rdlock)(rwlock));
  return Lock(CMWQ_REAL(pthread_rwlock_tryrdlock), true, CMWQ_REAL(pthread_rwlock_rdlock), rwlock);
}
CMWQ_ALIAS(__pthread_rwlock_rdlock, pthread_rwlock_rdlock)

CMWQ_EXPORT(int, pthread_rwlock_tryrdlock, (pthread_rwlock_t * rwlock)) {
  return Acquired(CMWQ_REAL(pthread_rwlock_tryrdlock)(rwlock));
}
CMWQ_ALIAS(__pthread_rwlock_tryrdlock, pthread_rwlock_tryrdlock)

CMWQ_EXPORT(int, pthread_rwlock_timedrdlock,
            (pthread_rwlock_t * rwlock, const struct timespec* deadline)) {
  if (!Adopted()) return Acquired(CMWQ_REAL(pthread_rwlock_timedrdlock)(rwlock, deadline));
  return Lock(CMWQ_REAL(pthread_rwlock_tryrdlock), IsValid(deadline),
              CMWQ_REAL(pthread_rwlock_timedrdlock), rwlock, deadline);
}

CMWQ_EXPORT(int, pthread_rwlock_clockrdlock,
            (pthread_rwlock_t * rwlock, clockid_t clock, const struct timespec* deadline)) {
  if (!Adopted()) return Acquired(CMWQ_REAL(pthread_rwlock_clockrdlock)(rwlock, clock, deadline));
  return Lock(CMWQ_REAL(pthread_rwlock_tryrdlock), IsValid(clock) && IsValid(deadline),
              CMWQ_REAL(pthread_rwlock_clockrdlock), rwlock, clock, deadline);
}

CMWQ_EXPORT(int, pthread_rwlock_wrlock, (pthread_rwlock_t * rwlock)) {
  if (!Adopted()) return Acquired(CMWQ_REAL(pthread_rwlock_wrlock)(rwlock));
  return Lock(CMWQ_REAL(pthread_rwlock_trywrlock), true, CMWQ_REAL(pthread_rwlock_wrlock), rwlock);
}
CMWQ_ALIAS(__pthread_rwlock_wrlock, pthread_rwlock_wrlock)

CMWQ_EXPORT(int, pthread_rwlock_trywrlock, (pthread_rwlock_t * rwlock)) {
  return Acquired(CMWQ_REAL(pthread_rwlock_trywrlock)(rwlock));
}
CMWQ_ALIAS(__pthread_rwlock_trywrlock, pthread_rwlock_trywrlock)

CMWQ_EXPORT(int, pthread_rwlock_timedwrlock,
            (pthread_rwlock_t * rwlock, const struct timespec* deadline)) {
  if (!Adopted()) return Acquired(CMWQ_REAL(pthread_rwlock_timedwrlock)(rwlock, deadline));
  return Lock(CMWQ_REAL(pthread_rwlock_trywrlock), IsValid(deadline),
              CMWQ_REAL(pthread_rwlock_timedwrlock), rwlock, deadline);
}

CMWQ_EXPORT(int, pthread_rwlock_clockwrlock,
            (pthread_rwlock_t * rwlock, clockid_t clock, const struct timespec* deadline)) {
  if (!Adopted()) return Acquired(CMWQ_REAL(pthread_rwlock_clockwrlock)(rwlock, clock, deadline));
  return Lock(CMWQ_REAL(pthread_rwlock_trywrlock), IsValid(clock) && IsValid(deadline),
              CMWQ_REAL(pthread_rwlock_clockwrlock), rwlock, clock, deadline);
}

CMWQ_EXPORT(int, pthread_rwlock_unlock, (pthread_rwlock_t * rwlock)) {
  const int rc = CMWQ_REAL(pthread_rwlock_unlock)(rwlock);
  if (rc == 0) gate::LockReleased();
  return rc;
}
CMWQ_ALIAS(__pthread_rwlock_unlock, pthread_rwlock_unlock)

CMWQ_EXPORT(int, pthread_barrier_wait, (pthread_barrier_t * barrier)) {
  return Bracketed(Hook::kBarrier, CMWQ_REAL(pthread_barrier_wait), barrier);
}
