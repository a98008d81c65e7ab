// Parker on real threads. That no schedule loses a wake-up is shown in tests/model.

#include "runtime/sync/parker.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/support/sanitizer.h"

namespace cmwq::sync {
namespace {

TEST(Parker, ATokenIsKept) {
  Parker parker;
  EXPECT_FALSE(parker.Unpark());
  EXPECT_TRUE(parker.Park());
}

TEST(Parker, TokensDoNotAddUp) {
  Parker parker;
  parker.Unpark();
  parker.Unpark();
  EXPECT_TRUE(parker.Park());
  EXPECT_FALSE(parker.Park(1));
}

TEST(Parker, ADeadlineInThePastReturnsAtOnce) {
  Parker parker;
  EXPECT_FALSE(parker.Park(1));
  EXPECT_FALSE(parker.Park(0));
  parker.Unpark();
  EXPECT_TRUE(parker.Park(1));  // the token comes first
}

TEST(Parker, ADeadlinePasses) {
  Parker parker;
  const uint64_t deadline = base::MonotonicNs() + 2 * base::kNsPerMs;
  EXPECT_FALSE(parker.Park(deadline));
  EXPECT_GE(base::MonotonicNs(), deadline);
}

TEST(Parker, ResetForgetsTheToken) {
  Parker parker;
  parker.Unpark();
  parker.Reset();
  EXPECT_FALSE(parker.Park(1));
}

TEST(Parker, PingPong) {
  constexpr int kRounds = 2000;
  Parker ping, pong;
  int ball = 0;  // plain: the parkers order all accesses
  std::thread other([&] {
    for (int i = 0; i < kRounds; ++i) {
      ping.Park();
      ++ball;
      pong.Unpark();
    }
  });
  for (int i = 0; i < kRounds; ++i) {
    ++ball;
    ping.Unpark();
    pong.Park();
    ASSERT_EQ(ball, 2 * (i + 1));
  }
  other.join();
}

TEST(Parker, ManyWakers) {
  constexpr int kWakers = 4, kEach = 2000;
  Parker parker;
  std::atomic<int> given{0};
  std::vector<std::thread> wakers;
  for (int i = 0; i < kWakers; ++i) {
    wakers.emplace_back([&] {
      for (int n = 0; n < kEach; ++n) {
        given.fetch_add(1, std::memory_order_relaxed);
        parker.Unpark();
      }
    });
  }
  while (given.load(std::memory_order_relaxed) < kWakers * kEach) parker.Park();
  for (std::thread& w : wakers) w.join();
}

TEST(Parker, TimedParksLoseNoToken) {
  constexpr int kTokens = 500;
  Parker parker, taken;
  std::thread giver([&] {
    for (int i = 0; i < kTokens; ++i) {
      parker.Unpark();
      taken.Park();  // one at a time, so that each can be counted
    }
  });
  int seen = 0;
  while (seen < kTokens) {
    if (!parker.Park(base::MonotonicNs() + 20'000)) continue;
    ++seen;
    taken.Unpark();
  }
  giver.join();
  EXPECT_FALSE(parker.Park(1));
}

std::atomic<int> g_signals{0};

TEST(Parker, ASignalDoesNotEndTheWait) {
  if (test::kTsan) GTEST_SKIP() << "the sanitizer runs handlers only inside calls that it knows";
  struct sigaction action = {}, old;
  action.sa_handler = [](int) { g_signals.fetch_add(1); };
  ASSERT_EQ(sigaction(SIGUSR1, &action, &old), 0);
  Parker parker;
  std::atomic<bool> started{false}, returned{false};
  std::thread waiter([&] {
    started = true;
    parker.Park();
    returned = true;
  });
  while (!started) std::this_thread::yield();
  for (int i = 1; i <= 20; ++i) {
    pthread_kill(waiter.native_handle(), SIGUSR1);
    while (g_signals < i) std::this_thread::yield();
  }
  EXPECT_FALSE(returned);
  parker.Unpark();
  waiter.join();
  EXPECT_TRUE(returned);
  sigaction(SIGUSR1, &old, nullptr);
}

}  // namespace
}  // namespace cmwq::sync
