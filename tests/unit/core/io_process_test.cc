// The io functions in processes that fork, forbid io_uring or close everything. Each case runs in a
// child of its own, which has an engine of its own; a child that hangs is ended by its alarm.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cmwq/io.hpp>
#include <cmwq/workqueue.hpp>

#include "runtime/platform/uring.h"
#include "tests/support/child.h"

namespace {

using cmwq::platform::ThreadRing;
using cmwq::test::InChild;

// In the child: the line of the first expectation that does not hold is the exit code.
#define REQUIRE(cond)                    \
  do {                                   \
    if (!(cond)) _exit(__LINE__ & 0xff); \
  } while (0)

int TheCpu() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof(set), &set);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) return cpu;
  }
  return 0;
}

// Starts an item that waits for a byte, and returns when it has announced that: a second item of
// its CPU has run then.
struct Waiting {
  explicit Waiting(cmwq::Workqueue& queue) {
    REQUIRE(pipe(ends.data()) == 0);
    queue.queue_on(TheCpu(), reader);
    cmwq::Work next([] {});
    queue.queue_on(TheCpu(), next);
    next.flush();
  }
  void Release() { REQUIRE(write(ends[1], "x", 1) == 1); }

  std::array<int, 2> ends{-1, -1};
  char got = 0;
  ssize_t result = -2;
  int error = 0;
  struct Read {
    Waiting* self;
    void operator()() {
      self->result = cmwq_io_read(self->ends[0], &self->got, 1, -1);
      self->error = errno;
    }
  };
  cmwq::Work<Read> reader{Read{this}};
};

void Deny(long number, int err, unsigned flags) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(err)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
  REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  REQUIRE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) == 0);
}

// A full round: a wait for a byte, a timed poll, a sleep.
void Exercise(cmwq::Workqueue& queue) {
  Waiting w(queue);
  w.Release();
  w.reader.flush();
  REQUIRE(w.result == 1 && w.got == 'x');
  cmwq::Work timed([] {
    std::array<int, 2> ends;
    REQUIRE(pipe(ends.data()) == 0);
    REQUIRE(cmwq_io_poll(ends[0], POLLIN, 1'000'000) == 0);
    REQUIRE(cmwq_io_sleep(1'000'000) == 0);
    close(ends[0]);
    close(ends[1]);
  });
  queue.queue(timed);
  timed.flush();
  close(w.ends[0]);
  close(w.ends[1]);
}

class IoProcessTest : public testing::Test {
 protected:
  void SetUp() override {
#if defined(CMWQ_TEST_TSAN)
    GTEST_SKIP() << "ThreadSanitizer: no threads in a child of a threaded process";
#endif
  }
};

TEST_F(IoProcessTest, ChildOfForkHasARingOfItsOwn) {
  cmwq::Workqueue queue("parent");
  Exercise(queue);
  Waiting parents(queue);
  const int before = ThreadRing::NrCreated();
  EXPECT_EQ(InChild([&] {
              REQUIRE(ThreadRing::NrCreated() == 0);
              cmwq::Workqueue mine("child");
              Exercise(mine);
              Exercise(queue);
              REQUIRE((ThreadRing::NrCreated() > 0) == (before > 0));
            }),
            0);
  parents.Release();
  parents.reader.flush();
  EXPECT_EQ(parents.result, 1);
  close(parents.ends[0]);
  close(parents.ends[1]);
}

TEST_F(IoProcessTest, RingKeepsNoDescriptor) {
  EXPECT_EQ(InChild([] {
              const int before = dup(0);
              close(before);
              cmwq::Workqueue queue("child");
              Exercise(queue);
              const int after = dup(0);
              REQUIRE(after == before);
            }),
            0);
}

TEST_F(IoProcessTest, WorksWhereIoUringIsForbidden) {
  for (const int err : {EPERM, ENOSYS, ENOMEM}) {
    EXPECT_EQ(InChild([err] {
                Deny(SYS_io_uring_setup, err, 0);
                cmwq::Workqueue queue("child");
                Exercise(queue);
                REQUIRE(ThreadRing::NrCreated() == 0);
              }),
              0);
  }
  EXPECT_EQ(InChild([] {
              Deny(SYS_io_uring_register, EPERM, 0);
              cmwq::Workqueue queue("child");
              Exercise(queue);
              REQUIRE(ThreadRing::NrCreated() == 0);
            }),
            0);
}

// A sandbox that is closed when the ring is in use already.
TEST_F(IoProcessTest, GoesOnWhenTheRingIsTakenAway) {
  EXPECT_EQ(InChild([] {
              cmwq::Workqueue queue("child");
              Exercise(queue);
              Waiting early(queue), earlier(queue);
              Deny(SYS_io_uring_enter, EPERM, SECCOMP_FILTER_FLAG_TSYNC);
              Waiting late(queue);
              early.Release();
              late.Release();
              earlier.Release();
              for (auto* w : {&early, &earlier, &late}) {
                w->reader.flush();
                REQUIRE(w->result == 1);
              }
              Exercise(queue);
              REQUIRE(ThreadRing::NrCreated() == 0 || !ThreadRing::Usable());
            }),
            0);
}

TEST_F(IoProcessTest, ClosingAllDescriptorsBreaksNothing) {
  EXPECT_EQ(InChild([] {
              cmwq::Workqueue queue("child");
              Exercise(queue);
              Waiting w(queue);
              REQUIRE(syscall(SYS_close_range, 3, ~0U, 0) == 0);
              // The last writer is gone: as in a read(2) that waits meanwhile, or begins to.
              w.reader.flush();
              REQUIRE(w.result == 0 || (w.result == -1 && w.error == EBADF));
              cmwq::Work closed([&] {
                char c;
                REQUIRE(cmwq_io_read(w.ends[0], &c, 1, -1) == -1 && errno == EBADF);
              });
              queue.queue(closed);
              closed.flush();
              Exercise(queue);
            }),
            0);
}

TEST_F(IoProcessTest, OutOfDescriptorsIsNoError) {
  EXPECT_EQ(InChild([] {
              std::array<int, 2> ends;
              REQUIRE(pipe(ends.data()) == 0);
              while (dup(0) >= 0) {
              }
              REQUIRE(errno == EMFILE);
              cmwq::Workqueue queue("child");
              char got = 0;
              cmwq::Work reader([&] { REQUIRE(cmwq_io_read(ends[0], &got, 1, -1) == 1); });
              cmwq::Work writer([&] { REQUIRE(cmwq_io_write(ends[1], "x", 1, -1) == 1); });
              queue.queue_on(TheCpu(), reader);
              queue.queue_on(TheCpu(), writer);
              reader.flush();
              REQUIRE(got == 'x');
              REQUIRE(ThreadRing::NrCreated() == 0);
            }),
            0);
}

}  // namespace
