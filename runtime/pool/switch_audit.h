// The seam between the engine and what the kernel says about its workers' context switches.
//
// The engine tells which phase a worker is in; whoever supplies an audit counts the switches of
// each phase. What was slept in kItem is what nobody announced; coverage is kAnnounced by both.
// Like the detectors, audits are supplied by hooks/detect; the engine knows none of them.

#ifndef CMWQ_RUNTIME_POOL_SWITCH_AUDIT_H_
#define CMWQ_RUNTIME_POOL_SWITCH_AUDIT_H_

#include <cmwq/cmwq.h>

#include <cstdint>

namespace cmwq::pool {

class LineWriter;

enum class Phase : uint32_t {
  kEngine = 0,     // parked, managing, between items: sleeps there are the engine's own
  kItem = 1,       // executing, outside any blocking region
  kAnnounced = 2,  // inside a blocking region
};
inline constexpr int kPhases = 3;

// The audit of one thread. Type-stable: never freed.
class SwitchAudit {
 public:
  // What was recorded until now belongs to the phase before. fn: what it executes, null: as before.
  // Context: the audited thread. Makes no system call but where there is nothing better to ask
  // (getrusage).
  virtual void Enter(Phase phase, cmwq_work_fn fn) = 0;
  // The thread ends, or is not audited any more. What it did still counts in the totals.
  virtual void End() = 0;

 protected:
  ~SwitchAudit() = default;
};

// Audits the calling thread, whose items are for `cpu`, as the setting `switches` says. It begins
// in kEngine. Null: not wanted. What the kernel refuses is replaced by something poorer, with one
// line. `cpu` stays, wherever the thread is moved to: a worker whose CPU has left does not count, so
// nobody wants to hear of its sleeps until it is back. Context: the thread itself; may map memory; no locks held.
SwitchAudit* OpenSwitchAudit(int cpu);
// Takes what has been recorded out of buffers that may overflow. Context: any thread, under any
// lock.
void DrainSwitchAudits();
// Child of fork: the records were of the parent's threads.
void ForgetSwitchAudits();

struct SwitchTotals {
  const char* source;       // "perf", "bpf", "getrusage"; of several the poorest
  uint64_t threads;         // audited so far
  uint64_t slept[kPhases];  // voluntary switches, by phase
  uint64_t preempted;       // other switches; getrusage does not tell phases
  uint64_t announced;       // regions entered; some of them do not sleep
  uint64_t lost;            // records that were lost, or could not be read
  // getrusage's count of voluntary switches of the same threads in the same time. Exactly the sum
  // of slept while no thread runs and nothing was lost.
  uint64_t nvcsw;
};
// False: nothing is or was audited. Context: any thread, no locks held.
bool ReadSwitchTotals(SwitchTotals* totals);

// Where workers slept without a word, as seen by the detector: samples, not counts.
struct BlockSite {
  cmwq_work_fn fn;     // what the worker executed; null: not known
  long nr;             // system call; -1: none, a page fault for instance
  const void* pc;      // user-space address
  char wchan[32];      // kernel function that it waits in; empty: not told
  uint64_t samples;
};
// The most frequent first; returns how many. Context: as ReadSwitchTotals.
int ReadBlockSites(BlockSite* out, int max);

// The coverage and the sites as lines; nothing where nothing is audited. Context: as
// ReadSwitchTotals. switch_report.cc.
void WriteSwitches(LineWriter* out);

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_SWITCH_AUDIT_H_
