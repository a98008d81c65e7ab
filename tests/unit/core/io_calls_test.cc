// The io functions that announce and make the plain call: each result and errno as of the system call,
// inside a work function and on a thread that is no worker.

#include <cmwq/io.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>

#include "tests/support/gate.h"

namespace cmwq::test {
namespace {

class IoCalls : public ::testing::TestWithParam<bool> {
 protected:
  IoCalls() {
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    dir = open(name.data(), O_DIRECTORY | O_CLOEXEC);
    EXPECT_EQ(pipe2(pipe.data(), O_CLOEXEC), 0);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0);
  }
  ~IoCalls() override {
    for (const char* file : {"file", "moved"}) unlinkat(dir, file, 0);
    unlinkat(dir, "sub", AT_REMOVEDIR);
    for (const int fd : {dir, pipe[0], pipe[1], pair[0], pair[1]}) close(fd);
    EXPECT_EQ(rmdir(name.data()), 0);
    cmwq_destroy_workqueue(wq);
  }
  // Makes the calls where the parameter says.
  void Here(const std::function<void()>& calls) {
    if (!GetParam()) return calls();
    Item item(calls);
    EXPECT_TRUE(cmwq_queue_work(wq, item.work()));
    cmwq_flush_work(item.work());
    EXPECT_EQ(item.Runs(), 1);
  }
  int Create(const char* file) {
    return cmwq_io_openat(dir, file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  }
  std::string name = "/tmp/cmwq_io_calls.XXXXXX";
  struct cmwq_workqueue* wq = cmwq_alloc_workqueue("io_calls", 0, 0);
  int dir = -1;
  std::array<int, 2> pipe{-1, -1}, pair{-1, -1};
};

#define EXPECT_ERRNO(call, error) \
  do {                            \
    errno = 0;                    \
    EXPECT_EQ(call, -1);          \
    EXPECT_EQ(errno, error);      \
  } while (0)

TEST_P(IoCalls, FilesAreMadeAndUnmade) {
  Here([this] {
    const int fd = Create("file");
    ASSERT_GE(fd, 0);
    EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_EQ(cmwq_io_fallocate(fd, 0, 0, 8192), 0);
    struct statx st = {};
    EXPECT_EQ(cmwq_io_statx(dir, "file", 0, STATX_SIZE | STATX_MODE, &st), 0);
    EXPECT_EQ(st.stx_size, 8192u);
    EXPECT_EQ(st.stx_mode & 0777, 0600);
    EXPECT_EQ(cmwq_io_fsync(fd, true), 0);
    EXPECT_EQ(cmwq_io_fsync(fd, false), 0);
    EXPECT_EQ(cmwq_io_renameat(dir, "file", dir, "moved", 0), 0);
    EXPECT_EQ(cmwq_io_mkdirat(dir, "sub", 0700), 0);
    EXPECT_EQ(cmwq_io_unlinkat(dir, "moved", 0), 0);
    EXPECT_EQ(cmwq_io_unlinkat(dir, "sub", AT_REMOVEDIR), 0);
    EXPECT_EQ(cmwq_io_close(fd), 0);
  });
}

TEST_P(IoCalls, FilesThatAreNotThere) {
  Here([this] {
    struct statx st = {};
    EXPECT_ERRNO(cmwq_io_openat(dir, "none", O_RDONLY, 0), ENOENT);
    EXPECT_ERRNO(cmwq_io_statx(dir, "none", 0, STATX_SIZE, &st), ENOENT);
    EXPECT_ERRNO(cmwq_io_unlinkat(dir, "none", 0), ENOENT);
    EXPECT_ERRNO(cmwq_io_renameat(dir, "none", dir, "moved", 0), ENOENT);
    EXPECT_EQ(cmwq_io_mkdirat(dir, "sub", 0700), 0);
    EXPECT_ERRNO(cmwq_io_mkdirat(dir, "sub", 0700), EEXIST);
    EXPECT_ERRNO(cmwq_io_unlinkat(dir, "sub", 0), EISDIR);
    const int fd = Create("file");
    EXPECT_ERRNO(cmwq_io_openat(dir, "file", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
    EXPECT_ERRNO(cmwq_io_renameat(dir, "sub", dir, "file", RENAME_NOREPLACE), EEXIST);
    EXPECT_ERRNO(cmwq_io_fallocate(fd, 0, 0, -1), EINVAL);
    EXPECT_ERRNO(cmwq_io_fallocate(pipe[1], 0, 0, 1), ESPIPE);
    EXPECT_ERRNO(cmwq_io_fsync(pipe[0], false), EINVAL);
    EXPECT_EQ(cmwq_io_close(fd), 0);
  });
}

TEST_P(IoCalls, DescriptorsThatAreNone) {
  Here([] {
    char c = 0;
    struct iovec part = {&c, 1};
    struct msghdr message = {};
    struct statx st = {};
    EXPECT_ERRNO(cmwq_io_readv(-1, &part, 1, -1, 0), EBADF);
    EXPECT_ERRNO(cmwq_io_writev(-1, &part, 1, -1, 0), EBADF);
    EXPECT_ERRNO(cmwq_io_recvmsg(-1, &message, 0), EBADF);
    EXPECT_ERRNO(cmwq_io_sendmsg(-1, &message, 0), EBADF);
    EXPECT_ERRNO(cmwq_io_close(-1), EBADF);
    EXPECT_ERRNO(cmwq_io_fsync(-1, true), EBADF);
    EXPECT_ERRNO(cmwq_io_fallocate(-1, 0, 0, 1), EBADF);
    EXPECT_ERRNO(cmwq_io_openat(-1, "relative", O_RDONLY, 0), EBADF);
    EXPECT_ERRNO(cmwq_io_statx(-1, "relative", 0, STATX_SIZE, &st), EBADF);
    EXPECT_ERRNO(cmwq_io_unlinkat(-1, "relative", 0), EBADF);
    EXPECT_ERRNO(cmwq_io_mkdirat(-1, "relative", 0700), EBADF);
    EXPECT_ERRNO(cmwq_io_renameat(-1, "a", -1, "b", 0), EBADF);
  });
}

TEST_P(IoCalls, VectorsMoveWhatIsThere) {
  Here([this] {
    char a[2], b[8];
    const std::array<iovec, 2> in = {{{a, 2}, {b, 8}}};
    char text[] = "vector";
    const std::array<iovec, 2> out = {{{text, 3}, {text + 3, 3}}};
    EXPECT_EQ(cmwq_io_writev(pipe[1], out.data(), 2, -1, 0), 6);
    EXPECT_EQ(cmwq_io_readv(pipe[0], in.data(), 2, -1, 0), 6);
    EXPECT_EQ(std::string(a, 2) + std::string(b, 4), "vector");
    EXPECT_ERRNO(cmwq_io_readv(pipe[0], in.data(), 2, 5, 0), ESPIPE);
    const int fd = Create("file");
    EXPECT_EQ(cmwq_io_writev(fd, out.data(), 2, 100, 0), 6);
    EXPECT_EQ(cmwq_io_readv(fd, in.data(), 2, 103, 0), 3);
    EXPECT_EQ(cmwq_io_readv(fd, in.data(), 2, 106, 0), 0);
    EXPECT_ERRNO(cmwq_io_readv(fd, in.data(), -1, 0, 0), EINVAL);
    EXPECT_EQ(cmwq_io_close(fd), 0);
  });
}

TEST_P(IoCalls, MessagesMoveWhatIsThere) {
  Here([this] {
    char buf[8] = {}, text[] = "message";
    struct iovec in = {buf, 3}, out = {text, 7};
    struct msghdr received = {}, sent = {};
    received.msg_iov = &in;
    received.msg_iovlen = sent.msg_iovlen = 1;
    sent.msg_iov = &out;
    EXPECT_ERRNO(cmwq_io_recvmsg(pair[0], &received, MSG_DONTWAIT), EAGAIN);
    EXPECT_EQ(cmwq_io_sendmsg(pair[1], &sent, 0), 7);
    EXPECT_EQ(cmwq_io_recvmsg(pair[0], &received, 0), 3);
    EXPECT_EQ(cmwq_io_recvmsg(pair[0], &received, MSG_WAITALL), 3);
    EXPECT_EQ(cmwq_io_recvmsg(pair[0], &received, 0), 1);
    EXPECT_ERRNO(cmwq_io_recvmsg(pipe[0], &received, 0), ENOTSOCK);
    EXPECT_ERRNO(cmwq_io_sendmsg(pipe[1], &sent, 0), ENOTSOCK);
    EXPECT_EQ(shutdown(pair[1], SHUT_WR), 0);
    EXPECT_EQ(cmwq_io_recvmsg(pair[0], &received, 0), 0);
    EXPECT_ERRNO(cmwq_io_sendmsg(pair[1], &sent, MSG_NOSIGNAL), EPIPE);
  });
}

TEST_P(IoCalls, ADescriptorThatDoesNotBlockStaysOne) {
  Here([this] {
    char buf[8];
    struct iovec in = {buf, 8};
    struct msghdr received = {};
    received.msg_iov = &in;
    received.msg_iovlen = 1;
    fcntl(pipe[0], F_SETFL, O_NONBLOCK);
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    EXPECT_ERRNO(cmwq_io_readv(pipe[0], &in, 1, -1, 0), EAGAIN);
    EXPECT_ERRNO(cmwq_io_recvmsg(pair[0], &received, 0), EAGAIN);
  });
}

TEST_P(IoCalls, AWriterThatDoesNotBlockWritesAPart) {
  Here([this] {
    std::string data(1 << 20, 'd');
    struct iovec out = {data.data(), data.size()};
    fcntl(pipe[1], F_SETFL, O_NONBLOCK);
    const ssize_t n = cmwq_io_writev(pipe[1], &out, 1, -1, 0);
    EXPECT_GT(n, 0);
    EXPECT_LT(n, 1 << 20);
    EXPECT_ERRNO(cmwq_io_writev(pipe[1], &out, 1, -1, 0), EAGAIN);
  });
}

INSTANTIATE_TEST_SUITE_P(Where, IoCalls, ::testing::Values(false, true),
                         [](const auto& info) { return info.param ? "Worker" : "Thread"; });

// A signal ends a wait on a thread where it is not blocked.
TEST(IoCallsSignals, EndAWait) {
  struct sigaction action = {}, before = {};
  action.sa_handler = [](int) {};
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  std::array<int, 2> pipe{-1, -1}, pair{-1, -1};
  ASSERT_EQ(pipe2(pipe.data(), O_CLOEXEC), 0);
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0);
  for (const bool message : {false, true}) {
    std::atomic<bool> done{false};
    std::atomic<pthread_t> waiter{};
    ssize_t result = 0;
    int error = 0;
    std::atomic<bool> begun{false};
    std::thread thread([&] {
      char c;
      struct iovec in = {&c, 1};
      struct msghdr received = {};
      received.msg_iov = &in;
      received.msg_iovlen = 1;
      waiter = pthread_self();
      begun = true;
      result = message ? cmwq_io_recvmsg(pair[0], &received, 0) : cmwq_io_readv(pipe[0], &in, 1, -1, 0);
      error = errno;
      done = true;
    });
    Eventually([&] { return begun.load(); });
    // The first may come before the wait.
    Eventually([&] {
      if (!done) pthread_kill(waiter, SIGUSR1);
      return done.load();
    });
    thread.join();
    EXPECT_EQ(result, -1);
    EXPECT_EQ(error, EINTR);
  }
  for (const int fd : {pipe[0], pipe[1], pair[0], pair[1]}) close(fd);
  sigaction(SIGUSR1, &before, nullptr);
}

}  // namespace
}  // namespace cmwq::test
