// Cancels, ends and completions of operations and streams that meet at a test point, in both orders. Run
// twice: with a ring and with CMWQ_CONF=io_uring=0.

#include <cmwq/io_stream.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>

#include "tests/support/gate.h"
#include "tests/support/test_points.h"

namespace cmwq::test {
namespace {

struct Op {
  Op() {
    cmwq_io_work_init(&io, [](struct cmwq_work* work) {
      reinterpret_cast<Op*>(cmwq_io_work_of(work))->runs.fetch_add(1);
    });
  }
  ~Op() { cmwq_cancel_io_work_sync(&io); }
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;
  struct cmwq_io_work io;  // first
  std::atomic<int> runs{0};
};

class IoRace : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!kHaveTestPoints) GTEST_SKIP() << "needs CMWQ_TEST_POINTS";
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0);
    wq = cmwq_alloc_workqueue("io_race", 0, 0);
  }
  void TearDown() override {
    if (wq == nullptr) return;
    cmwq_destroy_workqueue(wq);
    for (const int fd : pair) close(fd);
  }
  bool Receive(Op& op) {
    return cmwq_io_recv_work(wq, &op.io, pair[0], buf, sizeof(buf), 0, CMWQ_NO_TIMEOUT);
  }
  void Feed() { EXPECT_EQ(send(pair[1], "x", 1, 0), 1); }

  struct cmwq_workqueue* wq = nullptr;
  std::array<int, 2> pair{-1, -1};
  char buf[8] = {};
};

TEST_F(IoRace, ACancelBetweenSubmissionAndAttempt) {
  for (const bool there : {false, true}) {
    Op op;
    bool cancelled = false;
    if (there) Feed();
    {
      AtTestPoint point("io.claimed", [&] { cancelled = cmwq_cancel_io_work(&op.io); });
      EXPECT_TRUE(Receive(op));
    }
    EXPECT_TRUE(cancelled);
    cmwq_flush_io_work(&op.io);
    EXPECT_EQ(op.runs, 0);
    EXPECT_EQ(op.io.result, there ? 1 : -ECANCELED);  // a byte that was received is not lost
  }
}

TEST_F(IoRace, AnEndBetweenSubmissionAndAttempt) {
  for (const bool there : {false, true}) {
    Op op;
    if (there) Feed();
    {
      AtTestPoint point("io.claimed", [&] { EXPECT_TRUE(cmwq_end_io_work(&op.io, false)); });
      EXPECT_TRUE(Receive(op));
    }
    cmwq_flush_io_work(&op.io);
    EXPECT_EQ(op.runs, 1);
    EXPECT_EQ(op.io.result, there ? 1 : -ECANCELED);
  }
}

TEST_F(IoRace, DataComesBetweenSubmissionAndAttempt) {
  Op op;
  AtTestPoint point("io.claimed", [&] { Feed(); });
  EXPECT_TRUE(Receive(op));
  cmwq_flush_io_work(&op.io);
  EXPECT_EQ(op.runs, 1);
  EXPECT_EQ(op.io.result, 1);
}

// Every submission is executed or cancelled, whichever comes first.
TEST_F(IoRace, ACancelWhileTheOperationEnds) {
  for (const bool there : {true, false}) {
    Op op;
    Gate ending;
    bool cancelled = false;
    if (there) Feed();
    // The canceller comes while whoever ends the operation holds the lock.
    AtTestPoint point("io.ended", [&] { ending.Open(); });
    std::thread canceller([&] {
      ending.Wait();
      cancelled = cmwq_cancel_io_work_sync(&op.io);
    });
    EXPECT_TRUE(Receive(op));
    if (!there) Feed();
    canceller.join();
    EXPECT_EQ(op.runs + (cancelled ? 1 : 0), 1);
    EXPECT_EQ(op.io.result, 1);
  }
}

TEST_F(IoRace, TwoCancelsAtOnce) {
  Op op;
  Gate ending;
  bool first = false, second = false;
  EXPECT_TRUE(Receive(op));
  AtTestPoint point("io.ended", [&] { ending.Open(); });
  std::thread other([&] {
    ending.Wait();
    second = cmwq_cancel_io_work_sync(&op.io);
  });
  first = cmwq_cancel_io_work_sync(&op.io);
  other.join();
  EXPECT_TRUE(first);
  EXPECT_FALSE(second);
  EXPECT_EQ(op.runs, 0);
}

struct Stream {
  Stream(unsigned nr, size_t size) {
    EXPECT_TRUE(cmwq_io_stream_init(&s, [](struct cmwq_work* work) {
      reinterpret_cast<Stream*>(cmwq_io_stream_of(work))->Take();
    }, nr, size));
  }
  ~Stream() { cmwq_io_stream_destroy(&s); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  void Take() {
    struct cmwq_io_result r;
    while (cmwq_io_stream_next(&s, &r) > 0) {
      taken.fetch_add(1);
      if (r.data == nullptr) close(static_cast<int>(r.value));
      cmwq_io_stream_put(&s, r.data);
    }
  }
  struct cmwq_io_stream s;  // first
  std::atomic<int> taken{0};
};

TEST_F(IoRace, ACancelWhileAResultComes) {
  Gate coming;
  bool cancelled = false;
  Stream s(4, 8);
  AtTestPoint point("io.delivered", [&] { coming.Open(); });
  std::thread canceller([&] {
    coming.Wait();
    cancelled = cmwq_cancel_io_stream_sync(&s.s);
  });
  EXPECT_TRUE(cmwq_io_recv_stream(wq, &s.s, pair[0], 0));
  Feed();
  canceller.join();
  EXPECT_TRUE(cancelled);  // it was under way
  s.Take();
  EXPECT_EQ(s.taken, 1);
}

// Plain calls take a connection after the stream was cancelled: it is there for the next start.
TEST_F(IoRace, ACancelBeforeATurn) {
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(listener, generic, sizeof(address.sun_family)), 0);
  ASSERT_EQ(getsockname(listener, generic, &size), 0);
  ASSERT_EQ(listen(listener, 8), 0);
  {
    Gate turned;
    Stream s(4, 0);
    bool cancelled = false;
    AtTestPoint point("io.turn", [&] {
      cancelled = cmwq_cancel_io_stream(&s.s);
      turned.Open();
    });
    EXPECT_TRUE(cmwq_io_accept_stream(wq, &s.s, listener, SOCK_CLOEXEC));
    ASSERT_EQ(connect(client, generic, size), 0);
    // A ring that sees the connection at its first attempt takes no turn for it.
    Eventually([&] { return turned.opened() || s.taken == 1; });
    if (turned.opened()) {
      EXPECT_TRUE(cancelled);
      cmwq_flush_io_stream(&s.s);
      EXPECT_EQ(s.taken, 0);
      EXPECT_TRUE(cmwq_io_accept_stream(wq, &s.s, listener, SOCK_CLOEXEC));
    }
    Eventually([&] { return s.taken == 1; });
  }
  close(client);
  close(listener);
}

}  // namespace
}  // namespace cmwq::test
