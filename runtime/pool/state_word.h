// StateWord: what one worker is doing, as far as concurrency management is concerned.
//
// A worker contributes one to its pool's nr_running exactly while it is kRunning with no NOT_RUNNING
// flag. All changes are compare-and-swap on one word, so that the edge "counted -> not counted" is
// seen by exactly one of the parties that race for it: the worker's own hooks, a detector that presumes
// it asleep, and whoever sets a flag. Never a delta counter alone: the counter can be recomputed from
// the words at any time.
//
// Layout: bits 0-1 activity, 8-15 flags, 16-31 sequence (bumped by every change, so that a detector's
// stale view cannot succeed).

#ifndef CMWQ_RUNTIME_POOL_STATE_WORD_H_
#define CMWQ_RUNTIME_POOL_STATE_WORD_H_

#include <cstdint>

#include "runtime/sync/sync.h"

namespace cmwq::pool {

enum class Activity : uint32_t {
  kRunning = 0,   // on the CPU or wants it. -> kSleeping (own hook), -> kPresumed (detector)
  kSleeping = 1,  // announced: inside a blocking region. -> kRunning (own hook)
  kPresumed = 2,  // a detector found it off the CPU, unannounced. -> kRunning, -> kSleeping (own hooks)
};

// Worker flags (kernel: WORKER_*). Those in kNotRunningMask take the worker out of nr_running.
struct WorkerFlag {
  static constexpr uint32_t kPrep = 1u << 8;          // idle, managing, or between items
  static constexpr uint32_t kCpuIntensive = 1u << 9;  // current item is not concurrency-managed
  static constexpr uint32_t kUnbound = 1u << 10;      // pool is unbound or has lost its CPU
  static constexpr uint32_t kRebound = 1u << 11;      // pool got its CPU back, worker not there yet
  static constexpr uint32_t kNotRunningMask = kPrep | kCpuIntensive | kUnbound | kRebound;
};

template <class Sync>
class BasicStateWord {
 public:
  // Each changer returns the change it made to "is counted": -1, 0 or +1. The caller owes exactly that
  // change to nr_running. One worker's changes follow each other; a detector pays in advance (Presume in
  // concurrency.h), so that nr_running may read low by one while it is about to act, never high.

  // Own hook: about to block.
  int Sleep() {
    return Change([](uint32_t w) { return With(w, Activity::kSleeping); });
  }
  // Own hook: back from blocking, or re-asserting at a work boundary.
  int Run() {
    uint32_t w = word_.load(std::memory_order_relaxed);
    if (ActivityOf(w) == Activity::kRunning) return 0;  // common: nobody presumed us asleep
    return Change([](uint32_t v) { return With(v, Activity::kRunning); });
  }
  // Flags in kNotRunningMask. Several may be set; only the first and the last edge count.
  int SetFlags(uint32_t flags) {
    return Change([flags](uint32_t w) { return w | flags; });
  }
  int ClearFlags(uint32_t flags) {
    return Change([flags](uint32_t w) { return w & ~flags; });
  }
  // Tick: the same for a worker that counted when its word was `seen`. 0: it moved on in between; then
  // nothing was changed. One compare-and-swap: a hook that takes the worker out at the same time either
  // makes this fail or finds it out already.
  int SetFlagsIf(uint32_t seen, uint32_t flags) {
    if (!Counted(seen)) return 0;
    return word_.compare_exchange_strong(seen, Next(seen | flags), std::memory_order_acq_rel,
                                         std::memory_order_relaxed)
               ? -1
               : 0;
  }
  // UNBOUND -> REBOUND and the like: one store, so that no hook ever sees neither.
  int ReplaceFlags(uint32_t clear, uint32_t set) {
    return Change([=](uint32_t w) { return (w & ~clear) | set; });
  }
  // Detector: the worker was seen asleep while its word was `seen`. Returns -1 if it now counts as
  // asleep; 0 if it moved on in between (then the detector must not act).
  int Presume(uint32_t seen) {
    if (!Counted(seen)) return 0;
    return word_.compare_exchange_strong(seen, Next(With(seen, Activity::kPresumed)),
                                         std::memory_order_acq_rel, std::memory_order_relaxed)
               ? -1
               : 0;
  }
  // Detector: a presumed worker was seen running again. +1 if it now counts.
  int Unpresume(uint32_t seen) {
    if (ActivityOf(seen) != Activity::kPresumed) return 0;
    const uint32_t next = Next(With(seen, Activity::kRunning));
    if (!word_.compare_exchange_strong(seen, next, std::memory_order_acq_rel,
                                       std::memory_order_relaxed)) {
      return 0;
    }
    return Counted(next) ? 1 : 0;
  }

  uint32_t Load() const { return word_.load(std::memory_order_acquire); }
  // Slot is (re)used by a new worker. Nobody else looks at it yet.
  void Reset(uint32_t flags) { word_.store(flags, std::memory_order_release); }

  static constexpr Activity ActivityOf(uint32_t w) { return static_cast<Activity>(w & 3u); }
  static constexpr bool Counted(uint32_t w) {
    return ActivityOf(w) == Activity::kRunning && (w & WorkerFlag::kNotRunningMask) == 0;
  }

 private:
  static constexpr uint32_t With(uint32_t w, Activity a) {
    return (w & ~3u) | static_cast<uint32_t>(a);
  }
  static constexpr uint32_t Next(uint32_t w) { return w + (1u << 16); }

  template <class F>
  int Change(F change) {
    uint32_t seen = word_.load(std::memory_order_relaxed);
    for (;;) {
      const uint32_t want = Next(change(seen));
      // acq_rel: the order that matters, against the worklist, is made by nr_running (concurrency.h).
      if (word_.compare_exchange_weak(seen, want, std::memory_order_acq_rel,
                                      std::memory_order_relaxed)) {
        return static_cast<int>(Counted(want)) - static_cast<int>(Counted(seen));
      }
    }
  }

  typename Sync::template Atomic<uint32_t> word_{WorkerFlag::kPrep};  // AT(Change, Presume)
};

using StateWord = BasicStateWord<sync::RealSync>;

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_STATE_WORD_H_
