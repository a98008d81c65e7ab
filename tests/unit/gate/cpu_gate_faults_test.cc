// The boundary of one CPU under everything that ends a wait early: time, signals, closes, cancellation,
// a closed readiness set; and the repair of its counter.

#include <gtest/gtest.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

#include "hooks/gate/cpu_gate.h"
#include "tests/support/boundary.h"

namespace cmwq::test {
namespace {

using gate::Wait;

constexpr uint64_t kMs = base::kNsPerMs;

void Ignore(int) {}

void Install(int signal, int flags) {
  struct sigaction action = {};
  action.sa_handler = &Ignore;
  action.sa_flags = flags;
  ASSERT_EQ(sigaction(signal, &action, nullptr), 0);
}

// A gate with one member that leads and one that is parked, both in the body under test.
class Two {
 public:
  explicit Two(const Worker::Body& body)
      : leader(boundary, body), parked((AwaitLead(), boundary), body) {
    parked.AwaitWaiting();
  }
  // Once both say that the wait under test is over: they still get what is theirs.
  void Finish() {
    leader.go.Wait();
    parked.go.Wait();
    for (Worker* w : {&leader, &parked}) {
      w->socket.Request();
      Eventually([&] { return w->served == 1; });
      w->socket.Hangup();
    }
  }

  Boundary boundary;
  Worker leader;
  Worker parked;

 private:
  void AwaitLead() {
    Eventually([&] { return boundary->Stats().leads > 0; });
  }
};

TEST(CpuGateFaults, TimeoutWhileLeadingAndWhileParked) {
  Two two([](Worker& w) {
    EXPECT_EQ(w.Wait(base::MonotonicNs() + 5 * kMs), Wait::kTimeout);
    w.go.Open();
    Serve(w);
  });
  two.Finish();
}

TEST(CpuGateFaults, DeadlineOfThePast) {
  Boundary boundary;
  Worker w(boundary, [](Worker& self) { EXPECT_EQ(self.Wait(1), Wait::kTimeout); });
  w.Join();
  EXPECT_EQ(boundary.Running(), 0);
}

TEST(CpuGateFaults, FarDeadline) {
  Boundary boundary;
  Worker w(boundary, [](Worker& self) {
    // Beyond what a count of milliseconds in an int can say.
    EXPECT_EQ(self.Wait(base::MonotonicNs() + uint64_t{1000} * 86400 * base::kNsPerSec),
              Wait::kReady);
  });
  w.AwaitWaiting();
  w.socket.Request();
}

TEST(CpuGateFaults, ReadyAtTheDeadlineIsReady) {
  Boundary boundary;
  Worker runner(boundary, [](Worker& w) { w.go.Wait(); });
  Worker other(boundary, [](Worker& w) {
    w.socket.Request();
    EXPECT_EQ(w.Wait(base::MonotonicNs() + kMs), Wait::kReady);
    w.served = 1;
  });
  // Held, and let go by its own deadline.
  Eventually([&] { return other.served == 1; });
  EXPECT_FALSE(runner.done());
  runner.go.Open();
}

TEST(CpuGateFaults, HandlerEndsTheWaitWhateverItsRestart) {
  for (const int flags : {0, static_cast<int>(SA_RESTART)}) {
    Install(SIGUSR1, flags);
    std::atomic<int> interrupted{0};
    Two two([&](Worker& w) {
      EXPECT_EQ(w.Wait(), Wait::kInterrupted);
      ++interrupted;
      w.go.Open();
      Serve(w);
    });
    // Again and again: the first may come before the thread sleeps.
    Eventually([&] {
      if (interrupted == 0) pthread_kill(two.parked.self, SIGUSR1);
      return interrupted == 1;
    });
    Eventually([&] {
      if (interrupted == 1) pthread_kill(two.leader.self, SIGUSR1);
      return interrupted == 2;
    });
    two.Finish();
  }
}

TEST(CpuGateFaults, HandlerDoesNotEndAHold) {
  Install(SIGUSR1, 0);
  Boundary boundary;
  Worker runner(boundary, [](Worker& w) { w.go.Wait(); });
  Worker other(boundary, [&](Worker& w) {
    boundary->Admit(w.member());
    w.served = 1;
  });
  other.AwaitWaiting();
  for (int i = 0; i < 100; ++i) pthread_kill(other.self, SIGUSR1);
  EXPECT_EQ(other.served, 0);
  runner.go.Open();
  Eventually([&] { return other.served == 1; });
}

TEST(CpuGateFaults, InterruptWakesLeaderAndParked) {
  Two two([](Worker& w) {
    EXPECT_EQ(w.Wait(), Wait::kReady);
    EXPECT_EQ(w.socket.Take(), 0);
    w.go.Open();
    Serve(w);
  });
  two.boundary->Interrupt(two.leader.member());
  two.boundary->Interrupt(two.parked.member());
  two.Finish();
}

// The leader is let in by others while third parties harvest, and with that may take its wake-up.
TEST(CpuGateFaults, WakeUpOfTheLeaderIsNotStolen) {
  Boundary boundary;
  std::atomic<bool> stop{false};
  std::atomic<int> looked{0};
  Worker leader(boundary, [&](Worker& w) {
    while (!stop) {
      w.Wait();
      ++looked;
    }
  });
  std::vector<std::unique_ptr<Worker>> thieves;
  for (int i = 0; i < 2; ++i) {
    thieves.push_back(std::make_unique<Worker>(boundary, [&](Worker& w) {
      while (!stop) w.Wait(base::MonotonicNs() + 10'000);
    }));
  }
  for (int i = 0; i < 3000; ++i) {
    const int before = looked;
    // Once. It must be enough.
    leader.AwaitWaiting();
    boundary->Interrupt(leader.member());
    Eventually([&] { return looked != before; });
  }
  stop = true;
  leader.socket.Hangup();
}

TEST(CpuGateFaults, EventOfAnEarlierWaitIsIgnored) {
  Boundary boundary;
  Gate go;
  Worker w(boundary, [&](Worker& self) {
    // Leaves its registration armed.
    EXPECT_EQ(self.Wait(base::MonotonicNs() + 1), Wait::kTimeout);
    self.socket.Request();
    go.Wait();
    Socket other;
    std::atomic<uint32_t> home{0};
    EXPECT_EQ(boundary->WaitFor(self.member(), other.fd(), POLLIN, base::MonotonicNs() + 5 * kMs,
                                &home, 1),
              Wait::kTimeout);
    EXPECT_EQ(self.Wait(), Wait::kReady);
  });
  go.Open();
}

TEST(CpuGateFaults, NumberUsedAgainForAnotherSocket) {
  Boundary boundary;
  Worker w(boundary, [&](Worker& self) {
    std::atomic<uint32_t> home{0};
    int number = -1;
    for (int i = 0; i < 20; ++i) {
      Socket fresh;
      if (number < 0) number = fresh.fd();
      EXPECT_EQ(fresh.fd(), number);
      fresh.Request();
      // The record of the old registration is stale.
      EXPECT_EQ(boundary->WaitFor(self.member(), fresh.fd(), POLLIN, base::kNever, &home, 1),
                Wait::kReady);
      EXPECT_EQ(home, 1u);
    }
  });
}

TEST(CpuGateFaults, WhatEpollRefusesIsPlain) {
  Boundary boundary;
  Worker w(boundary, [&](Worker& self) {
    std::atomic<uint32_t> home{0};
    FILE* const file = tmpfile();
    EXPECT_EQ(boundary->WaitFor(self.member(), fileno(file), POLLIN, base::kNever, &home, 1),
              Wait::kPlain);
    fclose(file);
    EXPECT_EQ(boundary->WaitFor(self.member(), -1, POLLIN, base::kNever, &home, 1), Wait::kPlain);
  });
  w.Join();
  EXPECT_EQ(boundary.Running(), 0);
}

TEST(CpuGateFaults, CancellationOfLeaderAndParked) {
  if (kSanitized) GTEST_SKIP() << "the sanitizer takes the unwound stack for an overflow";
  Boundary boundary;
  std::atomic<gate::Member*> members[2] = {};
  pthread_t threads[2];
  struct Args {
    Boundary* boundary;
    std::atomic<gate::Member*>* member;
  } args[2];
  for (int i = 0; i < 2; ++i) {
    args[i] = {&boundary, &members[i]};
    ASSERT_EQ(pthread_create(&threads[i], nullptr,
                             [](void* p) -> void* {
                               auto* const a = static_cast<Args*>(p);
                               gate::Member* const m = (*a->boundary)->Take();
                               m->cancellable = true;
                               *a->member = m;
                               Socket socket;
                               std::atomic<uint32_t> home{0};
                               (*a->boundary)
                                   ->WaitFor(m, socket.fd(), POLLIN, base::kNever, &home, 1);
                               return nullptr;
                             },
                             &args[i]),
              0);
    Eventually([&] { return members[i] != nullptr && members[i].load()->wait == gate::kWaiting; });
  }
  Worker third(boundary, Serve);
  third.AwaitWaiting();
  for (int i = 0; i < 2; ++i) {
    void* result = nullptr;
    ASSERT_EQ(pthread_cancel(threads[i]), 0);
    ASSERT_EQ(pthread_join(threads[i], &result), 0);
    EXPECT_EQ(result, PTHREAD_CANCELED);
    EXPECT_EQ(members[i].load()->wait, gate::kAway);
    // Counted as running until its thread is gone.
    EXPECT_EQ(boundary.Running(), 1);
    boundary->Release(members[i]);
  }
  third.socket.Request();
  Eventually([&] { return third.served == 1; });
  third.socket.Hangup();
}

TEST(CpuGateFaults, ClosedReadinessSetMakesEverybodyPlain) {
  Two two([](Worker& w) {
    Wait result;
    while ((result = w.Wait()) == Wait::kReady) {
      if (w.socket.Take() != 0) ++w.served;
    }
    EXPECT_EQ(result, Wait::kPlain);
  });
  close(two.boundary->epoll_fd());
  close(two.boundary->kick_fd());
  two.boundary.SetLost();
  // The kernel keeps the set for the leader until it returns.
  two.leader.socket.Request();
  two.leader.Join();
  two.parked.Join();
  EXPECT_TRUE(two.boundary->lost());
  EXPECT_EQ(two.boundary.Running(), 0);
  Worker late(two.boundary, [](Worker& w) { EXPECT_EQ(w.Wait(), Wait::kPlain); });
}

TEST(CpuGateFaults, DriftIsRepairedAndWhoeverIsReadyLetIn) {
  Boundary boundary;
  Gate end;
  Worker lost(boundary, [&](Worker& w) {
    w.go.Wait();
    w.member()->word->Sleep();  // without the counter
    end.Wait();
  });
  Worker other(boundary, Serve);
  other.AwaitWaiting();
  other.socket.Request();
  boundary->Tick();
  base::g_conf.tick_ms = 1;
  lost.go.Open();
  Eventually([&] { return boundary.Running() == 0; });
  EXPECT_TRUE(other.Waiting());
  Eventually([&] {
    boundary->Tick();
    return other.served == 1;
  });
  end.Open();
  lost.Join();
  other.socket.Hangup();
  other.Join();
  EXPECT_EQ(boundary.Running(), 0);
  EXPECT_FALSE(boundary->Tick());
}

sigjmp_buf g_out;

void JumpOut(int) { siglongjmp(g_out, 1); }

// A thread whose handler jumped out of the wait, and which then ends: what it left behind would be on
// two lists, and it would lead for ever.
TEST(CpuGateFaults, ExitAfterAJumpOutOfTheWait) {
  if (kSanitized) GTEST_SKIP() << "handlers run later, and jumps leave poison behind";
  struct sigaction action = {};
  action.sa_handler = &JumpOut;
  ASSERT_EQ(sigaction(SIGUSR2, &action, nullptr), 0);
  Boundary boundary;
  Worker jumper(boundary, [](Worker& w) {
    if (sigsetjmp(g_out, 1) == 0) w.Wait();
  });
  jumper.AwaitWaiting();  // a jump out of a locked section could not be repaired
  EXPECT_EQ(boundary->Stats().leads, 1u);
  Worker other(boundary, Serve);
  other.AwaitWaiting();
  pthread_kill(jumper.self, SIGUSR2);
  jumper.Join();
  EXPECT_EQ(boundary->population(), 1);
  other.socket.Request();
  Eventually([&] { return other.served == 1; });
  other.socket.Hangup();
}

}  // namespace
}  // namespace cmwq::test
