#include "runtime/sync/mutex.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

namespace cmwq::sync {
namespace {

TEST(Mutex, IsOneWordAndARank) { EXPECT_LE(sizeof(Mutex), 8u); }

TEST(Mutex, ExcludesOthers) {
  constexpr int kThreads = 4, kEach = 20'000;
  Mutex mu(Rank::kPool);
  long sum = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < kEach; ++n) {
        MutexLock hold(mu);
        ++sum;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(sum, long{kThreads} * kEach);
}

TEST(Mutex, SleepersAreWoken) {
  // The holder gives up the CPU inside the section, so that the others have to sleep.
  constexpr int kThreads = 3, kEach = 300;
  Mutex mu(Rank::kPool);
  int inside = 0, most = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < kEach; ++n) {
        MutexLock hold(mu);
        most = std::max(most, ++inside);
        for (int k = 0; k < 20; ++k) std::this_thread::yield();
        --inside;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(most, 1);
}

TEST(Mutex, TryLockFailsWhileHeld) {
  Mutex mu(Rank::kPool);
  mu.Lock();
  std::thread([&] { EXPECT_FALSE(mu.TryLock()); }).join();
  mu.Unlock();
  std::thread([&] {
    EXPECT_TRUE(mu.TryLock());
    mu.Unlock();
  }).join();
}

TEST(Mutex, CountsTheLocksOfTheThread) {
  Mutex outer(Rank::kWorkqueue), inner(Rank::kPool);
  EXPECT_EQ(t_locks_held, 0);
  outer.Lock();
  inner.Lock();
  EXPECT_EQ(t_locks_held, 2);
  std::thread([&] {
    EXPECT_EQ(t_locks_held, 0);
    EXPECT_FALSE(inner.TryLock());
    EXPECT_EQ(t_locks_held, 0);
  }).join();
  inner.Unlock();
  outer.Unlock();
  EXPECT_EQ(t_locks_held, 0);
}

TEST(Mutex, KeepsErrno) {
  Mutex mu(Rank::kPool);
  std::atomic<bool> waiting{false};
  mu.Lock();
  std::thread waiter([&] {
    errno = EXDEV;
    waiting = true;
    mu.Lock();
    mu.Unlock();
    EXPECT_EQ(errno, EXDEV);
  });
  while (!waiting) std::this_thread::yield();
  mu.Unlock();
  waiter.join();
}

TEST(Mutex, CanBeResetInAChild) {
  Mutex mu(Rank::kPool);
  std::thread([&] { mu.Lock(); }).join();  // its holder is gone, as after a fork
  EXPECT_FALSE(mu.TryLock());
  mu.ResetAfterFork();
  EXPECT_TRUE(mu.TryLock());
  mu.Unlock();
}

}  // namespace
}  // namespace cmwq::sync
