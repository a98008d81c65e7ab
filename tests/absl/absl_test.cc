// Items that wait in abseil's locks let the next item of their CPU run, without a word of their own.

#include <absl/synchronization/barrier.h>
#include <absl/synchronization/blocking_counter.h>
#include <absl/synchronization/mutex.h>
#include <absl/synchronization/notification.h>
#include <absl/time/clock.h>
#include <absl/time/time.h>

#include <thread>
#include <vector>

#include "tests/support/overlap.h"

namespace cmwq::test {
namespace {

TEST(Absl, MutexLetsTheNextItemRun) {
  absl::Mutex mutex;
  bool held = false, got = false;
  const uint64_t before = Announced();
  // The holder is not the waiter: a lock is released where it was taken.
  absl::Notification locked, release;
  std::thread holder([&] {
    absl::MutexLock hold(&mutex);
    held = true;
    locked.Notify();
    release.WaitForNotification();
    held = false;
  });
  locked.WaitForNotification();
  ExpectOverlap(
      [&] {
        absl::MutexLock hold(&mutex);
        got = !held;
      },
      [&] { release.Notify(); });
  holder.join();
  EXPECT_TRUE(got);
  EXPECT_GT(Announced(), before);
}

TEST(Absl, ConditionsOfAMutexLetTheNextItemRun) {
  absl::Mutex mutex;
  bool ready = false;
  ExpectOverlap(
      [&] {
        absl::MutexLock hold(&mutex);
        mutex.Await(absl::Condition(&ready));
      },
      [&] {
        absl::MutexLock hold(&mutex);
        ready = true;
      });
}

TEST(Absl, CondVarWithATimeLetsTheNextItemRun) {
  absl::Mutex mutex;
  absl::CondVar changed;
  bool ready = false, timed_out = false;
  ExpectOverlap(
      [&] {
        absl::MutexLock hold(&mutex);
        while (!ready && !timed_out) timed_out = changed.WaitWithTimeout(&mutex, absl::Hours(1));
      },
      [&] {
        absl::MutexLock hold(&mutex);
        ready = true;
        changed.SignalAll();
      });
  EXPECT_FALSE(timed_out);
}

TEST(Absl, ATimeOutIsStillOne) {
  OnWorker([] {
    absl::Mutex mutex;
    absl::CondVar never;
    const uint64_t before = Announced();
    const absl::Time deadline = absl::Now() + absl::Milliseconds(2);
    absl::MutexLock hold(&mutex);
    EXPECT_TRUE(never.WaitWithDeadline(&mutex, deadline));
    EXPECT_GE(absl::Now(), deadline);
    EXPECT_GT(Announced(), before);
    absl::Notification nobody;
    EXPECT_FALSE(nobody.WaitForNotificationWithTimeout(absl::Milliseconds(1)));
  });
}

TEST(Absl, BlockingCounterAndNotificationLetTheNextItemRun) {
  absl::BlockingCounter counter(1);
  ExpectOverlap([&] { counter.Wait(); }, [&] { counter.DecrementCount(); });
  absl::Notification done;
  ExpectOverlap([&] { done.WaitForNotification(); }, [&] { done.Notify(); });
}

TEST(Absl, BarrierLetsTheNextItemRun) {
  auto* const barrier = new absl::Barrier(2);
  const auto pass = [barrier] {
    if (barrier->Block()) delete barrier;
  };
  ExpectOverlap(pass, pass);
}

// Every item waits for its successor: one worker each, and the last one lets all go.
TEST(Absl, AChainOfWaitsNeedsNoCanary) {
  constexpr int kItems = 20;
  Workqueue queue("absl");
  std::vector<absl::Notification> done(kItems + 1);
  std::vector<Submitted> items;
  for (int i = 0; i < kItems; ++i) {
    items.push_back(queue.submit([&done, i] {
      if (i + 1 < kItems) done[i + 1].WaitForNotification();
      done[i].Notify();
    }));
  }
  for (auto& item : items) EXPECT_TRUE(item.wait());
  EXPECT_TRUE(done[0].HasBeenNotified());
}

// Threads that are no workers wait as ever.
TEST(Absl, OtherThreadsAnnounceNothing) {
  const uint64_t before = Announced();
  absl::Notification first, second;
  std::thread other([&] {
    first.WaitForNotification();
    second.Notify();
  });
  first.Notify();
  second.WaitForNotification();
  other.join();
  EXPECT_EQ(Announced(), before);
}

}  // namespace
}  // namespace cmwq::test
