// Making, copying and closing descriptors; a daemon that closes everything; requests on copies.

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "tests/preload/victims/support.h"

namespace {

void Serve(int from, int to) {
  char byte = 0;
  const OnceAsleep feed([=] { REQUIRE(send(from, "r", 1, 0) == 1); });
  struct pollfd one = {to, POLLIN, 0};
  SHOW(poll(&one, 1, -1));
  SHOW(read(to, &byte, 1));
}

void Copies() {
  Connection connection;
  const int copy = dup(connection.server);
  Serve(connection.client, copy);
  SHOW(close(connection.server));
  Serve(connection.client, copy);
  connection.server = -1;
  SHOW(dup2(copy, 100));
  SHOW(dup2(100, 100));
  SHOW(dup3(100, 100, 0));
  SHOW(dup3(100, 101, O_CLOEXEC));
  SHOW(dup2(-1, 102));
  SHOW(close(copy));
  Serve(connection.client, 100);
  const int high = fcntl(100, F_DUPFD_CLOEXEC, 120);
  SHOW(high);
  Serve(connection.client, high);
  SHOW(close(100));
  SHOW(close(101));
  SHOW(close(high));
  SHOW(close(high));
  SHOW(syscall(SYS_close, 9999));
}

void Kinds() {
  int pair[2];
  SHOW(open("/dev/null", O_RDONLY) >= 0);
  SHOW(openat(AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC) >= 0);
  SHOW(creat("/nonexistent/x", 0600));
  SHOW(open("/tmp", O_TMPFILE | O_RDWR, 0600) >= 0);
  SHOW(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  SHOW(pipe2(pair, O_CLOEXEC));
  SHOW(pipe2(pair, 12345));
  SHOW(eventfd(0, EFD_CLOEXEC) >= 0);
  SHOW(timerfd_create(CLOCK_MONOTONIC, 0) >= 0);
  sigset_t none;
  sigemptyset(&none);
  SHOW(signalfd(-1, &none, 0) >= 0);
  SHOW(inotify_init1(0) >= 0);
  SHOW(epoll_create(1) >= 0);
  SHOW(memfd_create("victim", 0) >= 0);
  SHOW(socket(12345, 0, 0));
}

// The next free descriptor shows that everything below was closed.
void CloseEverything() {
  for (int round = 0; round < 4; ++round) {
    const int kept = dup(1);
    REQUIRE(fcntl(kept, F_DUPFD, 60) >= 60);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    const int end = limit.rlim_cur < 4096 ? static_cast<int>(limit.rlim_cur) : 4096;
    if (round == 0) closefrom(3);
    if (round == 1) SHOW(close_range(3, ~0u, 0));
    if (round == 2) {
      for (int fd = 3; fd < end; ++fd) close(fd);
    }
    if (round == 3) {
      for (int fd = 3; fd < end; ++fd) syscall(SYS_close, fd);
    }
    SHOW(dup(1));
    SHOW(fcntl(60, F_GETFD));
    SHOW(close_range(5, 4, 0));
    SHOW(close_range(50, 3000, CLOSE_RANGE_CLOEXEC));
    Thread([] { ServeOneRequest(); }).Join();
    ServeOneRequest();
  }
}

}  // namespace

int main() {
  InBothKinds([] {
    Copies();
    Kinds();
    CloseEverything();
  });
  return 0;
}
