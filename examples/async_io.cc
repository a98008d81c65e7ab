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
#include <cmwq/async_io.hpp>
#include <cmwq/task.hpp>

#include <poll.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
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
}
