// How long a CPU is without its work when a worker blocks: from just before the block to the first
// instruction of the next item.
//
// A batch of items blocks one after the other on one CPU, each hand-over being one sample; then all are
// released and the next batch is queued. Beside them, in the same child and interleaved by batch, the
// kernel's own price: two pinned threads that wake each other and wait.

#include <cmwq/cmwq.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <vector>

#include "bench/harness.h"

namespace cmwq::bench {
namespace {

enum class Block { kFutex, kPipe, kSleep };

constexpr int kBatch = 16;           // hand-overs per batch: kBatch - 1
constexpr uint64_t kSleepNs = 3'000'000;  // longer than a batch takes
constexpr size_t kMaxSamples = 4000;      // per variant and round

struct Chain;

struct Link {
  struct cmwq_work work;
  Chain* chain;
  int index;
};

// One batch. The pipe is read without being filled: the release closes it.
struct Chain {
  Block block;
  bool announce;
  uint64_t busy_ns;         // computing before each block, so that it is no cold hand-over
  int pipe_ends[2];
  int released;             // futex
  int queued;               // futex: items wait for the whole batch
  std::array<uint64_t, kBatch> left;     // just before the block
  std::array<uint64_t, kBatch> entered;  // first instruction of the item
  std::array<Link, kBatch> links;
};

void WaitBlocked(Chain* chain) {
  switch (chain->block) {
    case Block::kFutex:
      FutexWaitWhile(&chain->released, 0);
      return;
    case Block::kPipe: {
      char byte;
      if (read(chain->pipe_ends[0], &byte, 1) < 0) abort();
      return;
    }
    case Block::kSleep:
      SleepNs(kSleepNs);
      return;
  }
}

void Release(Chain* chain) {
  __atomic_store_n(&chain->released, 1, __ATOMIC_RELEASE);
  FutexWakeAll(&chain->released);
  if (chain->block == Block::kPipe) close(chain->pipe_ends[1]);
}

void ExecuteLink(struct cmwq_work* work) {
  const uint64_t now = NowNs();
  Link* const link = reinterpret_cast<Link*>(work);
  Chain* const chain = link->chain;
  const auto at = static_cast<size_t>(link->index);
  chain->entered[at] = now;
  if (link->index == kBatch - 1) {
    Release(chain);
    return;
  }
  while (__atomic_load_n(&chain->queued, __ATOMIC_ACQUIRE) == 0) {
  }
  const uint64_t end = NowNs() + chain->busy_ns;
  while (NowNs() < end) {
  }
  chain->left[at] = NowNs();
  if (chain->announce) cmwq_block_begin();
  WaitBlocked(chain);
  if (chain->announce) cmwq_block_end();
}

struct Mode {
  const char* name;
  Block block;
  bool announce;
};
constexpr Mode kModes[] = {
    {"announced, futex", Block::kFutex, true},
    {"announced, pipe read", Block::kPipe, true},
    {"canary, pipe read", Block::kPipe, false},
    {"canary, nanosleep", Block::kSleep, false},
};
constexpr size_t kModeCount = sizeof(kModes) / sizeof(kModes[0]);
constexpr size_t kRaw = kModeCount;  // index of the raw hand-over among the results

struct Result {
  size_t count[kModeCount + 1];
  float ns[kModeCount + 1][kMaxSamples];

  void Add(size_t which, uint64_t from, uint64_t to) {
    if (count[which] < kMaxSamples) {
      ns[which][count[which]++] = static_cast<float>(static_cast<int64_t>(to - from));
    }
  }
};

void RunBatch(struct cmwq_workqueue* queue, int cpu, const Mode& mode, uint64_t busy_ns,
              size_t which, Result* result) {
  Chain chain = {};
  chain.block = mode.block;
  chain.announce = mode.announce;
  chain.busy_ns = busy_ns;
  if (mode.block == Block::kPipe && pipe(chain.pipe_ends) != 0) abort();
  for (int i = 0; i < kBatch; ++i) {
    Link& link = chain.links[static_cast<size_t>(i)];
    link.chain = &chain;
    link.index = i;
    cmwq_work_init(&link.work, &ExecuteLink);
    cmwq_queue_work_on(cpu, queue, &link.work);
  }
  __atomic_store_n(&chain.queued, 1, __ATOMIC_RELEASE);
  cmwq_flush_workqueue(queue);
  if (mode.block == Block::kPipe) close(chain.pipe_ends[0]);
  for (size_t i = 0; i + 1 < kBatch; ++i) result->Add(which, chain.left[i], chain.entered[i + 1]);
}

// Two threads of one CPU; each wakes the other and waits. A sample is from before the wake-up to the
// return from the other's wait.
class RawPair {
 public:
  explicit RawPair(int cpu)
      : first_(cpu, [this] { Loop(0); }), second_(cpu, [this] { Loop(1); }) {}
  ~RawPair() { Command(-1); }

  // kBatch - 1 hand-overs.
  void RunBatch(uint64_t busy_ns, Result* result) {
    busy_ns_ = busy_ns;
    turns_ = 0;
    __atomic_store_n(&done_, 0, __ATOMIC_RELAXED);
    Command(1);
    FutexWaitWhile(&done_, 0);
    for (size_t i = 0; i + 1 < kBatch; ++i) result->Add(kRaw, left_[i], entered_[i + 1]);
  }

 private:
  // 0: wait; 1: go; -1: end. Given to the side whose turn it is.
  void Command(int command) {
    if (command < 0) Give(1, command);
    Give(0, command);
  }
  void Give(int side, int command) {
    __atomic_store_n(&turn_[side].word, command, __ATOMIC_RELEASE);
    FutexWakeAll(&turn_[side].word);
  }
  void Loop(int side) {
    for (;;) {
      FutexWaitWhile(&turn_[side].word, 0);
      const uint64_t now = NowNs();
      if (turn_[side].word < 0) return;
      turn_[side].word = 0;
      const size_t at = turns_++;
      entered_[at] = now;
      if (at == kBatch - 1) {
        __atomic_store_n(&done_, 1, __ATOMIC_RELEASE);
        FutexWakeAll(&done_);
        continue;
      }
      const uint64_t end = NowNs() + busy_ns_;
      while (NowNs() < end) {
      }
      left_[at] = NowNs();
      Give(1 - side, 1);
    }
  }

  struct alignas(64) Turn {
    int word = 0;
  };
  Turn turn_[2];
  int done_ = 0;
  size_t turns_ = 0;
  uint64_t busy_ns_ = 0;
  std::array<uint64_t, kBatch> left_ = {};
  std::array<uint64_t, kBatch> entered_ = {};
  Thread first_, second_;
};

void Measure(int cpu, int other, long batches, uint64_t busy_ns, Result* result) {
  PinSelf(other);
  // The engine takes the CPUs of the thread that starts it.
  struct cmwq_workqueue* queue = nullptr;
  {
    Thread starter(cpu, [&queue] { queue = cmwq_alloc_workqueue("handoff", 0, 0); });
  }
  RawPair raw(cpu);
  for (size_t m = 0; m < kModeCount; ++m) RunBatch(queue, cpu, kModes[m], busy_ns, m, result);
  // The first batch made the workers.
  *result = {};
  for (long batch = 0; batch < batches; ++batch) {
    for (size_t m = 0; m < kModeCount; ++m) {
      RunBatch(queue, cpu, kModes[m], busy_ns, m, result);
      raw.RunBatch(busy_ns, result);
    }
  }
}

int Main(int argc, char** argv) {
  long batches = 60, busy_us = 20;
  Options options("From just before a worker blocks to the next item's first instruction, one CPU.", 7);
  options.Number("batches", &batches, "batches of 16 items per kind and round");
  options.Number("busy-us", &busy_us, "computing before each block");
  if (const int code = options.Parse(argc, argv); code >= 0) return code;

  const std::vector<int> cpus = AllowedCpus();
  const int cpu = cpus.back();
  Samples samples[kModeCount + 1];
  Samples medians[kModeCount + 1];
  for (int round = 0; round < options.rounds(); ++round) {
    const auto result = InChild<Result>([&](Result* r) {
      Measure(cpu, cpus.front(), batches, static_cast<uint64_t>(busy_us) * 1000, r);
    });
    if (!result) return 3;
    for (size_t m = 0; m <= kModeCount; ++m) {
      Samples round_samples;
      for (size_t i = 0; i < result->count[m]; ++i) round_samples.Add(result->ns[m][i] / kNsPerUs);
      medians[m].Add(round_samples.Median());
      for (size_t i = 0; i < result->count[m]; ++i) samples[m].Add(result->ns[m][i] / kNsPerUs);
    }
  }
  Report report("hand-over to the next item on CPU " + std::to_string(cpu) + ", us",
                {"how", "p50", "p90", "p99", "x raw", "medians of rounds", "samples"});
  const double raw = samples[kRaw].Median();
  for (size_t i = 0; i <= kModeCount; ++i) {
    const size_t m = i == 0 ? kRaw : i - 1;
    const Samples& s = samples[m];
    report.Row({m == kRaw ? "raw: FUTEX_WAKE, FUTEX_WAIT" : kModes[m].name, Fixed(s.Median(), 2),
                Fixed(s.Quantile(0.9), 2), Fixed(s.Quantile(0.99), 2), Fixed(s.Median() / raw, 2),
                medians[m].Spread(2), std::to_string(s.size())});
  }
  report.Bar("announced, futex, p50 times raw", samples[0].Median() / raw, 1.5);
  report.Bar("canary, pipe read, p99 in us", samples[2].Quantile(0.99), 100);
  report.Bar("canary, nanosleep, p99 in us", samples[3].Quantile(0.99), 100);
  return report.Finish(options);
}

}  // namespace
}  // namespace cmwq::bench

int main(int argc, char** argv) { return cmwq::bench::Main(argc, argv); }
