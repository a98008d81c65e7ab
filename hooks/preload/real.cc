// Resolution of the original functions. Runs before every constructor of the program; must not
// allocate (a hit of dlsym() does not, a miss does, and would enter a preloaded allocator that is
// not initialised yet).

#include "hooks/preload/real.h"

#include <dlfcn.h>
#include <errno.h>
#include <gnu/libc-version.h>

// dlsym() looks at its return address to know after whom to search. Compiled as a jump it would
// take our caller, or the loader, for us.
#if defined(__clang__)
#define CMWQ_NO_TAIL_CALL __attribute__((noinline, disable_tail_calls))
#else
#define CMWQ_NO_TAIL_CALL __attribute__((noinline, optimize("no-optimize-sibling-calls")))
#endif

namespace cmwq::preload::real {

constinit void* g_slots[kEntryCount] = {};

namespace {

struct Row {
  const char* name;
  const char* version;
  int since;
};

constexpr Row kRows[kEntryCount] = {
#define CMWQ_ROW(name, since, version) {#name, version, since},
#define CMWQ_ROW_EXTRA(ret, name, params, since) {#name, nullptr, since},
    CMWQ_REAL_DECLARED(CMWQ_ROW) CMWQ_REAL_EXTRA(CMWQ_ROW_EXTRA)
#undef CMWQ_ROW
#undef CMWQ_ROW_EXTRA
};

// Stands in for a function this libc does not have. Works for every signature: the calling
// convention lets a callee ignore its arguments.
long Missing() {
  errno = ENOSYS;
  return -1;
}

CMWQ_NO_TAIL_CALL void* Lookup(const Row& row) {
  void* fn = row.version == nullptr ? dlsym(RTLD_NEXT, row.name)
                                    : dlvsym(RTLD_NEXT, row.name, row.version);
  // Keeps the call from becoming the last thing this function does, whatever the flags.
  __asm__ volatile("" : "+r"(fn));
  return fn;
}

}  // namespace

void* Resolve(Entry entry) {
  const int saved = errno;
  void* fn = Lookup(kRows[entry]);
  errno = saved;
  if (fn == nullptr) fn = reinterpret_cast<void*>(&Missing);
  __atomic_store_n(&g_slots[entry], fn, __ATOMIC_RELAXED);
  return fn;
}

const char* ResolveAll() {
  const int minor = GlibcMinor();
  const char* missing = nullptr;
  for (int i = 0; i < kEntryCount; ++i) {
    if (kRows[i].since > minor) continue;
    const void* fn = Resolve(static_cast<Entry>(i));
    if (fn == reinterpret_cast<void*>(&Missing) && missing == nullptr) missing = kRows[i].name;
  }
  return missing;
}

int GlibcMinor() {
  const char* p = gnu_get_libc_version();
  if (p[0] != '2' || p[1] != '.') return 0;
  int minor = 0;
  for (p += 2; *p >= '0' && *p <= '9'; ++p) minor = minor * 10 + (*p - '0');
  return minor;
}

}  // namespace cmwq::preload::real
