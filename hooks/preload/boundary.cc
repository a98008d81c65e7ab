// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers.

#include "hooks/preload/boundary.h"

#include <limits>

namespace cmwq::preload {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

// The receive time-out of a socket in nanoseconds, < 0 for none.
int64_t ReceiveTimeoutNs(int fd) {
  struct timeval tv = {};
  socklen_t size = sizeof(tv);
  if (getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, &size) != 0) return -1;
  if (tv.tv_sec == 0 && tv.tv_usec == 0) return -1;
  return static_cast<int64_t>(tv.tv_sec) * kNsPerSecond + static_cast<int64_t>(tv.tv_usec) * 1000;
}

// Whether a receive that a handler interrupted goes on afterwards. The kernel decides that by the
// SA_RESTART of the handler that ran, which nobody tells us; if no handler of the process lacks the
// flag, the answer is certain. Otherwise the program has asked to see EINTR from some signal.
bool RestartsAfterHandlers() {
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action;
    if (sigaction(signal, nullptr, &action) != 0) continue;
    const bool has_handler = action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
    if (has_handler && (action.sa_flags & SA_RESTART) == 0) return false;
  }
  return true;
}

}  // namespace

int64_t ToNs(const struct timespec* timeout) {
  if (timeout == nullptr) return -1;
  constexpr int64_t kMaxSeconds = std::numeric_limits<int64_t>::max() / kNsPerSecond / 4;
  const int64_t seconds = timeout->tv_sec < kMaxSeconds ? timeout->tv_sec : kMaxSeconds;
  return seconds * kNsPerSecond + timeout->tv_nsec;
}

int64_t MonotonicNs() {
  struct timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return ToNs(&now);
}

bool IsInputOnly(short events) {
  constexpr short kInput = POLLIN | POLLPRI | POLLRDNORM | POLLRDHUP;
  return events != 0 && (events & ~kInput) == 0;
}

InputWait::Next InputWait::Wait() {
  int64_t left = -1;
  if (!started_) {
    started_ = true;
    if (IsNonBlocking(fd_)) return Next::kFail;  // errno is still EAGAIN
    left = ReceiveTimeoutNs(fd_);
    if (left >= 0) deadline_ns_ = MonotonicNs() + left;
  } else if (deadline_ns_ >= 0) {
    left = deadline_ns_ - MonotonicNs();
    if (left <= 0) {
      errno = EAGAIN;
      return Next::kFail;
    }
  }
  switch (gate::WaitInput(fd_, POLLIN, left, true)) {
    case gate::Wait::kReady:
      return ++tries_ < kMaxTries ? Next::kTryAgain : Next::kPlain;
    case gate::Wait::kTimeout:
      errno = EAGAIN;
      return Next::kFail;
    case gate::Wait::kInterrupted:
      // A receive with a time-out never restarts.
      if (deadline_ns_ < 0 && RestartsAfterHandlers()) return Next::kTryAgain;
      errno = EINTR;
      return Next::kFail;
    case gate::Wait::kMoved:
    case gate::Wait::kPlain:
      break;
  }
  return Next::kPlain;
}

}  // namespace cmwq::preload
