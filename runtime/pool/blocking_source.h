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
  // Name for reports: "canary", "tick".
  virtual const char* name() const = 0;
  virtual uint64_t blocks_found() const = 0;

 protected:
  ~BlockingSource() = default;
  virtual void WakeUp() = 0;
  static constexpr int32_t kDormant = 0, kWatching = 1;
  std::atomic<int32_t> state_{kDormant};  // AT(Arm, the detector's loop); futex
};

// Makes `cpu` watched for `watched`; several sets may share one detector. Null: none to be had (the
// caller relies on announcements). Context: may create a thread; no locks held.
// Defined by whoever supplies detectors.
BlockingSource* AttachDetector(int cpu, Watched* watched);
// Child of fork: all detectors are gone.
void ForgetDetectors();

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_BLOCKING_SOURCE_H_
