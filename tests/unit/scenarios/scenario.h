// What several scenarios need: a look at a queue's half in one pool, limits, items that wait.

#ifndef CMWQ_TESTS_UNIT_SCENARIOS_SCENARIO_H_
#define CMWQ_TESTS_UNIT_SCENARIOS_SCENARIO_H_

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "runtime/wq/work_word.h"
#include "tests/support/fake_env.h"
#include "tests/support/test_points.h"

#define CMWQ_NEEDS_TEST_POINTS() \
  if (!kHaveTestPoints) GTEST_SKIP() << "needs CMWQ_TEST_POINTS"

namespace cmwq::test {

// Of the half in the pool of `cpu`: items that have a slot; items and barriers, running ones included;
// those that wait for a slot, barriers included.
inline int NrActive(wq::Workqueue* wq, int cpu = 0) {
  wq::Pwq* const pwq = wq->PwqFor(cpu);
  sync::MutexLock hold(pwq->pool->lock);
  return pwq->nr_active;
}
inline int InFlight(wq::Workqueue* wq, int cpu = 0) {
  wq::Pwq* const pwq = wq->PwqFor(cpu);
  sync::MutexLock hold(pwq->pool->lock);
  int n = 0;
  for (int colour : pwq->nr_in_flight) n += colour;
  return n;
}
// Of items that are queued now.
inline int Colour(wq::Workqueue* wq, int cpu = 0) {
  wq::Pwq* const pwq = wq->PwqFor(cpu);
  sync::MutexLock hold(pwq->pool->lock);
  return pwq->colour;
}
inline int NrInactive(wq::Workqueue* wq, int cpu = 0) {
  wq::Pwq* const pwq = wq->PwqFor(cpu);
  sync::MutexLock hold(pwq->pool->lock);
  int n = 0;
  for (base::ListNode* node = pwq->inactive.front(); node != nullptr;
       node = pwq->inactive.next(node)) {
    ++n;
  }
  return n;
}

inline void SetFrozen(wq::Workqueue* wq, bool frozen) {
  sync::MutexLock hold(wq->mutex);
  wq->frozen = frozen;
  wq::ApplyMaxActive(wq);
}

inline bool Pending(Item& item) {
  return (wq::WordOf(item.work()).load() & wq::Word::kPending) != 0;
}
inline void WaitRuns(Item& item, int runs) {
  Eventually([&] { return item.Runs() >= runs; });
}

// Says that it has started, then waits to be let go without counting as running.
struct Held {
  Held()
      : item([this] {
          started.Open();
          end.WaitAnnounced();
        }) {}
  Gate started, end;
  Item item;
};

// Items that only say their name.
class Named {
 public:
  Named(Trace* trace, int n, const std::string& prefix = "") {
    for (int i = 0; i < n; ++i) {
      const std::string name = prefix + std::to_string(i);
      items_.push_back(std::make_unique<Item>([trace, name] { trace->Add(name); }));
    }
  }
  Item& operator[](int i) { return *items_[static_cast<size_t>(i)]; }
  int size() const { return static_cast<int>(items_.size()); }
  void Queue(wq::Workqueue* wq, int cpu = 0) {
    for (const auto& item : items_) EXPECT_TRUE(Engine::Queue(wq, *item, cpu));
  }
  void WaitAll() {
    for (const auto& item : items_) WaitRuns(*item, 1);
  }
  int Ran() const {
    int n = 0;
    for (const auto& item : items_) n += item->Runs() > 0 ? 1 : 0;
    return n;
  }

 private:
  std::vector<std::unique_ptr<Item>> items_;
};

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_UNIT_SCENARIOS_SCENARIO_H_
