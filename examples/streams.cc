// Connections and bytes awaited one by one; one start for all of them.
//
// Prints:
//   connections: 3, bytes: 15
//   the listener ended: ECANCELED: 1
#include <cmwq/io_stream.hpp>
#include <cmwq/task.hpp>

#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>

namespace io = cmwq::io;

namespace {

constexpr int kConnections = 3;
std::atomic<int> g_bytes{0}, g_closed{0};

cmwq::Task<> Receive(cmwq::Workqueue& queue, int fd, io::Stream& listening) {
  {
    io::Stream stream(4, 1024);
    stream.recv(queue, fd);
    for (;;) {
      const io::Received got = co_await stream.next();
      if (!got) break;
      g_bytes += static_cast<int>(got.size());
    }
  }
  close(fd);
  if (++g_closed == kConnections) listening.end();
}

cmwq::Task<int> Accept(cmwq::Workqueue& queue, int listener, io::Stream& stream) {
  stream.accept(queue, listener);
  for (int connections = 0;; ++connections) {
    const io::Received got = co_await stream.next();
    if (!got) {
      std::printf("connections: %d, bytes: %d\n", connections, g_bytes.load());
      co_return got.error();
    }
    cmwq::start_detached(Receive(queue, got.fd(), stream));
  }
}

}  // namespace

int main() {
  cmwq::Workqueue queue("streams");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(listener, generic, sizeof(address.sun_family)) != 0 ||
      getsockname(listener, generic, &size) != 0 || listen(listener, 8) != 0) {
    return 1;
  }
  for (int i = 0; i < kConnections; ++i) {
    const int client = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(client, generic, size) != 0 || send(client, "hello", 5, 0) != 5) return 1;
    close(client);
  }
  io::Stream listening(8);
  const int error = cmwq::sync_wait(Accept(queue, listener, listening));
  std::printf("the listener ended: ECANCELED: %d\n", error == ECANCELED);
  queue.drain();  // what called end() may still run
  close(listener);
}
