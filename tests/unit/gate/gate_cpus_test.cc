// The gates when CPUs come and go, and under a quota: the test says what the system grants.

#include <gtest/gtest.h>
#include <poll.h>

#include <thread>

#include "hooks/gate/cpus.h"
#include "hooks/gate/gate.h"
#include "hooks/gate/gates.h"
#include "tests/support/boundary.h"
#include "tests/support/fake_sysfs.h"

namespace cmwq::test {
namespace {

using gate::CpuGate;
using gate::Wait;
using platform::CpuSet;

class Accepted : public Socket {
 public:
  Accepted() { gate::NoteAccepted(fd()); }
  ~Accepted() { gate::NoteClosing(fd()); }
};

// A thread of the server: serves one connection, until told to end by its hangup.
class Server {
 public:
  Server() : thread_([this] { Run(); }) {}
  ~Server() {
    socket.Hangup();
    thread_.join();
  }
  gate::Member* member() const { return member_.load(); }
  CpuGate* Gate() const { return member()->gate; }
  void AwaitWaiting() {
    Eventually([this] {
      gate::Member* const m = member();
      const int32_t wait = m != nullptr ? m->wait.load() : gate::kAway;
      return wait == gate::kWaiting || wait == gate::kPoked;
    });
  }
  // One request, and the server at the boundary again.
  void Ask() {
    const int before = served.load();
    socket.Request();
    Eventually([&] { return served.load() > before; });
    AwaitWaiting();
  }
  CpuSet RealMask() const {
    CpuSet set;
    EXPECT_EQ(set.LoadAffinity(tid), 0);
    return set;
  }
  CpuSet Virtual() const {
    unsigned long mask[CpuSet::kBytes / sizeof(unsigned long)];
    CpuSet set;
    if (!gate::VirtualAffinity(tid, mask, sizeof(mask))) return RealMask();
    EXPECT_TRUE(set.FromMask(mask, sizeof(mask)));
    return set;
  }

  Accepted socket;
  std::atomic<int> served{0};
  std::atomic<int> tid{0};

 private:
  void Run() {
    tid = base::Tid();
    do {
      // Short, so that the member is known; then for as long as it takes.
      gate::WaitInput(socket.fd(), POLLIN, 1, false);
      member_ = static_cast<gate::Member*>(gate::t_state.worker);
      const Wait wait = gate::WaitInput(socket.fd(), POLLIN, -1, false);
      EXPECT_EQ(wait, Wait::kReady);
      member_ = static_cast<gate::Member*>(gate::t_state.worker);
    } while (socket.Take() != 0 && ++served > 0);
    gate::ThreadExit();
  }
  std::atomic<gate::Member*> member_{nullptr};
  std::thread thread_;  // last
};

class GateCpus : public testing::Test {
 protected:
  void SetUp() override {
    static const bool started = [] {
      base::g_conf.canary = 0;
      base::g_conf.gate_wait_ms = 1'000'000;
      const char* why = nullptr;
      return gate::Init(&why);
    }();
    ASSERT_TRUE(started);
    ASSERT_EQ(all_.LoadAffinity(0), 0);
    // The gates are made by the first member.
    Server first;
    first.AwaitWaiting();
    ASSERT_TRUE(gate::SetCpus({all_, 0}));
    if (all_.Count() < 2) GTEST_SKIP() << "one CPU: none can go";
  }
  void TearDown() override { gate::SetCpus({all_, 0}); }
  CpuSet Without(int gone) const {
    CpuSet rest;
    for (int cpu = all_.Next(0); cpu >= 0; cpu = all_.Next(cpu + 1)) {
      if (cpu != gone) rest.Add(cpu);
    }
    return rest;
  }
  static CpuGate* GateOf(int cpu) {
    gate::Gates* const gates = gate::CurrentGates();
    for (int i = 0; i < gates->n; ++i) {
      if (gates->gate[i]->cpu() == cpu) return gates->gate[i];
    }
    return nullptr;
  }
  static void Tick() {
    gate::Gates* const gates = gate::CurrentGates();
    for (int i = 0; i < gates->n; ++i) gates->gate[i]->Tick();
  }

  CpuSet all_;
};

TEST_F(GateCpus, WaitersOfACpuThatGoesWaitElsewhere) {
  Server a, b;
  a.AwaitWaiting();
  b.AwaitWaiting();
  ASSERT_NE(a.Gate(), b.Gate());
  const int gone = a.Gate()->cpu();
  ASSERT_TRUE(gate::SetCpus({Without(gone), 0}));
  // Nobody asks, and nobody waits there any more.
  Eventually([&] {
    Tick();
    return GateOf(gone)->population() == 0;
  });
  a.Ask();
  b.Ask();
  EXPECT_NE(a.Gate()->cpu(), gone);
  EXPECT_EQ(ListOf(a.RealMask()), ListOf(CpuSet::Of(a.Gate()->cpu())));
  EXPECT_EQ(ListOf(a.Virtual()), ListOf(Without(gone))) << "as without us";
  // It comes back, and is not left empty.
  ASSERT_TRUE(gate::SetCpus({all_, 0}));
  a.Ask();
  b.Ask();
  EXPECT_EQ(GateOf(gone)->population(), 1);
  EXPECT_EQ(ListOf(a.Virtual()), ListOf(all_));
}

TEST_F(GateCpus, WhoRunsGoesAtTheNextBoundary) {
  Server a, b;
  a.AwaitWaiting();
  b.AwaitWaiting();
  Server& other = a.Gate()->cpu() == all_.Next(0) ? b : a;
  Server& leaver = &other == &a ? b : a;
  const int gone = leaver.Gate()->cpu();
  leaver.Ask();
  ASSERT_TRUE(gate::SetCpus({Without(gone), 0}));
  leaver.Ask();
  EXPECT_NE(leaver.Gate()->cpu(), gone);
}

TEST_F(GateCpus, AQuotaOfOneLetsOneRunInTotal) {
  Server a, b;
  a.AwaitWaiting();
  b.AwaitWaiting();
  ASSERT_NE(a.Gate(), b.Gate());
  ASSERT_TRUE(gate::SetCpus({all_, 1000}));
  Eventually([&] {
    Tick();
    return GateOf(all_.Next(0))->population() + GateOf(all_.Next(all_.Next(0) + 1))->population() == 2 &&
           (GateOf(all_.Next(0))->population() == 2 ||
            GateOf(all_.Next(all_.Next(0) + 1))->population() == 2);
  });
  a.Ask();
  b.Ask();
  EXPECT_EQ(a.Gate(), b.Gate());
  EXPECT_EQ(ListOf(a.RealMask()), ListOf(all_)) << "which CPUs run them is the kernel's affair";
  // The quota goes: one gate per CPU again.
  ASSERT_TRUE(gate::SetCpus({all_, 0}));
  Eventually([&] {
    Tick();
    a.Ask();
    b.Ask();
    return a.Gate() != b.Gate();
  });
  EXPECT_EQ(a.RealMask().Count(), 1);
  EXPECT_EQ(b.RealMask().Count(), 1);
}

// A quota above the CPUs limits nothing; a part of a CPU counts as one.
TEST_F(GateCpus, QuotaIsRoundedUp) {
  const auto used = [] {
    int n = 0;
    gate::Gates* const gates = gate::CurrentGates();
    for (int i = 0; i < gates->n; ++i) n += gates->gate[i]->used() ? 1 : 0;
    return n;
  };
  ASSERT_TRUE(gate::SetCpus({all_, 1}));
  EXPECT_EQ(used(), 1);
  ASSERT_TRUE(gate::SetCpus({all_, 1001}));
  EXPECT_EQ(used(), 2);
  ASSERT_TRUE(gate::SetCpus({all_, 1'000'000}));
  EXPECT_EQ(used(), all_.Count());
}

// Somebody moved our threads, and the CPUs are the same.
TEST_F(GateCpus, MembersThatWereMovedAreBackAfterTheNextBoundary) {
  Server a;
  a.AwaitWaiting();
  ASSERT_EQ(all_.StoreAffinity(a.tid), 0);
  ASSERT_TRUE(gate::SetCpus({all_, 0}));
  a.Ask();
  EXPECT_EQ(ListOf(a.RealMask()), ListOf(CpuSet::Of(a.Gate()->cpu())));
}

TEST_F(GateCpus, ACpuThatComesGetsAGate) {
  CpuSet more = all_;
  const int cpu = CpuSet::kMaxCpus - 1;
  more.Add(cpu);
  ASSERT_TRUE(gate::SetCpus({more, 0}));
  ASSERT_NE(GateOf(cpu), nullptr);
  EXPECT_TRUE(GateOf(cpu)->used());
  ASSERT_TRUE(gate::SetCpus({all_, 0}));
  EXPECT_FALSE(GateOf(cpu)->used());
  EXPECT_FALSE(GateOf(cpu)->allowed());
}

}  // namespace
}  // namespace cmwq::test
