// The load that no fixed number of threads fits: short computing around a sleep.

#include <cmwq/cmwq.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>

#include "bench/harness.h"
#include "runtime/core/runtime.h"

namespace cmwq::bench {
namespace {

struct Shape {
  long items = 2000;
  long burn_us = 50;  // before the sleep and again after it
  long sleep_us = 1000;
  long tuned = 64;  // threads of the hand-tuned pool
};
Shape g_shape;

struct Result {
  double first_ms;    // in a fresh process
  double again_ms;    // the same once more, threads and stacks are there
  long threads;       // made for the first run
  Switches switches;  // during the first run
};

void Execute(bool announce) {
  BurnNs(static_cast<uint64_t>(g_shape.burn_us) * 1000);
  if (announce) cmwq_block_begin();
  usleep(static_cast<useconds_t>(g_shape.sleep_us));
  if (announce) cmwq_block_end();
  BurnNs(static_cast<uint64_t>(g_shape.burn_us) * 1000);
}

// Times `run` twice.
void Measure(const std::function<void()>& run, Result* result) {
  const Switches before = SwitchesOfSelf();
  uint64_t start = NowNs();
  run();
  result->first_ms = static_cast<double>(NowNs() - start) / kNsPerMs;
  const Switches after = SwitchesOfSelf();
  result->switches = {after.voluntary - before.voluntary, after.involuntary - before.involuntary};
  start = NowNs();
  run();
  result->again_ms = static_cast<double>(NowNs() - start) / kNsPerMs;
}

long WorkersCreated() {
  const wq::PoolTable* const table = core::Runtime::Get().pools();
  uint64_t sum = 0;
  table->ForEachPool([&sum](pool::WorkerPool& pool) { sum += pool.Stats().created; });
  return static_cast<long>(sum);
}

// In a child, before its first use of the library.
void WithStats() {
  const char* const conf = getenv("CMWQ_CONF");
  setenv("CMWQ_CONF", ((conf != nullptr ? std::string(conf) + "," : "") + "stats=1").c_str(), 1);
}

void RunCmwq(bool announce, Result* result) {
  const std::vector<int> cpus = AllowedCpus();
  struct cmwq_workqueue* const queue = cmwq_alloc_workqueue("item_mix", 0, 0);
  std::vector<struct cmwq_work> works(static_cast<size_t>(g_shape.items));
  for (auto& work : works) {
    cmwq_work_init(
        &work, announce ? [](struct cmwq_work*) { Execute(true); }
                        : [](struct cmwq_work*) { Execute(false); });
  }
  long created = 0;
  Measure(
      [&] {
        for (size_t i = 0; i < works.size(); ++i) {
          cmwq_queue_work_on(cpus[i % cpus.size()], queue, &works[i]);
        }
        cmwq_flush_workqueue(queue);
        if (created == 0) created = WorkersCreated();
      },
      result);
  result->threads = created;
}

// Threads that take the next item until none is left: the cheapest pool there can be.
void RunPool(size_t threads, bool pinned, Result* result) {
  const std::vector<int> cpus = AllowedCpus();
  Measure(
      [&] {
        std::atomic<long> next{0};
        std::deque<Thread> pool;
        for (size_t i = 0; i < threads; ++i) {
          pool.emplace_back(pinned ? cpus[i % cpus.size()] : -1, [&next] {
            while (next.fetch_add(1, std::memory_order_relaxed) < g_shape.items) Execute(false);
          });
        }
      },
      result);
  result->threads = static_cast<long>(threads);
}

void RunThreadPerItem(Result* result) {
  Measure(
      [&] {
        std::deque<Thread> threads;
        for (long i = 0; i < g_shape.items; ++i) threads.emplace_back(-1, [] { Execute(false); });
      },
      result);
  result->threads = g_shape.items;
}

struct Variant {
  std::string name;
  std::function<void(Result*)> run;
  double bar;  // times ideal; 0: a baseline
  Samples first = {}, ratio = {}, again = {}, threads = {}, voluntary = {}, involuntary = {};
};

void Collect(const Result& result, double ideal_ms, Variant* variant) {
  variant->first.Add(result.first_ms);
  variant->ratio.Add(result.first_ms / ideal_ms);
  variant->again.Add(result.again_ms);
  variant->threads.Add(static_cast<double>(result.threads));
  variant->voluntary.Add(static_cast<double>(result.switches.voluntary));
  variant->involuntary.Add(static_cast<double>(result.switches.involuntary));
}

int Main(int argc, char** argv) {
  Options options(
      "Items of CPU time, a sleep and CPU time again, against the ideal and other pools.", 7);
  options.Number("items", &g_shape.items, "items per run");
  options.Number("burn-us", &g_shape.burn_us, "CPU time before and after the sleep");
  options.Number("sleep-us", &g_shape.sleep_us, "length of the sleep");
  options.Number("tuned", &g_shape.tuned, "threads of the hand-tuned pool");
  if (const int code = options.Parse(argc, argv); code >= 0) return code;

  const size_t cpus = AllowedCpus().size();
  // All CPUs compute all the time, and the last item's sleep overlaps with nothing.
  const double ideal_ms =
      (static_cast<double>(2 * g_shape.burn_us * g_shape.items) / static_cast<double>(cpus) +
       static_cast<double>(g_shape.sleep_us)) /
      1e3;
  const auto tuned = static_cast<size_t>(g_shape.tuned);
  std::vector<Variant> variants;
  variants.push_back({"cmwq, announced", [](Result* r) { RunCmwq(true, r); }, 1.15});
  variants.push_back({"cmwq, announced, stats=1", [](Result* r) { WithStats(); RunCmwq(true, r); }, 0});
  variants.push_back({"cmwq, unannounced", [](Result* r) { RunCmwq(false, r); }, 1.15});
  variants.push_back(
      {"one pinned thread per CPU", [cpus](Result* r) { RunPool(cpus, true, r); }, 0});
  variants.push_back({"thread per item", [](Result* r) { RunThreadPerItem(r); }, 0});
  variants.push_back({"pool of " + std::to_string(tuned) + " threads",
                      [tuned](Result* r) { RunPool(tuned, false, r); }, 0});

  Report report("item mix: " + std::to_string(g_shape.items) + " x (" +
                    std::to_string(g_shape.burn_us) + " us CPU, " +
                    std::to_string(g_shape.sleep_us) + " us sleep, " +
                    std::to_string(g_shape.burn_us) + " us CPU), " + std::to_string(cpus) +
                    " CPUs, ideal " + Fixed(ideal_ms, 1) + " ms",
                {"variant", "ms", "spread", "x ideal", "again ms", "threads", "spread",
                 "vol. switches", "invol. switches"});
  Samples stats;
  for (int round = 0; round < options.rounds(); ++round) {
    double mixes[2] = {};
    for (size_t i = 0; i < variants.size(); ++i) {
      // The first two change places: what differs between them is small.
      const size_t which = i < 2 && round % 2 != 0 ? 1 - i : i;
      const auto result = InChild<Result>(variants[which].run);
      if (!result) return 3;
      Collect(*result, ideal_ms, &variants[which]);
      if (which < 2) mixes[which] = result->first_ms + result->again_ms;
    }
    stats.Add(mixes[1] / mixes[0]);
  }
  for (Variant& v : variants) {
    report.Row({v.name, Fixed(v.first.Median(), 1), v.first.Spread(1), Fixed(v.ratio.Median(), 2),
                Fixed(v.again.Median(), 1), Fixed(v.threads.Median(), 0), v.threads.Spread(0),
                Fixed(v.voluntary.Median(), 0), Fixed(v.involuntary.Median(), 0)});
    if (v.bar > 0) report.Bar(v.name + ", times ideal", v.ratio.Median(), v.bar);
  }
  // Of one run each, back to back, so that what the machine does meanwhile falls on both; a hundredth is noise.
  report.Bar("announced with the statistics page, times without", stats.Median(), 1.01);
  return report.Finish(options);
}

}  // namespace
}  // namespace cmwq::bench

int main(int argc, char** argv) { return cmwq::bench::Main(argc, argv); }
