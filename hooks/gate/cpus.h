// CPUs that come and go, as the gates see it.
//
// A CPU that the process may not use any more keeps its gate, unused: members that wait there are told to
// wait elsewhere, the others go at their next boundary. A CPU that comes gets one. Whenever anything changes
// the layout gets a new number, and each member looks once whether it is in the right place: on a CPU that
// is used, not crowded while another is empty, and pinned where the kernel may have moved it.
//
// With a quota of less than the CPUs only so many gates are used, rounded up, so that no more members run
// than the quota feeds; they are not pinned then, for which CPUs run them is the kernel's affair.

#ifndef CMWQ_HOOKS_GATE_CPUS_H_
#define CMWQ_HOOKS_GATE_CPUS_H_

#include <atomic>
#include <cstdint>

#include "runtime/platform/cpu_grant.h"

namespace cmwq::gate {

extern std::atomic<uint32_t> g_layout;  // AT(SetCpus, InItsPlace)
extern std::atomic<bool> g_limited;     // AT(SetCpus, Pin): relaxed; fewer gates than CPUs

// From now on. False: not all could be done, to be called again. Context: the tick, or a test: one at a
// time; no locks held. May create threads and descriptors.
bool SetCpus(const platform::CpuGrant& grant);
// The CPUs that the process may use, as far as they have gates. Context: any.
platform::CpuSet AllowedCpus();
uint32_t CpuQuotaMilli();

// After the gates are there. May create a thread.
void StartCpuWatch();
// Looks if the time has come, or an event asks for it. Context: the tick.
void LookAtCpus();
// An event asks. seq_cst: pairs with the tick's way to sleep.
bool CpuLookWanted();
void ResetCpuWatchAfterFork();

}  // namespace cmwq::gate

#endif  // CMWQ_HOOKS_GATE_CPUS_H_
