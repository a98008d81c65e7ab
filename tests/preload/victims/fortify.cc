// The checked forms that _FORTIFY_SOURCE substitutes: same results, and an overflow still aborts.

#include <stdint.h>
#include <sys/wait.h>

#include "tests/preload/victims/support.h"

extern "C" {
ssize_t __read_chk(int, void*, size_t, size_t);
ssize_t __pread_chk(int, void*, size_t, off_t, size_t);
ssize_t __pread64_chk(int, void*, size_t, off64_t, size_t);
ssize_t __recv_chk(int, void*, size_t, size_t, int);
ssize_t __recvfrom_chk(int, void*, size_t, size_t, int, struct sockaddr*, socklen_t*);
int __poll_chk(struct pollfd*, nfds_t, int, size_t);
int __ppoll_chk(struct pollfd*, nfds_t, const struct timespec*, const sigset_t*, size_t);
int __open_2(const char*, int);
int __openat_2(int, const char*, int);
}

namespace {

void Results() {
  Connection connection;
  char buf[8];
  const int server = connection.server;
  for (int round = 0; round < 5; ++round) {
    const OnceAsleep feed([&] { REQUIRE(send(connection.client, "abc", 3, 0) == 3); });
    struct pollfd one = {server, POLLIN, 0};
    if (round == 0) SHOW(__read_chk(server, buf, 8, 8));
    if (round == 1) SHOW(__recv_chk(server, buf, 8, SIZE_MAX, 0));
    if (round == 2) SHOW(__recvfrom_chk(server, buf, 8, 8, 0, nullptr, nullptr));
    if (round == 3) SHOW(__poll_chk(&one, 1, -1, sizeof(one)));
    if (round == 4) SHOW(__ppoll_chk(&one, 1, nullptr, nullptr, sizeof(one)));
    if (round >= 3) SHOW(__read_chk(server, buf, 8, 8));
  }
  const int fd = __open_2("/dev/zero", O_RDONLY);
  SHOW(__pread_chk(fd, buf, 8, 0, 8));
  SHOW(__pread64_chk(fd, buf, 8, 0, 8));
  SHOW(__openat_2(AT_FDCWD, "/nonexistent", O_RDONLY));
  close(fd);
}

template <typename Call>
void Overflows(const char* what, Call call) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    close(2);
    call();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  printf("%s signal %d\n", what, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

}  // namespace

int main() {
  InBothKinds([] { Results(); });
  static char buf[8];
  static struct pollfd one = {0, POLLIN, 0};
  Overflows("read", [] { return __read_chk(0, buf, 9, 8); });
  Overflows("pread", [] { return __pread_chk(0, buf, 9, 0, 8); });
  Overflows("recv", [] { return __recv_chk(0, buf, 9, 8, 0); });
  Overflows("recvfrom", [] { return __recvfrom_chk(0, buf, 9, 8, 0, nullptr, nullptr); });
  Overflows("poll", [] { return __poll_chk(&one, 2, 0, sizeof(one)); });
  Overflows("ppoll", [] { return __ppoll_chk(&one, 2, nullptr, nullptr, sizeof(one)); });
  Overflows("open", [] { return __open_2("/tmp/x", O_CREAT); });
  return 0;
}
