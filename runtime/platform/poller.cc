#include "runtime/platform/poller.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>

namespace cmwq::platform {
namespace {

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

int Control(int set, int op, int fd, uint32_t events) {
  struct epoll_event event = {};
  event.events = events;
  event.data.fd = fd;
  return static_cast<int>(base::Sys(SYS_epoll_ctl, set, op, fd, &event));
}

// Rounded up: a deadline must have passed when the wait ends.
int Milliseconds(uint64_t ns) {
  const uint64_t ms = (ns + base::kNsPerMs - 1) / base::kNsPerMs;
  return ms < 1u << 30 ? static_cast<int>(ms) : 1 << 30;
}

}  // namespace

int Poller::Create(Waker* waker) {
  waker_ = waker;
  int err = waker->CreateEventFd();
  if (err < 0) return err;
  set_ = static_cast<int>(base::Sys(SYS_epoll_create1, EPOLL_CLOEXEC));
  if (set_ < 0) return set_;
  return Control(set_, EPOLL_CTL_ADD, waker->fd(), EPOLLIN);
}

int Poller::Wait(uint64_t until_ns, Ready* ready) {
  struct epoll_event events[kBatch];
  uint64_t left = 0;
  if (until_ns != 0 && until_ns != base::kNever) {
    const uint64_t now = base::MonotonicNs();
    left = until_ns > now ? until_ns - now : 0;
  }
  const struct timespec ts = base::ToTimespec(left);
  long n = base::Sys(SYS_epoll_pwait2, set_, events, kBatch,
                     until_ns == base::kNever ? nullptr : &ts, nullptr, 0);
  if (n == -ENOSYS) {  // before Linux 5.11
    n = base::Sys(SYS_epoll_pwait, set_, events, kBatch,
                  until_ns == base::kNever ? -1 : Milliseconds(left), nullptr, 0);
  }
  int found = 0;
  for (long i = 0; i < n; ++i) {
    if (events[i].data.fd == waker_->fd()) {
      uint64_t count;
      base::Sys(SYS_read, waker_->fd(), &count, sizeof(count));
    } else {
      ready[found++] = {events[i].data.fd, static_cast<short>(events[i].events)};
    }
  }
  return n < 0 && n != -EINTR ? static_cast<int>(n) : found;
}

// Asks for what the operations on `fd` wait for.
int Poller::Arm(int fd) {
  unsigned short events = 0;
  for (const Io* io = Bucket(fd); io != nullptr; io = io->next_) {
    if (io->fd_ == fd) events |= static_cast<unsigned short>(ReadyEvents(io));
  }
  const int err = Control(set_, EPOLL_CTL_MOD, fd, events | EPOLLONESHOT);
  return err == -ENOENT ? Control(set_, EPOLL_CTL_ADD, fd, events | EPOLLONESHOT) : err;
}

int Poller::Add(Io* io) {
  io->next_ = Bucket(io->fd_);
  Bucket(io->fd_) = io;
  const int err = Arm(io->fd_);
  if (err != 0) Remove(io);
  return err;
}

void Poller::Remove(Io* io) {
  for (Io** at = &Bucket(io->fd_); *at != nullptr; at = &(*at)->next_) {
    if (*at != io) continue;
    *at = io->next_;
    break;
  }
  io->next_ = nullptr;
  // What the set asks for may be too much now: that costs one wake-up.
}

Io* Poller::Take(const Ready& ready) {
  constexpr short kAlways = POLLERR | POLLHUP | POLLNVAL;
  Io* taken = nullptr;
  Io** end = &taken;
  bool left = false;
  for (Io** at = &Bucket(ready.fd); *at != nullptr;) {
    Io* const io = *at;
    if (io->fd_ != ready.fd || (ready.events & (ReadyEvents(io) | kAlways)) == 0) {
      left = left || io->fd_ == ready.fd;
      at = &io->next_;
      continue;
    }
    *at = io->next_;
    io->next_ = nullptr;
    *end = io;
    end = &io->next_;
  }
  if (left) Arm(ready.fd);
  return taken;
}

// The set is shared with the parent: it is closed, not changed.
void Poller::ResetAfterFork() {
  if (set_ >= 0) base::SysClose(set_);
  set_ = -1;
  for (Io*& chain : table_) chain = nullptr;
}

}  // namespace cmwq::platform
