// How long a CPU is without its work when a worker blocks: from just before the block to the first
// instruction of the next item, beside the kernel's own price for the same exchange between bare
// threads. All kinds are interleaved in one process, batch by batch.
//
// Two shapes, because a thread that slept for long costs the scheduler twice as much to wake as one
// that went to sleep a moment ago:
//   warm: two threads alternate. A blocks, B goes on, lets A finish, queues the next item, blocks,
//   ... cold: a row of threads, each blocks and stays blocked until the whole row was through.

#include <cmwq/cmwq.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "bench/harness.h"

namespace cmwq::bench {
namespace {

constexpr size_t kBatch = 16;             // one sample less per batch
constexpr uint64_t kSleepNs = 3'000'000;  // longer than a batch takes
constexpr size_t kMaxSamples = 4000;      // per kind and round

enum class Block { kFutex, kPipe, kSleep };

struct Result {
  static constexpr size_t kKinds = 7;
  size_t count[kKinds];
  float ns[kKinds][kMaxSamples];

  void Add(size_t kind, uint64_t from, uint64_t to) {
    if (count[kind] < kMaxSamples) {
      ns[kind][count[kind]++] = static_cast<float>(static_cast<int64_t>(to - from));
    }
  }
};

void SpinNs(uint64_t ns) {
  const uint64_t end = NowNs() + ns;
  while (NowNs() < end) {
  }
}

// What one blocked item waits for.
class Door {
 public:
  void Make(Block block) {
    block_ = block;
    open_ = 0;
    if (block == Block::kPipe && pipe(ends_) != 0) abort();
  }
  void Wait() {
    char byte;
    if (block_ == Block::kFutex) {
      FutexWaitWhile(&open_, 0);
    } else if (block_ == Block::kSleep) {
      SleepNs(kSleepNs);
    } else if (read(ends_[0], &byte, 1) < 0) {
      abort();
    }
  }
  void Open() {
    __atomic_store_n(&open_, 1, __ATOMIC_RELEASE);
    if (block_ == Block::kPipe) {
      close(ends_[1]);  // the reader sees the end of the file
    } else {
      FutexWakeAll(&open_);
    }
  }
  void Clear() {
    if (block_ == Block::kPipe) close(ends_[0]);
  }

 private:
  Block block_ = Block::kFutex;
  int open_ = 0;
  int ends_[2] = {-1, -1};
};

struct Batch;

struct Link {
  struct cmwq_work work;
  Batch* batch;
  size_t at;
  Door door;
  int done;
  uint64_t left;     // just before the block
  uint64_t entered;  // first instruction of the item
};

struct Batch {
  struct cmwq_workqueue* queue;
  int cpu;
  uint64_t busy_ns;  // computing before each block
  bool announce;
  bool warm;
  int queued;  // cold: items wait for the whole row
  std::array<Link, kBatch> links;
};

void BlockAt(Link* link) {
  Batch* const batch = link->batch;
  SpinNs(batch->busy_ns);
  link->left = NowNs();
  if (batch->announce) cmwq_block_begin();
  link->door.Wait();
  if (batch->announce) cmwq_block_end();
}

void ExecuteWarm(Link* link) {
  Batch* const batch = link->batch;
  if (link->at > 0) {
    Link* const previous = &batch->links[link->at - 1];
    previous->door.Open();
    // Its worker shares our CPU: it finishes and parks while we stand back.
    while (__atomic_load_n(&previous->done, __ATOMIC_ACQUIRE) == 0) sched_yield();
    for (int i = 0; i < 3; ++i) sched_yield();
  }
  if (link->at + 1 < kBatch) {
    cmwq_queue_work_on(batch->cpu, batch->queue, &batch->links[link->at + 1].work);
    BlockAt(link);
  }
  __atomic_store_n(&link->done, 1, __ATOMIC_RELEASE);
}

void ExecuteCold(Link* link) {
  Batch* const batch = link->batch;
  while (__atomic_load_n(&batch->queued, __ATOMIC_ACQUIRE) == 0) {
  }
  if (link->at + 1 < kBatch) {
    BlockAt(link);
  } else {
    for (Link& other : batch->links) other.door.Open();
  }
}

void Execute(struct cmwq_work* work) {
  const uint64_t now = NowNs();
  Link* const link = reinterpret_cast<Link*>(work);
  link->entered = now;
  link->batch->warm ? ExecuteWarm(link) : ExecuteCold(link);
}

struct Engine {
  struct cmwq_workqueue* queue;
  int cpu;
  uint64_t busy_ns;

  void RunBatch(bool warm, bool announce, Block block, size_t kind, Result* result) const {
    Batch batch = {};
    batch.queue = queue;
    batch.cpu = cpu;
    batch.busy_ns = busy_ns;
    batch.announce = announce;
    batch.warm = warm;
    for (size_t i = 0; i < kBatch; ++i) {
      Link& link = batch.links[i];
      link.batch = &batch;
      link.at = i;
      link.door.Make(block);
      cmwq_work_init(&link.work, &Execute);
    }
    for (size_t i = 0; i < (warm ? 1 : kBatch); ++i) {
      cmwq_queue_work_on(cpu, queue, &batch.links[i].work);
    }
    __atomic_store_n(&batch.queued, 1, __ATOMIC_RELEASE);
    // Chained items are queued before their predecessor ends: no flush can fall between two.
    for (Link& link : batch.links) cmwq_flush_work(&link.work);
    cmwq_flush_workqueue(queue);
    for (Link& link : batch.links) link.door.Clear();
    for (size_t i = 0; i + 1 < kBatch; ++i) {
      result->Add(kind, batch.links[i].left, batch.links[i + 1].entered);
    }
  }
};

// Bare threads of one CPU that hand a baton on: FUTEX_WAKE for the next, FUTEX_WAIT for oneself. Of
// two threads, warm; in a row of kBatch, cold.
class Relay {
 public:
  Relay(int cpu, size_t threads, uint64_t busy_ns) : threads_(threads), busy_ns_(busy_ns) {
    for (size_t i = 0; i < threads; ++i) pool_.emplace_back(cpu, [this, i] { Loop(i); });
  }
  ~Relay() {
    for (size_t i = 0; i < threads_; ++i) Give(i, -1);
    pool_.clear();
  }

  void RunBatch(size_t kind, Result* result) {
    step_ = 0;
    __atomic_store_n(&done_, 0, __ATOMIC_RELAXED);
    Give(0, 1);
    FutexWaitWhile(&done_, 0);
    for (size_t i = 0; i + 1 < kBatch; ++i) result->Add(kind, left_[i], entered_[i + 1]);
  }

 private:
  struct alignas(64) Baton {
    int word = 0;  // 1: go; -1: end
  };

  void Give(size_t thread, int word) {
    __atomic_store_n(&batons_[thread].word, word, __ATOMIC_RELEASE);
    FutexWakeAll(&batons_[thread].word);
  }
  void Loop(size_t self) {
    for (;;) {
      FutexWaitWhile(&batons_[self].word, 0);
      const uint64_t now = NowNs();
      if (__atomic_load_n(&batons_[self].word, __ATOMIC_RELAXED) < 0) return;
      batons_[self].word = 0;
      const size_t at = step_++;
      entered_[at] = now;
      if (at == kBatch - 1) {
        __atomic_store_n(&round_, round_ + 1, __ATOMIC_RELEASE);
        FutexWakeAll(&round_);
        __atomic_store_n(&done_, 1, __ATOMIC_RELEASE);
        FutexWakeAll(&done_);
        continue;
      }
      const int round = round_;
      SpinNs(busy_ns_);
      left_[at] = NowNs();
      Give((self + 1) % threads_, 1);
      // A row is let go together at its end, as the items are.
      if (threads_ > 2) FutexWaitWhile(&round_, round);
    }
  }

  const size_t threads_;
  const uint64_t busy_ns_;
  std::array<Baton, kBatch> batons_;
  int done_ = 0;     // futex
  int round_ = 0;    // futex
  size_t step_ = 0;  // the holder of the baton's
  std::array<uint64_t, kBatch> left_ = {};
  std::array<uint64_t, kBatch> entered_ = {};
  std::deque<Thread> pool_;
};

struct Kind {
  const char* name;
  size_t raw;  // which kind it is compared with
};
constexpr size_t kWarmRaw = 0, kWarmFutex = 1, kColdRaw = 2, kColdFutex = 3, kColdPipe = 4,
                 kCanaryPipe = 5, kCanarySleep = 6;
constexpr Kind kKinds[Result::kKinds] = {
    {"warm: bare futex", kWarmRaw},        {"warm: announced, futex", kWarmRaw},
    {"cold: bare futex", kColdRaw},        {"cold: announced, futex", kColdRaw},
    {"cold: announced, pipe", kColdRaw},   {"cold: canary, pipe", kColdRaw},
    {"cold: canary, nanosleep", kColdRaw},
};

void Measure(int cpu, int other, long batches, uint64_t busy_ns, Result* result) {
  const Engine engine = {cmwq_alloc_workqueue("handoff", 0, 0), cpu, busy_ns};
  PinSelf(other);
  Relay pair(cpu, 2, busy_ns);
  Relay row(cpu, kBatch, busy_ns);
  const std::function<void(Result*)> kinds[] = {
      [&](Result* r) { pair.RunBatch(kWarmRaw, r); },
      [&](Result* r) { engine.RunBatch(true, true, Block::kFutex, kWarmFutex, r); },
      [&](Result* r) { row.RunBatch(kColdRaw, r); },
      [&](Result* r) { engine.RunBatch(false, true, Block::kFutex, kColdFutex, r); },
      [&](Result* r) { engine.RunBatch(false, true, Block::kPipe, kColdPipe, r); },
      [&](Result* r) { engine.RunBatch(false, false, Block::kPipe, kCanaryPipe, r); },
      [&](Result* r) { engine.RunBatch(false, false, Block::kSleep, kCanarySleep, r); },
  };
  auto unmeasured = std::make_unique<Result>();
  for (long i = 0; i < batches; ++i) {
    for (const auto& run : kinds) {
      *unmeasured = {};
      run(unmeasured.get());  // makes workers; all kinds begin equally awake
      run(result);
    }
  }
}

int Main(int argc, char** argv) {
  DoNotWatchCpus();
  long batches = 60, busy_us = 20;
  Options options("From just before a worker blocks to the next item's first instruction, one CPU.",
                  7);
  options.Number("batches", &batches, "batches of 16 items per kind and round");
  options.Number("busy-us", &busy_us, "computing before each block");
  if (const int code = options.Parse(argc, argv); code >= 0) return code;

  const std::vector<int> cpus = AllowedCpus();
  const int cpu = cpus.back();
  std::array<Samples, Result::kKinds> all, medians;
  for (int round = 0; round < options.rounds(); ++round) {
    const auto result = InChild<Result>([&](Result* r) {
      Measure(cpu, cpus.front(), batches, static_cast<uint64_t>(busy_us) * 1000, r);
    });
    if (!result) return 3;
    for (size_t k = 0; k < Result::kKinds; ++k) {
      Samples of_round;
      for (size_t i = 0; i < result->count[k]; ++i) of_round.Add(result->ns[k][i] / kNsPerUs);
      medians[k].Add(of_round.Median());
      all[k].Add(of_round.values());
    }
  }
  Report report("hand-over to the next item on CPU " + std::to_string(cpu) + ", us",
                {"how", "p50", "p90", "p99", "x bare", "medians of rounds", "samples"});
  auto ratio = [&](size_t k) { return all[k].Median() / all[kKinds[k].raw].Median(); };
  for (size_t k = 0; k < Result::kKinds; ++k) {
    report.Row({kKinds[k].name, Fixed(all[k].Median(), 2), Fixed(all[k].Quantile(0.9), 2),
                Fixed(all[k].Quantile(0.99), 2), Fixed(ratio(k), 2), medians[k].Spread(2),
                std::to_string(all[k].size())});
  }
  report.Bar("warm, announced: p50 times bare futex", ratio(kWarmFutex), 1.5);
  report.Bar("cold, announced: p50 times bare futex", ratio(kColdFutex), 1.5);
  report.Bar("canary, pipe: p99 in us", all[kCanaryPipe].Quantile(0.99), 100);
  report.Bar("canary, nanosleep: p99 in us", all[kCanarySleep].Quantile(0.99), 100);
  return report.Finish(options);
}

}  // namespace
}  // namespace cmwq::bench

int main(int argc, char** argv) { return cmwq::bench::Main(argc, argv); }
