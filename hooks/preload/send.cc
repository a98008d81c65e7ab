// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers.

#include "hooks/preload/send.h"

namespace cmwq::preload {

ssize_t SendVecRest(int fd, const struct iovec* iov, size_t count, size_t done, int flags) {
  size_t first = 0;
  while (first < count && done >= iov[first].iov_len) done -= iov[first++].iov_len;
  ssize_t sent = 0;
  if (done != 0) {
    const char* base = static_cast<const char*>(iov[first].iov_base);
    const size_t cut = iov[first].iov_len - done;
    sent = CMWQ_REAL(send)(fd, base + done, cut, flags);
    if (sent < 0 || static_cast<size_t>(sent) < cut) return sent;
    ++first;
  }
  if (first == count) return sent;
  struct msghdr message = {};
  message.msg_iov = const_cast<struct iovec*>(iov + first);
  message.msg_iovlen = count - first;
  const ssize_t more = CMWQ_REAL(sendmsg)(fd, &message, flags);
  if (more >= 0) return sent + more;
  return sent > 0 ? sent : more;
}

}  // namespace cmwq::preload
