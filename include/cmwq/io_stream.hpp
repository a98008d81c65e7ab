// cmwq::io::Stream: cmwq/io_stream.h for coroutines: results are awaited one by one. Nothing without
// coroutines.
//
//   cmwq::Task<> Serve(cmwq::Workqueue& queue, int fd) {
//     cmwq::io::Stream stream(16, 4096);        // at most 16 results wait, in buffers of 4096 bytes
//     stream.recv(queue, fd);
//     for (;;) {
//       const cmwq::io::Received got = co_await stream.next();
//       if (!got) co_return;                    // got.error(): 0 at the end of file
//       Use(got.data(), got.size());            // until `got` goes away
//     }
//   }
//
// No thread waits: where there is a result the coroutine goes on at once, otherwise in a worker of the
// queue when one has come. One coroutine at a time awaits a stream. A stream that somebody waits for must
// not be destroyed: end() it first, the wait ends with ECANCELED. Nothing throws; a stream without memory
// is false, and what it is asked for fails.
#ifndef CMWQ_IO_STREAM_HPP_
#define CMWQ_IO_STREAM_HPP_

#include <cmwq/io_stream.h>
#include <cmwq/workqueue.hpp>

#if defined(__cpp_impl_coroutine)
#include <atomic>
#include <cerrno>
#include <coroutine>
#include <cstddef>
#include <utility>

namespace cmwq::io {

// A result. Gives its buffer back when it goes away; not after the stream has.
class Received {
 public:
  Received() noexcept = default;
  Received(Received&& other) noexcept { *this = std::move(other); }
  Received& operator=(Received&& other) noexcept {
    if (this == &other) return *this;
    Release();
    stream_ = other.stream_;
    more_ = other.more_;
    result_ = other.result_;
    other.result_.data = nullptr;
    return *this;
  }
  ~Received() { Release(); }

  // False: the stream has ended.
  explicit operator bool() const noexcept { return more_ > 0; }
  // Of the end: 0 at the end of file, else an errno.
  int error() const noexcept { return more_ > 0 ? 0 : static_cast<int>(-result_.value); }
  // Of a connection: its descriptor, which is the caller's.
  int fd() const noexcept { return static_cast<int>(result_.value); }
  const std::byte* data() const noexcept { return static_cast<const std::byte*>(result_.data); }
  std::size_t size() const noexcept { return more_ > 0 ? static_cast<std::size_t>(result_.value) : 0; }

 private:
  friend class Stream;
  void Release() noexcept {
    if (result_.data != nullptr) cmwq_io_stream_put(stream_, result_.data);
    result_.data = nullptr;
  }

  ::cmwq_io_stream* stream_ = nullptr;
  int more_ = 0;  // what cmwq_io_stream_next returned
  ::cmwq_io_result result_ = {-ECANCELED, nullptr};
};

class Stream : private ::cmwq_io_stream {
 public:
  // limit: results that wait; size: bytes of each buffer, 0 to accept.
  explicit Stream(unsigned limit, std::size_t size = 0) noexcept
      : good_(cmwq_io_stream_init(this, &Run, limit, size)) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() {
    if (good_) cmwq_io_stream_destroy(this);
  }
  explicit operator bool() const noexcept { return good_; }

  bool accept(const Workqueue& queue, int fd, int flags = SOCK_CLOEXEC) noexcept {
    return good_ && cmwq_io_accept_stream(queue.get(), this, fd, flags);
  }
  bool recv(const Workqueue& queue, int fd, int flags = 0) noexcept {
    return good_ && cmwq_io_recv_stream(queue.get(), this, fd, flags);
  }
  // Results that have come are still to be had, then ECANCELED. Context: any thread; never waits.
  bool end() noexcept { return good_ && cmwq_end_io_stream(this); }

  // To be awaited: gives a Received.
  auto next() noexcept { return Next(this); }

 private:
  class [[nodiscard]] Next {
   public:
    explicit Next(Stream* stream) noexcept : stream_(stream) {}
    bool await_ready() noexcept { return Take(); }
    bool await_suspend(std::coroutine_handle<> who) noexcept {
      who_ = who;
      for (;;) {
        void* nobody = nullptr;
        // Release: Run resumes what it finds. From a success on the object may be gone.
        if (stream_->waiter_.compare_exchange_strong(nobody, this, std::memory_order_acq_rel)) return true;
        // The item ran meanwhile. It looks at nothing but the word until there is somebody who waits.
        stream_->waiter_.store(nullptr, std::memory_order_relaxed);
        if (Take()) return false;
      }
    }
    Received await_resume() noexcept { return std::move(received_); }

   private:
    friend class Stream;
    bool Take() noexcept {
      received_.stream_ = stream_;
      if (!stream_->good_) return true;
      received_.more_ = cmwq_io_stream_next(stream_, &received_.result_);
      return received_.more_ != 0;
    }

    Stream* stream_;
    std::coroutine_handle<> who_;
    Received received_;
  };

  static void* Ran() noexcept {
    static char ran;
    return &ran;
  }
  // The item's function: whoever waits goes on in it.
  static void Run(::cmwq_work* work) noexcept {
    auto* const self = static_cast<Stream*>(cmwq_io_stream_of(work));
    void* const found = self->waiter_.exchange(Ran(), std::memory_order_acq_rel);
    if (found == nullptr || found == Ran()) return;
    Next* const next = static_cast<Next*>(found);
    if (next->Take()) {
      self->waiter_.store(nullptr, std::memory_order_relaxed);
      next->who_.resume();  // may destroy the stream
    } else {
      // What this was queued for has been taken. Nobody else touches the word while somebody waits.
      self->waiter_.store(next, std::memory_order_release);
    }
  }

  // AT(Next, Run): null, who waits, or Ran: the item ran while nobody did.
  std::atomic<void*> waiter_{nullptr};
  bool good_;
};

}  // namespace cmwq::io

#endif  // coroutines

#endif  // CMWQ_IO_STREAM_HPP_
