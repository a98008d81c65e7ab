// cmwq::io for coroutines: each function of cmwq/io.hpp to be awaited. Nothing without coroutines.
//
//   cmwq::Task<> Echo(cmwq::Workqueue& queue, int fd) {
//     char buf[4096];
//     for (;;) {
//       const auto got = co_await cmwq::io::async_recv(queue, fd, buf, sizeof(buf));
//       if (!got || got.value == 0) co_return;
//       const auto put = co_await cmwq::io::async_send(queue, fd, buf, got.value);
//       if (!put) co_return;
//     }
//   }
//
// The coroutine goes on in a worker of the queue when the call has been made. Results are those of
// cmwq/io.h with errno beside them; buffers may be given as in cmwq/io.hpp. A queue that takes
// nothing (it is being drained) gives ECANCELED at once, on the thread that awaits; nothing was
// read or written then. Lifetime: buffers and addresses must live until the coroutine goes on, the
// queue too; a coroutine that waits must not be destroyed.
#ifndef CMWQ_ASYNC_IO_HPP_
#define CMWQ_ASYNC_IO_HPP_

#include <cmwq/io.hpp>
#include <cmwq/workqueue.hpp>

#if defined(__cpp_impl_coroutine)
#include <cerrno>

namespace cmwq::io {

struct Result {
  explicit operator bool() const noexcept { return value >= 0; }
  ssize_t value = -1;     // what the C function returned
  int error = ECANCELED;  // its errno if that is negative, else 0
};

namespace detail {

// The call is made by a worker of the queue, which is concurrency-managed, and the coroutine goes
// on behind it.
template <class Op>
class [[nodiscard]] Async : private ::cmwq::detail::ScheduledNow<Async<Op>> {
 public:
  Async(const Workqueue& queue, Op op) noexcept : wq_(queue.get()), op_(op) {}

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> who) noexcept {
    who_ = who;
    return this->Start(wq_);
  }
  Result await_resume() const noexcept { return result_; }

 private:
  friend class ::cmwq::detail::ScheduledNow<Async>;
  void Complete() noexcept {
    result_.value = op_();
    result_.error = result_.value < 0 ? errno : 0;
    who_.resume();
  }

  ::cmwq_workqueue* wq_;
  Op op_;
  std::coroutine_handle<> who_;
  Result result_;
};

// A timer of the queue.
class [[nodiscard]] AsyncSleep {
 public:
  AsyncSleep(const Workqueue& queue, uint64_t ns) noexcept
      : timer_(queue.get(), std::chrono::nanoseconds(ns < INT64_MAX ? ns : INT64_MAX)) {}
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> who) noexcept { return timer_.await_suspend(who); }
  Result await_resume() const noexcept { return timer_.await_resume() ? Result{0, 0} : Result{}; }

 private:
  ScheduleAfter<> timer_;
};

}  // namespace detail

inline auto async_read(const Workqueue& queue, int fd, void* buf, size_t len, int64_t offset = -1) {
  return detail::Async(queue, [=] { return cmwq_io_read(fd, buf, len, offset); });
}
template <class Buffer, class = decltype(detail::Bytes(std::declval<Buffer&>()))>
auto async_read(const Workqueue& queue, int fd, Buffer&& buffer, int64_t offset = -1) {
  return async_read(queue, fd, buffer.data(), detail::Bytes(buffer), offset);
}

inline auto async_write(const Workqueue& queue, int fd, const void* buf, size_t len,
                        int64_t offset = -1) {
  return detail::Async(queue, [=] { return cmwq_io_write(fd, buf, len, offset); });
}
template <class Buffer, class = decltype(detail::Bytes(std::declval<Buffer&>()))>
auto async_write(const Workqueue& queue, int fd, const Buffer& buffer, int64_t offset = -1) {
  return async_write(queue, fd, buffer.data(), detail::Bytes(buffer), offset);
}

inline auto async_recv(const Workqueue& queue, int fd, void* buf, size_t len, int flags = 0) {
  return detail::Async(queue, [=] { return cmwq_io_recv(fd, buf, len, flags); });
}
template <class Buffer, class = decltype(detail::Bytes(std::declval<Buffer&>()))>
auto async_recv(const Workqueue& queue, int fd, Buffer&& buffer, int flags = 0) {
  return async_recv(queue, fd, buffer.data(), detail::Bytes(buffer), flags);
}

inline auto async_send(const Workqueue& queue, int fd, const void* buf, size_t len, int flags = 0) {
  return detail::Async(queue, [=] { return cmwq_io_send(fd, buf, len, flags); });
}
template <class Buffer, class = decltype(detail::Bytes(std::declval<Buffer&>()))>
auto async_send(const Workqueue& queue, int fd, const Buffer& buffer, int flags = 0) {
  return async_send(queue, fd, buffer.data(), detail::Bytes(buffer), flags);
}

inline auto async_accept(const Workqueue& queue, int fd, struct sockaddr* addr = nullptr,
                         socklen_t* addrlen = nullptr, int flags = SOCK_CLOEXEC) {
  return detail::Async(queue, [=] { return cmwq_io_accept(fd, addr, addrlen, flags); });
}
inline auto async_connect(const Workqueue& queue, int fd, const struct sockaddr* addr,
                          socklen_t len) {
  return detail::Async(queue, [=] { return cmwq_io_connect(fd, addr, len); });
}
inline auto async_fsync(const Workqueue& queue, int fd) {
  return detail::Async(queue, [=] { return cmwq_io_fsync(fd, false); });
}
inline auto async_fdatasync(const Workqueue& queue, int fd) {
  return detail::Async(queue, [=] { return cmwq_io_fsync(fd, true); });
}
inline auto async_poll(const Workqueue& queue, int fd, short events) {
  return detail::Async(queue, [=] { return cmwq_io_poll(fd, events, CMWQ_NO_TIMEOUT); });
}
template <class Rep, class Period>
auto async_poll(const Workqueue& queue, int fd, short events,
                std::chrono::duration<Rep, Period> timeout) {
  const uint64_t ns = detail::Nanoseconds(timeout);
  return detail::Async(queue, [=] { return cmwq_io_poll(fd, events, ns); });
}
// Goes on in a worker after at least `d`. No thread waits.
template <class Rep, class Period>
auto async_sleep(const Workqueue& queue, std::chrono::duration<Rep, Period> d) {
  return detail::AsyncSleep(queue, detail::Nanoseconds(d));
}

}  // namespace cmwq::io

#endif  // coroutines

#endif  // CMWQ_ASYNC_IO_HPP_
