// Streams, run twice: with a ring and with CMWQ_CONF=io_uring=0.

#include <arpa/inet.h>
#include <cmwq/io_stream.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/base/conf.h"
#include "runtime/base/sys.h"
#include "runtime/core/io_loop.h"
#include "tests/support/child.h"
#include "tests/support/gate.h"
#include "tests/support/log_capture.h"

// The child starts threads, which the sanitizer refuses unless told.
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }

namespace cmwq::test {
namespace {

// Takes what comes, and puts buffers back, unless `take` says otherwise.
struct Stream {
  explicit Stream(unsigned nr, size_t size) {
    EXPECT_TRUE(cmwq_io_stream_init(&s, &Fn, nr, size));
  }
  ~Stream() {
    cmwq_io_stream_destroy(&s);
    for (const int64_t fd : accepted) close(static_cast<int>(fd));
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  static void Fn(struct cmwq_work* work) {
    Stream* const self = reinterpret_cast<Stream*>(cmwq_io_stream_of(work));
    EXPECT_EQ(cmwq_current_work(), work);
    self->runs.fetch_add(1);
    if (self->take) {
      self->take();
    } else {
      self->TakeAll();
    }
  }
  // What cmwq_io_stream_next said at last.
  int TakeAll() {
    struct cmwq_io_result r;
    int more;
    while ((more = cmwq_io_stream_next(&s, &r)) > 0) {
      Keep(r);
      cmwq_io_stream_put(&s, r.data);
    }
    if (more < 0) {
      end = r.value;
      ended.Open();
    }
    return more;
  }
  void Keep(const struct cmwq_io_result& r) {
    std::lock_guard<std::mutex> hold(mu);
    if (r.data != nullptr) {
      text.append(static_cast<const char*>(r.data), static_cast<size_t>(r.value));
    } else if (r.value >= 0) {
      accepted.push_back(r.value);
    }
    taken.fetch_add(1);
  }
  std::string Text() {
    std::lock_guard<std::mutex> hold(mu);
    return text;
  }
  int64_t End() {
    ended.Wait();
    return end;
  }

  struct cmwq_io_stream s;  // first
  std::atomic<int> runs{0}, taken{0};
  std::mutex mu;
  std::string text;
  std::vector<int64_t> accepted;
  Gate ended;
  int64_t end = -4097;
  std::function<void()> take;
};

class IoStreams : public ::testing::Test {
 protected:
  IoStreams() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0); }
  ~IoStreams() override {
    cmwq_destroy_workqueue(wq);
    for (int fd : {pair[0], pair[1], listener}) {
      if (fd >= 0) close(fd);
    }
    for (int fd : clients) close(fd);
  }
  void Listen(int flags = 0) {
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    address.sun_family = AF_UNIX;
    size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    ASSERT_EQ(bind(listener, generic, sizeof(address.sun_family)), 0);
    ASSERT_EQ(getsockname(listener, generic, &size), 0);
    ASSERT_EQ(listen(listener, 256), 0);
  }
  void Connect(int n) {
    for (int i = 0; i < n; ++i) {
      clients.push_back(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
      ASSERT_EQ(connect(clients.back(), reinterpret_cast<sockaddr*>(&address), size), 0);
    }
  }
  void Feed(const std::string& what) {
    EXPECT_EQ(send(pair[1], what.data(), what.size(), 0), static_cast<ssize_t>(what.size()));
  }
  bool Receive(Stream& s) { return cmwq_io_recv_stream(wq, &s.s, pair[0], 0); }
  bool Accept(Stream& s) { return cmwq_io_accept_stream(wq, &s.s, listener, SOCK_CLOEXEC); }
  static bool Paused(Stream& s) {
    sync::MutexLock hold(core::IoLoop::Get().mu);
    return static_cast<core::Place>(s.s.io_.where_) == core::Place::kPaused;
  }
  // Says whether this is the way that the test was asked for.
  void CheckWay() {
    if (base::g_conf.io_uring == 0) {
      EXPECT_FALSE(core::IoLoop::Get().UsesRing());
    } else if (!core::IoLoop::Get().UsesRing()) {
      GTEST_SKIP() << "no io_uring here: the ring is not tested";
    }
  }
  struct cmwq_workqueue* wq = cmwq_alloc_workqueue("io_stream", 0, 0);
  std::array<int, 2> pair{-1, -1};
  int listener = -1;
  std::vector<int> clients;
  sockaddr_un address{};
  socklen_t size = 0;
};

TEST_F(IoStreams, ReceivesUntilTheEndOfFile) {
  Stream s(4, 8);
  EXPECT_TRUE(Receive(s));
  EXPECT_FALSE(Receive(s));  // under way
  std::string all;
  for (int i = 0; i < 200; ++i) {
    const std::string piece = std::to_string(i) + ",";
    Feed(piece);
    all += piece;
  }
  Eventually([&] { return s.Text().size() == all.size(); });
  EXPECT_EQ(s.Text(), all);
  EXPECT_EQ(shutdown(pair[1], SHUT_WR), 0);
  EXPECT_EQ(s.End(), 0);
  EXPECT_FALSE(cmwq_end_io_stream(&s.s));
  CheckWay();
}

TEST_F(IoStreams, AcceptsEveryConnection) {
  for (const int flags : {0, static_cast<int>(SOCK_NONBLOCK)}) {
    Listen(flags);
    Stream s(64, 0);
    EXPECT_TRUE(Accept(s));
    Connect(100);
    Eventually([&] { return s.taken == 100; });
    EXPECT_EQ(write(clients.back(), "x", 1), 1);
    char c = 0;
    // Connections come in the order in which they were made.
    EXPECT_EQ(read(static_cast<int>(s.accepted.back()), &c, 1), 1);
    EXPECT_NE(fcntl(static_cast<int>(s.accepted.back()), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_TRUE(cmwq_end_io_stream(&s.s));
    EXPECT_EQ(s.End(), -ECANCELED);
    close(listener);
    listener = -1;
  }
}

TEST_F(IoStreams, NoResultIsMergedWithAnother) {
  Stream s(64, 16);
  Gate go, began;
  s.take = [&] {
    began.Open();
    go.WaitAnnounced();
    s.TakeAll();
  };
  EXPECT_TRUE(Receive(s));
  Feed("a");
  began.Wait();
  // The item runs, and is pending once for all of these.
  for (int i = 0; i < 10; ++i) {
    Feed("b");
    Eventually([&] {
      sync::MutexLock hold(core::IoLoop::Get().mu);
      return platform::StreamOf(&s.s.io_)->nr_results() == static_cast<unsigned>(i) + 2;
    });
  }
  go.Open();
  cmwq_flush_io_stream(&s.s);
  EXPECT_EQ(s.taken, 11);
  EXPECT_EQ(s.Text(), "abbbbbbbbbb");
}

TEST_F(IoStreams, ConnectionsAboveTheLimitWait) {
  Listen();
  Stream s(4, 0);
  s.take = [] {};
  EXPECT_TRUE(Accept(s));
  Connect(4);
  Eventually([&] { return Paused(s); });
  Connect(96);
  cmwq_flush_io_stream(&s.s);
  s.take = nullptr;
  EXPECT_TRUE(cmwq_queue_work(wq, cmwq_io_stream_work(&s.s)));
  Eventually([&] { return s.taken == 100; });
}

TEST_F(IoStreams, WithoutABufferNothingIsReceived) {
  std::vector<void*> held;
  Stream s(2, 4);
  s.take = [&] {
    struct cmwq_io_result r;
    while (cmwq_io_stream_next(&s.s, &r) > 0) {
      s.Keep(r);
      held.push_back(r.data);
    }
  };
  EXPECT_TRUE(Receive(s));
  Feed("0123456789abcdef");
  Eventually([&] { return Paused(s) && s.taken == 2; });
  EXPECT_EQ(s.Text(), "01234567");
  cmwq_flush_io_stream(&s.s);
  std::vector<void*> first = std::move(held);
  held.clear();
  for (void* const data : first) cmwq_io_stream_put(&s.s, data);
  Eventually([&] { return s.taken == 4; });
  EXPECT_EQ(s.Text(), "0123456789abcdef");
}

TEST_F(IoStreams, DatagramsAreResultsEmptyOnesToo) {
  std::array<int, 2> dgram{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, dgram.data()), 0);
  Stream s(8, 16);
  EXPECT_TRUE(cmwq_io_recv_stream(wq, &s.s, dgram[0], 0));
  for (const char* text : {"one", "", "two", "", ""}) {
    EXPECT_EQ(send(dgram[1], text, strlen(text), 0), static_cast<ssize_t>(strlen(text)));
  }
  Eventually([&] { return s.taken == 5; });
  EXPECT_EQ(s.Text(), "onetwo");
  EXPECT_TRUE(cmwq_cancel_io_stream_sync(&s.s));
  for (const int fd : dgram) close(fd);
}

TEST_F(IoStreams, ErrorsEndIt) {
  Stream bad(4, 8), file(4, 8), flags(4, 8), listens(4, 0);
  EXPECT_TRUE(cmwq_io_recv_stream(wq, &bad.s, -1, 0));
  EXPECT_EQ(bad.End(), -EBADF);
  const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  EXPECT_TRUE(cmwq_io_recv_stream(wq, &file.s, fd, 0));
  EXPECT_EQ(file.End(), -ENOTSOCK);
  close(fd);
  EXPECT_TRUE(cmwq_io_recv_stream(wq, &flags.s, pair[0], MSG_PEEK));
  EXPECT_EQ(flags.End(), -EINVAL);
  EXPECT_TRUE(cmwq_io_accept_stream(wq, &listens.s, pair[0], 0));
  EXPECT_EQ(listens.End(), -EINVAL);
}

TEST_F(IoStreams, AListenerThatIsShutDown) {
  // Not a local one: its shutdown wakes nobody.
  listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in inet{};
  inet.sin_family = AF_INET;
  inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&inet), sizeof(inet)), 0);
  ASSERT_EQ(listen(listener, 8), 0);
  Stream s(4, 0);
  EXPECT_TRUE(Accept(s));
  EXPECT_EQ(shutdown(listener, SHUT_RDWR), 0);
  EXPECT_EQ(s.End(), -EINVAL);
}

TEST_F(IoStreams, WithoutDescriptorsItEndsAndMayBeStartedAgain) {
  Listen();
  Connect(1);
  Stream s(4, 0), other(1, 8);
  // The loop's own descriptors are made.
  EXPECT_TRUE(Receive(other));
  Feed("x");
  Eventually([&] { return other.taken == 1; });
  struct rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  struct rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  EXPECT_TRUE(Accept(s));
  EXPECT_EQ(s.End(), -EMFILE);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(Accept(s));
  Eventually([&] { return s.taken == 1; });
}

TEST_F(IoStreams, CancelKeepsWhatHasCome) {
  Stream s(8, 8);
  s.take = [] {};
  EXPECT_FALSE(cmwq_cancel_io_stream_sync(&s.s));
  EXPECT_TRUE(Receive(s));
  Feed("kept");
  Eventually([&] { return s.runs > 0; });
  EXPECT_TRUE(cmwq_cancel_io_stream_sync(&s.s));
  EXPECT_FALSE(cmwq_cancel_io_stream_sync(&s.s));
  const int runs = s.runs;
  Feed("later");
  struct cmwq_io_result r;
  ASSERT_EQ(cmwq_io_stream_next(&s.s, &r), 1);
  EXPECT_EQ(std::string(static_cast<char*>(r.data), static_cast<size_t>(r.value)), "kept");
  cmwq_io_stream_put(&s.s, r.data);
  ASSERT_EQ(cmwq_io_stream_next(&s.s, &r), -1);
  EXPECT_EQ(r.value, -ECANCELED);
  EXPECT_EQ(s.runs, runs);
  // Without _sync it goes on for a moment at most.
  s.take = nullptr;
  EXPECT_TRUE(Receive(s));
  Eventually([&] { return s.Text() == "later"; });
  EXPECT_TRUE(cmwq_cancel_io_stream(&s.s));
  cmwq_flush_io_stream(&s.s);
  Feed("!");
  EXPECT_TRUE(Receive(s));
  Eventually([&] { return s.Text() == "later!"; });
}

TEST_F(IoStreams, TheNextStartDeliversWhatWasLeft) {
  Stream s(8, 8);
  s.take = [] {};
  EXPECT_TRUE(Receive(s));
  Feed("left");
  Eventually([&] { return s.runs > 0; });
  EXPECT_TRUE(cmwq_cancel_io_stream_sync(&s.s));
  s.take = nullptr;
  EXPECT_TRUE(Receive(s));
  Eventually([&] { return s.Text() == "left"; });
}

TEST_F(IoStreams, DestroyWhileUnderWay) {
  Listen();
  {
    Stream s(4, 0), idle(4, 8), never(2, 2);
    s.take = [] {};
    EXPECT_TRUE(Accept(s));
    Connect(1);
    Eventually([&] { return s.runs > 0; });
    EXPECT_TRUE(Receive(idle));
    cmwq_io_stream_destroy(&s.s);
    cmwq_io_stream_destroy(&s.s);
    // Nobody took the connection: it was closed.
    char c;
    EXPECT_EQ(read(clients.back(), &c, 1), 0);
    LogCapture log;
    EXPECT_FALSE(Accept(s));
    EXPECT_NE(log.Take().at(0).find("destroyed"), std::string::npos);
  }
  Feed("x");
}

TEST_F(IoStreams, TheFunctionMayDestroyAndFree) {
  struct Own {
    struct cmwq_io_stream s;
    Gate* done;
  };
  for (const bool at_end : {true, false}) {
    Gate gone;
    Own* const own = new Own{{}, &gone};
    ASSERT_TRUE(cmwq_io_stream_init(&own->s, [](struct cmwq_work* work) {
      Own* const self = reinterpret_cast<Own*>(work);
      struct cmwq_io_result r;
      while (cmwq_io_stream_next(&self->s, &r) > 0) {}
      Gate* const gate = self->done;
      cmwq_io_stream_destroy(&self->s);
      memset(static_cast<void*>(self), 0xee, sizeof(*self));
      delete self;
      gate->Open();
    }, 4, 16));
    EXPECT_TRUE(cmwq_io_recv_stream(wq, &own->s, pair[0], 0));
    if (at_end) {
      cmwq_end_io_stream(&own->s);
    } else {
      Feed("x");
    }
    gone.Wait();
  }
}

TEST_F(IoStreams, PausedOnesAreEndedAsWell) {
  struct cmwq_workqueue* const dying = cmwq_alloc_workqueue("dying", 0, 0);
  Stream s(2, 2), ended(2, 2);
  const auto leave = [] {};
  s.take = ended.take = leave;
  std::array<int, 2> other{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other.data()), 0);
  EXPECT_TRUE(cmwq_io_recv_stream(dying, &s.s, pair[0], 0));
  EXPECT_TRUE(cmwq_io_recv_stream(wq, &ended.s, other[0], 0));
  Feed("abcdef");
  EXPECT_EQ(send(other[1], "abcdef", 6, 0), 6);
  Eventually([&] { return Paused(s) && Paused(ended); });
  cmwq_destroy_workqueue(dying);
  EXPECT_TRUE(cmwq_end_io_stream(&ended.s));
  cmwq_flush_io_stream(&ended.s);
  EXPECT_EQ(s.TakeAll(), -1);
  EXPECT_EQ(ended.TakeAll(), -1);
  EXPECT_EQ(s.end, -ECANCELED);
  EXPECT_EQ(ended.end, -ECANCELED);
  EXPECT_EQ(s.Text(), "abcd");
  for (const int fd : other) close(fd);
}

TEST_F(IoStreams, DestroyingAQueueEndsItsStreams) {
  struct cmwq_workqueue* const dying = cmwq_alloc_workqueue("dying", 0, 0);
  Stream s(8, 8);
  EXPECT_TRUE(cmwq_io_recv_stream(dying, &s.s, pair[0], 0));
  cmwq_destroy_workqueue(dying);
  EXPECT_EQ(s.End(), -ECANCELED);
  EXPECT_TRUE(Receive(s));
  Feed("again");
  Eventually([&] { return s.Text() == "again"; });
}

TEST_F(IoStreams, ManyAtOnce) {
  constexpr int kStreams = 40;
  struct Pair {
    std::array<int, 2> fds{};
    Stream stream{3, 64};
  };
  std::array<Pair, kStreams> all;
  for (Pair& p : all) {
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p.fds.data()), 0);
    EXPECT_TRUE(cmwq_io_recv_stream(wq, &p.stream.s, p.fds[0], 0));
  }
  for (int round = 0; round < 50; ++round) {
    for (Pair& p : all) EXPECT_EQ(send(p.fds[1], "0123456789", 10, 0), 10);
  }
  for (Pair& p : all) {
    Eventually([&] { return p.stream.Text().size() == 500; });
    close(p.fds[1]);
    EXPECT_EQ(p.stream.End(), 0);
    close(p.fds[0]);
  }
}

TEST_F(IoStreams, TheChildOfForkStartsAfresh) {
  Stream s(4, 16);
  EXPECT_TRUE(Receive(s));
  Feed("a");
  Eventually([&] { return s.Text() == "a"; });
  cmwq_flush_io_stream(&s.s);  // the buffer has been put back
  EXPECT_EQ(0, InChild([&] {
    CHILD_CHECK(!cmwq_cancel_io_stream_sync(&s.s));
    int ends[2];
    CHILD_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHILD_CHECK(cmwq_io_recv_stream(wq, &s.s, ends[0], 0));
    CHILD_CHECK(send(ends[1], "child", 5, 0) == 5);
    Eventually([&] { return s.Text() == "achild"; });
    cmwq_io_stream_destroy(&s.s);
    cmwq_destroy_workqueue(wq);
  }));
  Feed("b");
  Eventually([&] { return s.Text() == "ab"; });
}

TEST_F(IoStreams, MisuseIsReported) {
  LogCapture log;
  Stream s(4, 16);
  struct cmwq_io_stream other;
  EXPECT_FALSE(cmwq_io_stream_init(nullptr, &Stream::Fn, 1, 1));
  EXPECT_EQ(errno, EINVAL);
  EXPECT_FALSE(cmwq_io_stream_init(&other, &Stream::Fn, 0, 1));
  EXPECT_EQ(errno, EINVAL);
  EXPECT_FALSE(cmwq_io_accept_stream(wq, &s.s, pair[0], 0));
  EXPECT_FALSE(cmwq_io_recv_stream(nullptr, &s.s, pair[0], 0));
  char c = 0;
  cmwq_io_stream_put(&s.s, &c);
  EXPECT_TRUE(Receive(s));
  EXPECT_FALSE(cmwq_io_stream_init(&s.s, &Stream::Fn, 4, 16));
  EXPECT_EQ(errno, EBUSY);
  EXPECT_EQ(log.Take().size(), 6u);
  Feed("x");
  Eventually([&] { return s.Text() == "x"; });
}

}  // namespace
}  // namespace cmwq::test
