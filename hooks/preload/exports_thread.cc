// Exported wrappers: creating and joining threads, and where threads run.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.
//
// The gate pins its workers, which the program must neither see nor inherit. A thread that the
// program places itself leaves the gate before it is placed, so that the program's placement is the
// last.

#include "hooks/preload/hook.h"

namespace cmwq::preload {
namespace {

// The kernel's id of a thread, 0 for the caller, -1 where unknown. A thread's CPU clock is named
// after its id: the id's complement above three bits of clock kind.
int ThreadId(pthread_t thread) {
  if (pthread_equal(thread, pthread_self()) != 0) return 0;
  clockid_t clock;
  if (pthread_getcpuclockid(thread, &clock) != 0) return -1;
  return ~(clock >> 3);
}

// Puts the mask that the program knows in place of the real one. The original has been asked first:
// it alone knows which sizes and threads it accepts.
void ShowVirtualAffinity(int tid, size_t size, cpu_set_t* mask) {
  if (!Active() || tid < 0) return;
  gate::VirtualAffinity(tid, reinterpret_cast<unsigned long*>(mask), size);
}

}  // namespace
}  // namespace cmwq::preload

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace
namespace gate = cmwq::gate;

CMWQ_EXPORT(int, pthread_create,
            (pthread_t * thread, const pthread_attr_t* attributes, void* (*start)(void*),
             void* argument)) {
  const auto original = CMWQ_REAL(pthread_create);
  if (Active()) gate::NoteThread();
  if (!Adopted()) return original(thread, attributes, start, argument);
  const gate::UnpinForCreate unpin;
  return original(thread, attributes, start, argument);
}

CMWQ_EXPORT(int, thrd_create, (thrd_t * thread, thrd_start_t start, void* argument)) {
  const auto original = CMWQ_REAL(thrd_create);
  if (Active()) gate::NoteThread();
  if (!Adopted()) return original(thread, start, argument);
  const gate::UnpinForCreate unpin;
  return original(thread, start, argument);
}

CMWQ_EXPORT(int, pthread_join, (pthread_t thread, void** result)) {
  return Bracketed(Hook::kJoin, CMWQ_REAL(pthread_join), thread, result);
}

CMWQ_EXPORT(int, pthread_timedjoin_np,
            (pthread_t thread, void** result, const struct timespec* deadline)) {
  return Bracketed(Hook::kJoin, CMWQ_REAL(pthread_timedjoin_np), thread, result, deadline);
}

CMWQ_EXPORT(int, pthread_clockjoin_np,
            (pthread_t thread, void** result, clockid_t clock, const struct timespec* deadline)) {
  return Bracketed(Hook::kJoin, CMWQ_REAL(pthread_clockjoin_np), thread, result, clock, deadline);
}

CMWQ_EXPORT(int, thrd_join, (thrd_t thread, int* result)) {
  return Bracketed(Hook::kJoin, CMWQ_REAL(thrd_join), thread, result);
}

CMWQ_EXPORT(int, sched_getaffinity, (pid_t tid, size_t size, cpu_set_t* mask)) {
  const int rc = CMWQ_REAL(sched_getaffinity)(tid, size, mask);
  if (rc == 0) ShowVirtualAffinity(tid, size, mask);
  return rc;
}

CMWQ_EXPORT(int, sched_setaffinity, (pid_t tid, size_t size, const cpu_set_t* mask)) {
  if (Active()) gate::NoteOwnPlacement(tid);
  return CMWQ_REAL(sched_setaffinity)(tid, size, mask);
}

CMWQ_EXPORT(int, pthread_getaffinity_np, (pthread_t thread, size_t size, cpu_set_t* mask)) {
  const int rc = CMWQ_REAL(pthread_getaffinity_np)(thread, size, mask);
  if (rc == 0 && Active()) ShowVirtualAffinity(ThreadId(thread), size, mask);
  return rc;
}

CMWQ_EXPORT(int, pthread_setaffinity_np, (pthread_t thread, size_t size, const cpu_set_t* mask)) {
  if (Active()) {
    const int tid = ThreadId(thread);
    if (tid >= 0) gate::NoteOwnPlacement(tid);
  }
  return CMWQ_REAL(pthread_setaffinity_np)(thread, size, mask);
}

// The attributes describe the thread as the program made it: who creates another one with them does not
// pass our pinning on. Allocates as the original does, which has put the real mask there. A program whose
// cpu_set_t is too small for its CPUs could not read either mask.
CMWQ_EXPORT(int, pthread_getattr_np, (pthread_t thread, pthread_attr_t* attributes)) {
  const int err = CMWQ_REAL(pthread_getattr_np)(thread, attributes);
  if (err != 0 || !Active()) return err;
  cpu_set_t mask;
  const int tid = ThreadId(thread);
  if (tid < 0 || !gate::VirtualAffinity(tid, reinterpret_cast<unsigned long*>(&mask), sizeof(mask))) {
    return 0;
  }
  const int refused = pthread_attr_setaffinity_np(attributes, sizeof(mask), &mask);
  if (refused != 0) pthread_attr_destroy(attributes);
  return refused;
}
