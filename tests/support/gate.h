// Gate: closed until somebody opens it. Item: a work item with a C++ function. Eventually: waits for a
// condition that other threads bring about.

#ifndef CMWQ_TESTS_SUPPORT_GATE_H_
#define CMWQ_TESTS_SUPPORT_GATE_H_

#include <cmwq/cmwq.h>

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/sys.h"
#include "runtime/base/test_point.h"
#include "runtime/sync/sync.h"
#include "runtime/wq/work_word.h"

namespace cmwq::test {

class Gate {
 public:
  void Open() {
    open_.store(1, std::memory_order_release);
    sync::RealSync::FutexWake(&open_, INT32_MAX);
    CMWQ_JITTER(false);
  }
  bool opened() const { return open_.load(std::memory_order_acquire) != 0; }
  void Wait() {
    while (!opened()) sync::RealSync::FutexWait(&open_, 0);
    CMWQ_JITTER(false);
  }
  // Says so: the calling worker does not count as running meanwhile.
  void WaitAnnounced() {
    cmwq_block_begin();
    Wait();
    cmwq_block_end();
  }

 private:
  std::atomic<int32_t> open_{0};
};

// Returns once `holds` does; the test's own time limit is what ends a wait for ever. Naps between looks:
// a spinning test would keep the CPU from the idle-priority thread that it may be waiting for.
template <class Condition>
void Eventually(Condition holds) {
  std::atomic<int32_t> never{0};
  for (int look = 0; !holds(); ++look) {
    if (look < 20) {
      base::SchedYield();
    } else {
      sync::RealSync::FutexWait(&never, 0, base::MonotonicNs() + base::kNsPerMs / 5);
    }
  }
  CMWQ_JITTER(false);
}

struct Item {
  explicit Item(std::function<void()> function = [] {}) : fn(std::move(function)) {
    cmwq_delayed_work_init(&d, &Run);
  }
  Item(const Item&) = delete;
  Item& operator=(const Item&) = delete;
  // A test may have seen the last thing that its item does before the item's function has returned. What
  // has not begun by now is a mistake of the test: nothing may run an item that is gone.
  ~Item() {
    if ((__atomic_load_n(&d.work.word_, __ATOMIC_ACQUIRE) & wq::Word::kPending) != 0) {
      std::fputs("an item that is queued goes out of scope\n", stderr);
      std::abort();
    }
    Eventually([this] { return Runs() == begun.load(std::memory_order_acquire); });
  }

  static void Run(struct cmwq_work* w) {
    Item* const self = reinterpret_cast<Item*>(w);
    self->begun.fetch_add(1, std::memory_order_release);
    self->fn();
    CMWQ_JITTER(false);
    // After fn: whoever counts runs may free the item next.
    self->runs.fetch_add(1, std::memory_order_release);
  }
  struct cmwq_work* work() { return &d.work; }
  int Runs() const { return runs.load(std::memory_order_acquire); }

  struct cmwq_delayed_work d;  // first: Run finds the item from it
  std::function<void()> fn;
  std::atomic<int> begun{0};
  std::atomic<int> runs{0};
};

// What happened, in order.
class Trace {
 public:
  void Add(const std::string& event) {
    std::lock_guard<std::mutex> hold(mu_);
    events_.push_back(event);
  }
  std::vector<std::string> Get() {
    std::lock_guard<std::mutex> hold(mu_);
    return events_;
  }
  std::string Text() {
    std::string text;
    for (const std::string& e : Get()) text += (text.empty() ? "" : " ") + e;
    return text;
  }

 private:
  std::mutex mu_;
  std::vector<std::string> events_;
};

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_SUPPORT_GATE_H_
