// What can be told of another thread: from /proc, or from its CPU clock where there is no /proc.

#include "hooks/detect/task_state.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include <cerrno>
#include <deque>
#include <thread>
#include <vector>

#include "tests/support/child.h"
#include "tests/support/gate.h"
#include "tests/support/refuse.h"

namespace cmwq::test {
namespace {

using detect::TaskState;
using detect::TaskStateReader;

constexpr int kQuiet = 3;

class Sleeper {
 public:
  Sleeper()
      : thread_([this] {
          tid = base::Tid();
          gate_.Wait();
        }) {}
  ~Sleeper() {
    if (thread_.joinable()) End();
  }
  void End() {
    gate_.Open();
    thread_.join();
  }
  std::atomic<int> tid{0};

 private:
  Gate gate_;
  std::thread thread_;
};

// Always runnable. A thread does not ask for itself.
class Runner {
 public:
  Runner()
      : thread_([this] {
          tid = base::Tid();
          while (!stop_.load(std::memory_order_relaxed)) sync::CpuRelax();
        }) {
    Eventually([this] { return tid != 0; });
  }
  ~Runner() {
    stop_ = true;
    thread_.join();
  }
  std::atomic<int> tid{0};

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

void TellApart(TaskStateReader* reader) {
  Sleeper sleeper;
  Runner runner;
  Eventually([&] { return sleeper.tid != 0 && reader->Read(sleeper.tid) == TaskState::kAsleep; });
  // The clock only tells whether it ran since the last look.
  Eventually([&] { return reader->Read(runner.tid) == TaskState::kRunnable; });
}

TEST(TaskState, TellsSleepersFromRunners) {
  for (const bool keep : {true, false}) {
    TaskStateReader reader(keep, kQuiet);
    Sleeper sleeper;
    Runner runner;
    EXPECT_EQ(reader.Read(runner.tid), TaskState::kRunnable);
    Eventually([&] { return sleeper.tid != 0 && reader.Read(sleeper.tid) == TaskState::kAsleep; });
    sleeper.End();
    // The thread is gone: whoever waits for it waits in vain. The number may come back.
    Eventually([&] { return reader.Read(sleeper.tid) == TaskState::kAsleep; });
    EXPECT_EQ(reader.Read(runner.tid), TaskState::kRunnable);
    reader.CloseAll();
  }
}

TEST(TaskState, ManyThreadsThroughFewDescriptors) {
  TaskStateReader reader(true, kQuiet);
  std::deque<Sleeper> sleepers(100);
  for (const Sleeper& s : sleepers) {
    Eventually([&] { return s.tid != 0 && reader.Read(s.tid) == TaskState::kAsleep; });
  }
  reader.CloseAll();
}

// Somebody closes a descriptor and its number is used for something else: only a table of one's own
// makes that impossible, so without one nothing stays open.
TEST(TaskState, KeepsNoDescriptorUnlessTold) {
  const int before = dup(2);
  ASSERT_GE(before, 0);
  close(before);
  Runner runner;
  TaskStateReader reader(false, kQuiet);
  EXPECT_EQ(reader.Read(runner.tid), TaskState::kRunnable);
  const int after = dup(2);
  EXPECT_EQ(after, before);
  close(after);
}

TEST(TaskState, ByTheClockWithoutDescriptors) {
  EXPECT_EQ(InChild([] {
              CHILD_CHECK(RefuseCalls({SYS_openat}, EMFILE));
              TaskStateReader reader(true, kQuiet);
              TellApart(&reader);
              Sleeper gone;
              Eventually([&] { return gone.tid != 0; });
              gone.End();
              Eventually([&] { return reader.Read(gone.tid) == TaskState::kAsleep; });
            }),
            0);
}

TEST(TaskState, UnknownWithoutTheClock) {
  EXPECT_EQ(
      InChild([] {
        CHILD_CHECK(RefuseCalls({SYS_openat}, ENOENT) && RefuseCalls({SYS_clock_gettime}, EPERM));
        TaskStateReader reader(true, kQuiet);
        CHILD_CHECK(reader.Read(base::Tid()) == TaskState::kUnknown);
      }),
      0);
}

// `syscall` belongs to root once a process has changed its user; `stat` anybody may read.
TEST(TaskState, OfAProcessThatChangedItsUser) {
  if (geteuid() != 0) GTEST_SKIP() << "not root: cannot become another user";
  EXPECT_EQ(InChild([] {
              CHILD_CHECK(setresuid(60'001, 60'001, 60'001) == 0);
              CHILD_CHECK(prctl(PR_SET_DUMPABLE, 0) == 0);
              TaskStateReader reader(true, kQuiet);
              TellApart(&reader);
            }),
            0);
}

// A thread that a debugger holds does not run, whatever it was doing.
TEST(TaskState, AStoppedThreadIsNotRunning) {
  int status = 0;
  fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(kChildSeconds);
    std::atomic<int> tid{0};
    std::atomic<bool> stop{false};
    std::thread spins([&] {
      tid = base::Tid();
      while (!stop) base::SchedYield();
    });
    Eventually([&] { return tid != 0; });
    const pid_t tracer = fork();
    if (tracer == 0) {
      alarm(kChildSeconds);
      if (ptrace(PTRACE_SEIZE, tid.load(), 0, 0) != 0) _exit(77);
      if (ptrace(PTRACE_INTERRUPT, tid.load(), 0, 0) != 0) _exit(77);
      int s;
      waitpid(tid, &s, __WALL);
      for (;;) pause();
    }
    TaskStateReader reader(false, kQuiet);
    int dead = 0, code = 0;
    Eventually([&] {
      return reader.Read(tid) == TaskState::kAsleep ||
             (dead = waitpid(tracer, &code, WNOHANG)) != 0;
    });
    if (dead == 0) {
      kill(tracer, SIGKILL);  // the kernel lets the thread go on
      waitpid(tracer, &code, 0);
    }
    Eventually([&] { return reader.Read(tid) == TaskState::kRunnable; });
    stop = true;
    spins.join();
    _exit(dead != 0 ? 77 : 0);
  }
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  ASSERT_TRUE(WIFEXITED(status)) << status;
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "ptrace is refused";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace cmwq::test
