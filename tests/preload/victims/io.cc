// Reading and writing files, pipes and sockets; durability; locks on files.

#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#include "tests/preload/victims/support.h"

namespace {

void Files() {
  char path[] = "/tmp/cmwq-victim-XXXXXX";
  const int fd = mkstemp(path);
  REQUIRE(fd >= 0);
  unlink(path);
  char buf[64] = {};
  char text[] = "0123456789";
  struct iovec vec[2] = {{text, 3}, {text + 3, 4}};
  SHOW(write(fd, text, 10));
  SHOW(pwrite(fd, text, 5, 10));
  SHOW(writev(fd, vec, 2));
  SHOW(pwritev(fd, vec, 2, 20));
  SHOW(pwritev2(fd, vec, 2, 27, 0));
  SHOW(lseek(fd, 0, SEEK_SET));
  SHOW(read(fd, buf, 4));
  SHOW(readv(fd, vec, 2));
  SHOW(pread(fd, buf, 64, 30));
  SHOW(preadv(fd, vec, 2, 0));
  SHOW(preadv2(fd, vec, 2, 0, 0));
  SHOW(read(fd, buf, 0));
  SHOW(read(-1, buf, 1));
  SHOW(write(-1, buf, 1));
  SHOW(read(fd, nullptr, 1));
  SHOW(readv(fd, vec, -1));
  SHOW(writev(fd, vec, 5000));
  SHOW(fsync(fd));
  SHOW(fdatasync(fd));
  SHOW(fsync(-1));
  SHOW(syncfs(fd));
  SHOW(sync_file_range(fd, 0, 10, SYNC_FILE_RANGE_WRITE));
  SHOW(ftruncate(fd, 4096));
  SHOW(posix_fallocate(fd, 0, 8192));
  SHOW(posix_fallocate(-1, 0, 8192));
  SHOW(posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED));
  SHOW(posix_fadvise(-1, 0, 0, POSIX_FADV_WILLNEED));
  SHOW(truncate("/nonexistent/file", 0));
  SHOW(open("/nonexistent/file", O_RDONLY));
  SHOW(flock(fd, LOCK_EX));
  SHOW(flock(fd, LOCK_SH | LOCK_NB));
  SHOW(flock(fd, LOCK_UN));
  SHOW(lockf(fd, F_LOCK, 0));
  SHOW(lockf(fd, F_ULOCK, 0));
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  SHOW(fcntl(fd, F_SETLKW, &lock));
  SHOW(fcntl(fd, F_GETLK, &lock));
  SHOW(fcntl(fd, F_GETFD));
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  SHOW(msync(page, 4096, MS_SYNC));
  SHOW(msync(page, 4096, MS_ASYNC | MS_SYNC));
  munmap(page, 4096);
  SHOW(close(fd));
  SHOW(close(-1));
}

void Pipes() {
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  char buf[16] = {};
  {
    const OnceAsleep feed([&] { REQUIRE(write(fds[1], "abc", 3) == 3); });
    SHOW(read(fds[0], buf, 16));
  }
  SHOW(fcntl(fds[0], F_SETFL, O_NONBLOCK));
  SHOW(read(fds[0], buf, 16));
  struct iovec vec = {buf, 16};
  SHOW(readv(fds[0], &vec, 1));
  close(fds[1]);
  SHOW(read(fds[0], buf, 16));
  close(fds[0]);
  const int event = eventfd(0, 0);
  eventfd_t value = 0;
  SHOW(eventfd_write(event, 5));
  SHOW(eventfd_read(event, &value));
  {
    const OnceAsleep feed([&] { eventfd_write(event, 3); });
    SHOW(eventfd_read(event, &value));
  }
  printf("event %lu\n", static_cast<unsigned long>(value));
  close(event);
}

void Sockets() {
  Connection connection;
  char buf[16] = {};
  struct iovec vec[2] = {{buf, 2}, {buf + 2, 14}};
  {
    const OnceAsleep feed([&] { REQUIRE(write(connection.client, "abc", 3) == 3); });
    SHOW(read(connection.server, buf, 16));
  }
  {
    const OnceAsleep feed([&] { REQUIRE(write(connection.client, "abcd", 4) == 4); });
    SHOW(readv(connection.server, vec, 2));
  }
  SHOW(read(connection.server, buf, 0));
  struct iovec empty = {buf, 0};
  SHOW(readv(connection.server, &empty, 1));
  SHOW(readv(connection.server, vec, 0));
  SHOW(write(connection.server, "answer", 6));
  SHOW(writev(connection.server, vec, 2));
  SHOW(write(connection.server, buf, 0));
  char answer[64];
  SHOW(recv(connection.client, answer, 22, MSG_WAITALL));
  {
    const OnceAsleep feed([&] { REQUIRE(write(connection.server, "abc", 3) == 3); });
    SHOW(read(connection.client, buf, 16));
  }
  SHOW(fcntl(connection.server, F_SETFL, O_NONBLOCK));
  SHOW(read(connection.server, buf, 16));
  SHOW(readv(connection.server, vec, 2));
  SHOW(fcntl(connection.server, F_SETFL, 0));
  {
    const OnceAsleep end([&] { connection.CloseClient(); });
    SHOW(read(connection.server, buf, 16));
  }
  SHOW(write(connection.server, buf, 1));
  Pause(5000);
  SHOW(write(connection.server, buf, 1));
  SHOW(read(connection.server, buf, 1));
}

}  // namespace

int main() {
  signal(SIGPIPE, SIG_IGN);
  InBothKinds([] {
    Files();
    Pipes();
    Sockets();
  });
  return 0;
}
