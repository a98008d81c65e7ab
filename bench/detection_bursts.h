// What a detector does wrong, and what it costs, while workers only compute.

#ifndef CMWQ_BENCH_DETECTION_BURSTS_H_
#define CMWQ_BENCH_DETECTION_BURSTS_H_

#include <cstdint>

namespace cmwq::bench {

// Who else wants the CPUs.
struct Company {
  bool other_cpus = false;  // each of the other CPUs is busy all the time
  bool same_cpu = false;    // a process of this CPU comes and goes
};

struct BurstResult {
  long bursts = 0;
  long presumed = 0;   // by the engine's count; each is wrong unless the worker slept
  long switches = 0;   // voluntary ones inside bursts
  long overlaps = 0;   // bursts that began while another one had not ended
  // Involuntary switches of bursts: of all, and of those that overlapped.
  long involuntary = 0, overlap_involuntary = 0;

  void Add(const BurstResult& other);
  long Wrong() const { return presumed > switches ? presumed - switches : 0; }
  // Switches that each wrong action cost beyond those that a burst has anyhow. One start too many is one
  // switch to it; what is counted here comes back as the two preempt each other.
  double ExtraPerWrong() const;
};

// Measures how much computing a millisecond is. Once, before the children that are compared.
void CalibrateBursts();

// `count` bursts of `us` microseconds of computing each, always with the next ones pending. In a child,
// after the settings were made. own_cpu: for the calling thread.
void RunBursts(int cpu, int own_cpu, long count, long us, const Company& company,
               BurstResult* result);

// Wall-clock time of a fixed amount of computing by one worker with work pending behind it: as `items`
// items of one piece each. In a child.
void RunBound(int cpu, int own_cpu, long items, long total_ms, double* ms);

}  // namespace cmwq::bench

#endif  // CMWQ_BENCH_DETECTION_BURSTS_H_
