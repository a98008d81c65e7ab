// Raw system calls.
//
// The preload exports read, poll, syscall and most other libc wrappers; code that runs inside them
// must neither call itself nor touch errno. Every function here returns the value or -errno.

#ifndef CMWQ_RUNTIME_BASE_SYS_H_
#define CMWQ_RUNTIME_BASE_SYS_H_

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include <cstdint>

namespace cmwq::base {

inline long SysCall6(long nr, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
  long ret;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(ret)
               : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return ret;
#elif defined(__aarch64__)
  register long x8 asm("x8") = nr;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  register long x4 asm("x4") = e;
  register long x5 asm("x5") = f;
  asm volatile("svc 0"
               : "+r"(x0)
               : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
               : "memory");
  return x0;
#else
#error "cmwq: raw system calls are written for x86-64 and aarch64"
#endif
}

template <class A = long, class B = long, class C = long, class D = long, class E = long,
          class F = long>
inline long Sys(long nr, A a = {}, B b = {}, C c = {}, D d = {}, E e = {}, F f = {}) {
  return SysCall6(nr, (long)a, (long)b, (long)c, (long)d, (long)e, (long)f);
}

inline int Tid() { return static_cast<int>(Sys(SYS_gettid)); }
inline int Pid() { return static_cast<int>(Sys(SYS_getpid)); }
inline void SchedYield() { Sys(SYS_sched_yield); }
inline void SysClose(int fd) { Sys(SYS_close, fd); }

inline constexpr uint64_t kNsPerMs = 1'000'000;
inline constexpr uint64_t kNsPerSec = 1'000'000'000;
inline constexpr uint64_t kNever = ~uint64_t{0};

inline struct timespec ToTimespec(uint64_t ns) {
  // 64-bit kernels take 64-bit seconds; kNever becomes some 580 years, which the kernel clamps.
  return {static_cast<time_t>(ns / kNsPerSec), static_cast<long>(ns % kNsPerSec)};
}

// clock_gettime goes through the vDSO, makes no wrapped call and keeps errno.
inline uint64_t MonotonicNs() {
  struct timespec ts;
  ::clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<uint64_t>(ts.tv_sec) * kNsPerSec + static_cast<uint64_t>(ts.tv_nsec);
}

// futex(2), private. Waits while *word == expected. deadline_ns: CLOCK_MONOTONIC, kNever = no timer
// (arming one delays the block by microseconds). Returns 0, -EAGAIN, -EINTR or -ETIMEDOUT.
inline int FutexWait(const void* word, uint32_t expected, uint64_t deadline_ns = kNever) {
  if (deadline_ns == kNever) {
    return static_cast<int>(
        Sys(SYS_futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, expected, nullptr));
  }
  struct timespec ts = ToTimespec(deadline_ns);
  return static_cast<int>(Sys(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected,
                              &ts, nullptr, FUTEX_BITSET_MATCH_ANY));
}

// Returns the number of threads woken.
inline int FutexWake(const void* word, int count) {
  return static_cast<int>(Sys(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count));
}

}  // namespace cmwq::base

#endif  // CMWQ_RUNTIME_BASE_SYS_H_
