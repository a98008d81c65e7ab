// Waiting at a request boundary, as the receiving and polling wrappers share it.
//
// A receiving call on a boundary descriptor becomes: the original in its non-waiting form; while
// that says "nothing there", a wait inside the gate. What the program sees is what the waiting
// original would have shown: results, errno, receive time-outs, interruptions.

#ifndef CMWQ_HOOKS_PRELOAD_BOUNDARY_H_
#define CMWQ_HOOKS_PRELOAD_BOUNDARY_H_

#include "hooks/preload/hook.h"

namespace cmwq::preload {

// Nanoseconds of a relative time; < 0 for none. Saturates.
int64_t ToNs(const struct timespec* timeout);

// One receiving call that found nothing.
class InputWait {
 public:
  enum class Next : uint8_t {
    kTryAgain,  // there may be something now
    kPlain,     // the gate does not manage this wait: make the waiting call
    kFail,      // errno says why
  };

  explicit InputWait(int fd) : fd_(fd) {}
  // Context: after EAGAIN. Honours O_NONBLOCK and SO_RCVTIMEO.
  Next Wait();

 private:
  // A descriptor that is ready again and again with nothing to receive (a message in its error queue):
  // the kernel's own wait knows the difference.
  static constexpr int kMaxTries = 4;
  const int fd_;
  bool started_ = false;
  int tries_ = 0;
  int64_t deadline_ns_ = -1;  // on the monotonic clock; < 0: none
};

// `attempt` is the original made non-waiting, `plain` the call as the program made it.
template <typename Attempt, typename Plain>
ssize_t ReceiveAtBoundary(int fd, Hook hook, Attempt attempt, Plain plain) {
  const int saved = errno;
  InputWait wait(fd);
  for (;;) {
    const ssize_t n = attempt();
    if (n >= 0) {
      errno = saved;
      return n;
    }
    InputWait::Next next = InputWait::Next::kPlain;
    if (errno == EAGAIN) {
      next = wait.Wait();
    } else if (errno != ENOTSOCK) {
      return n;
    }
    if (next == InputWait::Next::kFail) return -1;
    if (next == InputWait::Next::kTryAgain) continue;
    errno = saved;
    break;
  }
  ssize_t n;
  {
    gate::Bracket bracket(hook);
    n = plain();
  }
  if (n >= 0) AdmitIfFree();
  return n;
}

// A receive elsewhere (a back end's answer): tried first, so that an answer that is already there
// is no sleep.
template <typename Attempt, typename Plain>
ssize_t ReceiveElsewhere(int fd, Hook hook, Attempt attempt, Plain plain) {
  const int saved = errno;
  const ssize_t n = attempt();
  if (n >= 0 || errno != EAGAIN || IsNonBlocking(fd)) return n;
  errno = saved;
  gate::Bracket bracket(hook);
  return plain();
}

// Whether poll events ask for input only: what a client sends next.
bool IsInputOnly(short events);

int64_t MonotonicNs();

// poll() or ppoll() without a mask, of one boundary descriptor. `wait` is the waiting original; it
// takes the nanoseconds that are left (< 0: no end).
template <typename Wait>
int PollAtBoundary(struct pollfd* fds, int64_t timeout_ns, Wait wait) {
  const int64_t deadline = timeout_ns < 0 ? -1 : MonotonicNs() + timeout_ns;
  int64_t left = timeout_ns;
  for (;;) {
    switch (gate::WaitInput(fds->fd, static_cast<uint32_t>(fds->events), left, true)) {
      case gate::Wait::kReady: {
        const int ready = wait(0);
        if (ready != 0) return ready;
        break;
      }
      case gate::Wait::kTimeout:
        return wait(0);
      case gate::Wait::kInterrupted:
        errno = EINTR;
        return -1;
      case gate::Wait::kMoved:
      case gate::Wait::kPlain: {
        int ready;
        {
          gate::Bracket bracket(Hook::kPoll);
          ready = wait(left);
        }
        if (ready > 0) AdmitIfFree();
        return ready;
      }
    }
    // Ready a moment ago, not any more: another thread took it. Wait for what is left of the time.
    if (deadline < 0) continue;
    left = deadline - MonotonicNs();
    if (left <= 0) return wait(0);
  }
}

}  // namespace cmwq::preload

#endif  // CMWQ_HOOKS_PRELOAD_BOUNDARY_H_
