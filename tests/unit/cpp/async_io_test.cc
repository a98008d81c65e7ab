// The io functions as awaitables: results, errno, refusal.

#include <gtest/gtest.h>

#include <cmwq/async_io.hpp>
#include <cmwq/task.hpp>

#if !defined(__cpp_impl_coroutine)

TEST(AsyncIo, NeedsCoroutines) { GTEST_SKIP() << "this compiler has no coroutines"; }

#else

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/gate.h"
#include "tests/support/log_capture.h"

namespace cmwq::test {
namespace {

using namespace std::chrono_literals;

class AsyncIo : public ::testing::Test {
 protected:
  AsyncIo() {
    EXPECT_EQ(pipe2(pipe.data(), O_CLOEXEC), 0);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0);
  }
  ~AsyncIo() override {
    for (int fd : {pipe[0], pipe[1], pair[0], pair[1]}) close(fd);
  }
  std::array<int, 2> pipe{-1, -1}, pair{-1, -1};
  Workqueue queue{"async_io"};
};

TEST_F(AsyncIo, ReadsAndWrites) {
  auto reader = [this]() -> Task<std::string> {
    std::vector<char> buf(16);
    const io::Result got = co_await io::async_read(queue, pipe[0], buf);
    EXPECT_NE(cmwq_current_work(), nullptr);
    EXPECT_TRUE(got);
    EXPECT_EQ(got.error, 0);
    co_return std::string(buf.data(), static_cast<size_t>(got.value));
  };
  auto writer = [this]() -> Task<> {
    const std::string text = "hello";
    const io::Result put = co_await io::async_write(queue, pipe[1], text);
    EXPECT_EQ(put.value, 5);
  };
  std::string seen;
  std::thread other([&] { seen = sync_wait(reader()); });
  sync_wait(writer());
  other.join();
  EXPECT_EQ(seen, "hello");
}

TEST_F(AsyncIo, SendsAndReceives) {
  auto task = [this]() -> Task<> {
    std::array<char, 8> buf{};
    io::Result r = co_await io::async_send(queue, pair[0], "abc", 3);
    EXPECT_EQ(r.value, 3);
    r = co_await io::async_recv(queue, pair[1], buf);
    EXPECT_EQ(r.value, 3);
    r = co_await io::async_send(queue, pair[1], std::string("xy"), MSG_NOSIGNAL);
    EXPECT_EQ(r.value, 2);
    r = co_await io::async_recv(queue, pair[0], buf.data(), buf.size(), MSG_PEEK);
    EXPECT_EQ(r.value, 2);
    shutdown(pair[1], SHUT_WR);
    r = co_await io::async_read(queue, pair[0], buf.data(), buf.size());
    EXPECT_EQ(r.value, 2);
    r = co_await io::async_recv(queue, pair[0], buf);
    EXPECT_TRUE(r);
    EXPECT_EQ(r.value, 0);
  };
  sync_wait(task());
}

TEST_F(AsyncIo, ErrnoTravelsWithTheResult) {
  auto task = [this]() -> Task<> {
    char c;
    io::Result r = co_await io::async_read(queue, -1, &c, 1);
    EXPECT_FALSE(r);
    EXPECT_EQ(r.error, EBADF);
    r = co_await io::async_recv(queue, pipe[0], &c, 1);
    EXPECT_EQ(r.error, ENOTSOCK);
    r = co_await io::async_fsync(queue, pipe[0]);
    EXPECT_EQ(r.error, EINVAL);
    r = co_await io::async_fdatasync(queue, -1);
    EXPECT_EQ(r.error, EBADF);
    r = co_await io::async_accept(queue, pair[0]);
    EXPECT_EQ(r.error, EINVAL);
    fcntl(pipe[0], F_SETFL, O_NONBLOCK);
    r = co_await io::async_read(queue, pipe[0], &c, 1);
    EXPECT_EQ(r.error, EAGAIN);
  };
  sync_wait(task());
}

TEST_F(AsyncIo, AcceptsAndConnects) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(listener, generic, size), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  ASSERT_EQ(getsockname(listener, generic, &size), 0);
  auto server = [&]() -> Task<int> {
    const io::Result r = co_await io::async_accept(queue, listener);
    co_return static_cast<int>(r.value);
  };
  auto client = [&]() -> Task<int> {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const io::Result r = co_await io::async_connect(queue, fd, generic, size);
    EXPECT_TRUE(r);
    co_return fd;
  };
  int accepted = -1;
  std::thread other([&] { accepted = sync_wait(server()); });
  const int connected = sync_wait(client());
  other.join();
  EXPECT_GE(accepted, 0);
  for (int fd : {listener, accepted, connected}) close(fd);
}

TEST_F(AsyncIo, PollsAndSleeps) {
  auto task = [this]() -> Task<> {
    io::Result r = co_await io::async_poll(queue, pipe[0], POLLIN, 1ms);
    EXPECT_EQ(r.value, 0);
    r = co_await io::async_poll(queue, pipe[1], POLLOUT);
    EXPECT_EQ(r.value, POLLOUT);
    const auto begin = std::chrono::steady_clock::now();
    r = co_await io::async_sleep(queue, 2ms);
    EXPECT_TRUE(r);
    EXPECT_EQ(r.value, 0);
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 2ms);
    EXPECT_NE(cmwq_current_work(), nullptr);
  };
  sync_wait(task());
}

TEST_F(AsyncIo, ADrainingQueueMakesNoCall) {
  LogCapture log;
  Gate begun, gate;
  Submitted head = queue.submit([&] {
    begun.Open();
    gate.WaitAnnounced();
  });
  begun.Wait();
  std::thread drainer([this] { queue.drain(); });
  Eventually([this] { return !queue.post([] {}); });
  auto task = [this]() -> Task<> {
    io::Result r = co_await io::async_write(queue, pipe[1], "x", 1);
    EXPECT_FALSE(r);
    EXPECT_EQ(r.error, ECANCELED);
    r = co_await io::async_sleep(queue, 0ms);
    EXPECT_EQ(r.error, ECANCELED);
  };
  sync_wait(task());
  fcntl(pipe[0], F_SETFL, O_NONBLOCK);
  char c;
  EXPECT_EQ(read(pipe[0], &c, 1), -1);
  gate.Open();
  drainer.join();
}

}  // namespace
}  // namespace cmwq::test

#endif
