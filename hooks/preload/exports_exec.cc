// Exported wrappers: becoming another program, and becoming another process without fork()'s handlers.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.
//
// A program that is started must not inherit where the gate pinned the caller. No bracket is held across
// an exec: a successful one does not return, and in a vfork child it is the parent's state that would
// be left changed. Our descriptors are close-on-exec.

#include <sched.h>
#include <stdarg.h>

#include "hooks/preload/hook.h"

namespace cmwq::preload {
namespace {

template <typename R, typename... P, typename... A>
inline R Exec(R (*fn)(P...), A... args) {
  if (!Adopted()) return fn(args...);
  const gate::UnpinForCreate unpin;
  return fn(args...);
}

// The number of arguments from `first` on, without the null behind them.
size_t CountArguments(const char* first, va_list args) {
  size_t n = 0;
  for (const char* at = first; at != nullptr; at = va_arg(args, const char*)) ++n;
  return n;
}

void CopyArguments(char** to, const char* first, va_list args) {
  for (const char* at = first;; at = va_arg(args, const char*)) {
    *to++ = const_cast<char*>(at);
    if (at == nullptr) return;
  }
}

// What a child of clone() is to run. On the stack of the parent, of which the child has a copy.
struct Start {
  int (*fn)(void*);
  void* argument;
};

int StartInChild(void* start) {
  const Start copy = *static_cast<Start*>(start);
  OnNewProcess();
  return copy.fn(copy.argument);
}

}  // namespace
}  // namespace cmwq::preload

// Lays the arguments out as a vector, on the stack as the originals do: memory may not be asked for.
#define CMWQ_ARGUMENT_VECTOR(argv, first)                                              \
  va_list args;                                                                        \
  va_start(args, first);                                                               \
  const size_t argc = CountArguments(first, args);                                     \
  va_end(args);                                                                        \
  char** const argv = static_cast<char**>(__builtin_alloca((argc + 1) * sizeof(char*))); \
  va_start(args, first);                                                               \
  CopyArguments(argv, first, args)

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace

CMWQ_EXPORT(int, execve, (const char* path, char* const argv[], char* const envp[])) {
  return Exec(CMWQ_REAL(execve), path, argv, envp);
}

CMWQ_EXPORT(int, execv, (const char* path, char* const argv[])) {
  return Exec(CMWQ_REAL(execv), path, argv);
}

CMWQ_EXPORT(int, execvp, (const char* file, char* const argv[])) {
  return Exec(CMWQ_REAL(execvp), file, argv);
}

CMWQ_EXPORT(int, execvpe, (const char* file, char* const argv[], char* const envp[])) {
  return Exec(CMWQ_REAL(execvpe), file, argv, envp);
}

CMWQ_EXPORT(int, fexecve, (int fd, char* const argv[], char* const envp[])) {
  return Exec(CMWQ_REAL(fexecve), fd, argv, envp);
}

CMWQ_EXPORT(int, execveat,
            (int dir, const char* path, char* const argv[], char* const envp[], int flags)) {
  return Exec(CMWQ_REAL(execveat), dir, path, argv, envp, flags);
}

CMWQ_EXPORT(int, execl, (const char* path, const char* first, ...)) {
  CMWQ_ARGUMENT_VECTOR(argv, first);
  va_end(args);
  return Exec(CMWQ_REAL(execv), path, argv);
}

CMWQ_EXPORT(int, execlp, (const char* file, const char* first, ...)) {
  CMWQ_ARGUMENT_VECTOR(argv, first);
  va_end(args);
  return Exec(CMWQ_REAL(execvp), file, argv);
}

CMWQ_EXPORT(int, execle, (const char* path, const char* first, ...)) {
  CMWQ_ARGUMENT_VECTOR(argv, first);
  // Behind the null comes the environment. va_list is handed on by reference on every supported ABI
  // but one; counting again costs nothing and does not ask.
  va_end(args);
  va_start(args, first);
  for (size_t i = 0; i < argc; ++i) (void)va_arg(args, const char*);
  char* const* const envp = va_arg(args, char* const*);
  va_end(args);
  return Exec(CMWQ_REAL(execve), path, argv, envp);
}

// Runs no fork handlers.
CMWQ_EXPORT(pid_t, _Fork, ()) {
  const pid_t child = CMWQ_REAL(_Fork)();
  if (child == 0 && Active()) OnNewProcess();
  return child;
}

// A new process unless it shares our memory. The optional arguments are handed on unread.
CMWQ_EXPORT(int, clone, (int (*fn)(void*), void* stack, int flags, void* argument, ...)) {
  va_list args;
  va_start(args, argument);
  void* const parent_tid = va_arg(args, void*);
  void* const tls = va_arg(args, void*);
  void* const child_tid = va_arg(args, void*);
  va_end(args);
  const auto original = CMWQ_REAL(clone);
  if (!Active() || fn == nullptr || (flags & CLONE_VM) != 0) {
    return original(fn, stack, flags, argument, parent_tid, tls, child_tid);
  }
  Start start = {fn, argument};
  return original(&StartInChild, stack, flags, &start, parent_tid, tls, child_tid);
}
CMWQ_ALIAS(__clone, clone)

// A jump out of a wait, from a signal handler: the wait's bracket is left open otherwise.
CMWQ_EXPORT(void, longjmp, (struct __jmp_buf_tag* to, int value)) {
  if (Adopted()) cmwq::gate::LeaveByJump();
  CMWQ_REAL(longjmp)(to, value);
  __builtin_unreachable();
}
CMWQ_ALIAS(siglongjmp, longjmp)
CMWQ_ALIAS(_longjmp, longjmp)

CMWQ_EXPORT(void, __longjmp_chk, (struct __jmp_buf_tag* to, int value)) {
  if (Adopted()) cmwq::gate::LeaveByJump();
  CMWQ_REAL(__longjmp_chk)(to, value);
  __builtin_unreachable();
}
