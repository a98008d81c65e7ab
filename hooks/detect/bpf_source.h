// BpfSource: the exact mode of one CPU. The kernel itself says that a worker sleeps without a word.
//
// While work is pending (the same times at which a canary would be runnable) the CPU's doorbell is
// armed: the BPF program rings it when a worker of this CPU switches out voluntarily inside an
// item. This thread, at normal priority on that CPU, takes the sleeper out of nr_running, which
// starts the next worker. Against the canary: seen although another process keeps the CPU busy, and
// where SCHED_IDLE is refused; the price is a wake-up.
//
//   arming (Arm, WakeUp)              program, at the switch out
//   1. armed := 1      (seq_cst)      1. blocked := 1   (full barrier)
//   2. look at the blocked bits       2. read armed, ring
//
// One of the two sees the other. The bits are no delta counter: each is set anew at each switch,
// and the thread clears its own when it runs. Should one be missed all the same, the look at every
// tick_ms asks /proc while work is pending.

#ifndef CMWQ_HOOKS_DETECT_BPF_SOURCE_H_
#define CMWQ_HOOKS_DETECT_BPF_SOURCE_H_

#include "hooks/detect/bpf_link.h"
#include "hooks/detect/task_state.h"
#include "runtime/pool/blocking_source.h"

namespace cmwq::detect {

class BpfSource final : public pool::BlockingSource {
 public:
  constexpr BpfSource() = default;

  // Before Run.
  void SetUp(int cpu, const BpfMemory& memory);
  // Body of the thread; never returns. doorbell: the ring buffer, in the thread's descriptor table.
  void Run(int doorbell);
  bool Watch(pool::Watched* watched);

  bool Attends() const override { return true; }
  void Tick(pool::Watched*) override {}
  const char* name() const override { return "bpf"; }
  uint64_t blocks_found() const override { return found_.load(std::memory_order_relaxed); }
  uint64_t found_by_tick() const override { return 0; }
  // One look at all sets, by the bits or, if reader is not null, by /proc as well. Lock-free. self:
  // by the source's own thread, which may make system calls and nudge.
  void Look(TaskStateReader* reader, bool self);

 private:
  static constexpr int kMaxWatched = 8;
  static constexpr int kMaxSuspects = 64;

  void WakeUp() override;
  bool Wanted() const;
  bool Asleep(const pool::Suspect& suspect, TaskStateReader* reader) const;
  void Sleep();
  void SetArmed(unsigned armed);

  int cpu_ = -1;                                           // I: after SetUp
  BpfMemory memory_;                                       // I: after SetUp
  std::atomic<pool::Watched*> watched_[kMaxWatched] = {};  // AT(Watch, Look): set once each
  std::atomic<uint64_t> found_{0};                         // AT(Look, report): relaxed, a count
};

// Starts the thread that holds the descriptors in a table of its own: with its end the kernel
// detaches the program. False: it cannot be had. The caller's copies may then be closed.
bool StartBpfHolder(const BpfHandles& handles);
// The source of a CPU in exact mode, or null. Context: no locks held; may connect.
pool::BlockingSource* AttachBpfSource(int cpu, pool::Watched* watched);
// As ForEachDetector.
void ForEachBpfSource(void (*visit)(int cpu, const pool::BlockingSource& source, void* arg),
                      void* arg);
void ForgetBpfSources();

}  // namespace cmwq::detect

#endif  // CMWQ_HOOKS_DETECT_BPF_SOURCE_H_
