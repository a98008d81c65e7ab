// Another preload: its read() and pthread_mutex_lock() must be called once per call, whether it is
// loaded before or after ours.

#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>

namespace {

int g_reads = 0;
int g_locks = 0;

template <typename Fn>
Fn Next(const char* name) {
  Fn fn = reinterpret_cast<Fn>(dlsym(RTLD_NEXT, name));
  asm volatile("" : "+r"(fn));
  return fn;
}

}  // namespace

extern "C" {

int OtherReads() { return g_reads; }
int OtherLocks() { return g_locks; }

ssize_t read(int fd, void* buf, size_t n) {
  ++g_reads;
  return Next<ssize_t (*)(int, void*, size_t)>("read")(fd, buf, n);
}

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  ++g_locks;
  return Next<int (*)(pthread_mutex_t*)>("pthread_mutex_lock")(mutex);
}

}  // extern "C"
