// cmwq::io::Buffers and Files: cmwq/io_fixed.h as objects, and its operations for coroutines.
//
//   cmwq::Task<> Load(cmwq::Workqueue& queue, int fd, char* pages, size_t size) {
//     const cmwq::io::Buffers buffers({{pages, size}});
//     const cmwq::io::Files files({fd});
//     if (!buffers || !files) co_return;        // errno says why
//     const auto got =
//         co_await cmwq::io::async_read_fixed(queue, files[0], pages, size, 0, buffers[0]);
//     if (got) Use(pages, static_cast<size_t>(got.value));
//   }
//
// An object takes its registration back when it goes away: no operation may use it then (that ends the
// process: the memory would be written to later). Nothing throws.
#ifndef CMWQ_IO_FIXED_HPP_
#define CMWQ_IO_FIXED_HPP_

#include <cmwq/async_io.hpp>
#include <cmwq/io_fixed.h>

#include <cstddef>
#include <exception>
#include <initializer_list>
#include <utility>

namespace cmwq::io {

namespace detail {

template <class Entry, int (*Register)(const Entry*, unsigned), bool (*Unregister)(int)>
class Registration {
 public:
  Registration() noexcept = default;
  Registration(const Entry* entries, std::size_t nr) noexcept
      : first_(Register(entries, static_cast<unsigned>(nr < 8192 ? nr : 8192))) {}
  Registration(std::initializer_list<Entry> entries) noexcept
      : Registration(entries.begin(), entries.size()) {}
  Registration(Registration&& other) noexcept : first_(std::exchange(other.first_, -1)) {}
  Registration& operator=(Registration&& other) noexcept {
    std::swap(first_, other.first_);
    return *this;
  }
  ~Registration() {
    if (first_ >= 0 && !Unregister(first_)) std::terminate();
  }

  // False: nothing is registered.
  explicit operator bool() const noexcept { return first_ >= 0; }
  // The number of an entry.
  int operator[](std::size_t i) const noexcept { return first_ + static_cast<int>(i); }

 private:
  int first_ = -1;
};

}  // namespace detail

using Buffers =
    detail::Registration<iovec, &cmwq_io_register_buffers, &cmwq_io_unregister_buffers>;
using Files = detail::Registration<int, &cmwq_io_register_files, &cmwq_io_unregister_files>;

#if defined(__cpp_impl_coroutine)

inline auto async_read_fixed(const Workqueue& queue, int fd, void* buf, size_t len, int64_t offset,
                             int buffer) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t ns) {
    return cmwq_io_read_fixed_work(wq, io, fd, buf, len, offset, buffer, ns);
  });
}
inline auto async_write_fixed(const Workqueue& queue, int fd, const void* buf, size_t len,
                              int64_t offset, int buffer) {
  return detail::Make(queue, [=](::cmwq_workqueue* wq, ::cmwq_io_work* io, uint64_t ns) {
    return cmwq_io_write_fixed_work(wq, io, fd, buf, len, offset, buffer, ns);
  });
}

#endif  // coroutines

}  // namespace cmwq::io

#endif  // CMWQ_IO_FIXED_HPP_
