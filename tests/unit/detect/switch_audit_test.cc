// Audits of threads: phases, ends, refusals, forks. The judge of their truth is judge_test.

#include "hooks/detect/switch_audit.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include <cstddef>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "hooks/detect/task_state.h"
#include "runtime/base/conf.h"
#include "tests/support/child.h"
#include "tests/support/gate.h"
#include "tests/support/log_capture.h"

namespace cmwq::test {
namespace {

using detect::BeginAudit;
using detect::ThreadAudit;
using pool::Phase;
using pool::SwitchTotals;

SwitchTotals Totals() {
  SwitchTotals totals;
  pool::ReadSwitchTotals(&totals);
  return totals;
}

uint64_t SleptIn(const SwitchTotals& t, Phase phase) { return t.slept[static_cast<int>(phase)]; }
uint64_t Slept(const SwitchTotals& t) { return t.slept[0] + t.slept[1] + t.slept[2]; }

// A thread that sleeps when it is told to.
class Sleeper {
 public:
  // Runs `body`, which calls Sleep.
  template <class Body>
  explicit Sleeper(Body body) : thread_([this, body] {
    tid_ = base::Tid();
    body(*this);
    done_ = true;
  }) {}
  ~Sleeper() { thread_.join(); }

  // In the thread: a sleep that is one for certain.
  void Sleep() {
    Gate gate;
    gate_ = &gate;
    gate.Wait();
  }
  // Lets it go on from every sleep, once it is seen asleep, until it is through.
  void Serve() {
    detect::TaskStateReader reader;
    while (!done_) {
      Gate* gate = nullptr;
      Eventually([&] { return done_ || (gate = gate_) != nullptr; });
      if (gate == nullptr) continue;
      Eventually([&] { return reader.Read(tid_) == detect::TaskState::kAsleep; });
      gate_ = nullptr;
      gate->Open();
    }
    reader.CloseAll();
  }

 private:
  std::atomic<int> tid_{0};
  std::atomic<Gate*> gate_{nullptr};
  std::atomic<bool> done_{false};
  std::thread thread_;
};

class SwitchAuditTest : public ::testing::TestWithParam<ThreadAudit::Source> {
 protected:
  void SetUp() override { pool::ForgetSwitchAudits(); }
};

void Work(void*) {}

TEST_P(SwitchAuditTest, CountsByPhaseWhatTheThreadSlept) {
  LogCapture log;
  {
    Sleeper sleeper([](Sleeper& self) {
      ThreadAudit* const audit = BeginAudit(GetParam(), 0);
      ASSERT_NE(audit, nullptr);
      self.Sleep();
      audit->Enter(Phase::kItem, nullptr);
      for (int i = 0; i < 3; ++i) self.Sleep();
      audit->Enter(Phase::kAnnounced, nullptr);
      for (int i = 0; i < 5; ++i) self.Sleep();
      audit->Enter(Phase::kItem, nullptr);
      self.Sleep();
      audit->End();
    });
    sleeper.Serve();
  }
  const SwitchTotals t = Totals();
  EXPECT_EQ(t.threads, 1u);
  EXPECT_EQ(t.announced, 1u);
  EXPECT_GE(SleptIn(t, Phase::kEngine), 1u);
  EXPECT_GE(SleptIn(t, Phase::kItem), 4u);
  EXPECT_GE(SleptIn(t, Phase::kAnnounced), 5u);
  EXPECT_EQ(t.lost, 0u);
  // The thread has ended: both have counted everything.
  EXPECT_EQ(Slept(t), t.nvcsw);
}

TEST_P(SwitchAuditTest, ObjectsAreUsedAgainAndTheirCountsStay) {
  LogCapture log;
  for (int round = 1; round <= 3; ++round) {
    {
      Sleeper sleeper([](Sleeper& self) {
        ThreadAudit* const audit = BeginAudit(GetParam(), 0);
        audit->Enter(Phase::kItem, nullptr);
        self.Sleep();
        audit->End();
      });
      sleeper.Serve();
    }
    const SwitchTotals t = Totals();
    EXPECT_EQ(t.threads, static_cast<uint64_t>(round));
    EXPECT_GE(SleptIn(t, Phase::kItem), static_cast<uint64_t>(round));
    EXPECT_EQ(Slept(t), t.nvcsw);
  }
}

// The reader takes the ring from the thread's hands, and gives it back.
TEST_P(SwitchAuditTest, ReadersMeetTheThread) {
  LogCapture log;
  std::atomic<bool> stop{false};
  std::thread reader([&] {
    while (!stop) {
      Totals();
      pool::DrainSwitchAudits();
    }
  });
  {
    std::thread changer([] {
      ThreadAudit* const audit = BeginAudit(GetParam(), 0);
      for (int i = 0; i < 2000; ++i) {
        audit->Enter(i % 2 == 0 ? Phase::kItem : Phase::kAnnounced, nullptr);
      }
      audit->End();
    });
    changer.join();
  }
  stop = true;
  reader.join();
  const SwitchTotals t = Totals();
  EXPECT_EQ(t.announced, 1000u);
  EXPECT_EQ(Slept(t), t.nvcsw);
}

TEST_P(SwitchAuditTest, KnowsWhatTheThreadExecutes) {
  LogCapture log;
  const auto work = reinterpret_cast<cmwq_work_fn>(&Work);
  std::thread([work] {
    ThreadAudit* const audit = BeginAudit(GetParam(), 0);
    EXPECT_EQ(audit->Executing(base::Tid()), nullptr);
    audit->Enter(Phase::kItem, work);
    EXPECT_EQ(audit->Executing(base::Tid()), work);
    EXPECT_EQ(audit->Executing(base::Tid() + 1), nullptr);
    audit->Enter(Phase::kAnnounced, nullptr);
    EXPECT_EQ(audit->Executing(base::Tid()), work);
    audit->Enter(Phase::kEngine, nullptr);
    EXPECT_EQ(audit->Executing(base::Tid()), nullptr);
    audit->End();
  }).join();
}

INSTANTIATE_TEST_SUITE_P(Sources, SwitchAuditTest,
                         ::testing::Values(ThreadAudit::Source::kRusage,
                                           ThreadAudit::Source::kPerf),
                         [](const auto& info) {
                           return info.param == ThreadAudit::Source::kRusage ? "Rusage" : "Perf";
                         });

// Makes one system call fail for the rest of the process's life.
void Forbid(int nr, int err) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(nr), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(err)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
  CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

TEST(SwitchAuditRefused, PerfFallsBackToGetrusageWithOneLine) {
  const ChildResult result = InQuietChild([] {
    Forbid(SYS_perf_event_open, EPERM);
    base::g_conf.switches = base::kSwitchesPerf;
    for (int i = 0; i < 2; ++i) {
      pool::SwitchAudit* const audit = pool::OpenSwitchAudit(0);
      CHILD_CHECK(audit != nullptr);
      audit->Enter(Phase::kItem, nullptr);
      audit->End();
    }
    CHILD_CHECK(std::string(Totals().source) == "getrusage");
    CHILD_CHECK(Slept(Totals()) == Totals().nvcsw);
  });
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_NE(result.errors.find("perf_event_open refused"), std::string::npos) << result.errors;
  EXPECT_EQ(result.errors.find("perf_event_open"), result.errors.rfind("perf_event_open"));
}

TEST(SwitchAuditRefused, BpfWithoutALoader) {
  const ChildResult result = InQuietChild([] {
    unsetenv("CMWQ_BPF");
    base::g_conf.switches = base::kSwitchesExact;
    for (int i = 0; i < 2; ++i) pool::OpenSwitchAudit(0)->End();
    CHILD_CHECK(std::string(Totals().source) == "getrusage");
  });
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_NE(result.errors.find("switches=exact: no BPF program (CMWQ_BPF is not set"),
            std::string::npos)
      << result.errors;
  EXPECT_EQ(result.errors.find("CMWQ_BPF"), result.errors.rfind("CMWQ_BPF"));
}

TEST(SwitchAuditFork, TheChildHasNothingOfTheParents) {
  LogCapture log;
  ThreadAudit* const audit = BeginAudit(ThreadAudit::Source::kPerf, 0);
  audit->Enter(Phase::kItem, nullptr);
  EXPECT_EQ(InChild([] {
    pool::ForgetSwitchAudits();  // as the fork handler does
    CHILD_CHECK(Totals().threads == 0);
    ThreadAudit* const own = BeginAudit(ThreadAudit::Source::kPerf, 0);
    own->Enter(Phase::kItem, nullptr);
    CHILD_CHECK(Totals().threads == 1);
    own->End();
    CHILD_CHECK(Slept(Totals()) == Totals().nvcsw);
  }), 0);
  audit->End();
}

}  // namespace
}  // namespace cmwq::test
