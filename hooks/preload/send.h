// Sending that is announced as a sleep only where the socket's buffer is full.

#ifndef CMWQ_HOOKS_PRELOAD_SEND_H_
#define CMWQ_HOOKS_PRELOAD_SEND_H_

#include "hooks/preload/hook.h"

namespace cmwq::preload {

// Flags under which a send without waiting, followed by one for the rest, equals one that waits.
constexpr int kSplittableSend = MSG_NOSIGNAL | MSG_MORE | MSG_EOR | MSG_DONTROUTE;

// `send(done, flags)` sends what is left after `done` bytes, with `flags` added to the program's;
// `plain` is the call as the program made it. Only for calls that are expected to wait and to send
// all n bytes.
template <typename Send, typename Plain>
ssize_t SendFirst(int fd, size_t n, Send send, Plain plain) {
  const int saved = errno;
  const ssize_t sent = send(0, MSG_DONTWAIT);
  if (sent >= 0 && static_cast<size_t>(sent) == n) return sent;
  if (sent < 0 && errno != EAGAIN && errno != ENOTSOCK) return sent;
  if (IsNonBlocking(fd) && (sent >= 0 || errno == EAGAIN)) return sent;
  errno = saved;
  gate::Bracket bracket(Hook::kSend);
  if (sent <= 0) return plain();
  // A connection that breaks now is reported, with its signal, by the program's next call, as the
  // original does when it has sent a part.
  const ssize_t rest = send(static_cast<size_t>(sent), MSG_NOSIGNAL);
  errno = saved;
  return rest < 0 ? sent : sent + rest;
}

// Bytes in a vector.
inline size_t TotalLength(const struct iovec* iov, size_t count) {
  size_t total = 0;
  for (size_t i = 0; i < count; ++i) total += iov[i].iov_len;
  return total;
}

// Sends a vector from its byte `done` on. Two calls where one entry is cut: the vector is the
// program's, and copying it would need memory.
ssize_t SendVecRest(int fd, const struct iovec* iov, size_t count, size_t done, int flags);

// SendFirst() for a vector.
template <typename Plain>
ssize_t SendVecFirst(int fd, const struct iovec* iov, size_t count, int flags, Plain plain) {
  return SendFirst(
      fd, TotalLength(iov, count),
      [=](size_t done, int more) { return SendVecRest(fd, iov, count, done, flags | more); },
      plain);
}

}  // namespace cmwq::preload

#endif  // CMWQ_HOOKS_PRELOAD_SEND_H_
