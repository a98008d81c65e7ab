// The preload's life: constructor, fork, thread exit, destructor.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers.
//
// With CMWQ_DISABLE=1, or where the process must be left alone, the originals are looked up and
// nothing else happens: the wrappers only call them.

#include <dlfcn.h>
#include <limits.h>
#include <string.h>

#include "hooks/gate/gate.h"
#include "hooks/gate/host.h"
#include "hooks/preload/hook.h"
#include "hooks/preload/inert.h"
#include "hooks/preload/report.h"
#include "runtime/base/conf.h"

namespace cmwq::preload {
namespace {

// I: valid while g_active.
constinit pthread_key_t g_exit_key = 0;

// The value of the key counts the destructor rounds. Other keys' destructors call wrapped
// functions; only the last round is after all of them.
void OnThreadExit(void* value) {
  const auto round = reinterpret_cast<uintptr_t>(value);
  if (round < PTHREAD_DESTRUCTOR_ITERATIONS &&
      pthread_setspecific(g_exit_key, reinterpret_cast<void*>(round + 1)) == 0) {
    return;
  }
  gate::ThreadExit();
  gate::t_state.dead = 1;
}

void ArmThreadExit() {
  if (pthread_getspecific(g_exit_key) != nullptr) return;
  // Needs no memory: the key is the process's first, and libc keeps the first few values in the
  // thread's own descriptor.
  pthread_setspecific(g_exit_key, reinterpret_cast<void*>(uintptr_t{1}));
}

int CreateThread(void* (*fn)(void*), void* arg, unsigned long stack) {
  pthread_attr_t attributes;
  int rc = pthread_attr_init(&attributes);
  if (rc != 0) return rc;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  if (stack != 0) rc = pthread_attr_setstacksize(&attributes, stack);
  if (rc == 0) {
    // Inherited by the new thread: no handler of the program may run there. libc leaves its own
    // signals open.
    sigset_t all;
    sigset_t saved;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved);
    pthread_t thread;
    rc = CMWQ_REAL(pthread_create)(&thread, &attributes, fn, arg);
    if (rc == EINVAL && stack != 0) {
      // The program's thread-local storage does not fit into so small a stack.
      pthread_attr_t roomy;
      if (pthread_attr_init(&roomy) == 0) {
        pthread_attr_setdetachstate(&roomy, PTHREAD_CREATE_DETACHED);
        rc = CMWQ_REAL(pthread_create)(&thread, &roomy, fn, arg);
        pthread_attr_destroy(&roomy);
      }
    }
    pthread_sigmask(SIG_SETMASK, &saved, nullptr);
  }
  pthread_attr_destroy(&attributes);
  return rc;
}

bool IsDisabled(char* const* envp) {
  constexpr char kEntry[] = "CMWQ_DISABLE=1";
  for (; envp != nullptr && *envp != nullptr; ++envp) {
    if (strcmp(*envp, kEntry) == 0) return true;
  }
  return false;
}

// One line, in one write, so that it stays in one piece among the program's own output.
void SayInert(const char* why) {
  if (secure_getenv("CMWQ_QUIET") != nullptr) return;
  constexpr char kPrefix[] = "cmwq: inert: ";
  char line[128];
  size_t length = sizeof(kPrefix) - 1;
  memcpy(line, kPrefix, length);
  for (; *why != '\0' && length < sizeof(line) - 1; ++why) line[length++] = *why;
  line[length++] = '\n';
  // This early nothing has taken the number of a standard error that is closed: the write fails.
  [[maybe_unused]] const ssize_t written = CMWQ_REAL(write)(STDERR_FILENO, line, length);
}

// Whether an entry of LD_PRELOAD, `length` bytes long, is this library.
bool IsThisLibrary(const char* entry, size_t length) {
  Dl_info self;
  if (dladdr(reinterpret_cast<const void*>(&IsThisLibrary), &self) == 0) return false;
  return strlen(self.dli_fname) == length && strncmp(entry, self.dli_fname, length) == 0;
}

// children=drop: takes this library out of the list that programs started later inherit; other preloads
// stay. In place: the environment's strings are writable, and memory may not be asked for here.
void DropFromEnvironment(char** envp) {
  constexpr char kName[] = "LD_PRELOAD=";
  constexpr char kSeparators[] = ": ";
  for (; *envp != nullptr; ++envp) {
    if (strncmp(*envp, kName, sizeof(kName) - 1) != 0) continue;
    char* const list = *envp + sizeof(kName) - 1;
    char* to = list;
    for (const char* from = list; *from != '\0';) {
      const size_t length = strcspn(from, kSeparators);
      if (length != 0 && !IsThisLibrary(from, length)) {
        if (to != list) *to++ = ':';
        memmove(to, from, length);
        to += length;
      }
      from += length + (from[length] != '\0' ? 1 : 0);
    }
    *to = '\0';
  }
}

// Returns why not. `missing`: a function that this libc should have and has not.
const char* Start(const char* missing) {
  if (const char* why = ReasonToStayInert()) return why;
  if (missing != nullptr) return missing;
  if (pthread_key_create(&g_exit_key, &OnThreadExit) != 0) return "no thread key";
  if (pthread_atfork(nullptr, nullptr, &OnNewProcess) != 0) return "no fork handler";
  ResetIdentity();
  SetUpReport();
  gate::SetHost({.arm_thread_exit = &ArmThreadExit, .create_thread = &CreateThread});
  const char* why = "gate";
  return gate::Init(&why) ? nullptr : why;
}

// This is the process's first constructor, ahead of libc's own, which sets `environ`: the loader's
// argument has the same value.
__attribute__((constructor)) void OnLoad(int, char**, char** envp) {
  const int saved = errno;
  // Now, in every case: a first call may come from a signal handler, where looking up is not
  // allowed.
  const char* const missing = real::ResolveAll();
  errno = saved;
  if (IsDisabled(envp)) return;
  if (environ == nullptr) environ = envp;
  if (const char* why = Start(missing)) {
    SayInert(why);
  } else {
    if (base::g_conf.children == base::kChildrenDrop) DropFromEnvironment(envp);
    __atomic_store_n(&g_active, true, __ATOMIC_RELAXED);
  }
  errno = saved;
}

__attribute__((destructor)) void OnUnload() {
  ReportAtExit();
  // A child of vfork shares our memory, but the page is its parent's.
  if (Active() && !InSharedChild()) gate::RemoveStats();
}

}  // namespace

void OnNewProcess() {
  ResetIdentity();
  RearmReport();
  gate::AfterForkInChild();
}

}  // namespace cmwq::preload
