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
// No thread waits: the operation is one of cmwq/io_work.h, in the coroutine's frame, and the coroutine
// goes on in a worker of the queue when it has ended. Nothing is allocated. Each can be given a timeout
// and a stop token:
//
//   co_await cmwq::io::async_recv(queue, fd, buf).within(100ms).stopped_by(token);
//
// Result: what the function of cmwq/io.h returns, with errno beside it: ETIMEDOUT after a timeout,
// ECANCELED after a stop; a part that went out before is a success. O_NONBLOCK does not matter. Buffers
// may be given as in cmwq/io.hpp. A queue that takes nothing (it is being drained) gives ECANCELED at
// once, on the thread that awaits, and so does a stop that came before; nothing was read or written
// then. Lifetime: buffers, addresses and paths must live until the coroutine goes on, the queue too; a
// coroutine that waits must not be destroyed. GCC 12 miscompiles co_await of a temporary as a
// condition: give the result a name first.
#ifndef CMWQ_ASYNC_IO_HPP_
#define CMWQ_ASYNC_IO_HPP_

#include <cmwq/io.hpp>
#include <cmwq/io_work.h>
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

// Submit(queue, operation, timeout): one of the functions of cmwq/io_work.h.
template <class Submit, class Token = ::cmwq::detail::Unstoppable>
class [[nodiscard]] Async : private ::cmwq_io_work {
 public:
  Async(::cmwq_workqueue* wq, Submit submit, uint64_t timeout_ns = CMWQ_NO_TIMEOUT,
        Token token = {}) noexcept
      : wq_(wq), submit_(submit), timeout_ns_(timeout_ns), token_(std::move(token)) {}
  Async(const Async&) = delete;
  Async& operator=(const Async&) = delete;

  // The same with a timeout; for operations on files it has no effect.
  template <class Rep, class Period>
  Async within(std::chrono::duration<Rep, Period> d) && noexcept {
    return Async(wq_, submit_, Nanoseconds(d), std::move(token_));
  }
  // The same, to be ended by a stop of `token`.
  template <class Other>
  Async<Submit, Other> stopped_by(Other token) && noexcept {
    return Async<Submit, Other>(wq_, submit_, timeout_ns_, std::move(token));
  }

  bool await_ready() const noexcept { return token_.stop_requested(); }
  bool await_suspend(std::coroutine_handle<> who) noexcept {
    who_ = who;
    cmwq_io_work_init(this, &Run);
    if (token_.stop_possible()) callback_.emplace(token_, Stop{this});
    // From a success on the object may be gone.
    if (submit_(wq_, static_cast<::cmwq_io_work*>(this), timeout_ns_)) return true;
    callback_.reset();
    return false;
  }
  Result await_resume() const noexcept { return result_; }

 private:
  struct Stop {
    // Context: any thread; never waits.
    void operator()() const noexcept { cmwq_end_io_work(io, true); }
    ::cmwq_io_work* io;
  };

  static void Run(::cmwq_work* work) noexcept {
    auto* const self = static_cast<Async*>(cmwq_io_work_of(work));
    self->callback_.reset();  // from here on no stop can touch the object
    const int64_t result = self->result;
    if (result >= 0) {
      self->result_ = {static_cast<ssize_t>(result), 0};
    } else {
      self->result_.error = static_cast<int>(-result);
    }
    self->who_.resume();
  }

  ::cmwq_workqueue* wq_;
  Submit submit_;
  uint64_t timeout_ns_;
  Token token_;
  std::optional<typename ::cmwq::detail::StopCallbackOf<Token, Stop>::type> callback_;
  std::coroutine_handle<> who_;
  Result result_;
};

template <class Submit>
Async<Submit> Make(const Workqueue& queue, Submit submit) noexcept {
  return Async<Submit>(queue.get(), submit);
}

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
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t ns) {
    return cmwq_io_read_work(wq, io, fd, buf, len, offset, ns);
  });
}
template <class Buffer, class = decltype(detail::Bytes(std::declval<Buffer&>()))>
auto async_read(const Workqueue& queue, int fd, Buffer&& buffer, int64_t offset = -1) {
  return async_read(queue, fd, buffer.data(), detail::Bytes(buffer), offset);
}
inline auto async_write(const Workqueue& queue, int fd, const void* buf, size_t len,
                        int64_t offset = -1) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t ns) {
    return cmwq_io_write_work(wq, io, fd, buf, len, offset, ns);
  });
}
template <class Buffer, class = decltype(detail::Bytes(std::declval<Buffer&>()))>
auto async_write(const Workqueue& queue, int fd, const Buffer& buffer, int64_t offset = -1) {
  return async_write(queue, fd, buffer.data(), detail::Bytes(buffer), offset);
}
inline auto async_readv(const Workqueue& queue, int fd, const struct iovec* iov, int iovcnt,
                        int64_t offset = -1) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t ns) {
    return cmwq_io_readv_work(wq, io, fd, iov, iovcnt, offset, ns);
  });
}
inline auto async_writev(const Workqueue& queue, int fd, const struct iovec* iov, int iovcnt,
                        int64_t offset = -1) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t ns) {
    return cmwq_io_writev_work(wq, io, fd, iov, iovcnt, offset, ns);
  });
}
inline auto async_recv(const Workqueue& queue, int fd, void* buf, size_t len, int flags = 0) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t ns) {
    return cmwq_io_recv_work(wq, io, fd, buf, len, flags, ns);
  });
}
template <class Buffer, class = decltype(detail::Bytes(std::declval<Buffer&>()))>
auto async_recv(const Workqueue& queue, int fd, Buffer&& buffer, int flags = 0) {
  return async_recv(queue, fd, buffer.data(), detail::Bytes(buffer), flags);
}
inline auto async_send(const Workqueue& queue, int fd, const void* buf, size_t len, int flags = 0) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t ns) {
    return cmwq_io_send_work(wq, io, fd, buf, len, flags, ns);
  });
}
template <class Buffer, class = decltype(detail::Bytes(std::declval<Buffer&>()))>
auto async_send(const Workqueue& queue, int fd, const Buffer& buffer, int flags = 0) {
  return async_send(queue, fd, buffer.data(), detail::Bytes(buffer), flags);
}
inline auto async_recvmsg(const Workqueue& queue, int fd, struct msghdr* msg, int flags = 0) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t ns) {
    return cmwq_io_recvmsg_work(wq, io, fd, msg, flags, ns);
  });
}
inline auto async_sendmsg(const Workqueue& queue, int fd, const struct msghdr* msg, int flags = 0) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t ns) {
    return cmwq_io_sendmsg_work(wq, io, fd, msg, flags, ns);
  });
}
inline auto async_accept(const Workqueue& queue, int fd, struct sockaddr* addr = nullptr,
                        socklen_t* addrlen = nullptr, int flags = SOCK_CLOEXEC) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t ns) {
    return cmwq_io_accept_work(wq, io, fd, addr, addrlen, flags, ns);
  });
}
inline auto async_connect(const Workqueue& queue, int fd, const struct sockaddr* addr,
                        socklen_t len) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t ns) {
    return cmwq_io_connect_work(wq, io, fd, addr, len, ns);
  });
}
// The events that hold; ETIMEDOUT if there is a timeout and it passes first.
inline auto async_poll(const Workqueue& queue, int fd, short events) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t ns) {
    return cmwq_io_poll_work(wq, io, fd, events, ns);
  });
}
template <class Rep, class Period>
auto async_poll(const Workqueue& queue, int fd, short events,
                std::chrono::duration<Rep, Period> timeout) {
  return async_poll(queue, fd, events).within(timeout);
}
inline auto async_fsync(const Workqueue& queue, int fd) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t) {
    return cmwq_io_fsync_work(wq, io, fd, false);
  });
}
inline auto async_fdatasync(const Workqueue& queue, int fd) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t) {
    return cmwq_io_fsync_work(wq, io, fd, true);
  });
}
inline auto async_fallocate(const Workqueue& queue, int fd, int mode, int64_t offset, int64_t len) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t) {
    return cmwq_io_fallocate_work(wq, io, fd, mode, offset, len);
  });
}
inline auto async_openat(const Workqueue& queue, int dirfd, const char* path, int flags,
                        mode_t mode = 0) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t) {
    return cmwq_io_openat_work(wq, io, dirfd, path, flags, mode);
  });
}
inline auto async_close(const Workqueue& queue, int fd) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t) {
    return cmwq_io_close_work(wq, io, fd);
  });
}
inline auto async_statx(const Workqueue& queue, int dirfd, const char* path, int flags,
                        unsigned mask, struct ::statx* buf) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t) {
    return cmwq_io_statx_work(wq, io, dirfd, path, flags, mask, buf);
  });
}
inline auto async_unlinkat(const Workqueue& queue, int dirfd, const char* path, int flags = 0) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t) {
    return cmwq_io_unlinkat_work(wq, io, dirfd, path, flags);
  });
}
inline auto async_renameat(const Workqueue& queue, int olddirfd, const char* oldpath,
                        int newdirfd, const char* newpath, unsigned flags = 0) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t) {
    return cmwq_io_renameat_work(wq, io, olddirfd, oldpath, newdirfd, newpath, flags);
  });
}
inline auto async_mkdirat(const Workqueue& queue, int dirfd, const char* path, mode_t mode) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t) {
    return cmwq_io_mkdirat_work(wq, io, dirfd, path, mode);
  });
}
// Goes on in a worker after at least `d`. No thread waits.
template <class Rep, class Period>
auto async_sleep(const Workqueue& queue, std::chrono::duration<Rep, Period> d) {
  return detail::AsyncSleep(queue, detail::Nanoseconds(d));
}

}  // namespace cmwq::io

#endif  // coroutines

#endif  // CMWQ_ASYNC_IO_HPP_
