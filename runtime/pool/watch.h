// What a pool's event-thread timers remember: the tick (CPU hogs, drift of nr_running) and the
// stall watchdog. The code is in watch.cc; see "Watching a pool" in HACKING.md.

#ifndef CMWQ_RUNTIME_POOL_WATCH_H_
#define CMWQ_RUNTIME_POOL_WATCH_H_

#include <cmwq/cmwq.h>

#include <cstdint>

#include "runtime/platform/timer.h"

namespace cmwq::pool {

class WorkerPool;

struct WatchTimer {
  platform::SoonTimer soon;       // L: see SoonTimer; first
  WorkerPool* pool = nullptr;     // I
};

// A timer that is armed with kTimer held.
struct PoolTimer {
  platform::Timer timer;          // L: of the event thread (kTimer); first
  WorkerPool* pool;               // I
};
// What calls the trustee. Its state is in WorkerPool.
struct TrusteeCalls {
  WatchTimer soon;                // I: the timer itself, see WatchTimer; for those who hold the pool's lock
  PoolTimer look;                 // I: as soon; armed by the event thread
  bool asked = false;             // L: `soon` is requested
};

inline constexpr int kMaxHogReports = 4;  // per tick; the others wait for their next violation
struct HogReport {
  cmwq_work_fn fn;
  uint64_t count;
};

// What goes with it is in WorkerPool, beside the worklist:
//   tick_armed_, stall_armed_  requested or armed; set by whoever finds a reason, cleared by the timer
//                              that finds none
//   progress_                  batches begun, plus how often the worklist ceased to be empty (kernel:
//                              watchdog_ts)
struct PoolWatch {
  WatchTimer tick;                // I: the timer itself, see WatchTimer
  WatchTimer stall;               // I: as tick
  uint64_t stall_progress = 0;    // L: the pool's progress_ when it last changed, as far as the watchdog saw
  uint64_t stall_since_ns = 0;    // L: when that was
  uint64_t stall_reported_ns = 0; // L: last report of this stall; 0: none

  // The tick's own.
  int drift = 0;                  // S: sum of the state words minus nr_running, at the last tick
  int drift_ticks = 0;            // S: ticks in a row with the same drift
  bool drift_reported = false;    // S
};

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_WATCH_H_
