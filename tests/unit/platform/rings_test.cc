// The rings by themselves: the one of the operations' thread, and the small one of a worker.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "runtime/platform/completion_ring.h"
#include "runtime/platform/uring.h"
#include "tests/support/child.h"
#include "tests/support/refuse.h"

// The child starts threads, which the sanitizer refuses unless told.
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }

namespace cmwq::test {
namespace {

using platform::CompletionRing;
using platform::Io;
using platform::IoKind;
using platform::RingOp;
using platform::ThreadRing;

// One for all tests, each of which leaves it empty: a ring like this ends with its process.
struct SharedRing {
  SharedRing() {
    // The waker's word must not be waited for before there was a thread (completion_ring.h).
    std::thread([] {}).join();
    error = ring.Create(&waker);
  }
  platform::Waker waker;
  CompletionRing ring;
  int error = 0;
};

class Rings : public ::testing::Test {
 protected:
  Rings() { EXPECT_EQ(pipe2(pipe.data(), O_CLOEXEC), 0); }
  ~Rings() override {
    for (const int fd : pipe) {
      if (fd >= 0) close(fd);
    }
  }
  void SetUp() override {
    if (error != 0) GTEST_SKIP() << "no io_uring here: " << strerror(-error);
  }
  Io Read(size_t len) {
    Io io = {};
    io.kind_ = static_cast<uint8_t>(IoKind::kRead);
    io.fd_ = pipe[0];
    io.buf_ = buf.data();
    io.len_ = len;
    io.offset_ = -1;
    return io;
  }
  void Feed(const char* text) {
    EXPECT_EQ(write(pipe[1], text, strlen(text)), static_cast<ssize_t>(strlen(text)));
  }
  // The next completion; waits for it.
  CompletionRing::Completion Next() {
    CompletionRing::Completion found = {};
    while (found.io == nullptr) {
      ring.BeforeSleep();
      EXPECT_EQ(ring.Enter(base::kNever), 0);
      ring.Reap(1, [&](const CompletionRing::Completion& c) { found = c; });
    }
    return found;
  }
  // Submits what is prepared; nothing has completed.
  bool Nothing() {
    EXPECT_EQ(ring.Enter(0), 0);
    bool nothing = true;
    ring.Reap(1, [&](const CompletionRing::Completion&) { nothing = false; });
    return nothing;
  }

  static SharedRing& Shared() {
    static SharedRing* const shared = new SharedRing;
    return *shared;
  }
  platform::Waker& waker = Shared().waker;
  CompletionRing& ring = Shared().ring;
  const int error = Shared().error;
  std::array<int, 2> pipe{-1, -1};
  std::array<char, 64> buf{};
};

TEST_F(Rings, ARequestCompletes) {
  Io io = Read(8);
  ring.Prepare(&io, false);
  EXPECT_TRUE(Nothing());
  Feed("data");
  const CompletionRing::Completion c = Next();
  EXPECT_EQ(c.io, &io);
  EXPECT_EQ(c.result, 4);
  EXPECT_FALSE(c.more);
  EXPECT_EQ(std::string(buf.data(), 4), "data");
}

TEST_F(Rings, APollSaysThatThereIsSomething) {
  Io io = Read(8);
  ring.Prepare(&io, true);
  EXPECT_TRUE(Nothing());
  Feed("x");
  const CompletionRing::Completion c = Next();
  EXPECT_EQ(c.io, &io);
  EXPECT_NE(c.result & POLLIN, 0);
  EXPECT_EQ(buf[0], 0);  // not read
}

TEST_F(Rings, ARequestIsGivenUp) {
  Io io = Read(8);
  ring.Prepare(&io, false);
  EXPECT_TRUE(Nothing());
  EXPECT_TRUE(ring.PrepareCancel(&io));
  const CompletionRing::Completion c = Next();
  EXPECT_EQ(c.io, &io);
  EXPECT_EQ(c.result, -ECANCELED);
  EXPECT_TRUE(ring.PrepareCancel(&io));  // of what is not there any more
  EXPECT_TRUE(Nothing());
}

TEST_F(Rings, TheWakerEndsAWait) {
  ring.BeforeSleep();
  std::thread other([&] { waker.Wake(); });
  EXPECT_EQ(ring.Enter(base::kNever), 0);
  other.join();
  EXPECT_TRUE(Nothing());
  // Woken between the decision to sleep and the sleep.
  ring.BeforeSleep();
  waker.Wake();
  EXPECT_EQ(ring.Enter(base::kNever), 0);
}

TEST_F(Rings, ADeadlineEndsAWait) {
  const uint64_t until = base::MonotonicNs() + base::kNsPerMs;
  ring.BeforeSleep();
  EXPECT_EQ(ring.Enter(until), 0);
  while (base::MonotonicNs() < until) {
    ring.BeforeSleep();
    EXPECT_EQ(ring.Enter(until), 0);
  }
  EXPECT_TRUE(Nothing());
}

TEST_F(Rings, AFullRingSaysSo) {
  std::vector<Io> ops;
  ops.reserve(4096);
  while (ring.HasSpace()) {
    ops.push_back(Read(1));
    ring.Prepare(&ops.back(), true);
    ASSERT_LT(ops.size(), 4096u);
  }
  EXPECT_FALSE(ring.PrepareCancel(&ops[0]));
  EXPECT_EQ(ring.Enter(0), 0);
  EXPECT_TRUE(ring.HasSpace());
  Feed("x");
  size_t seen = 0;
  for (; seen < ops.size(); ++seen) EXPECT_NE(Next().result & POLLIN, 0);
  EXPECT_TRUE(Nothing());
}

TEST_F(Rings, CompletionsComeInBatches) {
  std::array<Io, 5> ops;
  Feed("x");
  for (Io& io : ops) {
    io = Read(1);
    ring.Prepare(&io, true);
  }
  int seen = 0;
  while (seen < 5) {
    ring.BeforeSleep();
    EXPECT_EQ(ring.Enter(base::kNever), 0);
    for (bool more = true; more;) {
      int now = 0;
      more = ring.Reap(2, [&](const CompletionRing::Completion&) { ++now; });
      EXPECT_LE(now, 2);
      EXPECT_TRUE(!more || now == 2);
      seen += now;
    }
  }
}

TEST_F(Rings, TheProgramMayCloseAllDescriptors) {
  if (error == 0 && waker.fd() >= 0) GTEST_SKIP() << "the ring of this kernel needs a descriptor";
  Io io = Read(8);
  const int status = InChild([&] {
    // A ring of the child's own: the parent's is not mapped here.
    platform::Waker own_waker;
    CompletionRing own;
    if (own.Create(&own_waker) != 0) _exit(77);  // the ring or its registration is refused
    for (int fd = 3; fd < 256; ++fd) {
      if (fd != pipe[0] && fd != pipe[1]) close(fd);
    }
    Feed("still");
    own.Prepare(&io, false);
    own.BeforeSleep();
    CHILD_CHECK(own.Enter(base::kNever) == 0);
    int result = 0;
    own.Reap(1, [&](const CompletionRing::Completion& c) { result = c.result; });
    CHILD_CHECK(result == 5);
  });
  if (status == 77) GTEST_SKIP() << "no second io_uring here";
  EXPECT_EQ(status, 0);
}

// With its descriptor closed only the table has the file.
TEST_F(Rings, ARegisteredFileNeedsNoDescriptor) {
  const int err = ring.SetFiles(7, pipe.data(), 1);
  if (err != 0) GTEST_SKIP() << "no tables in this kernel's rings: " << strerror(-err);
  Io io = Read(8);
  close(pipe[0]);
  pipe[0] = -1;
  ring.Prepare(&io, false, 7);
  EXPECT_TRUE(Nothing());
  Feed("there");
  EXPECT_EQ(Next().result, 5);
  ring.Prepare(&io, true, 7);
  EXPECT_TRUE(Nothing());
  Feed("x");
  EXPECT_NE(Next().result & POLLIN, 0);
  EXPECT_EQ(ring.SetFiles(7, nullptr, 1), 0);
  ring.Prepare(&io, false, 7);
  EXPECT_EQ(Next().result, -EBADF);
}

// After the mapping is gone only the table has the pages.
TEST_F(Rings, ARegisteredBufferIsWhatItWas) {
  auto* const shared = static_cast<char*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(shared, MAP_FAILED);
  // A second view of the same page.
  void* const view = mremap(shared, 0, 4096, MREMAP_MAYMOVE);
  ASSERT_NE(view, MAP_FAILED);
  const struct iovec buffer = {shared, 4096};
  const int err = ring.SetBuffers(3, &buffer, 1);
  if (err != 0) GTEST_SKIP() << "no tables in this kernel's rings: " << strerror(-err);
  munmap(shared, 4096);
  Io io = Read(8);
  io.buf_ = shared + 16;
  ring.Prepare(&io, false, -1, 3);
  EXPECT_TRUE(Nothing());
  Feed("pinned");
  EXPECT_EQ(Next().result, 6);
  EXPECT_EQ(memcmp(static_cast<char*>(view) + 16, "pinned", 6), 0);
  EXPECT_EQ(ring.SetBuffers(3, nullptr, 1), 0);
  ring.Prepare(&io, false, -1, 3);
  EXPECT_EQ(Next().result, -EFAULT);
  munmap(view, 4096);
}

// All or nothing, and the kernel's reason.
TEST_F(Rings, ARefusedEntryTakesTheOthersBack) {
  alignas(4096) static char page[4096];
  void* const gone = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(gone, 4096);
  const std::array<struct iovec, 2> buffers{{{page, 4096}, {gone, 4096}}};
  const int err = ring.SetBuffers(0, buffers.data(), 1);
  if (err != 0) GTEST_SKIP() << "no tables in this kernel's rings: " << strerror(-err);
  EXPECT_EQ(ring.SetBuffers(0, nullptr, 1), 0);
  EXPECT_EQ(ring.SetBuffers(0, buffers.data(), 2), -EFAULT);
  Io io = Read(8);
  io.buf_ = page;
  Feed("x");
  ring.Prepare(&io, false, -1, 0);
  EXPECT_EQ(Next().result, -EFAULT);
  const std::array<int, 2> fds{pipe[0], 1 << 29};  // no such descriptor
  EXPECT_LT(ring.SetFiles(0, fds.data(), 2), 0);
  ring.Prepare(&io, false, 0);
  EXPECT_EQ(Next().result, -EBADF);
}

// A worker's ring: one request at a time.
class OneRing : public ::testing::Test {
 protected:
  OneRing() {
    EXPECT_EQ(pipe2(pipe.data(), O_CLOEXEC), 0);
    EXPECT_EQ(write(pipe[1], "data", 4), 4);
    op.kind = RingOp::Kind::kRead;
    op.fd = pipe[0];
    op.buffer = buf.data();
    op.length = 4;
  }
  ~OneRing() override {
    for (const int fd : pipe) close(fd);
  }
  // Of the operation that is there at once, by a ring of its own.
  bool Usable() { return ring.Do(op) == 4; }
  static RingOp Timed(RingOp::Kind kind, uint64_t deadline_ns) {
    RingOp timed;
    timed.kind = kind;
    timed.deadline_ns = deadline_ns;
    return timed;
  }

  ThreadRing ring;
  RingOp op;
  std::array<int, 2> pipe{-1, -1};
  std::array<char, 8> buf{};
};

TEST_F(OneRing, ReadsPollsAndSleeps) {
  if (!Usable()) GTEST_SKIP() << "no io_uring here: " << strerror(ThreadRing::Refusal());
  EXPECT_EQ(memcmp(buf.data(), "data", 4), 0);
  EXPECT_GE(ThreadRing::NrCreated(), 1);
  const uint64_t until = base::MonotonicNs() + base::kNsPerMs;
  EXPECT_EQ(ring.Do(Timed(RingOp::Kind::kSleep, until)), 0);
  EXPECT_GE(base::MonotonicNs(), until);
  RingOp poll = Timed(RingOp::Kind::kPoll, base::MonotonicNs() + base::kNsPerMs);
  poll.fd = pipe[0];
  poll.flags = POLLIN;
  EXPECT_EQ(ring.Do(poll), -ECANCELED);  // in vain
  std::thread other([&] { EXPECT_EQ(write(pipe[1], "more", 4), 4); });
  poll.deadline_ns = base::kNever;
  EXPECT_EQ(ring.Do(poll), POLLIN);
  other.join();
  EXPECT_EQ(ring.Do(op), 4);
  EXPECT_EQ(memcmp(buf.data(), "more", 4), 0);
  RingOp bad = op;
  bad.fd = -1;
  EXPECT_EQ(ring.Do(bad), -EBADF);
}

TEST_F(OneRing, EachThreadHasItsOwn) {
  if (!Usable()) GTEST_SKIP() << "no io_uring here: " << strerror(ThreadRing::Refusal());
  const int before = ThreadRing::NrCreated();
  std::thread other([&] {
    ThreadRing own;
    EXPECT_EQ(own.Do(Timed(RingOp::Kind::kSleep, 1)), 0);
  });
  other.join();
  EXPECT_EQ(ThreadRing::NrCreated(), before + 1);
}

TEST_F(OneRing, AForkedChildMakesAnother) {
  if (!Usable()) GTEST_SKIP() << "no io_uring here: " << strerror(ThreadRing::Refusal());
  EXPECT_EQ(InChild([&] {
    ring.ResetAfterFork();
    CHILD_CHECK(ThreadRing::NrCreated() == 0);
    CHILD_CHECK(write(pipe[1], "five!", 5) == 5);
    CHILD_CHECK(ring.Do(op) == 4);
    CHILD_CHECK(ThreadRing::NrCreated() == 1);
  }), 0);
  EXPECT_EQ(read(pipe[0], buf.data(), 8), 1);
}

// Nobody asks again, and the reason is kept.
TEST_F(OneRing, ARefusalIsForGood) {
  const int status = InChild([&] {
    if (!RefuseCalls({SYS_io_uring_setup}, EPERM)) _exit(77);
    CHILD_CHECK(ring.Do(op) == ThreadRing::kRefused);
    CHILD_CHECK(!ThreadRing::Usable());
    CHILD_CHECK(ThreadRing::Refusal() != 0);
    CHILD_CHECK(read(pipe[0], buf.data(), 8) == 4);  // nothing was done
    platform::Waker waker;
    CompletionRing other;
    CHILD_CHECK(other.Create(&waker) < 0);
    CHILD_CHECK(!other.live());
  });
  if (status == 77) GTEST_SKIP() << "seccomp filters are refused";
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace cmwq::test
