// The detector where something is refused or changes under it: privileges, idle priority, threads,
// /proc, descriptors, CPUs. A silent block is found all the same, and the program notices nothing.

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/support/refuse.h"
#include "tests/unit/detect/silent.h"

namespace cmwq::test {
namespace {

void FindOne(int cpu) {
  Pipe pipe;
  RunBehind(
      cpu, [&] { pipe.Wait(); }, [&] { pipe.Put(); });
}

// Found by the tick, and by nobody else.
void FindOneByTick(int cpu) {
  const Found before = FoundOn(cpu);
  FindOne(cpu);
  Eventually([&] { return FoundOn(cpu).tick > before.tick; });
  CHILD_CHECK(FoundOn(cpu).canary == before.canary);
}

void FindOneByCanary(int cpu) {
  Pipe pipe;
  RunBehindCanary(
      cpu, [&] { pipe.Wait(); }, [&] { pipe.Put(); });
}

template <class F>
void ForEachThread(F visit) {
  std::vector<int> tids;
  const long dir = base::Sys(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY, 0);
  CHILD_CHECK(dir >= 0);
  alignas(8) char buffer[4096];
  for (long n; (n = base::Sys(SYS_getdents64, dir, buffer, sizeof(buffer))) > 0;) {
    for (long at = 0; at < n;) {
      unsigned short length;
      __builtin_memcpy(&length, buffer + at + 16, sizeof(length));
      const int tid = atoi(buffer + at + 19);
      if (tid > 0) tids.push_back(tid);
      at += length;
    }
  }
  base::SysClose(static_cast<int>(dir));
  for (const int tid : tids) visit(tid);
}

// What taskset -a does.
void MoveProcess(const platform::CpuSet& set) {
  ForEachThread([&set](int tid) { CHILD_CHECK(set.StoreAffinity(tid) == 0); });
}

platform::CpuSet Both(int a, int b) {
  platform::CpuSet set = platform::CpuSet::Of(a);
  set.Add(b);
  return set;
}

TEST(Detector, NeedsNoPrivilege) {
  EXPECT_IN_CHILD("SCHED_IDLE is refused here", [] {
    if (geteuid() == 0) CHILD_CHECK(setresuid(60'001, 60'001, 60'001) == 0);
    FindOneByCanary(AllowedCpu(0));
  });
}

// A session of its own is an autogroup of its own for the scheduler.
TEST(Detector, InItsOwnSession) {
  EXPECT_IN_CHILD("SCHED_IDLE is refused here", [] {
    CHILD_CHECK(setsid() > 0);
    FindOneByCanary(AllowedCpu(0));
  });
}

TEST(Detector, TickWhereIdlePriorityIsRefused) {
  EXPECT_EQ(InChild([] {
              CHILD_CHECK(RefuseCalls({SYS_sched_setattr, SYS_sched_setscheduler}, EPERM));
              for (int i = 0; i < 3; ++i) FindOneByTick(AllowedCpu(0));
            }),
            0);
}

TEST(Detector, TickWherePlacingIsRefused) {
  EXPECT_EQ(InChild([] {
              CHILD_CHECK(RefuseCalls({SYS_sched_setaffinity}, EPERM));
              FindOneByTick(AllowedCpu(0));
            }),
            0);
}

TEST(Detector, TickAloneWhenToldSo) {
  EXPECT_EQ(InChild([] {
              setenv("CMWQ_CONF", "canary=2,tick_ms=1", 1);
              FindOneByTick(AllowedCpu(0));
              ForEachThread([](int tid) {
                char path[64], name[16] = "";
                snprintf(path, sizeof(path), "/proc/self/task/%d/comm", tid);
                const int fd = open(path, O_RDONLY);
                CHILD_CHECK(fd >= 0 && read(fd, name, sizeof(name)) > 0);
                close(fd);
                CHILD_CHECK(__builtin_strncmp(name, "wq/C", 4) != 0);
              });
            }),
            0);
}

// The tick looks until a thread can be had.
TEST(Detector, TickWhileNoThreadCanBeMade) {
  EXPECT_IN_CHILD("SCHED_IDLE is refused here", [] {
    setenv("CMWQ_CONF", "create_cooldown_ms=1", 1);
    static std::atomic<int> refused{0};
    detect::SetSpawn([](void* (*)(void*), void*, unsigned long) {
      refused.fetch_add(1);
      return EAGAIN;
    });
    const int cpu = AllowedCpu(0);
    FindOneByTick(cpu);
    CHILD_CHECK(!FoundOn(cpu).attends && refused.load() >= 1);
    detect::SetSpawn(nullptr);
    while (!FoundOn(cpu).attends) FindOne(cpu);
    // SCHED_IDLE may be refused to the thread that was made.
    FindOneByCanary(cpu);
  });
}

TEST(Detector, ByTheClockWithoutProc) {
  if (geteuid() != 0) GTEST_SKIP() << "not root: chroot is refused";
  char empty[] = "/tmp/cmwq-test-XXXXXX";
  ASSERT_NE(mkdtemp(empty), nullptr);
  const int status = InChild([&empty] {
    const int cpu = AllowedCpu(0);
    if (chroot(empty) != 0 || chdir("/") != 0) _exit(kSkipped);
    FindOneByCanary(cpu);
  });
  rmdir(empty);
  if (status == kSkipped) GTEST_SKIP() << "chroot or SCHED_IDLE is refused";
  EXPECT_EQ(status, 0);
}

TEST(Detector, ByTheClockOfTheTickWithoutProc) {
  EXPECT_EQ(InChild([] {
              const int cpu = AllowedCpu(0);
              setenv("CMWQ_CONF", "canary=2,tick_ms=1", 1);
              // The runtime reads sysfs when it starts.
              struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("start", 0, 0);
              CHILD_CHECK(wq != nullptr && RefuseCalls({SYS_openat}, EMFILE));
              FindOneByTick(cpu);
            }),
            0);
}

// The reader of the program's output must see its end when the program closes it, though the canary
// lives on.
void ExpectEndOfFile() {
  Pipe before;  // takes the lowest numbers, whatever is open
  int ends[2];
  CHILD_CHECK(pipe(ends) == 0 && dup2(ends[1], 0) == 0 && dup2(ends[1], 1) == 1);
  close(ends[1]);
  const int other = fcntl(1, F_DUPFD, 100);
  CHILD_CHECK(other >= 100);
  FindOne(AllowedCpu(0));
  close(0);
  close(1);
  close(other);
  char byte;
  CHILD_CHECK(read(ends[0], &byte, 1) == 0);
}

TEST(Detector, KeepsNothingOpen) { EXPECT_EQ(InChild(&ExpectEndOfFile), 0); }

// Before Linux 5.9.
TEST(Detector, KeepsNothingOpenWithoutCloseRange) {
  EXPECT_EQ(InChild([] {
              CHILD_CHECK(RefuseCalls({SYS_close_range}, ENOSYS));
              ExpectEndOfFile();
            }),
            0);
}

TEST(Detector, KeepsNothingOpenWithoutATableOfItsOwn) {
  EXPECT_EQ(InChild([] {
              CHILD_CHECK(RefuseCalls({SYS_close_range, SYS_unshare}, EPERM));
              ExpectEndOfFile();
            }),
            0);
}

// A daemon closes everything, and opens files of its own under the same numbers.
void SurviveClosing() {
  const int cpu = AllowedCpu(0);
  FindOneByCanary(cpu);
  for (int fd = 3; fd < 256; ++fd) close(fd);
  std::vector<int> own;
  while (own.size() < 100) {
    own.push_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
    CHILD_CHECK(own.back() >= 0);
  }
  for (int i = 0; i < 3; ++i) FindOneByCanary(cpu);
  for (const int fd : own) {
    struct stat st;
    CHILD_CHECK(fstat(fd, &st) == 0 && S_ISCHR(st.st_mode));
  }
}

TEST(Detector, SurvivesADaemonThatClosesEverything) {
  EXPECT_IN_CHILD("SCHED_IDLE is refused here", &SurviveClosing);
}

TEST(Detector, SurvivesThatWithoutATableOfItsOwn) {
  EXPECT_IN_CHILD("SCHED_IDLE is refused here", [] {
    CHILD_CHECK(RefuseCalls({SYS_close_range, SYS_unshare}, EPERM));
    SurviveClosing();
  });
}

// The whole process is moved off a CPU and may use it again later. Nobody tells the detector.
TEST(Detector, FollowsTheProcessOffItsCpuAndBack) {
  const int away = AllowedCpu(0), home = AllowedCpu(1);
  if (home < 0) GTEST_SKIP() << "needs two CPUs";
  EXPECT_IN_CHILD("SCHED_IDLE is refused here", [=] {
    setenv("CMWQ_CONF", "cpu_watch_ms=0", 1);  // nor does the process's own watcher
    FindOneByCanary(home);
    MoveProcess(platform::CpuSet::Of(away));
    FindOneByTick(home);
    CHILD_CHECK(!FoundOn(home).attends);
    MoveProcess(Both(away, home));
    while (!FoundOn(home).attends) FindOne(home);
    FindOneByCanary(home);
  });
}

// Whoever watches the process's CPUs tells the detector at once.
TEST(Detector, IsReboundByWhoeverWatchesTheCpus) {
  const int away = AllowedCpu(0), home = AllowedCpu(1);
  if (home < 0) GTEST_SKIP() << "needs two CPUs";
  EXPECT_IN_CHILD("SCHED_IDLE is refused here", [=] {
    setenv("CMWQ_CONF", "cpu_watch_ms=0", 1);  // the process's own watcher would bind it again
    FindOneByCanary(home);
    pool::RebindDetectors(platform::CpuSet::Of(away));
    FindOneByTick(home);
    pool::RebindDetectors(Both(away, home));
    CHILD_CHECK(FoundOn(home).attends);
    FindOneByCanary(home);
  });
}

// Every worker that there may be is blocked: nothing could be started, so nobody looks.
TEST(Detector, SleepsAtTheCapOfWorkers) {
  EXPECT_IN_CHILD("SCHED_IDLE is refused here", [] {
    setenv("CMWQ_CONF", "max_workers=2", 1);
    const int cpu = AllowedCpu(0);
    FindOneByCanary(cpu);
    struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("cap", 0, 0);
    Gate gate;
    Item first([&] { gate.Wait(); }), second([&] { gate.Wait(); }), third;
    for (Item* const item : {&first, &second, &third}) {
      CHILD_CHECK(cmwq_queue_work_on(cpu, wq, item->work()));
    }
    pool::WorkerPool& pool = *core::Runtime::Get().pools()->per_cpu[0][cpu];
    Eventually([&] {
      const pool::PoolStats s = pool.Stats();
      return s.nr_workers == 2 && s.nr_idle == 0 && s.nr_running == 0;
    });
    Eventually([&] { return FoundOn(cpu).dormant; });
    for (int i = 0; i < 1000; ++i) {
      base::SchedYield();
      CHILD_CHECK(FoundOn(cpu).dormant);
    }
    CHILD_CHECK(third.Runs() == 0);
    gate.Open();
    cmwq_flush_workqueue(wq);
    CHILD_CHECK(third.Runs() == 1);
  });
}

}  // namespace
}  // namespace cmwq::test
