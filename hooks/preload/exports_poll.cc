// Exported wrappers: waiting for several descriptors.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.
//
// A poll of one accepted descriptor for input is the wait for the next request and belongs to the
// gate. The other waits stay in the kernel; the gate is asked afterwards if they brought a request.

#include "hooks/preload/boundary.h"

namespace cmwq::preload {
namespace {

bool AnyReadyBoundary(const struct pollfd* fds, nfds_t count) {
  for (nfds_t i = 0; i < count; ++i) {
    if (fds[i].revents != 0 && gate::IsBoundary(fds[i].fd)) return true;
  }
  return false;
}

bool AnyBoundaryIn(const fd_set* set, int count) {
  if (set == nullptr) return false;
  for (int fd = 0; fd < count; ++fd) {
    // Indexed by hand: the program's set may be larger than FD_SETSIZE.
    const unsigned long word = set->fds_bits[fd / NFDBITS];
    if (word == 0) {
      fd |= NFDBITS - 1;
    } else if (((word >> (fd % NFDBITS)) & 1) != 0 && gate::IsBoundary(fd)) {
      return true;
    }
  }
  return false;
}

// The one descriptor of a poll whose input is a request.
bool IsRequestPoll(const struct pollfd* fds, nfds_t count) {
  return count == 1 && fds != nullptr && IsInputOnly(fds->events) && gate::IsBoundary(fds->fd);
}

// A poll by an adopted thread. `wait(ns)` is the original with that time-out.
template <typename Wait>
inline int PollMany(struct pollfd* fds, nfds_t count, int64_t timeout_ns, Wait wait) {
  int ready = wait(0);
  if (ready != 0) return ready;
  {
    gate::Bracket bracket(Hook::kPoll);
    ready = wait(timeout_ns);
  }
  if (ready > 0 && AnyReadyBoundary(fds, count)) AdmitIfFree();
  return ready;
}

int Poll(struct pollfd* fds, nfds_t count, int timeout) {
  const auto original = CMWQ_REAL(poll);
  if (timeout == 0 || !Active()) return original(fds, count, timeout);
  constexpr int64_t kNsPerMs = 1'000'000;
  const int64_t timeout_ns = timeout < 0 ? -1 : timeout * kNsPerMs;
  const auto wait = [=](int64_t ns) {
    return original(fds, count, ns < 0 ? -1 : static_cast<int>((ns + kNsPerMs - 1) / kNsPerMs));
  };
  if (IsRequestPoll(fds, count)) return PollAtBoundary(fds, timeout_ns, wait);
  if (!Adopted()) return original(fds, count, timeout);
  return PollMany(fds, count, timeout_ns, wait);
}

int PPoll(struct pollfd* fds, nfds_t count, const struct timespec* timeout, const sigset_t* mask) {
  const auto original = CMWQ_REAL(ppoll);
  const bool waits = timeout == nullptr || (IsValid(timeout) && timeout->tv_sec >= 0);
  if (!waits || IsZero(timeout) || !Active()) return original(fds, count, timeout, mask);
  const auto wait = [=](int64_t ns) {
    struct timespec left;
    left.tv_sec = ns / 1'000'000'000;
    left.tv_nsec = ns % 1'000'000'000;
    return original(fds, count, ns < 0 ? nullptr : &left, mask);
  };
  if (IsRequestPoll(fds, count)) {
    if (mask == nullptr) return PollAtBoundary(fds, ToNs(timeout), wait);
    // The mask has to change together with the wait, which only the kernel can do.
  }
  if (!Adopted()) return original(fds, count, timeout, mask);
  return PollMany(fds, count, ToNs(timeout), wait);
}

// An epoll wait; `wait(zero)` is the original, with a time-out of zero or the program's. Which
// descriptors are behind the events the kernel does not say: the program may keep anything there.
template <typename Wait>
inline int EpollWait(bool may_wait, Wait wait) {
  if (!may_wait || !Adopted()) return wait(false);
  int ready = wait(true);
  if (ready != 0) return ready;
  {
    gate::Bracket bracket(Hook::kEpoll);
    ready = wait(false);
  }
  if (ready > 0) AdmitIfFree();
  return ready;
}

}  // namespace
}  // namespace cmwq::preload

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace

CMWQ_EXPORT(int, poll, (struct pollfd * fds, nfds_t count, int timeout)) {
  return Poll(fds, count, timeout);
}
CMWQ_ALIAS(__poll, poll)

CMWQ_EXPORT(int, __poll_chk, (struct pollfd * fds, nfds_t count, int timeout, size_t size)) {
  if (size / sizeof(*fds) < count) return CMWQ_REAL(__poll_chk)(fds, count, timeout, size);
  return Poll(fds, count, timeout);
}

CMWQ_EXPORT(int, ppoll,
            (struct pollfd * fds, nfds_t count, const struct timespec* timeout,
             const sigset_t* mask)) {
  return PPoll(fds, count, timeout, mask);
}

CMWQ_EXPORT(int, __ppoll_chk,
            (struct pollfd * fds, nfds_t count, const struct timespec* timeout,
             const sigset_t* mask, size_t size)) {
  if (size / sizeof(*fds) < count) return CMWQ_REAL(__ppoll_chk)(fds, count, timeout, mask, size);
  return PPoll(fds, count, timeout, mask);
}

// Not tried first: the original writes to the program's sets, and copies of them would be large.
CMWQ_EXPORT(int, select,
            (int count, fd_set* input, fd_set* output, fd_set* except, struct timeval* timeout)) {
  const auto original = CMWQ_REAL(select);
  const bool waits = timeout == nullptr || timeout->tv_sec != 0 || timeout->tv_usec != 0;
  if (!waits || !Adopted()) return original(count, input, output, except, timeout);
  const int ready = Bracketed(Hook::kSelect, original, count, input, output, except, timeout);
  if (ready > 0 && AnyBoundaryIn(input, count)) AdmitIfFree();
  return ready;
}
CMWQ_ALIAS(__select, select)

CMWQ_EXPORT(int, pselect,
            (int count, fd_set* input, fd_set* output, fd_set* except,
             const struct timespec* timeout, const sigset_t* mask)) {
  const auto original = CMWQ_REAL(pselect);
  if (IsZero(timeout) || !Adopted()) return original(count, input, output, except, timeout, mask);
  const int ready = Bracketed(Hook::kSelect, original, count, input, output, except, timeout, mask);
  if (ready > 0 && AnyBoundaryIn(input, count)) AdmitIfFree();
  return ready;
}

CMWQ_EXPORT(int, epoll_wait, (int epfd, struct epoll_event* events, int max, int timeout)) {
  const auto original = CMWQ_REAL(epoll_wait);
  return EpollWait(timeout != 0,
                   [=](bool zero) { return original(epfd, events, max, zero ? 0 : timeout); });
}

CMWQ_EXPORT(int, epoll_pwait,
            (int epfd, struct epoll_event* events, int max, int timeout, const sigset_t* mask)) {
  const auto original = CMWQ_REAL(epoll_pwait);
  return EpollWait(timeout != 0, [=](bool zero) {
    return original(epfd, events, max, zero ? 0 : timeout, mask);
  });
}

CMWQ_EXPORT(int, epoll_pwait2,
            (int epfd, struct epoll_event* events, int max, const struct timespec* timeout,
             const sigset_t* mask)) {
  const auto original = CMWQ_REAL(epoll_pwait2);
  return EpollWait(!IsZero(timeout), [=](bool zero) {
    const struct timespec none = {};
    return original(epfd, events, max, zero ? &none : timeout, mask);
  });
}
