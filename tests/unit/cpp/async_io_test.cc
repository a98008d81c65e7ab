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
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
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
    // O_NONBLOCK does not matter: it is waited for.
    fcntl(pipe[0], F_SETFL, O_NONBLOCK);
    r = co_await io::async_read(queue, pipe[0], &c, 1).within(1ms);
    EXPECT_EQ(r.error, ETIMEDOUT);
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
    EXPECT_EQ(r.error, ETIMEDOUT);
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

// More than there can be workers that run at once: none of them waits.
TEST_F(AsyncIo, NoThreadWaits) {
  Workqueue one{"one", 0, 1};
  std::vector<Submission<int>> handles;
  std::atomic<int> waiting{0};
  auto reader = [&]() -> Task<int> {
    waiting.fetch_add(1);
    char c;
    const io::Result got = co_await io::async_recv(one, pair[0], &c, 1);
    co_return static_cast<int>(got.value);
  };
  std::vector<std::thread> threads;
  std::atomic<int> sum{0};
  for (int i = 0; i < 20; ++i) threads.emplace_back([&] { sum += sync_wait(reader()); });
  Eventually([&] { return waiting == 20; });
  // The queue executes one item at a time, and still has room.
  std::atomic<bool> ran{false};
  Submitted call = one.submit([&] { ran = true; });
  call.wait();
  EXPECT_TRUE(ran);
  const std::string bytes(20, 'b');
  EXPECT_EQ(send(pair[1], bytes.data(), bytes.size(), 0), 20);
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(sum, 20);
}

#if defined(__cpp_lib_jthread)

TEST_F(AsyncIo, AStopEndsTheWait) {
  std::stop_source stop;
  auto task = [&]() -> Task<> {
    char c;
    const io::Result r = co_await io::async_read(queue, pipe[0], &c, 1).stopped_by(stop.get_token());
    EXPECT_EQ(r.error, ECANCELED);
    const io::Result late =
        co_await io::async_read(queue, pipe[0], &c, 1).within(1h).stopped_by(stop.get_token());
    EXPECT_EQ(late.error, ECANCELED);
  };
  std::thread waiter([&] { sync_wait(task()); });
  stop.request_stop();  // before, while or after it is submitted
  waiter.join();
}

TEST_F(AsyncIo, AStopThatComesTooLate) {
  std::stop_source stop;
  auto task = [&]() -> Task<> {
    char c;
    const io::Result r = co_await io::async_read(queue, pipe[0], &c, 1).stopped_by(stop.get_token());
    EXPECT_EQ(r.value, 1);
  };
  EXPECT_EQ(write(pipe[1], "x", 1), 1);
  sync_wait(task());
  stop.request_stop();
}

TEST_F(AsyncIo, StopsAndCompletionsRace) {
  for (int i = 0; i < 200; ++i) {
    std::stop_source stop;
    io::Result r;
    auto task = [&]() -> Task<> {
      char c;
      r = co_await io::async_recv(queue, pair[0], &c, 1).stopped_by(stop.get_token());
    };
    std::thread waiter([&] { sync_wait(task()); });
    std::thread stopper([&] { stop.request_stop(); });
    EXPECT_EQ(send(pair[1], "x", 1, 0), 1);
    waiter.join();
    stopper.join();
    if (r) {
      EXPECT_EQ(r.value, 1);
    } else {
      EXPECT_EQ(r.error, ECANCELED);
      char c;
      EXPECT_EQ(recv(pair[0], &c, 1, MSG_DONTWAIT), 1);  // it was not taken
    }
  }
}

#endif

TEST_F(AsyncIo, Files) {
  char dir[] = "/tmp/cmwq_async_io.XXXXXX";
  ASSERT_NE(mkdtemp(dir), nullptr);
  const int at = open(dir, O_DIRECTORY | O_CLOEXEC);
  auto task = [&]() -> Task<> {
    io::Result r = co_await io::async_mkdirat(queue, at, "sub", 0700);
    EXPECT_TRUE(r);
    r = co_await io::async_openat(queue, at, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    EXPECT_TRUE(r);
    const int fd = static_cast<int>(r.value);
    r = co_await io::async_fallocate(queue, fd, 0, 0, 4096);
    EXPECT_TRUE(r);
    struct statx st = {};
    r = co_await io::async_statx(queue, at, "file", 0, STATX_SIZE, &st);
    EXPECT_EQ(st.stx_size, 4096u);
    char text[] = "vector", back[6];
    const iovec out = {text, 6}, in = {back, 6};
    r = co_await io::async_writev(queue, fd, &out, 1, 10);
    EXPECT_EQ(r.value, 6);
    r = co_await io::async_readv(queue, fd, &in, 1, 10);
    EXPECT_EQ(std::string(back, 6), "vector");
    r = co_await io::async_close(queue, fd);
    EXPECT_TRUE(r);
    r = co_await io::async_renameat(queue, at, "file", at, "sub/moved");
    EXPECT_TRUE(r);
    r = co_await io::async_unlinkat(queue, at, "sub/moved");
    EXPECT_TRUE(r);
    r = co_await io::async_unlinkat(queue, at, "sub", AT_REMOVEDIR);
    EXPECT_TRUE(r);
    msghdr message{};
    const iovec byte = {text, 1};
    message.msg_iov = const_cast<iovec*>(&byte);
    message.msg_iovlen = 1;
    r = co_await io::async_sendmsg(queue, pair[0], &message);
    EXPECT_EQ(r.value, 1);
    r = co_await io::async_recvmsg(queue, pair[1], &message);
    EXPECT_EQ(r.value, 1);
  };
  sync_wait(task());
  close(at);
  EXPECT_EQ(rmdir(dir), 0);
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
