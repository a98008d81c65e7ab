// What every exports file is written with: the export macros, the bracketed call, small queries.

#ifndef CMWQ_HOOKS_PRELOAD_HOOK_H_
#define CMWQ_HOOKS_PRELOAD_HOOK_H_

#include <errno.h>

#include "hooks/gate/gate.h"
#include "hooks/preload/real.h"

// Defines a wrapper that libc's name resolves to. The C++ name differs from the exported one, so
// that libc's own declaration (its exception specification, its nonnull attributes, a redirection
// to a 64-bit twin) does not bind the definition. gensyms.py reads the exported names from these
// macros.
#define CMWQ_EXPORT(ret, name, params)                                                     \
  extern "C" __attribute__((visibility("default"))) ret Hook_##name params __asm__(#name); \
  extern "C" ret Hook_##name params

// A second exported name of a wrapper defined above it in the same file.
#define CMWQ_ALIAS(alias_name, name)        \
  extern "C"                                \
      __attribute__((visibility("default"), \
                     alias(#name))) decltype(Hook_##name) Hook_##alias_name __asm__(#alias_name);

namespace cmwq::preload {

using gate::Hook;

// True once the gate is in charge. False before the constructor and for ever in an inert process:
// every wrapper then only calls its original.
extern constinit bool g_active __attribute__((visibility("hidden")));
inline bool Active() { return __atomic_load_n(&g_active, __ATOMIC_RELAXED); }

// The calling thread is a worker. Never true in an inert process.
inline bool Adopted() { return gate::t_state.worker != nullptr; }

// Calls the original with the calling thread marked as sleeping.
template <typename R, typename... P, typename... A>
inline R Bracketed(Hook hook, R (*fn)(P...), A... args) {
  gate::Bracket bracket(hook);
  return fn(args...);
}

// Whether calls on fd return at once. Costs a system call: for adopted threads' slow paths only.
// Leaves errno alone.
bool IsNonBlocking(int fd);

// Bracketed(), except that a descriptor in non-blocking mode needs no bracket.
template <typename R, typename... P, typename... A>
inline R BracketedOn(int fd, Hook hook, R (*fn)(P...), A... args) {
  if (!Adopted() || IsNonBlocking(fd)) return fn(args...);
  return Bracketed(hook, fn, args...);
}

inline bool IsZero(const struct timespec* ts) {
  return ts != nullptr && ts->tv_sec == 0 && ts->tv_nsec == 0;
}

// A deadline that libc accepts. Some functions look at it before they try, so only a valid one may
// be skipped over by trying first.
inline bool IsValid(const struct timespec* ts) {
  return ts != nullptr && ts->tv_nsec >= 0 && ts->tv_nsec < 1000000000;
}
inline bool IsValid(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC; }

// Holds an adopted thread back after a wait for a request that the kernel, not the gate, made.
inline void AdmitIfFree() {
  if (Adopted() && gate::t_state.depth == 0 && gate::t_state.held_locks == 0) gate::Admit();
}

// True in a child that shares our memory (vfork): it must not edit what describes the parent.
bool InSharedChild();
// The process is a new one: forget the cached identity. Child side of fork().
void ResetIdentity();
// Everything that a child with its own memory must forget; what the fork handler does.
// Context: the child's only thread; signal handlers may have made it.
void OnNewProcess();

}  // namespace cmwq::preload

#endif  // CMWQ_HOOKS_PRELOAD_HOOK_H_
