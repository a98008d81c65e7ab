#include "bench/detection_bursts.h"

#include <cmwq/cmwq.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "bench/harness.h"
#include "runtime/core/runtime.h"

namespace cmwq::bench {
namespace {

// Computing without system calls, which would be chances for the scheduler.
void Compute(long turns) {
  uint64_t x = 1;
  for (long i = 0; i < turns; ++i) {
    x = x * 6364136223846793005 + 1442695040888963407;
    asm volatile("" : "+r"(x));
  }
}

// Kept over forks.
long TurnsPerMs() {
  static const long turns = [] {
    constexpr long kTrial = 2'000'000;
    uint64_t best = ~uint64_t{0};
    for (int i = 0; i < 5; ++i) {
      const uint64_t start = NowNs();
      Compute(kTrial);
      best = std::min(best, NowNs() - start);
    }
    return static_cast<long>(kTrial * kNsPerMs / static_cast<double>(best));
  }();
  return turns;
}

// Processes that end with this object, or with the process.
class Neighbours {
 public:
  Neighbours(int cpu, const Company& company) {
    for (const int other : AllowedCpus()) {
      if (other != cpu && company.other_cpus) Fork(other, ~uint64_t{0}, 0);
    }
    // Three periods that do not fit into each other nor into the scheduler's.
    if (company.same_cpu) Fork(cpu, 370'000, 630'000);
  }
  ~Neighbours() {
    for (const pid_t pid : pids_) kill(pid, SIGKILL);
    for (const pid_t pid : pids_) waitpid(pid, nullptr, 0);
  }
  Neighbours(const Neighbours&) = delete;
  Neighbours& operator=(const Neighbours&) = delete;

 private:
  void Fork(int cpu, uint64_t on_ns, uint64_t off_ns) {
    const pid_t pid = fork();
    if (pid > 0) pids_.push_back(pid);
    if (pid != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    PinSelf(cpu);
    for (;;) {
      const uint64_t end = on_ns == ~uint64_t{0} ? on_ns : NowNs() + on_ns;
      while (NowNs() < end) {
      }
      SleepNs(off_ns);
    }
  }
  std::vector<pid_t> pids_;
};

struct Usage {
  long voluntary, involuntary;
};
Usage OwnUsage() {
  struct rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return {usage.ru_nvcsw, usage.ru_nivcsw};
}

struct Burst {
  struct cmwq_work work;  // first: Execute
  uint64_t sleep_ns;      // in the middle; 0: not at all
  bool overlaps;
  long wrong;
  Usage usage;
};

struct Bursts {
  long turns;
  int go;                   // all are queued
  std::atomic<int> active;  // AT(Execute, Execute)
};
Bursts g_bursts;

// Computes, and looks at what others made of it.
void Segment(Burst* burst, long turns) {
  const pool::StateWord* const word = pool::CurrentWorker()->word;
  const Usage before = OwnUsage();
  const uint32_t seen = word->Load();
  Compute(turns);
  const bool changed = word->Load() != seen;
  const Usage after = OwnUsage();
  burst->usage.voluntary += after.voluntary - before.voluntary;
  burst->usage.involuntary += after.involuntary - before.involuntary;
  burst->wrong += changed && after.voluntary == before.voluntary ? 1 : 0;
}

void Execute(struct cmwq_work* work) {
  Burst* const burst = reinterpret_cast<Burst*>(work);
  while (__atomic_load_n(&g_bursts.go, __ATOMIC_ACQUIRE) == 0) {
  }
  burst->overlaps = g_bursts.active.fetch_add(1, std::memory_order_relaxed) > 0;
  if (burst->sleep_ns == 0) {
    Segment(burst, g_bursts.turns);
  } else {
    Segment(burst, g_bursts.turns / 2);
    SleepNs(burst->sleep_ns);
    Segment(burst, g_bursts.turns / 2);
  }
  g_bursts.active.fetch_sub(1, std::memory_order_relaxed);
}

void ForEachPool(void (*visit)(const pool::PoolStats& stats, uint64_t* sum), uint64_t* sum) {
  core::Runtime::Get().pools()->ForEachPool(
      [&](pool::WorkerPool& pool) { visit(pool.Stats(), sum); });
}

uint64_t Presumed() {
  uint64_t sum = 0;
  ForEachPool([](const pool::PoolStats& stats, uint64_t* s) { *s += stats.presumed; }, &sum);
  return sum;
}

}  // namespace

void BurstResult::Add(const BurstResult& other) {
  bursts += other.bursts;
  presumed += other.presumed;
  wrong += other.wrong;
  switches += other.switches;
  overlaps += other.overlaps;
  involuntary += other.involuntary;
  overlap_involuntary += other.overlap_involuntary;
}

double BurstResult::ExtraPerWrong() const {
  const long alone = bursts - overlaps;
  if (overlaps == 0 || alone <= 0 || wrong == 0) return 0;
  const double usual =
      static_cast<double>(involuntary - overlap_involuntary) / static_cast<double>(alone);
  return (static_cast<double>(overlap_involuntary) - usual * static_cast<double>(overlaps)) /
         static_cast<double>(wrong);
}

void CalibrateBursts() { TurnsPerMs(); }

void RunBursts(int cpu, int own_cpu, long count, long us, const Company& company,
               BurstResult* result) {
  g_bursts.turns = TurnsPerMs() * us / 1000;
  const Neighbours neighbours(cpu, company);
  struct cmwq_workqueue* const queue = cmwq_alloc_workqueue("bursts", 0, 0);
  PinSelf(own_cpu);  // not before the library has seen which CPUs there are
  std::vector<Burst> bursts(static_cast<size_t>(count));
  for (size_t i = 0; i < bursts.size(); ++i) {
    if (company.sleeps) bursts[i].sleep_ns = 10'000 + i * 7919 % 180'000;
    cmwq_work_init(&bursts[i].work, &Execute);
    cmwq_queue_work_on(cpu, queue, &bursts[i].work);
  }
  const uint64_t presumed = Presumed();
  __atomic_store_n(&g_bursts.go, 1, __ATOMIC_RELEASE);
  cmwq_flush_workqueue(queue);
  result->bursts = count;
  result->presumed = static_cast<long>(Presumed() - presumed);
  for (const Burst& burst : bursts) {
    result->wrong += burst.wrong;
    result->switches += burst.usage.voluntary;
    result->involuntary += burst.usage.involuntary;
    result->overlaps += burst.overlaps ? 1 : 0;
    if (burst.overlaps) result->overlap_involuntary += burst.usage.involuntary;
  }
  // Who never sleeps is presumed wrongly, also if the word was put right before we looked.
  if (!company.sleeps) {
    result->wrong = std::max(result->wrong, result->presumed - result->switches);
  }
}

void RunBound(int cpu, int own_cpu, long items, long total_ms, double* ms) {
  g_bursts.turns = TurnsPerMs() * total_ms / items;
  struct cmwq_workqueue* const queue = cmwq_alloc_workqueue("bound", 0, 0);
  PinSelf(own_cpu);
  // One more, so that something is pending to the end; it counts like the others.
  std::vector<Burst> bursts(static_cast<size_t>(items) + 1);
  for (Burst& burst : bursts) {
    cmwq_work_init(&burst.work, &Execute);
    cmwq_queue_work_on(cpu, queue, &burst.work);
  }
  SleepNs(5'000'000);  // the first worker is there and spins
  const uint64_t start = NowNs();
  __atomic_store_n(&g_bursts.go, 1, __ATOMIC_RELEASE);
  cmwq_flush_work(&bursts[bursts.size() - 2].work);
  *ms = static_cast<double>(NowNs() - start) / kNsPerMs;
  cmwq_flush_workqueue(queue);
}

}  // namespace cmwq::bench
