// What a detector does wrong, and what it costs, while workers compute.
//
// A wrong action is a presumed block of a worker that did not sleep: it was running, preempted, or
// had come back already when the detector acted on what it had seen. A worker knows its own state
// word; if that changes while the worker computes, and getrusage says that it did not sleep
// meanwhile, then somebody was wrong about it.

#ifndef CMWQ_BENCH_DETECTION_BURSTS_H_
#define CMWQ_BENCH_DETECTION_BURSTS_H_

#include <cstdint>

namespace cmwq::bench {

// The circumstances of bursts.
struct Company {
  bool other_cpus = false;  // each of the other CPUs is busy all the time
  bool same_cpu = false;    // a process of this CPU comes and goes
  bool sleeps = false;      // each burst sleeps for some 100 us in the middle, unannounced
};

struct BurstResult {
  long bursts = 0;
  long presumed = 0;  // by the engine's count
  long wrong = 0;
  long switches = 0;  // voluntary ones, not counting the sleeps
  long overlaps = 0;  // bursts that began while another one had not ended
  // Involuntary switches of bursts: of all, and of those that overlapped.
  long involuntary = 0, overlap_involuntary = 0;

  void Add(const BurstResult& other);
  // Involuntary switches that each wrong action cost beyond those that a burst has anyhow: two
  // workers that count as one preempt each other. Only of bursts that do not sleep, for those that
  // do overlap by right.
  double ExtraPerWrong() const;
};

// Measures how much computing a millisecond is. Once, before the children that are compared.
void CalibrateBursts();

// `count` bursts of `us` microseconds of computing each, always with the next ones pending. In a
// child, after the settings were made. own_cpu: for the calling thread.
void RunBursts(int cpu, int own_cpu, long count, long us, const Company& company,
               BurstResult* result);

// Wall-clock time of a fixed amount of computing by one worker with work pending behind it: as
// `items` items of one piece each. In a child.
void RunBound(int cpu, int own_cpu, long items, long total_ms, double* ms);

}  // namespace cmwq::bench

#endif  // CMWQ_BENCH_DETECTION_BURSTS_H_
