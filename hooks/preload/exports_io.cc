// Exported wrappers: reading and writing descriptors.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.
//
// read() and write() know no "do not wait". On a boundary descriptor, which is a socket, the socket
// call of the same meaning does; everything else is announced as a sleep without trying.

#include <limits.h>

#include "hooks/preload/boundary.h"
#include "hooks/preload/send.h"

namespace cmwq::preload {
namespace {

ssize_t Read(int fd, void* buf, size_t n) {
  const auto real_read = CMWQ_REAL(read);
  if (!Active()) return real_read(fd, buf, n);
  // A read of nothing returns at once, the corresponding receive may wait.
  if (n != 0 && gate::IsBoundary(fd)) {
    const auto real_recv = CMWQ_REAL(recv);
    return ReceiveAtBoundary(
        fd, Hook::kRead, [=] { return real_recv(fd, buf, n, MSG_DONTWAIT); },
        [=] { return real_read(fd, buf, n); });
  }
  return BracketedOn(fd, Hook::kRead, real_read, fd, buf, n);
}

bool IsEmpty(const struct iovec* iov, int count) {
  for (int i = 0; i < count; ++i) {
    if (iov[i].iov_len != 0) return false;
  }
  return true;
}

ssize_t ReadV(int fd, const struct iovec* iov, int count) {
  const auto real_readv = CMWQ_REAL(readv);
  if (!Active()) return real_readv(fd, iov, count);
  if (count > 0 && count <= IOV_MAX && iov != nullptr && gate::IsBoundary(fd) &&
      !IsEmpty(iov, count)) {
    const auto real_recvmsg = CMWQ_REAL(recvmsg);
    return ReceiveAtBoundary(
        fd, Hook::kRead,
        [=] {
          struct msghdr message = {};
          message.msg_iov = const_cast<struct iovec*>(iov);
          message.msg_iovlen = static_cast<size_t>(count);
          return real_recvmsg(fd, &message, MSG_DONTWAIT);
        },
        [=] { return real_readv(fd, iov, count); });
  }
  return BracketedOn(fd, Hook::kRead, real_readv, fd, iov, count);
}

ssize_t Write(int fd, const void* buf, size_t n) {
  const auto real_write = CMWQ_REAL(write);
  if (Adopted() && n != 0 && gate::IsBoundary(fd)) {
    const auto real_send = CMWQ_REAL(send);
    const char* bytes = static_cast<const char*>(buf);
    return SendFirst(
        fd, n, [=](size_t done, int flags) { return real_send(fd, bytes + done, n - done, flags); },
        [=] { return real_write(fd, buf, n); });
  }
  return BracketedOn(fd, Hook::kWrite, real_write, fd, buf, n);
}

ssize_t WriteV(int fd, const struct iovec* iov, int count) {
  const auto real_writev = CMWQ_REAL(writev);
  if (Adopted() && count > 0 && count <= IOV_MAX && iov != nullptr && gate::IsBoundary(fd) &&
      !IsEmpty(iov, count)) {
    return SendVecFirst(fd, iov, static_cast<size_t>(count), 0,
                        [=] { return real_writev(fd, iov, count); });
  }
  return BracketedOn(fd, Hook::kWrite, real_writev, fd, iov, count);
}

}  // namespace
}  // namespace cmwq::preload

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace

CMWQ_EXPORT(ssize_t, read, (int fd, void* buf, size_t n)) { return Read(fd, buf, n); }
CMWQ_ALIAS(__read, read)

CMWQ_EXPORT(ssize_t, __read_chk, (int fd, void* buf, size_t n, size_t size)) {
  if (n > size) return CMWQ_REAL(__read_chk)(fd, buf, n, size);  // reports the overflow
  return Read(fd, buf, n);
}

CMWQ_EXPORT(ssize_t, readv, (int fd, const struct iovec* iov, int count)) {
  return ReadV(fd, iov, count);
}

CMWQ_EXPORT(ssize_t, pread, (int fd, void* buf, size_t n, off_t offset)) {
  return Bracketed(Hook::kRead, CMWQ_REAL(pread), fd, buf, n, offset);
}
CMWQ_ALIAS(pread64, pread)
CMWQ_ALIAS(__pread64, pread)

CMWQ_EXPORT(ssize_t, __pread_chk, (int fd, void* buf, size_t n, off_t offset, size_t size)) {
  return Bracketed(Hook::kRead, CMWQ_REAL(__pread_chk), fd, buf, n, offset, size);
}
CMWQ_ALIAS(__pread64_chk, __pread_chk)

CMWQ_EXPORT(ssize_t, preadv, (int fd, const struct iovec* iov, int count, off_t offset)) {
  return Bracketed(Hook::kRead, CMWQ_REAL(preadv), fd, iov, count, offset);
}
CMWQ_ALIAS(preadv64, preadv)

CMWQ_EXPORT(ssize_t, preadv2,
            (int fd, const struct iovec* iov, int count, off_t offset, int flags)) {
  if ((flags & RWF_NOWAIT) != 0) return CMWQ_REAL(preadv2)(fd, iov, count, offset, flags);
  return Bracketed(Hook::kRead, CMWQ_REAL(preadv2), fd, iov, count, offset, flags);
}
CMWQ_ALIAS(preadv64v2, preadv2)

CMWQ_EXPORT(ssize_t, write, (int fd, const void* buf, size_t n)) { return Write(fd, buf, n); }
CMWQ_ALIAS(__write, write)

CMWQ_EXPORT(ssize_t, writev, (int fd, const struct iovec* iov, int count)) {
  return WriteV(fd, iov, count);
}

CMWQ_EXPORT(ssize_t, pwrite, (int fd, const void* buf, size_t n, off_t offset)) {
  return Bracketed(Hook::kWrite, CMWQ_REAL(pwrite), fd, buf, n, offset);
}
CMWQ_ALIAS(pwrite64, pwrite)
CMWQ_ALIAS(__pwrite64, pwrite)

CMWQ_EXPORT(ssize_t, pwritev, (int fd, const struct iovec* iov, int count, off_t offset)) {
  return Bracketed(Hook::kWrite, CMWQ_REAL(pwritev), fd, iov, count, offset);
}
CMWQ_ALIAS(pwritev64, pwritev)

CMWQ_EXPORT(ssize_t, pwritev2,
            (int fd, const struct iovec* iov, int count, off_t offset, int flags)) {
  if ((flags & RWF_NOWAIT) != 0) return CMWQ_REAL(pwritev2)(fd, iov, count, offset, flags);
  return Bracketed(Hook::kWrite, CMWQ_REAL(pwritev2), fd, iov, count, offset, flags);
}
CMWQ_ALIAS(pwritev64v2, pwritev2)

CMWQ_EXPORT(int, eventfd_read, (int fd, eventfd_t* value)) {
  return BracketedOn(fd, Hook::kRead, CMWQ_REAL(eventfd_read), fd, value);
}

CMWQ_EXPORT(int, eventfd_write, (int fd, eventfd_t value)) {
  return BracketedOn(fd, Hook::kWrite, CMWQ_REAL(eventfd_write), fd, value);
}
