// The poller by itself: what is armed, what is taken, what an epoll set does with descriptors that are
// closed and numbers that are used again.

#include "runtime/platform/poller.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <thread>

#include "tests/support/child.h"

namespace cmwq::test {
namespace {

using platform::Io;
using platform::IoKind;
using platform::Poller;

Io Op(IoKind kind, int fd, int flags = 0) {
  Io io = {};
  io.kind_ = static_cast<uint8_t>(kind);
  io.fd_ = fd;
  io.flags_ = flags;
  return io;
}

class PollerTest : public ::testing::Test {
 protected:
  PollerTest() {
    EXPECT_EQ(poller.Create(&waker), 0);
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0);
  }
  ~PollerTest() override {
    poller.ResetAfterFork();
    waker.Close();
    for (const int fd : pair) {
      if (fd >= 0) close(fd);
    }
  }
  void Feed() { EXPECT_EQ(send(pair[1], "x", 1, 0), 1); }
  void Drain() {
    char c;
    EXPECT_EQ(recv(pair[0], &c, 1, 0), 1);
  }
  // Waits for one entry that is ready.
  Poller::Ready One() {
    EXPECT_EQ(poller.Wait(base::kNever, ready.data()), 1);
    return ready[0];
  }
  bool Nothing() { return poller.Wait(0, ready.data()) == 0; }

  platform::Waker waker;
  Poller poller;
  std::array<Poller::Ready, Poller::kBatch> ready;
  std::array<int, 2> pair{-1, -1};
};

TEST_F(PollerTest, TakesWhatIsReadyOnce) {
  Io io = Op(IoKind::kRecv, pair[0]);
  EXPECT_EQ(poller.Add(&io), 0);
  EXPECT_TRUE(Nothing());
  Feed();
  const Poller::Ready r = One();
  EXPECT_EQ(r.fd, pair[0]);
  EXPECT_EQ(poller.Take(r), &io);
  EXPECT_EQ(io.next_, nullptr);
  EXPECT_EQ(poller.Take(r), nullptr);
  EXPECT_TRUE(Nothing());  // disarmed, although there is something to read
  EXPECT_EQ(poller.Add(&io), 0);
  EXPECT_EQ(poller.Take(One()), &io);
}

TEST_F(PollerTest, TheOthersOfADescriptorAreArmedAgain) {
  Io reads = Op(IoKind::kRead, pair[0]), writes = Op(IoKind::kWrite, pair[0]);
  EXPECT_EQ(poller.Add(&reads), 0);
  EXPECT_EQ(poller.Add(&writes), 0);
  EXPECT_EQ(poller.Take(One()), &writes);  // there is room
  EXPECT_TRUE(Nothing());
  Feed();
  EXPECT_EQ(poller.Take(One()), &reads);
}

TEST_F(PollerTest, AllThatAreReadyAreTaken) {
  Io a = Op(IoKind::kRecv, pair[0]), b = Op(IoKind::kPoll, pair[0], POLLIN);
  Io c = Op(IoKind::kPoll, pair[0], POLLPRI);
  for (Io* io : {&a, &b, &c}) EXPECT_EQ(poller.Add(io), 0);
  Feed();
  Io* const first = poller.Take(One());
  ASSERT_NE(first, nullptr);
  ASSERT_NE(first->next_, nullptr);
  EXPECT_TRUE((first == &a && first->next_ == &b) || (first == &b && first->next_ == &a));
  EXPECT_EQ(first->next_->next_, nullptr);
  Drain();
  EXPECT_TRUE(Nothing());
  // A hang-up is everybody's.
  close(pair[1]);
  pair[1] = -1;
  const Poller::Ready r = One();
  EXPECT_NE(r.events & POLLHUP, 0);
  EXPECT_EQ(poller.Take(r), &c);
}

TEST_F(PollerTest, WhatIsRemovedIsNotTaken) {
  Io a = Op(IoKind::kRecv, pair[0]), b = Op(IoKind::kRecv, pair[0]);
  EXPECT_EQ(poller.Add(&a), 0);
  EXPECT_EQ(poller.Add(&b), 0);
  poller.Remove(&a);
  Feed();
  EXPECT_EQ(poller.Take(One()), &b);
  // The set still asks: that is one wake-up for nothing.
  EXPECT_EQ(poller.Add(&b), 0);
  poller.Remove(&b);
  EXPECT_EQ(poller.Take(One()), nullptr);
  EXPECT_TRUE(Nothing());
}

TEST_F(PollerTest, WhatCannotBeWaitedForIsSaid) {
  char name[] = "/tmp/cmwq_poller.XXXXXX";
  const int file = mkstemp(name);
  ASSERT_GE(file, 0);
  unlink(name);
  Io on_file = Op(IoKind::kRead, file), on_nothing = Op(IoKind::kRead, -1);
  EXPECT_EQ(poller.Add(&on_file), -EPERM);
  EXPECT_EQ(poller.Add(&on_nothing), -EBADF);
  close(file);
  // Neither was left in the table.
  EXPECT_EQ(poller.Take({file, POLLIN}), nullptr);
  EXPECT_EQ(poller.Take({-1, POLLIN}), nullptr);
}

TEST_F(PollerTest, ANumberThatIsUsedAgainIsAnotherFile) {
  Io io = Op(IoKind::kRecv, pair[0]);
  EXPECT_EQ(poller.Add(&io), 0);
  poller.Remove(&io);
  std::array<int, 2> other{-1, -1};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other.data()), 0);
  ASSERT_EQ(dup2(other[0], pair[0]), pair[0]);  // the set forgets the file that was there
  EXPECT_EQ(poller.Add(&io), 0);
  EXPECT_EQ(send(other[1], "x", 1, 0), 1);
  EXPECT_EQ(poller.Take(One()), &io);
  for (const int fd : other) close(fd);
}

// Two descriptors of one chain of the table.
TEST_F(PollerTest, DescriptorsOfOneBucket) {
  const int far = fcntl(pair[0], F_DUPFD_CLOEXEC, pair[0] + 1024);
  if (far != pair[0] + 1024) GTEST_SKIP() << "no descriptor that high";
  Io near_op = Op(IoKind::kRecv, pair[0]), far_op = Op(IoKind::kWrite, far);
  EXPECT_EQ(poller.Add(&near_op), 0);
  EXPECT_EQ(poller.Add(&far_op), 0);
  EXPECT_EQ(poller.Take(One()), &far_op);
  EXPECT_TRUE(Nothing());
  Feed();
  EXPECT_EQ(poller.Take(One()), &near_op);
  close(far);
}

TEST_F(PollerTest, TheWakerEndsAWaitOnce) {
  waker.Wake();
  EXPECT_EQ(poller.Wait(base::kNever, ready.data()), 0);
  EXPECT_TRUE(Nothing());
  std::thread other([&] { waker.Wake(); });
  EXPECT_EQ(poller.Wait(base::kNever, ready.data()), 0);
  other.join();
}

TEST_F(PollerTest, ADeadlineHasPassedWhenTheWaitEnds) {
  const uint64_t until = base::MonotonicNs() + base::kNsPerMs;
  while (poller.Wait(until, ready.data()) == 0 && base::MonotonicNs() < until) {
  }
  EXPECT_GE(base::MonotonicNs(), until);
  EXPECT_EQ(poller.Wait(1, ready.data()), 0);  // long past
}

TEST_F(PollerTest, MoreThanABatch) {
  constexpr int kPairs = Poller::kBatch + 10;
  std::array<std::array<int, 2>, kPairs> pairs;
  std::array<Io, kPairs> ops;
  for (size_t i = 0; i < pairs.size(); ++i) {
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i].data()), 0);
    ops[i] = Op(IoKind::kRecv, pairs[i][0]);
    EXPECT_EQ(poller.Add(&ops[i]), 0);
    EXPECT_EQ(send(pairs[i][1], "x", 1, 0), 1);
  }
  int taken = 0;
  while (taken < kPairs) {
    const int n = poller.Wait(base::kNever, ready.data());
    ASSERT_GT(n, 0);
    ASSERT_LE(n, Poller::kBatch);
    for (int i = 0; i < n; ++i) {
      const Io* const io = poller.Take(ready[static_cast<size_t>(i)]);
      ASSERT_NE(io, nullptr);
      EXPECT_EQ(io->fd_, ready[static_cast<size_t>(i)].fd);
      ++taken;
    }
  }
  EXPECT_TRUE(Nothing());
  for (const auto& p : pairs) {
    for (const int fd : p) close(fd);
  }
}

TEST_F(PollerTest, AForkedChildLeavesTheParentsSetAlone) {
  Io io = Op(IoKind::kRecv, pair[0]);
  EXPECT_EQ(poller.Add(&io), 0);
  EXPECT_EQ(InChild([&] {
    poller.ResetAfterFork();
    waker.Close();
    CHILD_CHECK(poller.Create(&waker) == 0);
    Io own = Op(IoKind::kWrite, pair[1]);
    CHILD_CHECK(poller.Add(&own) == 0);
    CHILD_CHECK(poller.Wait(base::kNever, ready.data()) == 1);
    CHILD_CHECK(poller.Take(ready[0]) == &own);
  }), 0);
  EXPECT_TRUE(Nothing());
  Feed();
  EXPECT_EQ(poller.Take(One()), &io);
}

}  // namespace
}  // namespace cmwq::test
