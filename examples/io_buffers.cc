// Input and output with containers and durations, and a blocking region as an object.
//
// Prints:
//   nothing to read within 1 ms: 1
//   read: hello
//   the server got: ping
//   the client got: pong
//   read from the file: file
//   through a vector: abc, a message: m
//   size: 4096, cleaned up: 1
//   the lock was free again: 1
#include <cmwq/blocking.hpp>
#include <cmwq/io.hpp>
#include <cmwq/workqueue.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
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

void UseVectors() {
  int ends[2], pair[2];
  if (pipe(ends) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return;
  char text[] = "abc", back[4] = "", letter = 'm', got = 0;
  const iovec from = {text, 3}, to = {back, 3};
  io::writev(ends[1], &from, 1);
  io::readv(ends[0], &to, 1);
  iovec sent = {&letter, 1}, received = {&got, 1};
  msghdr there = {}, here = {};
  there.msg_iov = &sent;
  here.msg_iov = &received;
  there.msg_iovlen = here.msg_iovlen = 1;
  io::sendmsg(pair[0], &there);
  io::recvmsg(pair[1], &here);
  std::printf("through a vector: %s, a message: %c\n", back, got);
}

void UseDirectory() {
  char dir[] = "/tmp/cmwq_example.XXXXXX";
  if (mkdtemp(dir) == nullptr) return;
  const int top = io::openat(AT_FDCWD, dir, O_DIRECTORY);
  io::mkdirat(top, "sub", 0700);
  const int fd = io::openat(top, "file", O_RDWR | O_CREAT, 0600);
  io::fallocate(fd, 0, 0, 4096);
  io::close(fd);
  io::renameat(top, "file", top, "sub/moved");
  struct statx st = {};
  io::statx(top, "sub/moved", 0, STATX_SIZE, &st);
  io::unlinkat(top, "sub/moved");
  io::unlinkat(top, "sub", AT_REMOVEDIR);
  io::close(top);
  std::printf("size: %d, cleaned up: %d\n", static_cast<int>(st.stx_size), rmdir(dir) == 0);
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
  queue.submit(&UseVectors).wait();
  queue.submit(&UseDirectory).wait();

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
