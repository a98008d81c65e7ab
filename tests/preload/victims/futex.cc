// syscall(): futexes of each kind and the raw forms of ordinary calls.

#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "tests/preload/victims/support.h"

namespace {

long Futex(int* word, int operation, long value, const void* time = nullptr, int* other = nullptr,
           long last = 0) {
  return syscall(SYS_futex, word, operation, value, time, other, last);
}

void Futexes() {
  int word = 0;
  const struct timespec brief = {0, 2000000};
  const struct timespec invalid = {0, -1};
  const struct timespec past = {};
  SHOW(Futex(&word, FUTEX_WAIT, 1));
  SHOW(Futex(&word, FUTEX_WAIT_PRIVATE, 0, &brief));
  SHOW(Futex(&word, FUTEX_WAIT, 0, &invalid));
  SHOW(Futex(&word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &past, nullptr, -1));
  SHOW(Futex(&word, FUTEX_WAIT_BITSET, 0, &past, nullptr, 0));
  SHOW(Futex(&word, FUTEX_WAKE, 1));
  SHOW(Futex(nullptr, FUTEX_WAIT, 0));
  SHOW(Futex(&word, 120, 0));
  for (const int operation : {FUTEX_WAIT, FUTEX_WAIT_PRIVATE}) {
    const OnceAsleep wake([&] { Futex(&word, FUTEX_WAKE | (operation & FUTEX_PRIVATE_FLAG), 1); });
    SHOW(Futex(&word, operation, 0));
  }
  SHOW(Futex(&word, FUTEX_LOCK_PI_PRIVATE, 0));
  SHOW(word == gettid());
  SHOW(Futex(&word, FUTEX_LOCK_PI_PRIVATE, 0));
  SHOW(Futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0));
}

void RawCalls() {
  Connection connection;
  char buf[16];
  SHOW(syscall(SYS_gettid) == gettid());
  SHOW(syscall(SYS_getpid) == getpid());
  {
    const OnceAsleep feed([&] { syscall(SYS_write, connection.client, "abc", 3); });
    SHOW(syscall(SYS_read, connection.server, buf, 16));
  }
  {
    const OnceAsleep feed([&] { syscall(SYS_sendto, connection.client, "abc", 3, 0, nullptr, 0); });
    SHOW(syscall(SYS_recvfrom, connection.server, buf, 16, 0, nullptr, nullptr));
  }
  struct pollfd one = {connection.server, POLLIN, 0};
  const struct timespec brief = {0, 2000000};
  SHOW(syscall(SYS_ppoll, &one, 1, &brief, nullptr, 8));
  SHOW(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &brief, nullptr));
  SHOW(syscall(SYS_sched_yield));
  SHOW(syscall(SYS_pread64, -1, buf, 1, 0));
  SHOW(syscall(SYS_fsync, -1));
  SHOW(syscall(SYS_wait4, -1, nullptr, 0, nullptr));
  SHOW(syscall(99999));
  // All six arguments arrive.
  struct iovec from = {buf, 8};
  char copy[8];
  struct iovec to = {copy, 8};
  SHOW(syscall(SYS_process_vm_readv, getpid(), &to, 1, &from, 1, 0));
  SHOW(syscall(SYS_process_vm_readv, getpid(), &to, 1, &from, 1, 1));
}

}  // namespace

int main() {
  InBothKinds([] {
    Futexes();
    RawCalls();
  });
  return 0;
}
