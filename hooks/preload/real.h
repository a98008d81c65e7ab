// The original functions: one typed slot per name of real_list.h.
//
// A slot is filled by the constructor's ResolveAll(), or by the first call of its wrapper where
// that comes earlier (a library's constructor) or the name was not to be had at start-up. Both
// store the same address, so no lock and no once-flag is needed. Addresses are those after ours in
// the search order, so that other preloads keep working.

#ifndef CMWQ_HOOKS_PRELOAD_REAL_H_
#define CMWQ_HOOKS_PRELOAD_REAL_H_

#include <aio.h>
#include <fcntl.h>
#include <grp.h>
#include <mqueue.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <syslog.h>
#include <termios.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>

#include "hooks/preload/real_list.h"

namespace cmwq::preload::real {

enum Entry : uint16_t {
#define CMWQ_ENTRY(name, since, version) k_##name,
#define CMWQ_ENTRY_EXTRA(ret, name, params, since) k_##name,
  CMWQ_REAL_DECLARED(CMWQ_ENTRY) CMWQ_REAL_EXTRA(CMWQ_ENTRY_EXTRA)
#undef CMWQ_ENTRY
#undef CMWQ_ENTRY_EXTRA
      kEntryCount,
};

// Takes the exception specification off a function pointer's type. libc declares most functions as
// throwing nothing; a call through such a type gets no landing pad, and a cancellation that unwinds
// through it would skip the bracket's destructor.
template <typename Fn>
struct Throwing;
template <typename R, typename... A>
struct Throwing<R (*)(A...)> {
  using Type = R (*)(A...);
};
template <typename R, typename... A>
struct Throwing<R (*)(A...) noexcept> {
  using Type = R (*)(A...);
};
template <typename R, typename... A>
struct Throwing<R (*)(A..., ...)> {
  using Type = R (*)(A..., ...);
};
template <typename R, typename... A>
struct Throwing<R (*)(A..., ...) noexcept> {
  using Type = R (*)(A..., ...);
};

// GCC remarks that a template argument loses libc's attributes: that is the intention.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"
#define CMWQ_TYPE(name, since, version) using fn_##name = Throwing<decltype(&::name)>::Type;
#define CMWQ_TYPE_EXTRA(ret, name, params, since) using fn_##name = ret(*) params;
CMWQ_REAL_DECLARED(CMWQ_TYPE)
CMWQ_REAL_EXTRA(CMWQ_TYPE_EXTRA)
#undef CMWQ_TYPE
#undef CMWQ_TYPE_EXTRA
#pragma GCC diagnostic pop

// AT(Resolve): null until resolved; the value never changes after that.
extern constinit void* g_slots[kEntryCount] __attribute__((visibility("hidden")));

// Finds one original and stores it. Never null: a name that libc lacks gives a function that fails
// with ENOSYS.
void* Resolve(Entry entry);

// Resolves everything this libc should have. Returns the first missing name, or null.
const char* ResolveAll();

// Minor number of the running glibc 2.x, 0 if it is no glibc 2.
int GlibcMinor();

inline void* Get(Entry entry) {
  // Relaxed: the pointed-to code was made visible by the loader long before.
  void* const fn = __atomic_load_n(&g_slots[entry], __ATOMIC_RELAXED);
  return __builtin_expect(fn != nullptr, 1) ? fn : Resolve(entry);
}

}  // namespace cmwq::preload::real

// The original of a libc function, typed: CMWQ_REAL(read)(fd, buf, n).
#define CMWQ_REAL(name)                                \
  (reinterpret_cast<::cmwq::preload::real::fn_##name>( \
      ::cmwq::preload::real::Get(::cmwq::preload::real::k_##name)))

#endif  // CMWQ_HOOKS_PRELOAD_REAL_H_
