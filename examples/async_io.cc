// Input and output awaited by coroutines; no thread waits for the timer.
//
// Prints:
//   slept: 1
//   nothing to read within 1 ms: 1
//   read: hello
//   the server got: ping
//   the client got: pong
//   read from the file: file
//   a closed descriptor: -1, EBADF: 1
//   stopped: 1
//   through the pipe: vector, message: m
//   the file has 8192 bytes, cleaned up: 1
#include <cmwq/async_io.hpp>
#include <cmwq/task.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stop_token>
#include <string>
#include <string_view>

using namespace std::chrono_literals;
namespace io = cmwq::io;

namespace {

using Buffer = std::array<char, 16>;

void Print(const char* what, const Buffer& buf, io::Result got) {
  std::printf("%s: %.*s\n", what, static_cast<int>(got ? got.value : 0), buf.data());
}

cmwq::Task<> UsePipe(cmwq::Workqueue& queue, int in, int out) {
  const io::Result slept = co_await io::async_sleep(queue, 1ms);
  std::printf("slept: %d\n", static_cast<bool>(slept));
  const io::Result events = co_await io::async_poll(queue, in, POLLIN, 1ms);
  std::printf("nothing to read within 1 ms: %d\n", events.error == ETIMEDOUT);
  const std::string hello = "hello";
  co_await io::async_write(queue, out, hello);
  co_await io::async_poll(queue, in, POLLIN);
  Buffer buf;
  const io::Result got = co_await io::async_read(queue, in, buf);
  Print("read", buf, got);
}

cmwq::Task<> Serve(cmwq::Workqueue& queue, int listener) {
  const io::Result fd = co_await io::async_accept(queue, listener);
  Buffer buf;
  const io::Result got = co_await io::async_recv(queue, static_cast<int>(fd.value), buf);
  Print("the server got", buf, got);
  const std::string pong = "pong";
  co_await io::async_send(queue, static_cast<int>(fd.value), pong);
  close(static_cast<int>(fd.value));
}

cmwq::Task<> Ask(cmwq::Workqueue& queue, const sockaddr_un& address, socklen_t len) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const auto* const any = reinterpret_cast<const sockaddr*>(&address);
  const io::Result connected = co_await io::async_connect(queue, fd, any, len);
  if (!connected) co_return;
  const std::string ping = "ping";
  co_await io::async_send(queue, fd, ping);
  Buffer buf;
  const io::Result got = co_await io::async_recv(queue, fd, buf);
  Print("the client got", buf, got);
  close(fd);
}

cmwq::Task<> UseFile(cmwq::Workqueue& queue) {
  std::FILE* const file = std::tmpfile();
  if (file == nullptr) co_return;
  const int fd = fileno(file);
  const std::string text = "a file";
  co_await io::async_write(queue, fd, text, 0);
  co_await io::async_fdatasync(queue, fd);
  co_await io::async_fsync(queue, fd);
  Buffer buf;
  const io::Result got = co_await io::async_read(queue, fd, buf, 2);
  Print("read from the file", buf, got);
  std::fclose(file);
  const io::Result bad = co_await io::async_fsync(queue, -1);
  std::printf("a closed descriptor: %d, EBADF: %d\n", static_cast<int>(bad.value),
              bad.error == EBADF);
}

cmwq::Task<> Stopped(cmwq::Workqueue& queue, int in, std::stop_token token) {
  Buffer buf;
  const io::Result got = co_await io::async_read(queue, in, buf).within(1h).stopped_by(token);
  std::printf("stopped: %d\n", got.error == ECANCELED);
}

cmwq::Task<> UseVectors(cmwq::Workqueue& queue, int in, int out) {
  char text[] = "vector", back[8] = "";
  const iovec from = {text, 6}, to = {back, 7};
  co_await io::async_writev(queue, out, &from, 1);
  co_await io::async_readv(queue, in, &to, 1);
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) co_return;
  char letter[] = "m", got = 0;
  iovec sent = {letter, 1}, received = {&got, 1};
  msghdr there = {}, here = {};
  there.msg_iov = &sent;
  here.msg_iov = &received;
  there.msg_iovlen = here.msg_iovlen = 1;
  co_await io::async_sendmsg(queue, pair[0], &there);
  co_await io::async_recvmsg(queue, pair[1], &here);
  std::printf("through the pipe: %s, message: %c\n", back, got);
}

cmwq::Task<> UseDirectory(cmwq::Workqueue& queue) {
  char dir[] = "/tmp/cmwq_example.XXXXXX";
  if (mkdtemp(dir) == nullptr) co_return;
  const io::Result at = co_await io::async_openat(queue, AT_FDCWD, dir, O_DIRECTORY);
  const int top = static_cast<int>(at.value);
  co_await io::async_mkdirat(queue, top, "sub", 0700);
  const io::Result file = co_await io::async_openat(queue, top, "file", O_RDWR | O_CREAT, 0600);
  co_await io::async_fallocate(queue, static_cast<int>(file.value), 0, 0, 8192);
  co_await io::async_close(queue, static_cast<int>(file.value));
  co_await io::async_renameat(queue, top, "file", top, "sub/moved");
  struct statx st = {};
  co_await io::async_statx(queue, top, "sub/moved", 0, STATX_SIZE, &st);
  co_await io::async_unlinkat(queue, top, "sub/moved");
  co_await io::async_unlinkat(queue, top, "sub", AT_REMOVEDIR);
  co_await io::async_close(queue, top);
  std::printf("the file has %d bytes, cleaned up: %d\n", static_cast<int>(st.stx_size),
              rmdir(dir) == 0);
}

}  // namespace

int main() {
  cmwq::Workqueue queue("async_io");
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  socklen_t len = sizeof(address);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  int ends[2];
  if (!queue || pipe(ends) != 0 || bind(listener, any, sizeof(address.sun_family)) != 0 ||
      getsockname(listener, any, &len) != 0 || listen(listener, 8) != 0) {
    std::perror("async_io");
    return 1;
  }
  cmwq::sync_wait(UsePipe(queue, ends[0], ends[1]));
  cmwq::start_detached(Serve(queue, listener));
  cmwq::sync_wait(Ask(queue, address, len));
  queue.drain();
  cmwq::sync_wait(UseFile(queue));
  std::stop_source stop;
  stop.request_stop();
  cmwq::sync_wait(Stopped(queue, ends[0], stop.get_token()));
  cmwq::sync_wait(UseVectors(queue, ends[0], ends[1]));
  cmwq::sync_wait(UseDirectory(queue));
}
