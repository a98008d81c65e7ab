// The io functions that announce and make the plain call. Those that try first are in io.cc, with the
// reasons.
//
// Calls are libc's, as in io.cc. Locks: none, but for kPool inside the hooks.

#include <cmwq/io.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/pool/sched_hooks.h"
#include "runtime/pool/worker.h"

namespace {

// The worker does not count as running while this exists. Keeps errno.
class Announced {
 public:
  Announced() { cmwq::pool::WorkerSleeping(); }
  ~Announced() { cmwq::pool::WorkerRunning(); }
  Announced(const Announced&) = delete;
  Announced& operator=(const Announced&) = delete;
};

bool InWorker() { return cmwq::pool::CurrentWorker() != nullptr; }

// What a file gives without waiting ends at the edge of the page cache: an attempt would be a short read.
bool MayTry(int fd) {
  struct stat st;
  return InWorker() && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode);
}

}  // namespace

extern "C" {

ssize_t cmwq_io_readv(int fd, const struct iovec* iov, int iovcnt, int64_t offset, int flags) {
  if (MayTry(fd)) {
    const ssize_t n = preadv2(fd, iov, iovcnt, offset, flags | RWF_NOWAIT);
    if (n >= 0 || (errno != EAGAIN && errno != EOPNOTSUPP && errno != ENOSYS)) return n;
  }
  Announced announced;
  return preadv2(fd, iov, iovcnt, offset, flags);
}

ssize_t cmwq_io_writev(int fd, const struct iovec* iov, int iovcnt, int64_t offset, int flags) {
  Announced announced;
  return pwritev2(fd, iov, iovcnt, offset, flags);
}

ssize_t cmwq_io_recvmsg(int fd, struct msghdr* msg, int flags) {
  if (InWorker() && (flags & MSG_WAITALL) == 0) {
    const ssize_t n = recvmsg(fd, msg, flags | MSG_DONTWAIT);
    if (n >= 0 || errno != EAGAIN) return n;
  }
  Announced announced;
  return recvmsg(fd, msg, flags);
}

ssize_t cmwq_io_sendmsg(int fd, const struct msghdr* msg, int flags) {
  Announced announced;
  return sendmsg(fd, msg, flags);
}

int cmwq_io_openat(int dirfd, const char* path, int flags, mode_t mode) {
  Announced announced;
  return openat(dirfd, path, flags, mode);
}

int cmwq_io_close(int fd) {
  Announced announced;
  return close(fd);
}

int cmwq_io_statx(int dirfd, const char* path, int flags, unsigned mask, struct statx* buf) {
  Announced announced;
  return statx(dirfd, path, flags, mask, buf);
}

int cmwq_io_fallocate(int fd, int mode, int64_t offset, int64_t len) {
  Announced announced;
  return fallocate(fd, mode, offset, len);
}

int cmwq_io_unlinkat(int dirfd, const char* path, int flags) {
  Announced announced;
  return unlinkat(dirfd, path, flags);
}

int cmwq_io_renameat(int olddirfd, const char* oldpath, int newdirfd, const char* newpath,
                     unsigned flags) {
  Announced announced;
  return renameat2(olddirfd, oldpath, newdirfd, newpath, flags);
}

int cmwq_io_mkdirat(int dirfd, const char* path, mode_t mode) {
  Announced announced;
  return mkdirat(dirfd, path, mode);
}

}  // extern "C"
