// Prices of single operations, ns per call or per item.

#include <cmwq/cmwq.h>

#include <array>
#include <deque>
#include <functional>
#include <random>
#include <vector>

#include "bench/harness.h"

namespace cmwq::bench {
namespace {

constexpr uint64_t kFarNs = 3'600'000'000'000;  // deadlines that never come

struct Sizes {
  long items = 1'000'000;
  long calls = 100'000;
};
Sizes g_sizes;

size_t Items() { return static_cast<size_t>(g_sizes.items); }
size_t Calls() { return static_cast<size_t>(g_sizes.calls); }

using Works = std::vector<struct cmwq_work>;

void Nothing(struct cmwq_work*) {}

Works MakeWorks(size_t n, cmwq_work_fn fn) {
  Works works(n);
  for (auto& work : works) cmwq_work_init(&work, fn);
  return works;
}

struct cmwq_workqueue* Queue(unsigned flags, int max_active) {
  return cmwq_alloc_workqueue("queue_cost", flags, max_active);
}

double TimePer(size_t n, const std::function<void()>& run) {
  const uint64_t start = NowNs();
  run();
  return static_cast<double>(NowNs() - start) / static_cast<double>(n);
}

// Holds up one CPU's items: an item of a queue with max_active 1 that waits until it is let go.
struct Plug {
  struct cmwq_work work;
  int released = 0;

  static void Wait(struct cmwq_work* work) {
    cmwq_block_begin();
    FutexWaitWhile(&reinterpret_cast<Plug*>(work)->released, 0);
    cmwq_block_end();
  }
  void Insert(int cpu, struct cmwq_workqueue* queue) {
    cmwq_work_init(&work, &Wait);
    cmwq_queue_work_on(cpu, queue, &work);
  }
  void Pull() {
    __atomic_store_n(&released, 1, __ATOMIC_RELEASE);
    FutexWakeAll(&released);
  }
};

// One producer, empty items, from the first queueing to the end of the last item.
double EmptyItems(unsigned flags, int producer_cpu, int target_cpu) {
  struct cmwq_workqueue* const queue = Queue(flags, 0);
  Works works = MakeWorks(Items(), &Nothing);
  if (producer_cpu >= 0) PinSelf(producer_cpu);
  return TimePer(works.size(), [&] {
    for (auto& work : works) cmwq_queue_work_on(target_cpu, queue, &work);
    cmwq_flush_workqueue(queue);
  });
}

// Each item queues the next one, so that one executes at a time.
struct ChainState {
  struct cmwq_workqueue* queue;
  size_t left;
  int done;  // futex
};
struct ChainItem {
  struct cmwq_work work;
  ChainItem* next;
  ChainState* state;
};

void ExecuteChain(struct cmwq_work* work) {
  ChainItem* const item = reinterpret_cast<ChainItem*>(work);
  ChainState* const state = item->state;
  if (--state->left > 0) {
    cmwq_queue_work(state->queue, &item->next->work);
  } else {
    __atomic_store_n(&state->done, 1, __ATOMIC_RELEASE);
    FutexWakeAll(&state->done);
  }
}

double Chain() {
  ChainState state = {Queue(0, 0), Items(), 0};
  std::array<ChainItem, 2> items;
  for (size_t i = 0; i < 2; ++i) {
    items[i] = {{}, &items[1 - i], &state};
    cmwq_work_init(&items[i].work, &ExecuteChain);
  }
  const double ns = TimePer(Items(), [&] {
    cmwq_queue_work(state.queue, &items[0].work);
    FutexWaitWhile(&state.done, 0);
  });
  cmwq_flush_workqueue(state.queue);
  return ns;
}

// The call alone: the target's only worker computes on the other CPU meanwhile.
double QueueBusy(int here, int there) {
  static int computing, stop;
  computing = stop = 0;
  struct cmwq_workqueue* const queue = Queue(0, 0);
  Works works = MakeWorks(Calls(), &Nothing);
  struct cmwq_work busy;
  cmwq_work_init(&busy, [](struct cmwq_work*) {
    __atomic_store_n(&computing, 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&stop, __ATOMIC_ACQUIRE) == 0) {
    }
  });
  PinSelf(here);
  cmwq_queue_work_on(there, queue, &busy);
  while (__atomic_load_n(&computing, __ATOMIC_ACQUIRE) == 0) {
  }
  const double ns = TimePer(works.size(), [&] {
    for (auto& work : works) cmwq_queue_work_on(there, queue, &work);
  });
  __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
  cmwq_flush_workqueue(queue);
  return ns;
}

// Producers that queue on one pool, whose items wait for a max_active slot. Wall time per call of
// one.
double QueueWaiting(const std::vector<int>& producers, int target) {
  struct cmwq_workqueue* const queue = Queue(0, 1);
  Plug plug;
  plug.Insert(target, queue);
  std::vector<Works> works;
  for (size_t i = 0; i < producers.size(); ++i) works.push_back(MakeWorks(Calls(), &Nothing));
  std::vector<double> ns(producers.size());
  int ready = 0;
  {
    std::deque<Thread> threads;
    for (size_t i = 0; i < producers.size(); ++i) {
      threads.emplace_back(producers[i], [&, i] {
        __atomic_add_fetch(&ready, 1, __ATOMIC_ACQ_REL);
        while (__atomic_load_n(&ready, __ATOMIC_ACQUIRE) < static_cast<int>(producers.size())) {
        }
        ns[i] = TimePer(Calls(), [&] {
          for (auto& work : works[i]) cmwq_queue_work_on(target, queue, &work);
        });
      });
    }
  }
  plug.Pull();
  cmwq_flush_workqueue(queue);
  double sum = 0;
  for (const double one : ns) sum += one;
  return sum / static_cast<double>(ns.size());
}

double CancelPending(int cpu) {
  struct cmwq_workqueue* const queue = Queue(0, 1);
  Plug plug;
  plug.Insert(cpu, queue);
  Works works = MakeWorks(Calls(), &Nothing);
  for (auto& work : works) cmwq_queue_work_on(cpu, queue, &work);
  const double ns = TimePer(works.size(), [&] {
    for (auto& work : works) cmwq_cancel_work(&work);
  });
  plug.Pull();
  cmwq_flush_workqueue(queue);
  return ns;
}

double FlushIdle() {
  struct cmwq_workqueue* const queue = Queue(0, 0);
  struct cmwq_work work;
  cmwq_work_init(&work, &Nothing);
  cmwq_queue_work(queue, &work);
  cmwq_flush_work(&work);
  return TimePer(Calls(), [&] {
    for (size_t i = 0; i < Calls(); ++i) cmwq_flush_work(&work);
  });
}

// Queue an item, wait for it: two wake-ups.
double FlushRoundTrip(int here, int there) {
  struct cmwq_workqueue* const queue = Queue(0, 0);
  struct cmwq_work work;
  cmwq_work_init(&work, &Nothing);
  PinSelf(here);
  const size_t n = Calls() / 20;
  return TimePer(n, [&] {
    for (size_t i = 0; i < n; ++i) {
      cmwq_queue_work_on(there, queue, &work);
      cmwq_flush_work(&work);
    }
  });
}

struct TimerPrices {
  double arm, modify, cancel;
};

TimerPrices DelayedWork(size_t pending) {
  struct cmwq_workqueue* const queue = Queue(0, 0);
  std::mt19937_64 random(42);
  auto delay = [&random] { return kFarNs + random() % kFarNs; };
  std::vector<struct cmwq_delayed_work> others(pending), ours(Calls());
  for (auto* const set : {&others, &ours}) {
    for (auto& work : *set) cmwq_delayed_work_init(&work, &Nothing);
  }
  for (auto& work : others) cmwq_queue_delayed_work(queue, &work, delay());
  TimerPrices prices;
  prices.arm = TimePer(Calls(), [&] {
    for (auto& work : ours) cmwq_queue_delayed_work(queue, &work, delay());
  });
  prices.modify = TimePer(Calls(), [&] {
    for (auto& work : ours) cmwq_mod_delayed_work(queue, &work, delay());
  });
  prices.cancel = TimePer(Calls(), [&] {
    for (auto& work : ours) cmwq_cancel_delayed_work(&work);
  });
  return prices;
}

struct Price {
  std::string name;
  std::function<void(double* ns)> measure;  // fills as many as there are names
  std::vector<std::string> parts;           // more than one figure per measurement
  double bar = 0;                           // of the first figure; 0: none
  std::vector<Samples> samples = {};
};

std::vector<Price> MakePrices(int here, int there) {
  std::vector<Price> prices;
  auto single = [&prices](const char* name, double bar, std::function<double()> measure) {
    prices.push_back({name, [measure](double* ns) { *ns = measure(); }, {""}, bar});
  };
  single("empty item, one producer", 100, [] { return EmptyItems(0, -1, CMWQ_CPU_ANY); });
  single("  producer pinned to their CPU", 0, [=] { return EmptyItems(0, here, here); });
  single("  producer on the other CPU", 0, [=] { return EmptyItems(0, here, there); });
  single("  unbound queue", 0, [] { return EmptyItems(CMWQ_UNBOUND, -1, CMWQ_CPU_ANY); });
  single("chain: each item queues the next", 60, [] { return Chain(); });
  single("queue_work, its worker busy", 0, [=] { return QueueBusy(here, there); });
  single("queue_work, waits for max_active", 0, [=] { return QueueWaiting({here}, there); });
  single("  the same by two threads at once", 0, [=] {
    return QueueWaiting({here, there}, there);
  });
  single("cancel_work, pending", 0, [=] { return CancelPending(there); });
  single("flush_work, idle item", 0, [] { return FlushIdle(); });
  single("queue_work and flush_work, same CPU", 0, [=] { return FlushRoundTrip(here, here); });
  single("queue_work and flush_work, other CPU", 0, [=] { return FlushRoundTrip(here, there); });
  for (const size_t pending : {size_t{0}, size_t{100'000}, size_t{1'000'000}}) {
    auto measure = [pending](double* ns) {
      const TimerPrices got = DelayedWork(pending);
      ns[0] = got.arm;
      ns[1] = got.modify;
      ns[2] = got.cancel;
    };
    prices.push_back({"delayed work, " + std::to_string(pending) + " others pending: ",
                      measure,
                      {"arm", "modify", "cancel"}});
  }
  return prices;
}

int Main(int argc, char** argv) {
  Options options("Prices of single operations, each round of each in a fresh process.", 7);
  options.Number("items", &g_sizes.items, "items where throughput is measured");
  options.Number("calls", &g_sizes.calls, "calls where one call is measured");
  if (const int code = options.Parse(argc, argv); code >= 0) return code;

  const std::vector<int> cpus = AllowedCpus();
  std::vector<Price> prices = MakePrices(cpus.front(), cpus.back());
  for (int round = 0; round < options.rounds(); ++round) {
    for (Price& price : prices) {
      using Figures = std::array<double, 3>;
      const auto got = InChild<Figures>([&](Figures* to) { price.measure(to->data()); });
      if (!got) return 3;
      price.samples.resize(price.parts.size());
      for (size_t i = 0; i < price.parts.size(); ++i) price.samples[i].Add((*got)[i]);
    }
  }
  Report report("prices of operations", {"operation", "ns", "spread"});
  for (const Price& price : prices) {
    for (size_t i = 0; i < price.parts.size(); ++i) {
      const Samples& s = price.samples[i];
      report.Row({price.name + price.parts[i], Fixed(s.Median(), 0), s.Spread(0)});
    }
    if (price.bar > 0) report.Bar(price.name + ", ns", price.samples[0].Median(), price.bar);
  }
  return report.Finish(options);
}

}  // namespace
}  // namespace cmwq::bench

int main(int argc, char** argv) { return cmwq::bench::Main(argc, argv); }
