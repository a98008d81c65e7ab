// Prices of single calls on items and queues, alone and with a second thread on the same queue: ns per
// call. Throughput and hand-overs are measured by queue_cost and handoff.

#include <cmwq/cmwq.h>

#include <algorithm>
#include <array>
#include <deque>
#include <functional>
#include <vector>

#include "bench/harness.h"

namespace cmwq::bench {
namespace {

long g_calls = 100'000;
size_t Calls() { return static_cast<size_t>(g_calls); }

using Works = std::vector<struct cmwq_work>;

void Nothing(struct cmwq_work*) {}

Works MakeWorks() {
  Works works(Calls());
  for (auto& work : works) cmwq_work_init(&work, &Nothing);
  return works;
}

double TimePer(const std::function<void()>& run) {
  const uint64_t start = NowNs();
  run();
  return static_cast<double>(NowNs() - start) / static_cast<double>(g_calls);
}

// A queue of one CPU whose items stay pending: its only slot is taken by an item that waits.
class Plugged {
 public:
  Plugged(int cpu, unsigned flags) : wq_(cmwq_alloc_workqueue("item_ops", flags, 1)) {
    cmwq_work_init(&plug_.work, &Wait);
    cmwq_queue_work_on(cpu, wq_, &plug_.work);
    FutexWaitWhile(&plug_.begun, 0);
  }
  void Pull() {
    __atomic_store_n(&plug_.released, 1, __ATOMIC_RELEASE);
    FutexWakeAll(&plug_.released);
    cmwq_flush_workqueue(wq_);
  }
  struct cmwq_workqueue* wq() const { return wq_; }

 private:
  struct Plug {
    struct cmwq_work work;  // first
    int begun = 0;
    int released = 0;
  };
  static void Wait(struct cmwq_work* work) {
    auto* const plug = reinterpret_cast<Plug*>(work);
    __atomic_store_n(&plug->begun, 1, __ATOMIC_RELEASE);
    FutexWakeAll(&plug->begun);
    cmwq_block_begin();
    FutexWaitWhile(&plug->released, 0);
    cmwq_block_end();
  }
  struct cmwq_workqueue* const wq_;
  Plug plug_;
};

enum Call { kQueue, kQueueAgain, kBusy, kDisable, kEnable, kCancel, kCalls };
constexpr const char* kCallNames[kCalls] = {
    "queue_work, its slot is taken", "queue_work, pending already", "work_busy, pending",
    "disable_work, pending",         "enable_work",                 "cancel_work, pending"};
using Prices = std::array<double, kCalls>;

// The calls of one thread, on items of its own.
Prices ItemCalls(int cpu, struct cmwq_workqueue* wq, const std::function<void()>& together) {
  Works works = MakeWorks();
  Prices prices;
  auto measure = [&](Call call, auto&& one) {
    together();
    prices[call] = TimePer([&] {
      for (auto& work : works) one(&work);
    });
  };
  using Work = struct cmwq_work;
  measure(kQueue, [=](Work* work) { cmwq_queue_work_on(cpu, wq, work); });
  measure(kQueueAgain, [=](Work* work) { cmwq_queue_work_on(cpu, wq, work); });
  measure(kBusy, [](Work* work) { cmwq_work_busy(work); });
  measure(kDisable, [](Work* work) { cmwq_disable_work(work); });
  measure(kEnable, [](Work* work) { cmwq_enable_work(work); });
  together();
  for (auto& work : works) cmwq_queue_work_on(cpu, wq, &work);
  measure(kCancel, [](Work* work) { cmwq_cancel_work(work); });
  return prices;
}

// Threads pinned to `threads`, all on one queue of `cpu`; the mean of their prices.
void Measure(const std::vector<int>& threads, int cpu, unsigned flags, double* ns) {
  Plugged queue(cpu, flags);
  std::vector<Prices> prices(threads.size());
  int arrived = 0;
  {
    std::deque<Thread> running;
    for (size_t i = 0; i < threads.size(); ++i) {
      running.emplace_back(threads[i], [&, i] {
        int phase = 0;
        prices[i] = ItemCalls(cpu, queue.wq(), [&] {
          const int all = ++phase * static_cast<int>(threads.size());
          __atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL);
          while (__atomic_load_n(&arrived, __ATOMIC_ACQUIRE) < all) {
          }
        });
      });
    }
  }
  queue.Pull();
  for (int call = 0; call < kCalls; ++call) {
    ns[call] = 0;
    for (const Prices& one : prices) ns[call] += one[call] / static_cast<double>(prices.size());
  }
}

enum Flush { kIdleItem, kPendingItem, kEmptyQueue, kEmptyDrain, kIdleCancelSync, kFlushes };
constexpr const char* kFlushNames[kFlushes] = {
    "flush_work, idle", "queue_work and flush_work", "flush_workqueue, empty",
    "drain_workqueue, empty", "cancel_work_sync, idle"};

void MeasureFlushes(int here, unsigned flags, double* ns) {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("item_ops", flags, 0);
  struct cmwq_work work;
  cmwq_work_init(&work, &Nothing);
  PinSelf(here);
  cmwq_queue_work_on(here, wq, &work);
  cmwq_flush_work(&work);
  auto measure = [ns](Flush flush, long calls, auto&& one) {
    const uint64_t start = NowNs();
    for (long i = 0; i < calls; ++i) one();
    ns[flush] = static_cast<double>(NowNs() - start) / static_cast<double>(calls);
  };
  measure(kIdleItem, g_calls, [&] { cmwq_flush_work(&work); });
  measure(kPendingItem, g_calls / 20, [&] {
    cmwq_queue_work_on(here, wq, &work);
    cmwq_flush_work(&work);
  });
  measure(kEmptyQueue, g_calls, [=] { cmwq_flush_workqueue(wq); });
  measure(kEmptyDrain, g_calls, [=] { cmwq_drain_workqueue(wq); });
  measure(kIdleCancelSync, g_calls, [&] { cmwq_cancel_work_sync(&work); });
}

constexpr size_t kFigures = std::max<size_t>(kCalls, kFlushes);
using Figures = std::array<double, kFigures>;

// A column of the table: the same calls under another condition.
struct Column {
  const char* name;
  std::function<void(double* ns)> measure;
  std::array<Samples, kFigures> samples = {};
};

bool Collect(const Options& options, std::vector<Column>* columns) {
  for (int round = 0; round < options.rounds(); ++round) {
    for (Column& column : *columns) {
      const auto got = InChild<Figures>([&](Figures* to) { column.measure(to->data()); });
      if (!got) return false;
      for (size_t i = 0; i < kFigures; ++i) column.samples[i].Add((*got)[i]);
    }
  }
  return true;
}

int Main(int argc, char** argv) {
  DoNotWatchCpus();
  Options options("Prices of calls on items and queues, each round of each in a fresh process.", 7);
  options.Number("calls", &g_calls, "calls per measurement");
  if (const int code = options.Parse(argc, argv); code >= 0) return code;

  const std::vector<int> cpus = AllowedCpus();
  const int here = cpus.front(), there = cpus.back();
  std::vector<Column> calls = {
      {"one thread", [=](double* ns) { Measure({here}, there, 0, ns); }},
      {"two threads", [=](double* ns) { Measure({here, there}, there, 0, ns); }},
      {"unbound, one", [=](double* ns) { Measure({here}, there, CMWQ_UNBOUND, ns); }},
      {"unbound, two", [=](double* ns) { Measure({here, there}, there, CMWQ_UNBOUND, ns); }},
  };
  std::vector<Column> flushes = {
      {"bound", [=](double* ns) { MeasureFlushes(here, 0, ns); }},
      {"unbound", [=](double* ns) { MeasureFlushes(here, CMWQ_UNBOUND, ns); }},
  };
  if (!Collect(options, &calls) || !Collect(options, &flushes)) return 3;

  Report report("prices of calls, to one queue", {"call", "condition", "ns", "spread"});
  auto rows = [&report](const std::vector<Column>& columns, const char* const* names, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      for (const Column& column : columns) {
        const Samples& s = column.samples[i];
        report.Row({names[i], column.name, Fixed(s.Median(), 0), s.Spread(0)});
      }
    }
  };
  rows(calls, kCallNames, kCalls);
  rows(flushes, kFlushNames, kFlushes);
  report.Bar("queue_work, one thread, ns", calls[0].samples[kQueue].Median(), 100);
  report.Bar("cancel_work, one thread, ns", calls[0].samples[kCancel].Median(), 100);
  report.Bar("flush_work of an idle item, ns", flushes[0].samples[kIdleItem].Median(), 50);
  return report.Finish(options);
}

}  // namespace
}  // namespace cmwq::bench

int main(int argc, char** argv) { return cmwq::bench::Main(argc, argv); }
