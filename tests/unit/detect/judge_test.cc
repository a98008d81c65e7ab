// The judge: what was announced, what the detector found, what perf recorded, what the BPF program
// counted and what getrusage says must agree. Runs with the canary and, as judge_exact_test, with
// the BPF program as the detector.
//
// The loader is started as a server, and once as a launcher. Where it is refused the tests are
// skipped.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>

#include "hooks/detect/bpf_link.h"
#include "hooks/detect/bpf_source.h"
#include "hooks/detect/perf_ring.h"
#include "hooks/detect/spawn.h"
#include "hooks/detect/task_state.h"
#include "runtime/base/conf.h"
#include "runtime/core/runtime.h"
#include "runtime/platform/cpu_set.h"
#include "runtime/pool/switch_audit.h"
#include "tests/support/child.h"
#include "tests/support/gate.h"
#include "tests/support/sanitizer.h"

namespace cmwq::test {
namespace {

using detect::TaskState;
using detect::TaskStateReader;
using pool::Phase;

// Why there is no BPF program for this process; empty if there is one.
std::string g_refused;

uint64_t OwnSleeps() {
  struct rusage usage = {};
  getrusage(RUSAGE_THREAD, &usage);
  return static_cast<uint64_t>(usage.ru_nvcsw);
}

struct Reading {
  uint64_t rusage = 0, perf = 0, bpf = 0;
};

// One thread's three counters.
class Witnesses {
 public:
  // 0, or errno of perf.
  int Open(const detect::BpfMemory& memory) {
    slot_ = detect::ClaimSlot(memory, base::Tid(), 0);
    return slot_ != nullptr ? ring_.Open(&what_) : ENOSPC;
  }
  void Close() {
    detect::ReleaseSlot(slot_);
    ring_.Close();
  }
  // All three at a moment in which the thread did not sleep.
  Reading Read() {
    Reading r;
    do {
      r.rusage = OwnSleeps();
      ring_.Read(&counts_);
      r.perf = counts_.slept;
      r.bpf = 0;
      for (const unsigned long long& n : slot_->slept)
        r.bpf += __atomic_load_n(&n, __ATOMIC_RELAXED);
    } while (OwnSleeps() != r.rusage);
    return r;
  }
  uint64_t lost() const { return counts_.lost; }
  cmwq_bpf_slot* slot() { return slot_; }

 private:
  cmwq_bpf_slot* slot_ = nullptr;
  detect::PerfRing ring_;
  detect::SwitchCounts counts_;
  const char* what_ = "";
};

class Judge : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!g_refused.empty()) GTEST_SKIP() << g_refused;
    ASSERT_EQ(core::Runtime::Get().Start(), 0);
    memory_ = detect::ConnectBpf();
    ASSERT_NE(memory_, nullptr);
  }
  const detect::BpfMemory* memory_ = nullptr;
};

// Lets the calling thread be switched out `times` times although it could go on: no sleeps. It shares
// its CPU with a thread that computes. Calls `each` all the time: its yields are switches, too, and whoever
// keeps records of them must take them.
void BePreempted(long times, const std::function<void()>& each = [] {}) {
  const auto count = [] {
    struct rusage usage = {};
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nivcsw;
  };
  const auto here = platform::CpuSet::Of(platform::CurrentCpu());
  here.StoreAffinity(0);
  std::atomic<bool> stop{false};
  std::thread other([&] {
    here.StoreAffinity(0);
    while (!stop) base::SchedYield();
  });
  for (const long begin = count(); count() - begin < times;) {
    base::SchedYield();
    each();
  }
  stop = true;
  other.join();
}

// Exact: the same switches of the same thread, whoever counts them.
TEST_F(Judge, PerfBpfAndGetrusageCountTheSameSleeps) {
  constexpr int kSleeps = 400;
  std::atomic<Gate*> at{nullptr};
  std::atomic<int> tid{0}, perf_err{-1};
  Reading first, last;
  uint64_t by_phase[pool::kPhases] = {};
  uint64_t lost = 0;
  std::thread sleeper([&] {
    Witnesses w;
    tid = base::Tid();
    perf_err = w.Open(*memory_);
    if (perf_err != 0) return;
    first = w.Read();
    const cmwq_bpf_slot before = *w.slot();
    for (int i = 0; i < kSleeps; ++i) {
      // Phases by turns; the records are taken in between, or the ring would overflow.
      __atomic_store_n(&w.slot()->phase, static_cast<unsigned>(i % pool::kPhases),
                       __ATOMIC_RELEASE);
      Gate gate;
      at = &gate;
      gate.Wait();
      if (i % 4 == 0) w.Read();
    }
    BePreempted(20, [&w] { w.Read(); });
    last = w.Read();
    for (int p = 0; p < pool::kPhases; ++p) by_phase[p] = w.slot()->slept[p] - before.slept[p];
    lost = w.lost();
    w.Close();
  });
  TaskStateReader reader;
  Eventually([&] { return perf_err != -1; });
  for (int i = 0; i < kSleeps && perf_err == 0; ++i) {
    Eventually([&] { return at != nullptr && reader.Read(tid) == TaskState::kAsleep; });
    at.exchange(nullptr)->Open();
  }
  sleeper.join();
  reader.CloseAll();
  if (perf_err != 0) GTEST_SKIP() << "perf_event_open is refused here, errno " << perf_err;
  EXPECT_EQ(lost, 0u);
  EXPECT_GE(last.rusage - first.rusage, static_cast<uint64_t>(kSleeps));
  EXPECT_EQ(last.perf - first.perf, last.rusage - first.rusage);
  EXPECT_EQ(last.bpf - first.bpf, last.rusage - first.rusage);
  uint64_t sum = 0;
  for (const uint64_t n : by_phase) {
    EXPECT_GE(n, static_cast<uint64_t>(kSleeps / pool::kPhases));
    sum += n;
  }
  EXPECT_EQ(sum, last.bpf - first.bpf);
}

uint64_t Presumed() {
  uint64_t sum = 0;
  core::Runtime::Get().pools()->ForEachPool(
      [&sum](pool::WorkerPool& pool) { sum += pool.Stats().presumed; });
  return sum;
}

// One item blocks, the next one lets it go, but not before it is asleep. Without a word, the next
// one runs only if the detector has found out.
void BlockOnce(struct cmwq_workqueue* queue, bool announced) {
  Gate gate;
  std::atomic<int> tid{0};
  Item blocks([&] {
    if (announced) cmwq_block_begin();
    tid = base::Tid();  // whoever sees it asleep from here on sees the sleep that is meant
    gate.Wait();
    if (announced) cmwq_block_end();
  });
  Item opens([&] {
    TaskStateReader reader;
    Eventually([&] { return tid != 0 && reader.Read(tid) == TaskState::kAsleep; });
    reader.CloseAll();
    gate.Open();
  });
  cmwq_queue_work_on(0, queue, blocks.work());
  cmwq_queue_work_on(0, queue, opens.work());
  cmwq_flush_workqueue(queue);
}

TEST_F(Judge, AnnouncedDetectorAndBpfAgree) {
  // Beside other programs that compute, the canary gets its turn twice a second; the program is told.
  const uint64_t each = base::g_conf.switches == base::kSwitchesExact ? 60 : 8;
  struct cmwq_workqueue* const queue = cmwq_alloc_workqueue("judged", 0, 0);
  ASSERT_NE(queue, nullptr);
  BlockOnce(queue, true);  // makes the workers
  pool::SwitchTotals before, after;
  ASSERT_TRUE(pool::ReadSwitchTotals(&before));
  EXPECT_STREQ(before.source, "bpf");
  const uint64_t presumed = Presumed();
  for (uint64_t i = 0; i < 2 * each; ++i) BlockOnce(queue, i % 2 == 0);
  // Once every worker is parked nothing changes any more, and getrusage knows of no other sleep.
  Eventually([&] {
    pool::ReadSwitchTotals(&after);
    return after.slept[0] + after.slept[1] + after.slept[2] == after.nvcsw;
  });
  EXPECT_EQ(after.lost, 0u);
  EXPECT_EQ(after.announced - before.announced, each);
  const auto slept = [&](Phase p) {
    return after.slept[static_cast<int>(p)] - before.slept[static_cast<int>(p)];
  };
  EXPECT_GE(slept(Phase::kAnnounced), each);
  EXPECT_GE(slept(Phase::kItem), each);
  EXPECT_GE(Presumed() - presumed, each);
  cmwq_destroy_workqueue(queue);
}

TEST_F(Judge, TheDetectorIsTheOneThatWasAskedFor) {
  struct cmwq_workqueue* const queue = cmwq_alloc_workqueue("asked", 0, 0);
  BlockOnce(queue, true);
  cmwq_destroy_workqueue(queue);
  const auto count = [](int, const pool::BlockingSource&, void* arg) { ++*static_cast<int*>(arg); };
  int all = 0, bpf = 0;
  detect::ForEachDetector(count, &all);
  detect::ForEachBpfSource(count, &bpf);
  EXPECT_GE(all, 1);
  EXPECT_EQ(bpf, base::g_conf.switches == base::kSwitchesExact ? all : 0);
}

// The program is attached for the launched process and no other.
TEST_F(Judge, LaunchedByTheLoader) {
  if (getenv("CMWQ_JUDGE_LAUNCHED") != nullptr) return;
  char self[4096];
  const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
  ASSERT_GT(n, 0);
  self[n] = '\0';
  const char* const loader = getenv("CMWQ_BPF_LOADER");
  fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    unsetenv("CMWQ_BPF");
    setenv("CMWQ_JUDGE_LAUNCHED", "1", 1);
    execl(loader, loader, "run", "--", self, "--gtest_filter=*BpfAgree", nullptr);
    _exit(127);
  }
  EXPECT_EQ(WaitFor(pid), 0);
}

// A child of fork gets a program of its own from a server.
TEST_F(Judge, AForkedChildConnectsAnew) {
  if (getenv("CMWQ_JUDGE_LAUNCHED") != nullptr) return;
  if (kTsan) GTEST_SKIP() << "ThreadSanitizer cannot follow the fork of a threaded process";
  struct cmwq_workqueue* const queue = cmwq_alloc_workqueue("forked", 0, 0);
  BlockOnce(queue, true);
  EXPECT_EQ(InChild([queue] {
    BlockOnce(queue, true);
    pool::SwitchTotals totals;
    CHILD_CHECK(pool::ReadSwitchTotals(&totals));
    CHILD_CHECK(strcmp(totals.source, "bpf") == 0);
    CHILD_CHECK(totals.slept[static_cast<int>(Phase::kAnnounced)] >= 1);
  }), 0);
  cmwq_destroy_workqueue(queue);
}

// A loader that serves this process and its children.
class Server {
 public:
  ~Server() {
    if (pid_ <= 0) return;
    kill(pid_, SIGTERM);
    WaitFor(pid_);
    rmdir(folder_);
  }
  // Why it does not serve, or nothing.
  std::string Start(const char* loader) {
    if (loader == nullptr) return "this build has no cmwq-bpf";
    int ends[2];
    if (mkdtemp(folder_) == nullptr || pipe2(ends, O_CLOEXEC) != 0) return "no temporary folder";
    const std::string path = std::string(folder_) + "/socket";
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ends[1], 1);
      dup2(ends[1], 2);
      execl(loader, loader, "serve", path.c_str(), nullptr);
      _exit(127);
    }
    close(ends[1]);
    std::string said;
    char buffer[512];
    while (said.find("serving at") == std::string::npos) {
      const ssize_t n = read(ends[0], buffer, sizeof(buffer));
      if (n <= 0) return "BPF is refused here: " + said;
      said.append(buffer, static_cast<size_t>(n));
    }
    setenv("CMWQ_BPF", path.c_str(), 1);
    return "";
  }

 private:
  char folder_[64] = "/tmp/cmwq-judge-XXXXXX";
  pid_t pid_ = -1;
};

}  // namespace
}  // namespace cmwq::test

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  cmwq::test::Server server;
  if (getenv("CMWQ_JUDGE_LAUNCHED") == nullptr) {
    cmwq::test::g_refused = server.Start(getenv("CMWQ_BPF_LOADER"));
  }
  return RUN_ALL_TESTS();
}
