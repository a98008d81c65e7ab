// Exported wrappers: processes that are waited for or started, and the ways out of this one.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.
//
// fork() is not wrapped (its handlers suffice), nor is vfork(): its child would return through a
// frame that the parent still needs. The functions that start a program sleep inside libc until the
// child has done so.

#include "hooks/preload/fd_notes.h"
#include "hooks/preload/report.h"

namespace cmwq::preload {
namespace {

// Starts a program: it must not inherit where the gate pinned the caller.
template <typename R, typename... P, typename... A>
inline R Spawn(R (*fn)(P...), A... args) {
  if (!Adopted()) return fn(args...);
  const gate::UnpinForCreate unpin;
  return Bracketed(Hook::kProcess, fn, args...);
}

}  // namespace
}  // namespace cmwq::preload

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace

CMWQ_EXPORT(pid_t, wait, (int* status)) {
  return Bracketed(Hook::kProcess, CMWQ_REAL(wait), status);
}
CMWQ_ALIAS(__wait, wait)

CMWQ_EXPORT(pid_t, waitpid, (pid_t pid, int* status, int options)) {
  if ((options & WNOHANG) != 0) return CMWQ_REAL(waitpid)(pid, status, options);
  return Bracketed(Hook::kProcess, CMWQ_REAL(waitpid), pid, status, options);
}
CMWQ_ALIAS(__waitpid, waitpid)

CMWQ_EXPORT(pid_t, wait3, (int* status, int options, struct rusage* usage)) {
  if ((options & WNOHANG) != 0) return CMWQ_REAL(wait3)(status, options, usage);
  return Bracketed(Hook::kProcess, CMWQ_REAL(wait3), status, options, usage);
}

CMWQ_EXPORT(pid_t, wait4, (pid_t pid, int* status, int options, struct rusage* usage)) {
  if ((options & WNOHANG) != 0) return CMWQ_REAL(wait4)(pid, status, options, usage);
  return Bracketed(Hook::kProcess, CMWQ_REAL(wait4), pid, status, options, usage);
}

CMWQ_EXPORT(int, waitid, (idtype_t type, id_t id, siginfo_t* info, int options)) {
  if ((options & WNOHANG) != 0) return CMWQ_REAL(waitid)(type, id, info, options);
  return Bracketed(Hook::kProcess, CMWQ_REAL(waitid), type, id, info, options);
}

CMWQ_EXPORT(int, system, (const char* command)) { return Spawn(CMWQ_REAL(system), command); }

CMWQ_EXPORT(FILE*, popen, (const char* command, const char* mode)) {
  return Spawn(CMWQ_REAL(popen), command, mode);
}
CMWQ_ALIAS(_IO_popen, popen)

CMWQ_EXPORT(int, pclose, (FILE * stream)) {
  return Bracketed(Hook::kProcess, CMWQ_REAL(pclose), stream);
}

CMWQ_EXPORT(int, posix_spawn,
            (pid_t * pid, const char* path, const posix_spawn_file_actions_t* actions,
             const posix_spawnattr_t* attributes, char* const argv[], char* const envp[])) {
  return Spawn(CMWQ_REAL(posix_spawn), pid, path, actions, attributes, argv, envp);
}

CMWQ_EXPORT(int, posix_spawnp,
            (pid_t * pid, const char* file, const posix_spawn_file_actions_t* actions,
             const posix_spawnattr_t* attributes, char* const argv[], char* const envp[])) {
  return Spawn(CMWQ_REAL(posix_spawnp), pid, file, actions, attributes, argv, envp);
}

// These leave without running the library's destructor.
CMWQ_EXPORT(void, _exit, (int status)) {
  ReportAtExit();
  CMWQ_REAL(_exit)(status);
  __builtin_unreachable();
}
CMWQ_ALIAS(_Exit, _exit)

CMWQ_EXPORT(void, quick_exit, (int status)) {
  ReportAtExit();
  CMWQ_REAL(quick_exit)(status);
  __builtin_unreachable();
}
