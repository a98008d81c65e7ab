// Canary: one SCHED_IDLE thread per CPU that finds blocks nobody announced.
//
// The kernel gives an idle-class thread the CPU exactly when nothing else wants it. While work is
// pending on its CPU the canary is runnable; getting the CPU therefore means that every counted
// worker is off it: a page fault, a lock inside libc, an inline system call. It confirms that from
// /proc, because the scheduler may also pick it for a moment while a worker is merely preempted,
// and takes the sleeper out of nr_running, which starts the next worker.
//
// It takes no locks (a lock held at idle priority is held for long), allocates nothing, sleeps in a
// futex while nothing is pending or nothing could be started, and keeps its descriptors in a table
// of its own, out of the reach of programs that close everything.
//
// Where there is no such thread (none can be made, SCHED_IDLE is refused, its CPU was taken away)
// the manager's tick looks in its place, from the event thread, and sees to it that the canary
// comes back when it can.
//
// While it finds blocks, workers look as well, each before its next item: the canary comes only
// once the worker has gone to sleep for those who sleep without a word.

#ifndef CMWQ_HOOKS_DETECT_CANARY_H_
#define CMWQ_HOOKS_DETECT_CANARY_H_

#include "hooks/detect/peer_states.h"
#include "hooks/detect/rung.h"
#include "hooks/detect/task_state.h"
#include "runtime/platform/cpu_set.h"
#include "runtime/pool/blocking_source.h"

namespace cmwq::detect {

class Canary final : public pool::BlockingSource {
 public:
  explicit constexpr Canary(int cpu) : cpu_(cpu) {}

  // Makes the thread if there is none. 0 or errno; after an error Tick tries again.
  int Start();
  // Adds a set to watch. Lock-free; at most kMaxWatched, false beyond.
  bool Watch(pool::Watched* watched);
  // The process may use these CPUs from now on: moves the thread home, or out of the way.
  // Context: any; no locks needed.
  void Rebind(const platform::CpuSet& allowed);

  bool Attends() const override { return mode_.load(std::memory_order_relaxed) == kHome; }
  void Tick(pool::Watched* watched) override;
  bool LookForWorker(pool::Watched* watched, int tid) override;
  void WorkerEnds(int tid) override;
  const char* name() const override {
    return RungName(ChooseRung(Attends(), Attends(), !by_clock_.load(std::memory_order_relaxed)));
  }
  uint64_t blocks_found() const override {
    return found_.load(std::memory_order_relaxed) + ticked_.load(std::memory_order_relaxed);
  }
  uint64_t found_by_tick() const override { return ticked_.load(std::memory_order_relaxed); }
  uint64_t false_alarms() const { return alarms_.load(std::memory_order_relaxed); }
  // Of the thread, while there is one; else 0.
  int tid() const { return tid_.load(std::memory_order_acquire); }
  // Child of fork: the thread is the parent's.
  void Reset();

 private:
  enum Mode : int32_t {
    kThreadless,  // not made, or creation failed: the tick looks and tries again. -> kHome
    kHome,        // the thread looks, whenever its CPU is idle. -> kAway, kRefused, kThreadless
    kAway,        // it may not run on its CPU and sleeps: the tick looks. -> kHome
    kRefused,     // idle priority cannot be had: no thread, the tick looks
  };
  static constexpr int kMaxWatched = 8;
  static constexpr int kMaxSuspects = 64;  // per look; more follow at once
  static constexpr uint64_t kLingerNs =
      10'000;                             // about the time between two short items; arbitrary
  static constexpr int kMaxPeers = 8;     // that one worker looks at; its time is the next item's
  static constexpr int kMaxLooksInVain = 16;  // of workers, until the next find; arbitrary
  static constexpr int kMaxInVain = 4;    // looks that woke somebody without effect, then yield
  static constexpr int kMaxNudges = 100;  // in a row, nobody running, then nap; arbitrary
  // Looks without CPU time that mean asleep, where there is only the clock. The canary yields
  // between two looks; between two ticks a runnable thread may well wait on a crowded CPU.
  static constexpr int kQuietLooks = 3, kQuietTicks = 10;

  static void* Main(void* self);
  bool Settle();
  void Loop();
  bool AtHome();
  void StayAway();
  void NameSelf(const char* suffix) const;
  bool GoHome(int tid);
  bool ReturnHome();
  void WakeUp() override;
  bool Wanted() const;
  bool Linger() const;
  bool LookOnce(pool::Watched* watched);
  bool LookAtAll();
  int Sample(pool::Watched* watched, TaskStateReader* reader, int* listed);
  void Sleep();
  void Nap();

  const int cpu_;                                          // I
  std::atomic<int32_t> mode_{kThreadless};                 // AT(Start, StayAway, GoHome); futex
  std::atomic<int> tid_{0};                                // AT(Settle, ReturnHome, Rebind)
  std::atomic<uint64_t> next_try_ns_{0};                   // AT(Start, Tick): relaxed
  std::atomic<pool::Watched*> watched_[kMaxWatched] = {};  // AT(Watch, Loop): set once each
  std::atomic<uint64_t> found_{0};                         // AT(LookOnce, LookForWorker): a count
  std::atomic<uint64_t> ticked_{0};                        // AT(Tick, LookForWorker): a count
  std::atomic<uint64_t> alarms_{0};                        // AT(Sample, report): relaxed, a count
  std::atomic<bool> by_clock_{false};                      // AT(Tick, name): relaxed, for reports
  TaskStateReader reader_{true, kQuietLooks};              // S: the canary thread
  TaskStateReader tick_reader_{false, kQuietTicks};        // S: the thread that ticks
  // One worker looks at a time. Not a lock: who finds it taken does without.
  std::atomic<bool> peers_taken_{false};                   // AT(LookForWorker, WorkerEnds)
  PeerStates peers_;                                       // S: who has taken peers_taken_
  int nudges_ = 0;                                         // S: the canary thread; in a row
};

}  // namespace cmwq::detect

#endif  // CMWQ_HOOKS_DETECT_CANARY_H_
