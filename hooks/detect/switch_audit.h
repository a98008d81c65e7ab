// ThreadAudit: one thread's context switches, counted by the phase that it was in.
//
// Three who can tell, all of them exact about "of its own will or not":
//   perf       a ring of records, emptied at each change of phase by the thread itself
//   bpf        counters in a shared map; the program reads the phase at the switch
//   getrusage  asked at each change of phase, 300 ns; always to be had; preemptions without a phase
// Whatever counts, getrusage's sum over the thread's life is kept beside it as a check.

#ifndef CMWQ_HOOKS_DETECT_SWITCH_AUDIT_H_
#define CMWQ_HOOKS_DETECT_SWITCH_AUDIT_H_

#include <atomic>
#include <cstdint>

#include "hooks/detect/bpf_abi.h"
#include "hooks/detect/perf_ring.h"
#include "runtime/pool/switch_audit.h"

struct rusage;

namespace cmwq::detect {

class ThreadAudit final : public pool::SwitchAudit {
 public:
  enum class Source : uint8_t { kRusage, kPerf, kBpf };  // the poorest first

  // Begins with the calling thread, in kEngine; takes the best source up to `wanted` that is to be
  // had. Context: the object is the caller's (Claim).
  void Begin(Source wanted, int cpu);
  void Enter(pool::Phase phase, cmwq_work_fn fn) override;
  void End() override;

  // Empties the ring if it is half full. Context: any thread, under any lock.
  void Drain();
  // Adds this object's threads to *totals. Context: any thread.
  void AddTo(pool::SwitchTotals* totals);
  // What it executes now, if it is the audit of thread `tid`; else null.
  cmwq_work_fn Executing(int tid) const;
  Source source() const { return source_.load(std::memory_order_relaxed); }

  // Takes a free object; false if it is in use.
  bool Claim() { return !used_.exchange(true, std::memory_order_acq_rel); }  // pairs with End
  // Child of fork.
  void Forget();

  ThreadAudit* next = nullptr;  // I: in the list of all

 private:
  void Lock();
  bool TryLock();
  void Unlock() { busy_.store(false, std::memory_order_release); }  // pairs with Lock, TryLock
  void Account(pool::Phase phase, const struct rusage& usage);
  void ReadRing(pool::Phase phase);
  void AddLive(pool::SwitchTotals* totals);

  std::atomic<bool> used_{false};                // AT(Claim, End)
  std::atomic<Source> source_{Source::kRusage};  // AT(Begin, AddTo): relaxed; changes under busy_
  std::atomic<int> tid_{0};                      // AT(Begin, AddTo): relaxed; 0 between threads
  std::atomic<cmwq_work_fn> fn_{nullptr};        // AT(Enter, Executing): relaxed, a hint
  // Whoever looks at the ring or changes what is audited has it: the thread itself, the tick, a
  // report. No lock that sleeps: that would be a switch.
  std::atomic<bool> busy_{false};                // AT(Lock, Unlock)
  PerfRing ring_;                                // S: who has busy_
  pool::Phase phase_ = pool::Phase::kEngine;     // S: who has busy_; getrusage: the thread
  cmwq_bpf_slot* slot_ = nullptr;                // S: who has busy_; changed by the thread only
  cmwq_bpf_slot slot_before_ = {};               // S: as slot_; what another thread left there
  uint64_t nvcsw_begin_ = 0;                     // S: as slot_
  uint64_t nvcsw_seen_ = 0;                      // S: the audited thread
  uint64_t nivcsw_seen_ = 0;                     // S: the audited thread
  // Relaxed counts of all threads that used this object; written by who has busy_, or by the
  // thread.
  std::atomic<uint64_t> slept_[pool::kPhases] = {};  // AT(Account, AddTo)
  std::atomic<uint64_t> preempted_{0};             // AT(Account, AddTo)
  std::atomic<uint64_t> lost_{0};                  // AT(ReadRing, AddTo)
  std::atomic<uint64_t> announced_{0};             // AT(Enter, AddTo)
  std::atomic<uint64_t> threads_{0};               // AT(Begin, AddTo)
  std::atomic<uint64_t> nvcsw_{0};                 // AT(End, AddTo): of threads that have ended
};

// Begins an audit of the calling thread as `source` says, whatever the setting. Null without
// memory.
ThreadAudit* BeginAudit(ThreadAudit::Source source, int cpu);

}  // namespace cmwq::detect

#endif  // CMWQ_HOOKS_DETECT_SWITCH_AUDIT_H_
