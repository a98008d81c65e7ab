// The timer heap against a plain set, and the event thread with a clock that the test moves.

#include "runtime/platform/timer.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <utility>
#include <vector>

#include "tests/support/fake_env.h"

namespace cmwq::test {
namespace {

using platform::EventThread;
using platform::Timer;
using platform::TimerHeap;

TEST(TimerHeap, AgreesWithASet) {
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    TimerHeap heap;
    std::vector<Timer> timers(200);
    std::set<std::pair<uint64_t, Timer*>> model;
    for (int step = 0; step < 2000; ++step) {
      Timer* const t = &timers[random() % timers.size()];
      if (TimerHeap::Armed(t)) {
        ASSERT_EQ(model.erase({t->deadline, t}), 1u);
        heap.Remove(t);
        EXPECT_FALSE(TimerHeap::Armed(t));
      } else {
        t->deadline = random() % 64;
        heap.Insert(t);
        model.insert({t->deadline, t});
      }
      ASSERT_EQ(heap.first() == nullptr, model.empty());
      if (!model.empty()) {
        ASSERT_EQ(heap.first()->deadline, model.begin()->first);
      }
    }
    uint64_t last = 0;
    while (Timer* const t = heap.first()) {
      EXPECT_GE(t->deadline, last);
      last = t->deadline;
      heap.Remove(t);
      ASSERT_EQ(model.erase({t->deadline, t}), 1u);
    }
    EXPECT_TRUE(model.empty());
  }
}

struct Recorder {
  Timer timer;  // first
  int id;
};
std::vector<int>* g_fired = nullptr;
EventThread* g_events = nullptr;

void Record(Timer* t) { g_fired->push_back(reinterpret_cast<Recorder*>(t)->id); }

class EventThreadTest : public ::testing::Test {
 protected:
  void SetUp() override {
    g_fired = &fired;
    g_events = &events;
  }
  static Recorder Make(int id, void (*fire)(Timer*) = &Record) {
    return {{0, nullptr, nullptr, nullptr, fire}, id};
  }
  FakeEnv env;
  EventThread events{&env};
  std::vector<int> fired;
};

TEST_F(EventThreadTest, FiresInOrderOfTheDeadlines) {
  Recorder a = Make(1), b = Make(2), c = Make(3);
  events.Arm(&b.timer, 20);
  events.Arm(&c.timer, 30);
  events.Arm(&a.timer, 10);
  EXPECT_EQ(events.RunDue(5), 10u);
  EXPECT_TRUE(fired.empty());
  EXPECT_EQ(events.RunDue(20), 30u);
  EXPECT_EQ(fired, (std::vector<int>{1, 2}));
  EXPECT_EQ(events.RunDue(99), base::kNever);
  EXPECT_EQ(fired, (std::vector<int>{1, 2, 3}));
}

TEST_F(EventThreadTest, DisarmTellsWhetherItWillFire) {
  Recorder a = Make(1);
  EXPECT_FALSE(events.Disarm(&a.timer));
  events.Arm(&a.timer, 10);
  EXPECT_TRUE(events.Disarm(&a.timer));
  EXPECT_FALSE(events.Disarm(&a.timer));
  EXPECT_EQ(events.RunDue(99), base::kNever);
  events.Arm(&a.timer, 10);
  events.RunDue(10);
  EXPECT_FALSE(events.Disarm(&a.timer));
  EXPECT_EQ(fired, std::vector<int>{1});
}

void RecordAndRearm(Timer* t) CMWQ_NO_TSA {  // the caller holds the timer lock
  Record(t);
  if (g_fired->size() < 4) g_events->ArmLocked(t, t->deadline + 10);
}

TEST_F(EventThreadTest, ATimerMayArmItselfAgain) {
  Recorder a = Make(7, &RecordAndRearm);
  events.Arm(&a.timer, 10);
  EXPECT_EQ(events.RunDue(25), 30u);
  EXPECT_EQ(fired.size(), 2u);
  EXPECT_EQ(events.RunDue(1000), base::kNever);
  EXPECT_EQ(fired.size(), 4u);
}

void DropTheLock(Timer* t) CMWQ_NO_TSA {  // the caller holds the timer lock
  g_events->mu.Unlock();
  Record(t);
  g_events->mu.Lock();
}

TEST_F(EventThreadTest, ATimerMayDropTheLock) {
  Recorder a = Make(1, &DropTheLock), b = Make(2);
  events.Arm(&a.timer, 10);
  events.Arm(&b.timer, 20);
  EXPECT_EQ(events.RunDue(20), base::kNever);
  EXPECT_EQ(fired, (std::vector<int>{1, 2}));
}

Gate* g_gate = nullptr;
void OpenGate(Timer*) { g_gate->Open(); }

// The thread sleeps without a time-out; arming something earlier wakes it.
TEST_F(EventThreadTest, TheThreadWakesForAnEarlierDeadline) {
  EventThread real(platform::SystemEnv());
  ASSERT_EQ(real.Start(), 0);
  Gate first, second;
  g_gate = &second;
  Recorder late = Make(1), soon = Make(2, &OpenGate);
  real.Arm(&late.timer, base::MonotonicNs() + 3600 * base::kNsPerSec);
  real.Arm(&soon.timer, base::MonotonicNs());
  second.Wait();
  g_gate = &first;
  real.Arm(&soon.timer, base::MonotonicNs() + base::kNsPerMs);
  first.Wait();
  EXPECT_TRUE(real.Disarm(&late.timer));
  real.Stop();
}

TEST_F(EventThreadTest, AForkedChildDropsWhatWasArmed) {
  Recorder a = Make(1), b = Make(2);
  events.Arm(&a.timer, 10);
  events.Arm(&b.timer, 20);
  events.ResetAfterFork(&Record);
  EXPECT_EQ(fired.size(), 2u);
  EXPECT_FALSE(TimerHeap::Armed(&a.timer));
  EXPECT_EQ(events.RunDue(99), base::kNever);
  events.Arm(&a.timer, 10);
  EXPECT_EQ(events.RunDue(10), base::kNever);
}

}  // namespace
}  // namespace cmwq::test
