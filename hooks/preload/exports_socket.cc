// Exported wrappers: connecting, accepting, receiving and sending.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.

#include "hooks/preload/boundary.h"
#include "hooks/preload/fd_notes.h"
#include "hooks/preload/send.h"

namespace cmwq::preload {
namespace {

// Flags under which a receive that does not wait, repeated, equals one that waits.
constexpr int kRepeatableReceive = MSG_PEEK | MSG_TRUNC | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC;

// The receiving call `call(extra_flags)`, called by the program with `flags`.
template <typename Call>
inline ssize_t Receive(int fd, int flags, Call call) {
  if (!Active() || (flags & (MSG_DONTWAIT | MSG_ERRQUEUE)) != 0) return call(0);
  const bool repeatable = (flags & ~kRepeatableReceive) == 0;
  const auto attempt = [&] { return call(MSG_DONTWAIT); };
  const auto plain = [&] { return call(0); };
  if (repeatable && gate::IsBoundary(fd)) {
    return ReceiveAtBoundary(fd, Hook::kRecv, attempt, plain);
  }
  if (!Adopted()) return call(0);
  if (repeatable) return ReceiveElsewhere(fd, Hook::kRecv, attempt, plain);
  gate::Bracket bracket(Hook::kRecv);
  return call(0);
}

ssize_t Recv(int fd, void* buf, size_t n, int flags) {
  const auto original = CMWQ_REAL(recv);
  return Receive(fd, flags, [=](int extra) { return original(fd, buf, n, flags | extra); });
}

ssize_t RecvFrom(int fd, void* buf, size_t n, int flags, struct sockaddr* address,
                 socklen_t* size) {
  const auto original = CMWQ_REAL(recvfrom);
  return Receive(fd, flags,
                 [=](int extra) { return original(fd, buf, n, flags | extra, address, size); });
}

int Accepted(int fd) {
  NoteFromAccept(fd);
  if (fd >= 0) AdmitIfFree();
  return fd;
}

// The sending call `call(done, extra_flags)`, which only sends n bytes from some buffer.
template <typename Call>
inline ssize_t Send(int fd, size_t n, int flags, Call call) {
  if (!Adopted() || (flags & MSG_DONTWAIT) != 0) return call(0, 0);
  if ((flags & ~kSplittableSend) == 0) {
    return SendFirst(fd, n, call, [&] { return call(0, 0); });
  }
  gate::Bracket bracket(Hook::kSend);
  return call(0, 0);
}

}  // namespace
}  // namespace cmwq::preload

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace
namespace gate = cmwq::gate;

CMWQ_EXPORT(int, connect, (int fd, const struct sockaddr* address, socklen_t size)) {
  if (Active()) gate::NoteConnected(fd);
  return BracketedOn(fd, Hook::kConnect, CMWQ_REAL(connect), fd, address, size);
}
CMWQ_ALIAS(__connect, connect)

CMWQ_EXPORT(int, accept, (int fd, struct sockaddr* address, socklen_t* size)) {
  return Accepted(BracketedOn(fd, Hook::kAccept, CMWQ_REAL(accept), fd, address, size));
}

CMWQ_EXPORT(int, accept4, (int fd, struct sockaddr* address, socklen_t* size, int flags)) {
  return Accepted(BracketedOn(fd, Hook::kAccept, CMWQ_REAL(accept4), fd, address, size, flags));
}

CMWQ_EXPORT(ssize_t, recv, (int fd, void* buf, size_t n, int flags)) {
  return Recv(fd, buf, n, flags);
}

CMWQ_EXPORT(ssize_t, __recv_chk, (int fd, void* buf, size_t n, size_t size, int flags)) {
  if (n > size) return CMWQ_REAL(__recv_chk)(fd, buf, n, size, flags);  // reports the overflow
  return Recv(fd, buf, n, flags);
}

CMWQ_EXPORT(ssize_t, recvfrom,
            (int fd, void* buf, size_t n, int flags, struct sockaddr* address, socklen_t* size)) {
  return RecvFrom(fd, buf, n, flags, address, size);
}

CMWQ_EXPORT(ssize_t, __recvfrom_chk,
            (int fd, void* buf, size_t n, size_t room, int flags, struct sockaddr* address,
             socklen_t* size)) {
  if (n > room) return CMWQ_REAL(__recvfrom_chk)(fd, buf, n, room, flags, address, size);
  return RecvFrom(fd, buf, n, flags, address, size);
}

CMWQ_EXPORT(ssize_t, recvmsg, (int fd, struct msghdr* message, int flags)) {
  const auto original = CMWQ_REAL(recvmsg);
  return Receive(fd, flags, [=](int extra) { return original(fd, message, flags | extra); });
}

CMWQ_EXPORT(int, recvmmsg,
            (int fd, struct mmsghdr* messages, unsigned count, int flags,
             struct timespec* timeout)) {
  const auto original = CMWQ_REAL(recvmmsg);
  if ((flags & MSG_DONTWAIT) != 0) return original(fd, messages, count, flags, timeout);
  return BracketedOn(fd, Hook::kRecv, original, fd, messages, count, flags, timeout);
}

CMWQ_EXPORT(ssize_t, send, (int fd, const void* buf, size_t n, int flags)) {
  const auto original = CMWQ_REAL(send);
  const char* bytes = static_cast<const char*>(buf);
  return Send(fd, n, flags, [=](size_t done, int extra) {
    return original(fd, bytes + done, n - done, flags | extra);
  });
}
CMWQ_ALIAS(__send, send)

CMWQ_EXPORT(ssize_t, sendto,
            (int fd, const void* buf, size_t n, int flags, const struct sockaddr* address,
             socklen_t size)) {
  const auto original = CMWQ_REAL(sendto);
  const char* bytes = static_cast<const char*>(buf);
  return Send(fd, n, flags, [=](size_t done, int extra) {
    return original(fd, bytes + done, n - done, flags | extra, address, size);
  });
}

CMWQ_EXPORT(ssize_t, sendmsg, (int fd, const struct msghdr* message, int flags)) {
  const auto original = CMWQ_REAL(sendmsg);
  if (!Adopted() || (flags & MSG_DONTWAIT) != 0) return original(fd, message, flags);
  // Control data and addresses must not be sent a second time with the rest.
  if ((flags & ~kSplittableSend) == 0 && message != nullptr && message->msg_controllen == 0 &&
      message->msg_namelen == 0 && message->msg_iov != nullptr) {
    return SendVecFirst(fd, message->msg_iov, message->msg_iovlen, flags,
                        [=] { return original(fd, message, flags); });
  }
  return Bracketed(Hook::kSend, original, fd, message, flags);
}

CMWQ_EXPORT(int, sendmmsg, (int fd, struct mmsghdr* messages, unsigned count, int flags)) {
  const auto original = CMWQ_REAL(sendmmsg);
  if ((flags & MSG_DONTWAIT) != 0) return original(fd, messages, count, flags);
  return BracketedOn(fd, Hook::kSend, original, fd, messages, count, flags);
}
