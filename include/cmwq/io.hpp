// cmwq::io: the functions of cmwq/io.h for C++17 and later.
//
//   queue.submit([fd] {
//     char buf[512];
//     return cmwq::io::read(fd, buf, sizeof(buf));   // the next item of this CPU runs meanwhile
//   }).wait();
//
// Results and errno are those of the C functions; nothing throws. Where a buffer is asked for,
// anything contiguous with data() and size() will do: std::span, std::vector, std::array,
// std::string. Times are std::chrono durations; negative ones count as zero, fractions of a
// nanosecond are rounded up.
#ifndef CMWQ_IO_HPP_
#define CMWQ_IO_HPP_

#include <cmwq/io.h>

#include <chrono>
#include <type_traits>
#include <utility>

#if __cplusplus < 201703L
#error "cmwq's C++ headers need C++17; cmwq/io.h is plain C"
#endif

namespace cmwq::io {

namespace detail {

template <class Buffer>
using Element = std::remove_pointer_t<decltype(std::declval<Buffer&>().data())>;

// Bytes of a buffer whose elements may be copied as bytes; no such overload for others.
template <class Buffer, class = std::enable_if_t<std::is_trivially_copyable_v<Element<Buffer>>>>
auto Bytes(const Buffer& buffer) -> decltype(buffer.size() * sizeof(Element<Buffer>)) {
  return buffer.size() * sizeof(Element<Buffer>);
}

template <class Rep, class Period>
uint64_t Nanoseconds(std::chrono::duration<Rep, Period> d) {
  if (d <= d.zero()) return 0;
  // Compared as floating point: the conversion itself would overflow.
  if (std::chrono::duration<double, std::nano>(d).count() >= 9.2e18) return CMWQ_NO_TIMEOUT;
  return static_cast<uint64_t>(std::chrono::ceil<std::chrono::nanoseconds>(d).count());
}

}  // namespace detail

inline ssize_t read(int fd, void* buf, size_t len, int64_t offset = -1) {
  return cmwq_io_read(fd, buf, len, offset);
}
template <class Buffer>
auto read(int fd, Buffer&& buffer, int64_t offset = -1)
    -> decltype(detail::Bytes(buffer), ssize_t()) {
  return cmwq_io_read(fd, buffer.data(), detail::Bytes(buffer), offset);
}

inline ssize_t write(int fd, const void* buf, size_t len, int64_t offset = -1) {
  return cmwq_io_write(fd, buf, len, offset);
}
template <class Buffer>
auto write(int fd, const Buffer& buffer, int64_t offset = -1)
    -> decltype(detail::Bytes(buffer), ssize_t()) {
  return cmwq_io_write(fd, buffer.data(), detail::Bytes(buffer), offset);
}

inline ssize_t recv(int fd, void* buf, size_t len, int flags = 0) {
  return cmwq_io_recv(fd, buf, len, flags);
}
template <class Buffer>
auto recv(int fd, Buffer&& buffer, int flags = 0) -> decltype(detail::Bytes(buffer), ssize_t()) {
  return cmwq_io_recv(fd, buffer.data(), detail::Bytes(buffer), flags);
}

inline ssize_t send(int fd, const void* buf, size_t len, int flags = 0) {
  return cmwq_io_send(fd, buf, len, flags);
}
template <class Buffer>
auto send(int fd, const Buffer& buffer, int flags = 0)
    -> decltype(detail::Bytes(buffer), ssize_t()) {
  return cmwq_io_send(fd, buffer.data(), detail::Bytes(buffer), flags);
}

inline int accept(int fd, struct sockaddr* addr = nullptr, socklen_t* addrlen = nullptr,
                  int flags = SOCK_CLOEXEC) {
  return cmwq_io_accept(fd, addr, addrlen, flags);
}
inline int connect(int fd, const struct sockaddr* addr, socklen_t len) {
  return cmwq_io_connect(fd, addr, len);
}
inline int fsync(int fd) { return cmwq_io_fsync(fd, false); }
inline int fdatasync(int fd) { return cmwq_io_fsync(fd, true); }

inline ssize_t readv(int fd, const struct iovec* iov, int iovcnt, int64_t offset = -1, int flags = 0) {
  return cmwq_io_readv(fd, iov, iovcnt, offset, flags);
}
inline ssize_t writev(int fd, const struct iovec* iov, int iovcnt, int64_t offset = -1,
                      int flags = 0) {
  return cmwq_io_writev(fd, iov, iovcnt, offset, flags);
}
inline ssize_t recvmsg(int fd, struct msghdr* msg, int flags = 0) {
  return cmwq_io_recvmsg(fd, msg, flags);
}
inline ssize_t sendmsg(int fd, const struct msghdr* msg, int flags = 0) {
  return cmwq_io_sendmsg(fd, msg, flags);
}

inline int openat(int dirfd, const char* path, int flags, mode_t mode = 0) {
  return cmwq_io_openat(dirfd, path, flags, mode);
}
inline int close(int fd) { return cmwq_io_close(fd); }
inline int statx(int dirfd, const char* path, int flags, unsigned mask, struct ::statx* buf) {
  return cmwq_io_statx(dirfd, path, flags, mask, buf);
}
inline int fallocate(int fd, int mode, int64_t offset, int64_t len) {
  return cmwq_io_fallocate(fd, mode, offset, len);
}
inline int unlinkat(int dirfd, const char* path, int flags = 0) {
  return cmwq_io_unlinkat(dirfd, path, flags);
}
inline int renameat(int olddirfd, const char* oldpath, int newdirfd, const char* newpath,
                    unsigned flags = 0) {
  return cmwq_io_renameat(olddirfd, oldpath, newdirfd, newpath, flags);
}
inline int mkdirat(int dirfd, const char* path, mode_t mode) {
  return cmwq_io_mkdirat(dirfd, path, mode);
}

inline int poll(int fd, short events) { return cmwq_io_poll(fd, events, CMWQ_NO_TIMEOUT); }
template <class Rep, class Period>
int poll(int fd, short events, std::chrono::duration<Rep, Period> timeout) {
  return cmwq_io_poll(fd, events, detail::Nanoseconds(timeout));
}
template <class Rep, class Period>
int sleep(std::chrono::duration<Rep, Period> d) {
  return cmwq_io_sleep(detail::Nanoseconds(d));
}

}  // namespace cmwq::io

#endif  // CMWQ_IO_HPP_
