// One sample of the detection table, and who supplies the next thread: cmwq, a bare futex, a poll.
//
// A sample: thread A of one CPU computes for a while, then blocks. Something is pending behind it,
// and B begins it on the same CPU. The time that counts is from A's stamp (detection_blocks.h) to
// B's first instruction, a NowNs() at the entry of its function. B then ends A's block, both
// finish, and the next sample finds all threads asleep, however they are supplied.

#ifndef CMWQ_BENCH_DETECTION_RUN_H_
#define CMWQ_BENCH_DETECTION_RUN_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "bench/detection_blocks.h"

namespace cmwq::bench {

class Exchange;

// Gets A and B to run. Start returns at once; B must not begin before A has blocked, unless the
// supplier is wrong about that.
class Supplier {
 public:
  virtual ~Supplier() = default;
  virtual void Start(Exchange* exchange) = 0;
  // Both have returned: what is left of the sample goes.
  virtual void Finish() {}
  // Presumed blocks so far.
  virtual uint64_t Presumed() const { return 0; }
};

std::unique_ptr<Supplier> MakeCmwq(int cpu);
// A wakes B and blocks: what any scheme that is told must pay.
std::unique_ptr<Supplier> MakeBare(int cpu);
// As libdispatch does it on Linux without an event for it: once per second a monitor reads the
// state of all workers from /proc, and starts one more if none of them is running and something is
// pending.
std::unique_ptr<Supplier> MakePoll(int cpu);

struct Sample {
  double us = 0;
  bool missed = false;  // nobody came while A was blocked: A's block had to be ended from outside
  bool short_ = false;  // A's block ended before B came: too short to be worth a thread
  bool early = false;   // B began before A blocked
  long presumed = 0;    // blocks presumed
  long switches = 0;    // voluntary ones of A around the block
};

// A and B, as functions for the supplier to call, and the measuring thread.
class Exchange {
 public:
  Exchange(Block* block, uint64_t busy_ns) : block_(block), busy_ns_(busy_ns) {}

  // A. hand_over: what it does before it blocks, if anything; counts as part of the block.
  void Blocker(const std::function<void()>* hand_over = nullptr);
  // B.
  void Next();
  // Both are where they belong: A may begin.
  void Go() { __atomic_store_n(&go_, 1, __ATOMIC_RELEASE); }

  // False: the block could not be prepared. patience_ns: after that nobody comes any more.
  bool Run(Supplier* supplier, uint64_t patience_ns, Sample* sample);

 private:
  static bool WaitFor(const int* word, uint64_t ns);
  static void Set(int* word);

  Block* const block_;
  const uint64_t busy_ns_;
  int go_ = 0;
  int blocker_done_ = 0, next_done_ = 0;  // futexes
  uint64_t left_ = 0, returned_ = 0, entered_ = 0;
  long switches_ = 0;
};

// Voluntary context switches of the calling thread.
long OwnSwitches();

}  // namespace cmwq::bench

#endif  // CMWQ_BENCH_DETECTION_RUN_H_
