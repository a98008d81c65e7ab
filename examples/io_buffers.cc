// Input and output with containers and durations, and a blocking region as an object.
//
// Prints:
//   nothing to read within 1 ms: 1
//   read: hello
//   the server got: ping
//   the client got: pong
//   read from the file: file
//   the lock was free again: 1
#include <cmwq/blocking.hpp>
#include <cmwq/io.hpp>
#include <cmwq/workqueue.hpp>

#include <poll.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <string>
#include <string_view>

using namespace std::chrono_literals;
namespace io = cmwq::io;

namespace {

std::string_view Text(const std::array<char, 16>& buf, ssize_t len) {
  return {buf.data(), len > 0 ? static_cast<size_t>(len) : 0};
}

void Print(const char* what, std::string_view text) {
  std::printf("%s: %.*s\n", what, static_cast<int>(text.size()), text.data());
}

void UsePipe() {
  int ends[2];
  if (pipe(ends) != 0) return;
  std::printf("nothing to read within 1 ms: %d\n", io::poll(ends[0], POLLIN, 1ms) == 0);
  io::write(ends[1], std::string("hello"));
  std::array<char, 16> buf;
  if (io::poll(ends[0], POLLIN) == POLLIN) Print("read", Text(buf, io::read(ends[0], buf)));
}

void Serve(int listener) {
  std::array<char, 16> buf;
  const int fd = io::accept(listener);
  Print("the server got", Text(buf, io::recv(fd, buf)));
  io::send(fd, std::string("pong"));
  close(fd);
}

void Ask(const sockaddr_un& address, socklen_t len) {
  std::array<char, 16> buf;
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (io::connect(fd, reinterpret_cast<const sockaddr*>(&address), len) != 0) return;
  io::send(fd, std::string("ping"));
  Print("the client got", Text(buf, io::recv(fd, buf)));
  close(fd);
}

void UseFile() {
  std::FILE* const file = std::tmpfile();
  if (file == nullptr) return;
  const int fd = fileno(file);
  std::array<char, 16> buf;
  io::write(fd, std::string("a file"), 0);
  if (io::fdatasync(fd) == 0 && io::fsync(fd) == 0) {
    Print("read from the file", Text(buf, io::read(fd, buf, 2)));
  }
  std::fclose(file);
}

}  // namespace

int main() {
  cmwq::Workqueue queue("io_buffers");
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  socklen_t len = sizeof(address);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  if (!queue || bind(listener, any, sizeof(address.sun_family)) != 0 ||
      getsockname(listener, any, &len) != 0 || listen(listener, 8) != 0) {
    std::perror("io_buffers");
    return 1;
  }

  queue.submit(&UsePipe).wait();
  auto server = queue.submit([&] { Serve(listener); });
  queue.submit([&] { Ask(address, len); }).wait();
  server.wait();
  queue.submit(&UseFile).wait();

  std::mutex mutex;
  std::unique_lock held(mutex);
  auto waiter = queue.submit([&mutex] {
    // A lock of the standard library waits where cmwq does not see it.
    const cmwq::ScopedBlocking blocking;
    const std::scoped_lock lock(mutex);
    std::puts("the lock was free again: 1");
  });
  io::sleep(1ms);
  held.unlock();
  waiter.wait();
}
