// Operations that queue an item when they have ended, run twice: with a ring and with
// CMWQ_CONF=io_uring=0.

#include <arpa/inet.h>
#include <cmwq/io_work.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
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

constexpr uint64_t kLong = 3600 * base::kNsPerSec;

struct Op {
  Op() {
    cmwq_io_work_init(&io, [](struct cmwq_work* work) {
      Op* const op = reinterpret_cast<Op*>(cmwq_io_work_of(work));
      op->in_worker = cmwq_current_work() == work;
      op->results.push_back(op->io.result);
      if (op->then) op->then();
      op->runs.fetch_add(1);
    });
  }
  ~Op() { cmwq_cancel_io_work_sync(&io); }
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;
  // The result of the only execution so far, after its end.
  int64_t Result() {
    cmwq_flush_io_work(&io);
    EXPECT_EQ(runs.load(), 1);
    return results.empty() ? -4097 : results.back();
  }

  struct cmwq_io_work io;  // first
  std::atomic<int> runs{0};
  bool in_worker = false;
  std::vector<int64_t> results;
  std::function<void()> then;
};

class IoWork : public ::testing::Test {
 protected:
  IoWork() {
    EXPECT_EQ(pipe2(pipe.data(), O_CLOEXEC), 0);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0);
  }
  ~IoWork() override {
    cmwq_destroy_workqueue(wq);
    for (int fd : {pipe[0], pipe[1], pair[0], pair[1]}) close(fd);
  }
  bool Read(Op& op, uint64_t timeout = CMWQ_NO_TIMEOUT) {
    return cmwq_io_read_work(wq, &op.io, pipe[0], buf, sizeof(buf), -1, timeout);
  }
  void Feed(const char* text) {
    EXPECT_EQ(write(pipe[1], text, strlen(text)), static_cast<ssize_t>(strlen(text)));
  }
  // Once the loop has been started, says whether this is the way that the test was asked for.
  void CheckWay() {
    if (base::g_conf.io_uring == 0) {
      EXPECT_FALSE(core::IoLoop::Get().UsesRing());
    } else if (!core::IoLoop::Get().UsesRing()) {
      GTEST_SKIP() << "no io_uring here: the ring is not tested";
    }
  }
  struct cmwq_workqueue* wq = cmwq_alloc_workqueue("io_work", 0, 0);
  std::array<int, 2> pipe{-1, -1}, pair{-1, -1};
  char buf[64] = {};
};

TEST_F(IoWork, WhatIsThereIsReadAtOnce) {
  Op op;
  Feed("hello");
  EXPECT_TRUE(Read(op));
  EXPECT_EQ(op.Result(), 5);
  EXPECT_TRUE(op.in_worker);
  EXPECT_EQ(std::string(buf, 5), "hello");
}

TEST_F(IoWork, TheItemIsQueuedWhenTheOperationHasEnded) {
  Op op;
  EXPECT_TRUE(Read(op));
  EXPECT_FALSE(Read(op));  // pending
  EXPECT_EQ(op.runs, 0);
  Feed("later");
  EXPECT_EQ(op.Result(), 5);
  EXPECT_EQ(std::string(buf, 5), "later");
  EXPECT_FALSE(cmwq_flush_io_work(&op.io));
  CheckWay();
}

TEST_F(IoWork, EndOfFileAndErrorsAreResults) {
  Op end, bad, socket_only;
  EXPECT_TRUE(Read(end));
  close(pipe[1]);
  pipe[1] = -1;
  EXPECT_EQ(end.Result(), 0);
  EXPECT_TRUE(cmwq_io_read_work(wq, &bad.io, -1, buf, 1, -1, CMWQ_NO_TIMEOUT));
  EXPECT_EQ(bad.Result(), -EBADF);
  EXPECT_TRUE(cmwq_io_recv_work(wq, &socket_only.io, pipe[0], buf, 1, 0, CMWQ_NO_TIMEOUT));
  EXPECT_EQ(socket_only.Result(), -ENOTSOCK);
}

TEST_F(IoWork, NonBlockingDescriptorsAreWaitedForAsWell) {
  Op op, received;
  fcntl(pipe[0], F_SETFL, O_NONBLOCK);
  fcntl(pair[0], F_SETFL, O_NONBLOCK);
  EXPECT_TRUE(Read(op));
  EXPECT_TRUE(cmwq_io_recv_work(wq, &received.io, pair[0], buf + 8, 8, 0, CMWQ_NO_TIMEOUT));
  Feed("x");
  EXPECT_EQ(op.Result(), 1);
  EXPECT_EQ(send(pair[1], "yy", 2, 0), 2);
  EXPECT_EQ(received.Result(), 2);
}

TEST_F(IoWork, SendsAllBytes) {
  // More than a socket buffer or a pipe takes.
  const std::string data(4 << 20, 'd');
  for (const bool socket : {true, false}) {
    Op op;
    if (socket) {
      EXPECT_TRUE(cmwq_io_send_work(wq, &op.io, pair[0], data.data(), data.size(), 0, CMWQ_NO_TIMEOUT));
    } else {
      EXPECT_TRUE(cmwq_io_write_work(wq, &op.io, pipe[1], data.data(), data.size(), -1,
                                     CMWQ_NO_TIMEOUT));
    }
    std::vector<char> into(1 << 16);
    for (size_t got = 0; got < data.size();) {
      const ssize_t n = read(socket ? pair[1] : pipe[0], into.data(), into.size());
      ASSERT_GT(n, 0);
      got += static_cast<size_t>(n);
    }
    EXPECT_EQ(op.Result(), static_cast<int64_t>(data.size()));
  }
}

TEST_F(IoWork, APartThatWentOutIsTheResultOfATimeout) {
  Op op;
  const std::string data(1 << 20, 'd');
  EXPECT_TRUE(cmwq_io_send_work(wq, &op.io, pair[0], data.data(), data.size(), 0, base::kNsPerMs));
  const int64_t sent = op.Result();
  EXPECT_GT(sent, 0);
  EXPECT_LT(sent, static_cast<int64_t>(data.size()));
}

TEST_F(IoWork, TimeoutsAreNoCancellations) {
  Op timed, ended, quick;
  EXPECT_TRUE(Read(timed, base::kNsPerMs));
  EXPECT_EQ(timed.Result(), -ETIMEDOUT);
  EXPECT_TRUE(Read(ended, kLong));
  EXPECT_TRUE(cmwq_end_io_work(&ended.io, false));
  EXPECT_EQ(ended.Result(), -ECANCELED);
  EXPECT_FALSE(cmwq_end_io_work(&ended.io, false));
  EXPECT_TRUE(Read(quick, kLong));
  Feed("z");
  EXPECT_EQ(quick.Result(), 1);
}

TEST_F(IoWork, EndingMayComeBeforeTheSubmission) {
  Op op;
  EXPECT_FALSE(cmwq_end_io_work(&op.io, true));
  Feed("x");
  EXPECT_TRUE(Read(op));
  EXPECT_EQ(op.Result(), -ECANCELED);
  EXPECT_TRUE(Read(op));
  cmwq_flush_io_work(&op.io);
  EXPECT_EQ(op.results.back(), 1);
}

TEST_F(IoWork, ReceivesTheWholeIfAskedTo) {
  Op op;
  EXPECT_TRUE(cmwq_io_recv_work(wq, &op.io, pair[0], buf, 6, MSG_WAITALL, kLong));
  EXPECT_EQ(send(pair[1], "abc", 3, 0), 3);
  EXPECT_EQ(send(pair[1], "defg", 4, 0), 4);
  EXPECT_EQ(op.Result(), 6);
  EXPECT_EQ(std::string(buf, 6), "abcdef");
}

TEST_F(IoWork, AcceptingWhereNobodyListens) {
  Op op;
  EXPECT_TRUE(cmwq_io_accept_work(wq, &op.io, pair[0], nullptr, nullptr, 0, CMWQ_NO_TIMEOUT));
  EXPECT_EQ(op.Result(), -EINVAL);
  EXPECT_EQ(fcntl(pair[0], F_GETFL) & O_NONBLOCK, 0);
}

TEST_F(IoWork, SeveralOnOneDescriptor) {
  std::array<Op, 4> readers;
  Op writer, poller;
  for (Op& op : readers) {
    EXPECT_TRUE(cmwq_io_recv_work(wq, &op.io, pair[0], buf, 1, 0, CMWQ_NO_TIMEOUT));
  }
  EXPECT_TRUE(cmwq_io_poll_work(wq, &poller.io, pair[0], POLLPRI, CMWQ_NO_TIMEOUT));
  EXPECT_TRUE(cmwq_io_send_work(wq, &writer.io, pair[0], "out", 3, 0, CMWQ_NO_TIMEOUT));
  EXPECT_EQ(writer.Result(), 3);
  EXPECT_EQ(send(pair[1], "abcd", 4, 0), 4);
  for (Op& op : readers) EXPECT_EQ(op.Result(), 1);
  EXPECT_EQ(poller.runs, 0);
  EXPECT_TRUE(cmwq_cancel_io_work_sync(&poller.io));
}

TEST_F(IoWork, CancelledOperationsUseNothing) {
  Op op;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Read(op));
    EXPECT_TRUE(cmwq_cancel_io_work_sync(&op.io));
    EXPECT_EQ(op.io.result, -ECANCELED);
    EXPECT_FALSE(cmwq_cancel_io_work_sync(&op.io));
  }
  Feed("mine");
  char got[8] = {};
  EXPECT_EQ(read(pipe[0], got, sizeof(got)), 4);
  EXPECT_EQ(op.runs, 0);
  EXPECT_EQ(buf[0], 0);
  // Without _sync the operation may go on for a moment, and nobody is called.
  ASSERT_TRUE(Read(op));
  EXPECT_TRUE(cmwq_cancel_io_work(&op.io));
  EXPECT_FALSE(cmwq_cancel_io_work(&op.io));
  cmwq_flush_io_work(&op.io);
  EXPECT_EQ(op.runs, 0);
  ASSERT_TRUE(Read(op));
  Feed("again");
  EXPECT_EQ(op.Result(), 5);
}

TEST_F(IoWork, CancelTakesACompletedItemOffItsQueue) {
  struct cmwq_workqueue* const one = cmwq_alloc_ordered_workqueue("one", 0);
  Gate go, began;
  Op first, second;
  first.then = [&] {
    began.Open();
    go.Wait();
  };
  Feed("ab");
  EXPECT_TRUE(cmwq_io_read_work(one, &first.io, pipe[0], buf, 1, -1, CMWQ_NO_TIMEOUT));
  began.Wait();
  EXPECT_TRUE(cmwq_io_read_work(one, &second.io, pipe[0], buf, 1, -1, CMWQ_NO_TIMEOUT));
  EXPECT_TRUE(cmwq_cancel_io_work_sync(&second.io));
  EXPECT_EQ(second.io.result, 1);  // the byte was read
  go.Open();
  EXPECT_EQ(first.Result(), 1);
  EXPECT_EQ(second.runs, 0);
  cmwq_destroy_workqueue(one);
}

TEST_F(IoWork, TheFunctionMaySubmitTheNext) {
  Op op;
  std::atomic<int> left{100};
  op.then = [&] {
    if (left.fetch_sub(1) == 1) return;
    EXPECT_TRUE(cmwq_io_recv_work(wq, &op.io, pair[0], buf, 1, 0, kLong));
  };
  EXPECT_TRUE(cmwq_io_recv_work(wq, &op.io, pair[0], buf, 1, 0, kLong));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(send(pair[1], "x", 1, 0), 1);
  while (left > 0) cmwq_flush_io_work(&op.io);
  cmwq_flush_io_work(&op.io);
  EXPECT_EQ(op.results, std::vector<int64_t>(100, 1));
}

TEST_F(IoWork, TheFunctionMayFreeTheObject) {
  Gate done;
  Op* const op = new Op;
  op->then = [&done] { done.Open(); };
  struct Own {
    struct cmwq_io_work io;
    Gate* done;
  };
  Own* const own = new Own{{}, &done};
  delete op;
  cmwq_io_work_init(&own->io, [](struct cmwq_work* work) {
    Own* const self = reinterpret_cast<Own*>(work);
    Gate* const gate = self->done;
    memset(static_cast<void*>(self), 0xee, sizeof(*self));
    delete self;
    gate->Open();
  });
  EXPECT_TRUE(cmwq_io_read_work(wq, &own->io, pipe[0], buf, 1, -1, kLong));
  Feed("f");
  done.Wait();
}

TEST_F(IoWork, CancelFromItsOwnFunction) {
  Op op;
  bool cancelled = false;
  op.then = [&] {
    if (op.runs > 0) return;
    EXPECT_TRUE(Read(op));
    cancelled = cmwq_cancel_io_work_sync(&op.io);
  };
  EXPECT_TRUE(Read(op));
  Feed("x");
  EXPECT_EQ(op.Result(), 1);
  EXPECT_TRUE(cancelled);
}

TEST_F(IoWork, DisabledItemsTakeNothing) {
  Op op;
  EXPECT_TRUE(Read(op));
  EXPECT_TRUE(cmwq_disable_io_work_sync(&op.io));
  EXPECT_FALSE(Read(op));
  EXPECT_FALSE(cmwq_disable_io_work(&op.io));
  EXPECT_FALSE(cmwq_enable_io_work(&op.io));
  EXPECT_TRUE(cmwq_enable_io_work(&op.io));
  EXPECT_TRUE(Read(op));
  Feed("x");
  EXPECT_EQ(op.Result(), 1);
}

// The item alone was disabled, the operation went on: it is accounted for as cancelled.
TEST_F(IoWork, AnOperationThatEndsWhileTheItemIsDisabled) {
  Op op;
  EXPECT_TRUE(Read(op));
  cmwq_disable_work(&op.io.work);
  Feed("x");
  core::IoLoop::Get().WaitEnded(&op.io);
  EXPECT_EQ(op.runs, 0);
  EXPECT_EQ(op.io.result, 1);
  EXPECT_TRUE(cmwq_cancel_io_work_sync(&op.io));
  EXPECT_FALSE(cmwq_cancel_io_work_sync(&op.io));
  cmwq_enable_work(&op.io.work);
}

TEST_F(IoWork, DestroyingAQueueEndsItsOperations) {
  struct cmwq_workqueue* const dying = cmwq_alloc_workqueue("dying", 0, 0);
  Op ended, refused, other;
  bool accepted = true;
  ended.then = [&] {
    accepted = cmwq_io_recv_work(dying, &refused.io, pair[0], buf, 1, 0, CMWQ_NO_TIMEOUT);
  };
  EXPECT_TRUE(cmwq_io_recv_work(dying, &ended.io, pair[0], buf, 1, 0, CMWQ_NO_TIMEOUT));
  EXPECT_TRUE(Read(other));
  LogCapture log;
  cmwq_destroy_workqueue(dying);
  EXPECT_EQ(ended.runs, 1);
  EXPECT_EQ(ended.results.back(), -ECANCELED);
  EXPECT_FALSE(accepted);
  EXPECT_EQ(other.runs, 0);
  Feed("x");
  EXPECT_EQ(other.Result(), 1);
}

TEST_F(IoWork, ADrainTakesWhatEndsMeanwhile) {
  Gate go, began;
  Op holds, ends, late;
  holds.then = [&] {
    began.Open();
    go.WaitAnnounced();
  };
  EXPECT_TRUE(cmwq_io_recv_work(wq, &ends.io, pair[0], buf, 1, 0, CMWQ_NO_TIMEOUT));
  Feed("x");
  EXPECT_TRUE(Read(holds));
  began.Wait();
  LogCapture log;
  std::thread drainer([&] { cmwq_drain_workqueue(wq); });
  // The drain has begun when submissions from outside are refused.
  while (cmwq_io_poll_work(wq, &late.io, pipe[1], POLLOUT, CMWQ_NO_TIMEOUT)) {
    cmwq_flush_io_work(&late.io);
  }
  EXPECT_EQ(send(pair[1], "y", 1, 0), 1);
  cmwq_flush_io_work(&ends.io);
  EXPECT_EQ(ends.runs, 1);
  EXPECT_EQ(ends.io.result, 1);
  go.Open();
  drainer.join();
}

TEST_F(IoWork, FrozenQueuesKeepTheResult) {
  struct cmwq_workqueue* const cold = cmwq_alloc_workqueue("cold", CMWQ_FREEZABLE, 0);
  Op op;
  EXPECT_TRUE(cmwq_io_read_work(cold, &op.io, pipe[0], buf, 8, -1, CMWQ_NO_TIMEOUT));
  cmwq_freeze_workqueues_begin();
  Feed("ice");
  core::IoLoop::Get().WaitEnded(&op.io);
  EXPECT_EQ(cmwq_work_busy(&op.io.work), static_cast<unsigned>(CMWQ_WORK_PENDING));
  EXPECT_FALSE(cmwq_io_read_work(cold, &op.io, pipe[0], buf, 8, -1, CMWQ_NO_TIMEOUT));
  EXPECT_EQ(op.runs, 0);
  cmwq_thaw_workqueues();
  EXPECT_EQ(op.Result(), 3);
  cmwq_destroy_workqueue(cold);
}

TEST_F(IoWork, AcceptsAndConnects) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{}, peer{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address), peer_size = sizeof(peer);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(listener, generic, size), 0);
  ASSERT_EQ(listen(listener, 8), 0);
  ASSERT_EQ(getsockname(listener, generic, &size), 0);
  Op accepts, connects, refused, gives_up;
  EXPECT_TRUE(cmwq_io_accept_work(wq, &accepts.io, listener, reinterpret_cast<sockaddr*>(&peer),
                                  &peer_size, SOCK_CLOEXEC, CMWQ_NO_TIMEOUT));
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_TRUE(cmwq_io_connect_work(wq, &connects.io, client, generic, size, CMWQ_NO_TIMEOUT));
  EXPECT_EQ(connects.Result(), 0);
  const int server = static_cast<int>(accepts.Result());
  ASSERT_GE(server, 0);
  EXPECT_EQ(peer.sin_family, AF_INET);
  EXPECT_EQ(fcntl(client, F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(write(client, "hi", 2), 2);
  EXPECT_EQ(read(server, buf, 8), 2);
  EXPECT_TRUE(cmwq_io_accept_work(wq, &gives_up.io, listener, nullptr, nullptr, 0, base::kNsPerMs));
  EXPECT_EQ(gives_up.Result(), -ETIMEDOUT);
  close(listener);
  const int unlucky = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_TRUE(cmwq_io_connect_work(wq, &refused.io, unlucky, generic, size, CMWQ_NO_TIMEOUT));
  EXPECT_EQ(refused.Result(), -ECONNREFUSED);
  for (int fd : {client, server, unlucky}) close(fd);
}

TEST_F(IoWork, ConnectsLocally) {
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(listener, generic, sizeof(address.sun_family)), 0);
  ASSERT_EQ(getsockname(listener, generic, &size), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  Op op;
  const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_TRUE(cmwq_io_connect_work(wq, &op.io, client, generic, size, CMWQ_NO_TIMEOUT));
  EXPECT_EQ(op.Result(), 0);
  close(client);
  close(listener);
}

TEST_F(IoWork, PollsForEvents) {
  Op readable, writable;
  EXPECT_TRUE(cmwq_io_poll_work(wq, &writable.io, pipe[1], POLLOUT, CMWQ_NO_TIMEOUT));
  EXPECT_EQ(writable.Result(), POLLOUT);
  EXPECT_TRUE(cmwq_io_poll_work(wq, &readable.io, pipe[0], POLLIN, CMWQ_NO_TIMEOUT));
  Feed("x");
  EXPECT_EQ(readable.Result(), POLLIN);
}

TEST_F(IoWork, VectorsAndMessages) {
  char a[2], b[8];
  const std::array<iovec, 2> parts = {{{a, 2}, {b, 8}}};
  Op readv, writev, recvmsg, sendmsg;
  EXPECT_TRUE(cmwq_io_readv_work(wq, &readv.io, pipe[0], parts.data(), 2, -1, CMWQ_NO_TIMEOUT));
  char text[] = "vector";
  const std::array<iovec, 2> out = {{{text, 3}, {text + 3, 3}}};
  EXPECT_TRUE(cmwq_io_writev_work(wq, &writev.io, pipe[1], out.data(), 2, -1, CMWQ_NO_TIMEOUT));
  EXPECT_EQ(writev.Result(), 6);
  EXPECT_EQ(readv.Result(), 6);
  EXPECT_EQ(std::string(a, 2) + std::string(b, 4), "vector");
  msghdr message{}, answer{};
  message.msg_iov = const_cast<iovec*>(parts.data());
  message.msg_iovlen = 2;
  EXPECT_TRUE(cmwq_io_recvmsg_work(wq, &recvmsg.io, pair[0], &message, 0, CMWQ_NO_TIMEOUT));
  answer.msg_iov = const_cast<iovec*>(out.data());
  answer.msg_iovlen = 2;
  EXPECT_TRUE(cmwq_io_sendmsg_work(wq, &sendmsg.io, pair[1], &answer, 0, CMWQ_NO_TIMEOUT));
  EXPECT_EQ(sendmsg.Result(), 6);
  EXPECT_EQ(recvmsg.Result(), 6);
}

TEST_F(IoWork, Files) {
  char dir[] = "/tmp/cmwq_io_work.XXXXXX";
  ASSERT_NE(mkdtemp(dir), nullptr);
  const int at = open(dir, O_DIRECTORY | O_CLOEXEC);
  const auto run = [](auto submit) {
    Op op;
    EXPECT_TRUE(submit(&op.io));
    return op.Result();
  };
  using P = struct cmwq_io_work*;
  EXPECT_EQ(run([&](P io) { return cmwq_io_mkdirat_work(wq, io, at, "sub", 0700); }), 0);
  const int fd = static_cast<int>(run([&](P io) {
    return cmwq_io_openat_work(wq, io, at, "sub/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  }));
  ASSERT_GE(fd, 0);
  const std::string data(100000, 'f');
  EXPECT_EQ(run([&](P io) {
    return cmwq_io_write_work(wq, io, fd, data.data(), data.size(), 0, CMWQ_NO_TIMEOUT);
  }), 100000);
  EXPECT_EQ(run([&](P io) { return cmwq_io_fsync_work(wq, io, fd, true); }), 0);
  EXPECT_EQ(run([&](P io) { return cmwq_io_fsync_work(wq, io, fd, false); }), 0);
  EXPECT_EQ(run([&](P io) { return cmwq_io_fallocate_work(wq, io, fd, 0, 0, 200000); }), 0);
  std::vector<char> back(300000);
  EXPECT_EQ(run([&](P io) {
    return cmwq_io_read_work(wq, io, fd, back.data(), back.size(), 1, CMWQ_NO_TIMEOUT);
  }), 199999);
  EXPECT_EQ(back[99998], 'f');
  EXPECT_EQ(back[99999], 0);
  struct statx st = {};
  EXPECT_EQ(run([&](P io) {
    return cmwq_io_statx_work(wq, io, at, "sub/file", 0, STATX_SIZE, &st);
  }), 0);
  EXPECT_EQ(st.stx_size, 200000u);
  EXPECT_EQ(run([&](P io) {
    return cmwq_io_renameat_work(wq, io, at, "sub/file", at, "moved", 0);
  }), 0);
  EXPECT_EQ(run([&](P io) { return cmwq_io_close_work(wq, io, fd); }), 0);
  EXPECT_EQ(run([&](P io) { return cmwq_io_close_work(wq, io, fd); }), -EBADF);
  EXPECT_EQ(run([&](P io) { return cmwq_io_unlinkat_work(wq, io, at, "sub/file", 0); }), -ENOENT);
  EXPECT_EQ(run([&](P io) { return cmwq_io_unlinkat_work(wq, io, at, "moved", 0); }), 0);
  EXPECT_EQ(run([&](P io) { return cmwq_io_unlinkat_work(wq, io, at, "sub", AT_REMOVEDIR); }), 0);
  close(at);
  EXPECT_EQ(rmdir(dir), 0);
}

TEST_F(IoWork, TheChildOfForkStartsAfresh) {
  Op op, timed;
  EXPECT_TRUE(Read(op));
  EXPECT_TRUE(cmwq_io_recv_work(wq, &timed.io, pair[0], buf, 1, 0, kLong));
  EXPECT_EQ(0, InChild([&] {
    CHILD_CHECK(!cmwq_cancel_io_work_sync(&op.io));
    CHILD_CHECK(!cmwq_flush_io_work(&timed.io));
    int ends[2];
    CHILD_CHECK(::pipe(ends) == 0);
    char c = 0;
    CHILD_CHECK(cmwq_io_read_work(wq, &op.io, ends[0], &c, 1, -1, CMWQ_NO_TIMEOUT));
    CHILD_CHECK(write(ends[1], "c", 1) == 1);
    cmwq_flush_io_work(&op.io);
    CHILD_CHECK(op.runs == 1 && op.io.result == 1 && c == 'c');
    cmwq_destroy_workqueue(wq);
  }));
  Feed("parent");
  EXPECT_EQ(op.Result(), 6);
  EXPECT_TRUE(cmwq_cancel_io_work_sync(&timed.io));
}

TEST_F(IoWork, MisuseIsReported) {
  Op op;
  LogCapture log;
  EXPECT_FALSE(cmwq_io_read_work(nullptr, &op.io, pipe[0], buf, 1, -1, 0));
  EXPECT_FALSE(cmwq_io_read_work(wq, nullptr, pipe[0], buf, 1, -1, 0));
  EXPECT_FALSE(cmwq_cancel_io_work_sync(nullptr));
  EXPECT_EQ(log.Take().size(), 3u);
  EXPECT_TRUE(Read(op));
  cmwq_io_work_init(&op.io, [](struct cmwq_work*) {});
  const std::vector<std::string> lines = log.Take();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("cmwq_io_work_init: the work is pending"), std::string::npos) << lines[0];
  Feed("x");
  EXPECT_EQ(op.Result(), 1);
}

}  // namespace
}  // namespace cmwq::test
