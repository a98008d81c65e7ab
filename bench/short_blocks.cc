// Items that block for microseconds only, thousands of times each, with hundreds pending: how many
// threads that makes, and what a block costs. Threads made in such a burst stay for minutes.

#include <cmwq/cmwq.h>
#include <sys/prctl.h>

#include <atomic>
#include <cstdlib>
#include <vector>

#include "bench/harness.h"
#include "runtime/core/runtime.h"

namespace cmwq::bench {
namespace {

struct Shape {
  long items = 100;
  long blocks = 100;  // of each item
  long burn_us = 20;  // CPU time before each block
};
Shape g_shape;

struct Result {
  double ms;
  long created, live;
  long deepest;  // items that were blocked at once, on one CPU
  Switches switches;
};

// Blocked items per CPU, and the most there were.
struct alignas(64) Depth {
  std::atomic<long> now{0};
  std::atomic<long> most{0};
};

struct Item {
  struct cmwq_work work;  // first
  Depth* depth;
  uint64_t block_ns;
};

void Execute(struct cmwq_work* work) {
  Item* const item = reinterpret_cast<Item*>(work);
  prctl(PR_SET_TIMERSLACK, 1);  // the default of 50 us would make every block a long one
  for (long i = 0; i < g_shape.blocks; ++i) {
    BurnNs(static_cast<uint64_t>(g_shape.burn_us) * 1000);
    const long now = item->depth->now.fetch_add(1, std::memory_order_relaxed) + 1;
    long most = item->depth->most.load(std::memory_order_relaxed);
    while (now > most && !item->depth->most.compare_exchange_weak(most, now)) {
    }
    cmwq_block_begin();
    SleepNs(item->block_ns);
    cmwq_block_end();
    item->depth->now.fetch_sub(1, std::memory_order_relaxed);
  }
  prctl(PR_SET_TIMERSLACK, 0);
}

void Run(uint64_t block_ns, Result* result) {
  const std::vector<int> cpus = AllowedCpus();
  struct cmwq_workqueue* const queue = cmwq_alloc_workqueue("short_blocks", 0, 0);
  std::vector<Item> items(static_cast<size_t>(g_shape.items));
  std::vector<Depth> depths(cpus.size());
  const Switches before = SwitchesOfSelf();
  const uint64_t start = NowNs();
  for (size_t i = 0; i < items.size(); ++i) {
    cmwq_work_init(&items[i].work, &Execute);
    items[i].depth = &depths[i % cpus.size()];
    items[i].block_ns = block_ns;
    cmwq_queue_work_on(cpus[i % cpus.size()], queue, &items[i].work);
  }
  cmwq_flush_workqueue(queue);
  result->ms = static_cast<double>(NowNs() - start) / kNsPerMs;
  const Switches after = SwitchesOfSelf();
  result->switches = {after.voluntary - before.voluntary, after.involuntary - before.involuntary};
  core::Runtime::Get().pools()->ForEachPool([result](pool::WorkerPool& pool) {
    const pool::PoolStats s = pool.Stats();
    result->created += static_cast<long>(s.created);
    result->live += s.nr_workers;
  });
  for (const Depth& d : depths) result->deepest = std::max(result->deepest, d.most.load());
}

int Main(int argc, char** argv) {
  Options options("Items that block for microseconds: threads made and switches per block.", 3);
  options.Number("items", &g_shape.items, "items per run");
  options.Number("blocks", &g_shape.blocks, "blocks of each item");
  options.Number("burn-us", &g_shape.burn_us, "CPU time before each block");
  if (const int code = options.Parse(argc, argv); code >= 0) return code;

  Report report("short blocks: " + std::to_string(g_shape.items) + " items x " +
                    std::to_string(g_shape.blocks) + " x (" + std::to_string(g_shape.burn_us) +
                    " us CPU, block)",
                {"sleep us", "ms", "created", "spread", "live", "blocked at once",
                 "vol. switches per block", "invol."});
  for (const uint64_t block_us : {1, 5, 20, 50}) {
    Samples ms, created, live, deepest, voluntary, involuntary;
    for (int round = 0; round < options.rounds(); ++round) {
      const auto result =
          InChild<Result>([block_us](Result* r) { Run(block_us * 1000, r); }, 90);
      if (!result) return 3;
      const auto blocks = static_cast<double>(g_shape.items * g_shape.blocks);
      ms.Add(result->ms);
      created.Add(static_cast<double>(result->created));
      live.Add(static_cast<double>(result->live));
      deepest.Add(static_cast<double>(result->deepest));
      voluntary.Add(static_cast<double>(result->switches.voluntary) / blocks);
      involuntary.Add(static_cast<double>(result->switches.involuntary) / blocks);
    }
    report.Row({std::to_string(block_us), Fixed(ms.Median(), 1), Fixed(created.Median(), 0),
                created.Spread(0), Fixed(live.Median(), 0), Fixed(deepest.Median(), 0),
                Fixed(voluntary.Median(), 2), Fixed(involuntary.Median(), 2)});
    // A block of 20 us takes some 35 with its timer: three workers keep a CPU busy, and one is the spare.
    report.Bar("workers per CPU, blocks of " + std::to_string(block_us) + " us",
               created.Median() / static_cast<double>(AllowedCpus().size()), 10);
  }
  return report.Finish(options);
}

}  // namespace
}  // namespace cmwq::bench

int main(int argc, char** argv) { return cmwq::bench::Main(argc, argv); }
