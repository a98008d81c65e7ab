// The boundary of one CPU: who is let in, when, in which order.

#include "hooks/gate/cpu_gate.h"

#include <gtest/gtest.h>

#include <mutex>

#include "tests/support/boundary.h"

namespace cmwq::test {
namespace {

using gate::Wait;

// Runs, without a word to the gate, until told to go on.
void RunUntilTold(Worker& w) { w.go.Wait(); }

// Makes the worker's request known to the gate while somebody runs. It waits at the boundary, or is on
// its way there.
void RequestHeld(Boundary& boundary, Worker& w) {
  const int before = boundary->held();
  w.AwaitWaiting();
  w.socket.Request();
  Eventually([&] {
    boundary->Tick();
    return boundary->held() == before + 1;
  });
}

TEST(CpuGate, SingleMemberIsServed) {
  Boundary boundary;
  Worker w(boundary, Serve);
  for (int i = 1; i <= 100; ++i) {
    w.socket.Request();
    Eventually([&] { return w.served == i; });
  }
  w.socket.Hangup();
  w.Join();
  const gate::GateStats stats = boundary->Stats();
  EXPECT_EQ(stats.requests, 101u);
  EXPECT_EQ(stats.held, 0u);
  EXPECT_EQ(boundary.Running(), 0);
  EXPECT_EQ(boundary->population(), 0);
  EXPECT_FALSE(boundary->WantsWatch());
}

TEST(CpuGate, RequestThatIsThereIsServedWithoutSleep) {
  Boundary boundary;
  Worker w(boundary, [](Worker& self) {
    self.socket.Request();
    EXPECT_EQ(self.Wait(), Wait::kReady);
  });
  w.Join();
  EXPECT_EQ(boundary->Stats().leads, 0u);
}

TEST(CpuGate, OthersAreHeldUntilTheRunningOneWaits) {
  Boundary boundary;
  Worker runner(boundary, [](Worker& self) {
    RunUntilTold(self);
    Serve(self);
  });
  Worker other(boundary, Serve);
  RequestHeld(boundary, other);
  EXPECT_TRUE(boundary.SomebodyIsHeld());
  EXPECT_TRUE(other.Waiting());
  EXPECT_EQ(boundary.Running(), 1);
  runner.go.Open();
  Eventually([&] { return other.served == 1; });
  EXPECT_EQ(boundary->Stats().held, 1u);
  for (Worker* w : {&runner, &other}) w->socket.Hangup();
}

TEST(CpuGate, BlockLetsTheNextInAndItsReturnIsNotHeld) {
  Boundary boundary;
  Gate block, inside;
  std::atomic<bool> back{false};
  Worker runner(boundary, [&](Worker& self) {
    RunUntilTold(self);
    self.Announce([&] { block.Wait(); });
    back = true;
  });
  Worker other(boundary, [&](Worker& self) {
    EXPECT_EQ(self.Wait(), Wait::kReady);
    self.served = 1;
    inside.Wait();
  });
  RequestHeld(boundary, other);
  runner.go.Open();
  Eventually([&] { return other.served == 1; });
  EXPECT_EQ(boundary.Running(), 1);
  // The other is still inside: the first goes on all the same.
  block.Open();
  Eventually([&] { return back.load(); });
  inside.Open();
}

TEST(CpuGate, ExitOfTheRunningOneLetsTheNextIn) {
  Boundary boundary;
  Worker runner(boundary, RunUntilTold);
  Worker other(boundary, Serve);
  RequestHeld(boundary, other);
  runner.go.Open();
  Eventually([&] { return other.served == 1; });
  other.socket.Hangup();
}

// Nothing is ready when the last one leaves: one of those who wait has to collect from then on.
TEST(CpuGate, ExitOfTheRunningOneMakesAnotherLead) {
  Boundary boundary;
  Worker runner(boundary, RunUntilTold);
  Worker other(boundary, Serve), third(boundary, Serve);
  other.AwaitWaiting();
  third.AwaitWaiting();
  runner.go.Open();
  runner.Join();
  for (int i = 1; i <= 10; ++i) {
    for (Worker* w : {&other, &third}) {
      w->socket.Request();
      Eventually([&] { return w->served == i; });
    }
  }
  for (Worker* w : {&other, &third}) w->socket.Hangup();
}

TEST(CpuGate, BlockOfTheLastMakesAnotherLead) {
  Boundary boundary;
  Gate block;
  Worker runner(boundary, [&](Worker& self) { self.Announce([&] { block.Wait(); }); });
  Worker other(boundary, Serve);
  for (int i = 1; i <= 10; ++i) {
    other.socket.Request();
    Eventually([&] { return other.served == i; });
  }
  block.Open();
  other.socket.Hangup();
}

class Ordered {
 public:
  explicit Ordered(int n) : runner_(boundary, RunUntilTold) {
    for (int i = 1; i <= n; ++i) {
      workers_.push_back(std::make_unique<Worker>(boundary, [this, i](Worker& self) {
        EXPECT_EQ(self.Wait(), Wait::kReady);
        trace.Add(std::to_string(i));
      }));
      RequestHeld(boundary, *workers_.back());
    }
    runner_.go.Open();
    for (auto& w : workers_) w->Join();
  }
  Boundary boundary;
  Trace trace;

 private:
  Worker runner_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

TEST(CpuGate, LatestFirst) {
  const base::Conf saved = base::g_conf;
  base::g_conf.gate_fair_ms = 1'000'000;
  Ordered ordered(5);
  base::g_conf = saved;
  EXPECT_EQ(ordered.trace.Text(), "5 4 3 2 1");
}

TEST(CpuGate, EveryFourthTurnIsTheOldestIfItIsLate) {
  const base::Conf saved = base::g_conf;
  base::g_conf.gate_fair_ms = base::g_conf.gate_fair_us = 0;
  Ordered ordered(8);
  base::g_conf = saved;
  EXPECT_EQ(ordered.trace.Text(), "8 7 6 1 5 4 3 2");
}

// Whoever waits at the boundary may hold what those inside need: a transaction's row locks.
TEST(CpuGate, WhoHoldsALockThatTheRunningOneNeedsIsLetIn) {
  Boundary boundary;
  std::mutex row;
  Gate locked;
  Worker holder(boundary, [&](Worker& self) {
    row.lock();
    locked.Open();
    EXPECT_EQ(self.Wait(), Wait::kReady);
    row.unlock();
  });
  locked.Wait();
  Worker runner(boundary, [&](Worker& self) {
    RunUntilTold(self);
    self.Announce([&] { row.lock(); });
    row.unlock();
    self.served = 1;
  });
  RequestHeld(boundary, holder);
  EXPECT_TRUE(boundary.SomebodyIsHeld());
  runner.go.Open();
  Eventually([&] { return runner.served == 1; });
}

TEST(CpuGate, AdmitHoldsWhileAnotherRuns) {
  Boundary boundary;
  Worker runner(boundary, RunUntilTold);
  Worker other(boundary, [&](Worker& self) {
    boundary->Admit(self.member());
    self.served = 1;
  });
  other.AwaitWaiting();
  EXPECT_EQ(other.served, 0);
  runner.go.Open();
  Eventually([&] { return other.served == 1; });
}

TEST(CpuGate, AdmitPassesWhenAlone) {
  Boundary boundary;
  Worker w(boundary, [&](Worker& self) { boundary->Admit(self.member()); });
  w.Join();
  EXPECT_EQ(boundary->Stats().requests, 0u);
}

TEST(CpuGate, HigherLimitLetsMoreInWhenOneOfThemBlocks) {
  Boundary boundary;
  base::g_conf.gate_limit = 2;
  Gate block;
  Worker first(boundary, RunUntilTold);
  Worker second(boundary, [&](Worker& self) {
    RunUntilTold(self);
    self.Announce([&] { block.Wait(); });
  });
  Worker third(boundary, Serve);
  RequestHeld(boundary, third);
  EXPECT_TRUE(third.Waiting());
  second.go.Open();
  // The first still runs.
  Eventually([&] { return third.served == 1; });
  EXPECT_FALSE(first.done());
  first.go.Open();
  block.Open();
  third.socket.Hangup();
}

TEST(CpuGate, TickLetsOneInIfNobodyWasForTooLong) {
  Boundary boundary;
  Worker runner(boundary, RunUntilTold);
  Worker other(boundary, Serve);
  RequestHeld(boundary, other);
  boundary->Tick();
  EXPECT_EQ(other.served, 0);
  base::g_conf.gate_wait_ms = 0;
  boundary->Tick();
  Eventually([&] { return other.served == 1; });
  EXPECT_EQ(boundary->Stats().over_limit, 1u);
  runner.go.Open();
  other.socket.Hangup();
}

TEST(CpuGate, TickIsNeededOnlyWhileSomebodyCouldBeMissed) {
  Boundary boundary;
  Worker leader(boundary, Serve);
  Eventually([&] { return boundary->Stats().leads == 1; });
  EXPECT_FALSE(boundary->Tick());
  EXPECT_FALSE(boundary->WantsWatch());
  Worker runner(boundary, RunUntilTold);
  leader.socket.Request();
  // It comes back to the boundary, finds the runner inside, and does not lead.
  Eventually([&] { return boundary.SomebodyIsHeld() || leader.served == 1; });
  EXPECT_TRUE(boundary->Tick());
  runner.go.Open();
  leader.socket.Hangup();
}

TEST(CpuGate, CanaryFindsABlockThatNobodyAnnounced) {
  Boundary boundary(true);
  Worker silent(boundary, RunUntilTold);
  Worker other(boundary, Serve);
  other.AwaitWaiting();
  other.socket.Request();
  boundary->Tick();
  Eventually([&] { return other.served == 1; });
  EXPECT_GE(boundary->presumed(), 1u);
  silent.go.Open();
  silent.Join();
  other.socket.Hangup();
  other.Join();
  EXPECT_EQ(boundary.Running(), 0);
}

TEST(CpuGate, SlotIsUsedAgainAndKeepsNoTrace) {
  Boundary boundary;
  int slot = -1;
  for (int i = 0; i < 50; ++i) {
    Worker w(boundary, Serve);
    if (slot < 0) slot = w.member()->slot;
    EXPECT_EQ(w.member()->slot, slot);
    w.socket.Request();
    Eventually([&] { return w.served == 1; });
    w.socket.Hangup();
  }
  EXPECT_EQ(boundary->peak(), 1);
  EXPECT_EQ(boundary->population(), 0);
  EXPECT_EQ(boundary.Running(), 0);
}

TEST(CpuGate, FullGateTakesNobody) {
  Boundary boundary;
  std::vector<gate::Member*> members;
  for (int i = 0; i < gate::CpuGate::kMaxMembers; ++i) members.push_back(boundary->Take());
  EXPECT_NE(members.back(), nullptr);
  EXPECT_EQ(boundary->Take(), nullptr);
  boundary->Release(members.back());
  EXPECT_EQ(boundary->Take(), members.back());
  for (gate::Member* m : members) boundary->Release(m);
}

}  // namespace
}  // namespace cmwq::test
