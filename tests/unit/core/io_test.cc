// The io functions, run three times: as by default, with a ring for each wait, and without any. The
// canary is off in all, so that only an announcement can let the next item of a CPU run.

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cmwq/blocking.hpp>
#include <cmwq/io.hpp>
#include <cmwq/workqueue.hpp>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "runtime/base/conf.h"
#include "runtime/base/sys.h"
#include "runtime/platform/uring.h"

namespace {

using namespace std::chrono_literals;

// Any CPU that the process may use; all items of a test go there.
int TheCpu() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof(set), &set);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) return cpu;
  }
  return 0;
}

struct Pipe {
  Pipe() { EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0); }
  ~Pipe() {
    CloseReader();
    CloseWriter();
  }
  void CloseReader() { Close(ends[0]); }
  void CloseWriter() { Close(ends[1]); }
  int reader() const { return ends[0]; }
  int writer() const { return ends[1]; }
  static void Close(int& fd) {
    if (fd >= 0) close(fd);
    fd = -1;
  }
  std::array<int, 2> ends{-1, -1};
};

struct SocketPair {
  explicit SocketPair(int type = SOCK_STREAM) {
    EXPECT_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends.data()), 0);
  }
  ~SocketPair() {
    close(ends[0]);
    close(ends[1]);
  }
  std::array<int, 2> ends{-1, -1};
};

// A listening TCP socket on the loopback interface.
struct Listener {
  Listener() : fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(fd, generic(), size), 0);
    EXPECT_EQ(listen(fd, 8), 0);
    EXPECT_EQ(getsockname(fd, generic(), &size), 0);
  }
  ~Listener() { close(fd); }
  sockaddr* generic() { return reinterpret_cast<sockaddr*>(&address); }
  int fd;
  sockaddr_in address{};
};

class IoTest : public testing::Test {
 protected:
  // A CPU runs one item at a time unless one announces a wait: `blocks` is first, `releases` can
  // only run while it waits.
  void ExpectOverlap(std::function<void()> blocks, std::function<void()> releases) {
    cmwq::Workqueue queue("io_test");
    ASSERT_TRUE(queue);
    std::atomic<int> order{0};
    int blocked_began = 0, blocked_ended = 0, released = 0;
    cmwq::Work first([&] {
      blocked_began = ++order;
      blocks();
      blocked_ended = ++order;
    });
    cmwq::Work second([&] {
      released = ++order;
      releases();
    });
    queue.queue_on(TheCpu(), first);
    queue.queue_on(TheCpu(), second);
    first.flush();
    second.flush();
    EXPECT_LT(blocked_began, blocked_ended);
    EXPECT_LT(released, blocked_ended);
    EXPECT_LT(blocked_began, released);
  }

  void OnWorker(std::function<void()> fn) {
    cmwq::Workqueue queue("io_test");
    ASSERT_TRUE(queue);
    cmwq::Work work([&] { fn(); });
    queue.queue(work);
    work.flush();
  }
};

TEST_F(IoTest, ReadLetsTheNextItemRun) {
  Pipe p;
  char got = 0;
  ssize_t n = 0;
  ExpectOverlap([&] { n = cmwq_io_read(p.reader(), &got, 1, -1); },
                [&] { EXPECT_EQ(write(p.writer(), "x", 1), 1); });
  EXPECT_EQ(n, 1);
  EXPECT_EQ(got, 'x');
  const bool ring = cmwq::platform::ThreadRing::NrCreated() > 0;
  if (cmwq::base::g_conf.io_uring == 0) {
    EXPECT_FALSE(ring);
  } else if (!ring && cmwq::base::g_conf.io_uring == 2) {
    GTEST_SKIP() << "no io_uring here: the ring is not tested";
  }
}

TEST_F(IoTest, WriteLetsTheNextItemRunAndWritesAll) {
  Pipe p;
  const std::vector<char> data(1 << 20, 'w');
  std::vector<char> got(data.size());
  ssize_t n = 0;
  ExpectOverlap([&] { n = cmwq::io::write(p.writer(), data); },
                [&] {
                  for (size_t at = 0; at < got.size();) {
                    const ssize_t part = cmwq_io_read(p.reader(), &got[at], got.size() - at, -1);
                    ASSERT_GT(part, 0);
                    at += static_cast<size_t>(part);
                  }
                });
  EXPECT_EQ(n, static_cast<ssize_t>(data.size()));
  EXPECT_EQ(got, data);
}

TEST_F(IoTest, RecvLetsTheNextItemRun) {
  SocketPair s;
  std::array<char, 4> got{};
  ssize_t n = 0;
  ExpectOverlap([&] { n = cmwq::io::recv(s.ends[0], got); },
                [&] { EXPECT_EQ(send(s.ends[1], "abc", 3, 0), 3); });
  EXPECT_EQ(n, 3);
  EXPECT_STREQ(got.data(), "abc");
}

TEST_F(IoTest, SendLetsTheNextItemRunAndSendsAll) {
  SocketPair s;
  const std::string data(4 << 20, 's');
  ssize_t n = 0;
  size_t got = 0;
  ExpectOverlap([&] { n = cmwq::io::send(s.ends[0], data); },
                [&] {
                  std::vector<char> part(1 << 16);
                  while (got < data.size()) {
                    const ssize_t r = cmwq::io::recv(s.ends[1], part);
                    ASSERT_GT(r, 0);
                    got += static_cast<size_t>(r);
                  }
                });
  EXPECT_EQ(n, static_cast<ssize_t>(data.size()));
}

TEST_F(IoTest, AcceptLetsTheNextItemRun) {
  Listener l;
  sockaddr_in peer{}, own{};
  socklen_t peer_size = sizeof(peer);
  int accepted = -1, connected = -1;
  ExpectOverlap(
      [&] {
        accepted = cmwq_io_accept(l.fd, reinterpret_cast<sockaddr*>(&peer), &peer_size,
                                  SOCK_CLOEXEC | SOCK_NONBLOCK);
      },
      [&] {
        const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        connected = cmwq_io_connect(fd, l.generic(), sizeof(l.address));
        socklen_t size = sizeof(own);
        EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size), 0);
        close(fd);
      });
  ASSERT_GE(accepted, 0);
  EXPECT_EQ(connected, 0);
  EXPECT_EQ(peer_size, sizeof(peer));
  EXPECT_EQ(peer.sin_port, own.sin_port);
  EXPECT_EQ(fcntl(accepted, F_GETFD), FD_CLOEXEC);
  EXPECT_NE(fcntl(accepted, F_GETFL) & O_NONBLOCK, 0);
  close(accepted);
}

TEST_F(IoTest, PollLetsTheNextItemRun) {
  Pipe p;
  int revents = 0;
  ExpectOverlap([&] { revents = cmwq_io_poll(p.reader(), POLLIN, CMWQ_NO_TIMEOUT); },
                [&] { EXPECT_EQ(write(p.writer(), "x", 1), 1); });
  EXPECT_EQ(revents, POLLIN);
}

TEST_F(IoTest, TimedPollSeesTheEventFirst) {
  Pipe p;
  int revents = 0;
  ExpectOverlap([&] { revents = cmwq::io::poll(p.reader(), POLLIN, 1h); },
                [&] { p.CloseWriter(); });
  EXPECT_EQ(revents, POLLHUP);
}

TEST_F(IoTest, SleepLetsTheNextItemRun) {
  std::atomic<bool> done{false};
  ExpectOverlap(
      [&] {
        while (!done.load()) EXPECT_EQ(cmwq::io::sleep(1ms), 0);
      },
      [&] { done = true; });
}

TEST_F(IoTest, TimesOutNotBeforeTime) {
  const auto check = [] {
    Pipe p;
    uint64_t start = cmwq::base::MonotonicNs();
    EXPECT_EQ(cmwq_io_poll(p.reader(), POLLIN, 3'000'000), 0);
    EXPECT_GE(cmwq::base::MonotonicNs() - start, 3'000'000u);
    start = cmwq::base::MonotonicNs();
    EXPECT_EQ(cmwq_io_poll(-1, POLLIN, 2'000'000), 0);
    EXPECT_EQ(cmwq_io_sleep(2'000'000), 0);
    EXPECT_GE(cmwq::base::MonotonicNs() - start, 4'000'000u);
    EXPECT_EQ(cmwq_io_sleep(0), 0);
  };
  check();
  OnWorker(check);
}

// What each call returned, with errno where it failed.
struct Log {
  void operator()(const char* what, long result) {
    const int err = errno;
    lines.push_back(std::string(what) + " " + std::to_string(result) +
                    (result < 0 ? std::string(" ") + strerrorname_np(err) : ""));
  }
  std::vector<std::string> lines;
};

void DescriptorCases(Log& log) {
  char buf[16];
  sockaddr_in nobody{};
  nobody.sin_family = AF_INET;
  auto* const address = reinterpret_cast<sockaddr*>(&nobody);
  const uint32_t size = sizeof(nobody);
  Pipe p;
  for (const int fd : {-1, 1023456, p.reader(), p.writer()}) {
    if (fd != p.reader()) log("read", cmwq_io_read(fd, buf, 4, -1));
    log("pread", cmwq_io_read(fd, buf, 4, 0));
    log("pread before 0", cmwq_io_read(fd, buf, 4, -2));
    log("pwrite", cmwq_io_write(fd, buf, 4, 0));
    if (fd != p.writer()) log("write", cmwq_io_write(fd, buf, 4, -1));
    log("recv", cmwq_io_recv(fd, buf, 4, 0));
    log("send", cmwq_io_send(fd, buf, 4, MSG_NOSIGNAL));
    log("accept", cmwq_io_accept(fd, nullptr, nullptr, 0));
    log("connect", cmwq_io_connect(fd, address, size));
    log("fsync", cmwq_io_fsync(fd, false));
    log("fdatasync", cmwq_io_fsync(fd, true));
    log("poll", cmwq_io_poll(fd, POLLIN | POLLOUT, 0));
  }
  log("poll bad fd, timed", cmwq_io_poll(1023456, POLLIN, 1'000'000));
}

void PipeCases(Log& log) {
  char buf[16];
  Pipe p;
  log("read nothing", cmwq_io_read(p.reader(), buf, 0, -1));
  log("write nothing", cmwq_io_write(p.writer(), buf, 0, -1));
  log("write", cmwq_io_write(p.writer(), "0123456789", 10, -1));
  log("short read", cmwq_io_read(p.reader(), buf, 16, -1));
  fcntl(p.reader(), F_SETFL, O_NONBLOCK);
  fcntl(p.writer(), F_SETFL, O_NONBLOCK);
  log("non-blocking read", cmwq_io_read(p.reader(), buf, 16, -1));
  const std::vector<char> much(1 << 20);
  log("non-blocking write, part", cmwq_io_write(p.writer(), much.data(), much.size(), -1));
  log("non-blocking write, none", cmwq_io_write(p.writer(), much.data(), much.size(), -1));
  p.CloseReader();
  log("write without reader", cmwq_io_write(p.writer(), buf, 1, -1));
  Pipe q;
  log("write", cmwq_io_write(q.writer(), "ab", 2, -1));
  q.CloseWriter();
  log("read the rest", cmwq_io_read(q.reader(), buf, 16, -1));
  log("end of file", cmwq_io_read(q.reader(), buf, 16, -1));
  log("poll hung up", cmwq_io_poll(q.reader(), POLLIN, CMWQ_NO_TIMEOUT));
  const int counter = eventfd(3, EFD_CLOEXEC);
  log("eventfd", cmwq_io_read(counter, buf, 8, -1));
  log("eventfd, too small", cmwq_io_read(counter, buf, 4, -1));
  close(counter);
}

void FileCases(Log& log) {
  char name[] = "/tmp/cmwq_io_test.XXXXXX";
  const int fd = mkstemp(name);
  ASSERT_GE(fd, 0);
  unlink(name);
  std::vector<char> buf(20000);
  log("write", cmwq::io::write(fd, std::string(10000, 'a')));
  log("write at the position", cmwq::io::write(fd, std::string(100, 'b')));
  log("write elsewhere", cmwq::io::write(fd, std::string(10, 'c'), 50));
  log("position", lseek(fd, 0, SEEK_CUR));
  log("read at the end", cmwq::io::read(fd, buf));
  log("read all", cmwq::io::read(fd, buf, 0));
  log("byte 49", buf[49]);
  log("byte 50", buf[50]);
  log("byte 10099", buf[10099]);
  log("rewind", lseek(fd, 9000, SEEK_SET));
  log("read across the end", cmwq::io::read(fd, buf));
  log("position", lseek(fd, 0, SEEK_CUR));
  log("fsync", cmwq_io_fsync(fd, false));
  log("fdatasync", cmwq_io_fsync(fd, true));
  log("recv from a file", cmwq::io::recv(fd, buf));
  log("poll", cmwq_io_poll(fd, POLLIN | POLLOUT, CMWQ_NO_TIMEOUT));
  close(fd);
  const int folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  log("read a folder", cmwq::io::read(folder, buf));
  close(folder);
}

void SocketCases(Log& log) {
  char buf[16];
  SocketPair s, d(SOCK_DGRAM);
  const timeval soon = {0, 2000};
  setsockopt(s.ends[0], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
  setsockopt(s.ends[0], SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon));
  log("recv, timed", cmwq_io_recv(s.ends[0], buf, 4, 0));
  log("read, timed", cmwq_io_read(s.ends[0], buf, 4, -1));
  log("recv MSG_DONTWAIT", cmwq_io_recv(s.ends[1], buf, 4, MSG_DONTWAIT));
  log("recv MSG_OOB", cmwq_io_recv(s.ends[1], buf, 4, MSG_OOB | MSG_DONTWAIT));
  log("send", cmwq_io_send(s.ends[1], "0123456789", 10, 0));
  log("recv MSG_PEEK", cmwq_io_recv(s.ends[0], buf, 4, MSG_PEEK));
  log("recv MSG_WAITALL", cmwq_io_recv(s.ends[0], buf, 10, MSG_WAITALL));
  const std::vector<char> much(8 << 20);
  log("send, timed, part", cmwq::io::send(s.ends[0], much) > 0);
  log("send, timed, none", cmwq::io::send(s.ends[0], much));
  log("send a datagram", cmwq_io_send(d.ends[0], "abcdef", 6, 0));
  log("recv MSG_TRUNC", cmwq_io_recv(d.ends[1], buf, 2, MSG_TRUNC));
  log("send too large", cmwq::io::send(d.ends[0], much));
  shutdown(s.ends[1], SHUT_RDWR);
  log("send after shutdown", cmwq_io_send(s.ends[1], buf, 1, MSG_NOSIGNAL));
  log("recv after shutdown", cmwq_io_recv(s.ends[1], buf, 0, 0));

  Listener l;
  setsockopt(l.fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
  log("accept, timed", cmwq_io_accept(l.fd, nullptr, nullptr, 0));
  log("accept, bad flags", cmwq_io_accept(l.fd, nullptr, nullptr, 0x10));
  fcntl(l.fd, F_SETFL, O_NONBLOCK);
  log("accept, non-blocking", cmwq_io_accept(l.fd, nullptr, nullptr, 0));
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  log("accept, not listening", cmwq_io_accept(fd, nullptr, nullptr, 0));
  log("recv, not connected", cmwq_io_recv(fd, buf, 1, 0));
  log("connect", cmwq_io_connect(fd, l.generic(), sizeof(l.address)));
  log("connect again", cmwq_io_connect(fd, l.generic(), sizeof(l.address)));
  close(fd);
  sockaddr_in nobody = l.address;
  nobody.sin_port = htons(1);
  const int alone = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  log("connect to nobody",
      cmwq_io_connect(alone, reinterpret_cast<sockaddr*>(&nobody), sizeof(nobody)));
  log("connect, short address", cmwq_io_connect(alone, reinterpret_cast<sockaddr*>(&nobody), 3));
  close(alone);
  sockaddr_un path{};
  path.sun_family = AF_UNIX;
  strcpy(path.sun_path, "/nonexistent/socket");
  const int local = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  log("connect to no path",
      cmwq_io_connect(local, reinterpret_cast<sockaddr*>(&path), sizeof(path)));
  close(local);
}

// Outside a worker the functions are the plain calls: what they answer there is the measure.
TEST_F(IoTest, AnswersAreThoseOfThePlainCalls) {
  signal(SIGPIPE, SIG_IGN);
  for (auto* const cases : {&DescriptorCases, &PipeCases, &FileCases, &SocketCases}) {
    Log outside, inside;
    cases(outside);
    OnWorker([&] { cases(inside); });
    EXPECT_EQ(outside.lines, inside.lines);
  }
}

// A reset is reported once; whoever asks twice would miss it.
TEST_F(IoTest, ErrorOfAConnectionIsNotLost) {
  Listener l;
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(connect(client, l.generic(), sizeof(l.address)), 0);
  const int server = accept(l.fd, nullptr, nullptr);
  ASSERT_GE(server, 0);
  ssize_t n = 0;
  int err = 0;
  ExpectOverlap(
      [&] {
        char c;
        n = cmwq_io_recv(client, &c, 1, 0);
        err = errno;
      },
      [&] {
        const linger at_once = {1, 0};
        setsockopt(server, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        close(server);
      });
  EXPECT_EQ(n, -1);
  EXPECT_EQ(err, ECONNRESET);
  close(client);
}

// Pairs of items on all CPUs: readers first, each released by a writer that is queued after all of
// them.
TEST_F(IoTest, ManyWaitsEndExactlyOnce) {
  constexpr int kPairs = 200;
  cmwq::Workqueue queue("io_test");
  std::vector<Pipe> pipes(kPairs);
  std::vector<std::atomic<int>> reads(kPairs);
  std::vector<cmwq::Submitted> calls;
  for (int i = 0; i < kPairs; ++i) {
    calls.push_back(queue.submit([&, i] {
      int value = -1;
      EXPECT_EQ(cmwq_io_read(pipes[i].reader(), &value, sizeof(value), -1),
                static_cast<ssize_t>(sizeof(value)));
      EXPECT_EQ(value, i);
      reads[i].fetch_add(1);
    }));
  }
  for (int i = 0; i < kPairs; ++i) {
    calls.push_back(queue.submit([&, i] {
      if (i % 3 == 0) cmwq_io_sleep(100'000 * (i % 7));
      EXPECT_EQ(cmwq_io_write(pipes[i].writer(), &i, sizeof(i), -1),
                static_cast<ssize_t>(sizeof(i)));
    }));
  }
  for (auto& call : calls) call.wait();
  for (const auto& n : reads) EXPECT_EQ(n.load(), 1);
  for (const auto& call : calls) EXPECT_TRUE(call.done());
}

// Timers of delayed work share the event thread with the ring.
TEST_F(IoTest, DelayedWorkRunsBesideAnEndlessWait) {
  Pipe p;
  cmwq::Workqueue queue("io_test");
  char c;
  cmwq::Work reader([&] { cmwq_io_read(p.reader(), &c, 1, -1); });
  queue.queue_on(TheCpu(), reader);
  cmwq::DelayedWork later([&] { EXPECT_EQ(cmwq_io_write(p.writer(), "x", 1, -1), 1); });
  queue.queue_after(later, 5ms);
  reader.flush();
  EXPECT_EQ(c, 'x');
}

}  // namespace
