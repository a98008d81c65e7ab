#include "runtime/core/io_op.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <cerrno>

#include "runtime/base/sys.h"

namespace cmwq::core {
namespace {

using base::Sys;
using platform::Io;
using platform::IoKind;
using platform::KindOf;
using platform::RestLength;
using platform::RestOf;
using platform::RestOffset;

// preadv2, pwritev2: offset -1 is the current position.
int64_t Vector(long nr, const Io* io, const void* parts, uint64_t nr_parts, int64_t offset, int flags) {
  // The offset goes in two halves, the upper one unused on 64-bit kernels.
  return Sys(nr, io->fd_, parts, nr_parts, offset, 0, flags);
}

int64_t OneBuffer(long nr, const Io* io, int flags) {
  const struct iovec part = {RestOf(io), RestLength(io)};
  return Vector(nr, io, &part, 1, RestOffset(io), flags);
}

int64_t PollOp(const Io* io, bool wait) {
  struct pollfd p = {io->fd_, static_cast<short>(io->flags_), 0};
  const struct timespec now = {0, 0};
  const int64_t n = Sys(SYS_ppoll, &p, 1, wait ? nullptr : &now, nullptr, 0);
  if (n > 0) return p.revents;
  return n == 0 ? -EAGAIN : n;
}

int64_t Accept(const Io* io) {
  return Sys(SYS_accept4, io->fd_, io->buf_, io->aux_, io->flags_);
}

// The connect that was begun has an answer when the socket can be written to.
int64_t EndConnect(const Io* io) {
  struct pollfd p = {io->fd_, POLLOUT, 0};
  const struct timespec now = {0, 0};
  if (Sys(SYS_ppoll, &p, 1, &now, nullptr, 0) == 0) return -EAGAIN;
  int err = 0;
  socklen_t size = sizeof(err);
  const int64_t asked = Sys(SYS_getsockopt, io->fd_, SOL_SOCKET, SO_ERROR, &err, &size);
  return asked < 0 ? asked : -err;
}

int64_t TryMessage(const Io* io) {
  const int flags = platform::MessageFlags(io) | MSG_DONTWAIT;
  switch (KindOf(io)) {
    case IoKind::kRecv:
      return Sys(SYS_recvfrom, io->fd_, RestOf(io), RestLength(io), flags, 0, 0);
    case IoKind::kSend:
      return Sys(SYS_sendto, io->fd_, RestOf(io), RestLength(io), flags, 0, 0);
    case IoKind::kRecvmsg:
      return Sys(SYS_recvmsg, io->fd_, io->buf_, flags);
    case IoKind::kSendmsg:
      return Sys(SYS_sendmsg, io->fd_, io->buf_, flags);
    default:
      return kNoAttempt;
  }
}

int64_t FileOp(const Io* io) {
  switch (KindOf(io)) {
    case IoKind::kFsync:
      return Sys(io->flags_ != 0 ? SYS_fdatasync : SYS_fsync, io->fd_);
    case IoKind::kFallocate:
      return Sys(SYS_fallocate, io->fd_, io->flags_, io->offset_, io->len_);
    case IoKind::kOpenat:
      return Sys(SYS_openat, io->fd_, io->buf_, io->flags_, io->len_);
    case IoKind::kClose:
      return Sys(SYS_close, io->fd_);
    case IoKind::kStatx:
      return Sys(SYS_statx, io->fd_, io->buf_, io->flags_, io->len_, io->aux_);
    case IoKind::kUnlinkat:
      return Sys(SYS_unlinkat, io->fd_, io->buf_, io->flags_);
    case IoKind::kRenameat:
      return Sys(SYS_renameat2, io->fd_, io->buf_, io->offset_, io->aux_, io->flags_);
    default:
      return Sys(SYS_mkdirat, io->fd_, io->buf_, io->len_);
  }
}

}  // namespace

bool DoesNotBlock(int fd) {
  const int64_t flags = Sys(SYS_fcntl, fd, F_GETFL);
  return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

int64_t CheckStream(Io* io) {
  constexpr int kNoMeaning = MSG_DONTWAIT | MSG_WAITALL | MSG_PEEK | MSG_OOB | MSG_ERRQUEUE;
  const bool accepts = KindOf(io) == IoKind::kAcceptMany;
  platform::StreamOf(io)->plain = false;
  int value = 0;
  socklen_t size = sizeof(value);
  const int64_t asked = Sys(SYS_getsockopt, io->fd_, SOL_SOCKET, accepts ? SO_ACCEPTCONN : SO_TYPE, &value,
                            &size);
  if (asked < 0) return asked;
  if (accepts) return value != 0 ? kNoAttempt : -EINVAL;
  if ((io->flags_ & kNoMeaning) != 0) return -EINVAL;
  platform::StreamOf(io)->datagrams = value != SOCK_STREAM;
  return kNoAttempt;
}

int64_t TakeOne(const Io* io, char* data, size_t size) {
  if (data == nullptr) return Sys(SYS_accept4, io->fd_, nullptr, nullptr, io->flags_);
  return Sys(SYS_recvfrom, io->fd_, data, size, platform::MessageFlags(io) | MSG_DONTWAIT, 0, 0);
}

bool IsDirect(int fd, const void* data, uint64_t length, int64_t offset) {
  constexpr uint64_t kAlignment = 512;  // the least that any disk asks for
  const uint64_t position = offset < 0 ? 0 : static_cast<uint64_t>(offset);
  if (length == 0 || ((reinterpret_cast<uintptr_t>(data) | length | position) & (kAlignment - 1)) != 0) {
    return false;
  }
  const int64_t flags = Sys(SYS_fcntl, fd, F_GETFL);
  return flags >= 0 && (flags & O_DIRECT) != 0 && IsFile(fd);  // a pipe in packet mode is none
}

int64_t TryOp(Io* io, bool signals_blocked) {
  const IoKind kind = KindOf(io);
  if (platform::IsStream(io)) return CheckStream(io);
  int64_t result;
  switch (kind) {
    case IoKind::kRead:
      if (IsDirect(io->fd_, RestOf(io), RestLength(io), io->offset_)) return kNoAttempt;
      result = OneBuffer(SYS_preadv2, io, RWF_NOWAIT);
      break;
    case IoKind::kWrite:
      if (!signals_blocked || IsDirect(io->fd_, RestOf(io), RestLength(io), io->offset_)) {
        return kNoAttempt;
      }
      result = OneBuffer(SYS_pwritev2, io, RWF_NOWAIT);
      break;
    case IoKind::kReadv:
      result = Vector(SYS_preadv2, io, io->buf_, io->len_, io->offset_, RWF_NOWAIT);
      break;
    case IoKind::kWritev:
      if (!signals_blocked) return kNoAttempt;
      result = Vector(SYS_pwritev2, io, io->buf_, io->len_, io->offset_, RWF_NOWAIT);
      break;
    case IoKind::kPoll:
      return PollOp(io, false);
    case IoKind::kConnect:
      return io->phase_ != 0 ? EndConnect(io) : kNoAttempt;
    case IoKind::kAccept:
      // Somebody else may take the connection between a look and the call.
      return DoesNotBlock(io->fd_) ? Accept(io) : kNoAttempt;
    default:
      return Pollable(kind) ? TryMessage(io) : kNoAttempt;
  }
  // The file knows no attempts.
  return result == -EOPNOTSUPP || result == -ENOSYS ? kNoAttempt : result;
}

int64_t PlainOp(Io* io) {
  const int flags = platform::MessageFlags(io);
  switch (KindOf(io)) {
    case IoKind::kRead:
      return io->offset_ < 0 ? Sys(SYS_read, io->fd_, RestOf(io), RestLength(io))
                             : Sys(SYS_pread64, io->fd_, RestOf(io), RestLength(io), RestOffset(io));
    case IoKind::kWrite:
      return io->offset_ < 0 ? Sys(SYS_write, io->fd_, RestOf(io), RestLength(io))
                             : Sys(SYS_pwrite64, io->fd_, RestOf(io), RestLength(io), RestOffset(io));
    case IoKind::kReadv:
      return io->offset_ < 0 ? Sys(SYS_readv, io->fd_, io->buf_, io->len_)
                             : Sys(SYS_preadv, io->fd_, io->buf_, io->len_, io->offset_, 0);
    case IoKind::kWritev:
      return io->offset_ < 0 ? Sys(SYS_writev, io->fd_, io->buf_, io->len_)
                             : Sys(SYS_pwritev, io->fd_, io->buf_, io->len_, io->offset_, 0);
    case IoKind::kRecv:
      return Sys(SYS_recvfrom, io->fd_, RestOf(io), RestLength(io), flags, 0, 0);
    case IoKind::kSend:
      return Sys(SYS_sendto, io->fd_, RestOf(io), RestLength(io), flags, 0, 0);
    case IoKind::kRecvmsg:
      return Sys(SYS_recvmsg, io->fd_, io->buf_, flags);
    case IoKind::kSendmsg:
      return Sys(SYS_sendmsg, io->fd_, io->buf_, flags);
    case IoKind::kAccept:
      return Accept(io);
    case IoKind::kConnect:
      return Sys(SYS_connect, io->fd_, io->buf_, io->len_);
    case IoKind::kPoll:
      return PollOp(io, true);
    default:
      return FileOp(io);
  }
}

bool IsFile(int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
}

bool AllMoved(const Io* io, int64_t moved) {
  const IoKind kind = KindOf(io);
  if (moved <= 0 || static_cast<uint64_t>(io->done_ + moved) >= io->len_) return true;
  // Reading ends with what is there, but an attempt on a file also ends where the page cache does.
  return kind == IoKind::kRead ? !IsFile(io->fd_) : !platform::MovesAll(io);
}

int64_t BeginConnect(Io* io) {
  const int64_t flags = Sys(SYS_fcntl, io->fd_, F_GETFL);
  if (flags < 0) return flags;
  const bool blocks = (flags & O_NONBLOCK) == 0;
  // A socket that is being connected is used for nothing else.
  if (blocks) Sys(SYS_fcntl, io->fd_, F_SETFL, flags | O_NONBLOCK);
  const int64_t result = Sys(SYS_connect, io->fd_, io->buf_, io->len_);
  if (blocks) Sys(SYS_fcntl, io->fd_, F_SETFL, flags);
  return result == -EINTR ? -EINPROGRESS : result;
}

bool Listens(int fd) {
  int listens = 0;
  socklen_t size = sizeof(listens);
  return Sys(SYS_getsockopt, fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens != 0;
}

void DoNotBlock(int fd) {
  const int64_t flags = Sys(SYS_fcntl, fd, F_GETFL);
  if (flags >= 0 && (flags & O_NONBLOCK) == 0) Sys(SYS_fcntl, fd, F_SETFL, flags | O_NONBLOCK);
}

}  // namespace cmwq::core
