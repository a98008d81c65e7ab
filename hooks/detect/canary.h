// Canary: one SCHED_IDLE thread per CPU that finds blocks nobody announced.
//
// The kernel gives an idle-class thread the CPU exactly when nothing else wants it. While work is
// pending on its CPU the canary is runnable; getting the CPU therefore means that every counted worker
// is off it: a page fault, a lock inside libc, an inline system call. It confirms that from /proc,
// because the scheduler may also pick it for a moment while a worker is merely preempted, and takes the
// sleeper out of nr_running, which starts the next worker.
//
// It takes no locks (a lock held at idle priority is held for long), allocates nothing, sleeps in a
// futex while nothing is pending, and keeps its descriptors in a table of its own, out of the reach of
// programs that close everything.
//
// Where SCHED_IDLE or the affinity is refused the same loop runs at normal priority with a pause of
// tick_ms per round: the tick.

#ifndef CMWQ_HOOKS_DETECT_CANARY_H_
#define CMWQ_HOOKS_DETECT_CANARY_H_

#include "hooks/detect/rung.h"
#include "hooks/detect/task_state.h"
#include "runtime/pool/blocking_source.h"

namespace cmwq::detect {

class Canary final : public pool::BlockingSource {
 public:
  constexpr Canary() = default;

  // Body of the thread; never returns. `started` is set once the mode is known.
  void Run(int cpu);
  // Adds a set to watch. Lock-free; at most kMaxWatched, false beyond.
  bool Watch(pool::Watched* watched);

  const char* name() const override {
    const bool task_stat = !by_clock_.load(std::memory_order_relaxed);
    return RungName(ChooseRung(!tick_mode_, !tick_mode_, task_stat));
  }
  uint64_t blocks_found() const override { return found_.load(std::memory_order_relaxed); }
  uint64_t false_alarms() const { return alarms_.load(std::memory_order_relaxed); }
  // Child of fork.
  void Reset();

 private:
  static constexpr int kMaxWatched = 8;
  static constexpr int kMaxSuspects = 64;
  static constexpr uint64_t kLingerNs = 10'000;  // about the time between two short items; arbitrary
  static constexpr int kMaxInVain = 4;           // looks that woke somebody without effect, then yield
  static constexpr int kMaxNudges = 100;         // in a row, nobody running, then nap; arbitrary

  void WakeUp() override;
  bool Wanted() const;
  bool Linger() const;
  bool LookOnce(pool::Watched* watched);
  void Sleep();
  void Pause();
  void Nap();

  int cpu_ = -1;                                            // I: after Run
  bool tick_mode_ = false;                                  // I: after Run
  std::atomic<pool::Watched*> watched_[kMaxWatched] = {};   // AT(Watch, Run): set once each
  std::atomic<uint64_t> found_{0};                          // AT(LookOnce, report): relaxed, a count
  std::atomic<uint64_t> alarms_{0};                         // AT(LookOnce, report): relaxed, a count
  std::atomic<bool> by_clock_{false};                       // AT(LookOnce, name): relaxed, for reports
  TaskStateReader reader_;                                  // S: the canary thread
  int nudges_ = 0;                                          // S: the canary thread; in a row
};

}  // namespace cmwq::detect

#endif  // CMWQ_HOOKS_DETECT_CANARY_H_
