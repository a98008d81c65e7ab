// The seam between the engine and the detectors of unannounced blocks.
//
// The engine tells a detector when watching may help (BlockingSource::Arm); the detector looks at the
// engine through Watched and takes no lock: it may run at idle priority, and a lock held there would be
// held for a long time. Pools never know which detector they have; who links the engine supplies one
// (hooks/detect in the product, a fake in tests).

#ifndef CMWQ_RUNTIME_POOL_BLOCKING_SOURCE_H_
#define CMWQ_RUNTIME_POOL_BLOCKING_SOURCE_H_

#include <atomic>
#include <cstdint>

#include "runtime/platform/cpu_set.h"

namespace cmwq::pool {

// A worker that counts as running.
struct Suspect {
  int slot;        // index in its pool
  int tid;
  uint32_t word;   // state word when it was listed
};

// One CPU's set of counted workers, as a detector sees it. Type-stable: never freed.
class Watched {
 public:
  // True while an idle CPU would be a mistake: something is pending, and somebody could be started.
  virtual bool WantsWatch() const = 0;
  // Lists counted workers, at most max. Lock-free; a hint.
  virtual int ListSuspects(Suspect* out, int max) = 0;
  // The suspect was seen off the CPU: take it out of nr_running and wake the next worker if that was
  // the last one. False: it moved on since it was listed, nothing was done.
  virtual bool Presume(const Suspect& suspect) = 0;
  // Nobody counts as running but something is pending: wake somebody to look.
  virtual void Nudge() = 0;

 protected:
  ~Watched() = default;
};

class BlockingSource {
 public:
  // Watch from now on. Context: any, under kPool; one futex wake at most, none if already watching.
  void Arm() {
    // seq_cst: pairs with the store of kDormant in the detector, which then asks WantsWatch again.
    // Without it the detector may go to sleep on the old answer and the queuer see it awake.
    if (state_.load(std::memory_order_seq_cst) == kDormant) WakeUp();
  }
  // False: no thread looks by itself at present (it could not be made, or its CPU was taken away). Then
  // the engine's tick must call Tick.
  virtual bool Attends() const = 0;
  // Looks at `watched` in the place of that thread, and tries to have one again. Does nothing while one
  // attends. Context: the engine's one thread that ticks; no locks held; may create a thread.
  virtual void Tick(Watched* watched) = 0;
  // A worker on the detector's CPU is between two items, and others that count keep it from the next:
  // takes those that sleep out of nr_running. True: somebody was. Worth its price only while blocks
  // without a word are found. Context: that worker, no locks held; makes system calls.
  bool WorthALook() const { return worth_.load(std::memory_order_relaxed) > 0; }
  virtual bool LookForWorker(Watched* /*watched*/, int /*tid*/) { return false; }
  // The worker with this thread ends. Context: its thread, no locks held.
  virtual void WorkerEnds(int /*tid*/) {}
  // Who looks at present, for reports: "canary", "tick".
  virtual const char* name() const = 0;
  // All blocks that were found, and those of them that Tick found.
  virtual uint64_t blocks_found() const = 0;
  virtual uint64_t found_by_tick() const = 0;
  bool dormant() const { return state_.load(std::memory_order_relaxed) == kDormant; }

 protected:
  ~BlockingSource() = default;
  virtual void WakeUp() = 0;
  static constexpr int32_t kDormant = 0, kWatching = 1;
  std::atomic<int32_t> worth_{0};         // AT(WorthALook, the detector): relaxed, a hint
  std::atomic<int32_t> state_{kDormant};  // AT(Arm, the detector's loop); futex
};

// Makes `cpu` watched for `watched`; several sets may share one detector. Null: switched off, or no
// memory (the caller relies on announcements). Context: may create a thread; no locks held.
// Defined by whoever supplies detectors.
BlockingSource* AttachDetector(int cpu, Watched* watched);
// The process may use these CPUs from now on. For whoever watches that; without it a detector finds out
// when it next looks. Context: any; no locks held.
void RebindDetectors(const platform::CpuSet& allowed);
// Child of fork: all detectors are gone.
void ForgetDetectors();

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_BLOCKING_SOURCE_H_
