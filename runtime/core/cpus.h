// The CPUs that the engine uses, as they come and go.
//
//   allowed    what the system grants this process: online, in its affinity mask and in its cpuset.
//              Whoever watches the system says so (CpuSetChanged).
//   requested  what the program wants used (cmwq_workqueue_set_cpumask); every CPU at first.
//   usable     those of both, or the allowed ones if that is none. Never empty.
//
// The pools of a CPU that leaves go to their trustees (pool/trustee.h), and unbound queues are mapped
// anew. Items that were queued before are executed, those that are queued afterwards go to other CPUs.

#ifndef CMWQ_RUNTIME_CORE_CPUS_H_
#define CMWQ_RUNTIME_CORE_CPUS_H_

#include "runtime/platform/cpu_set.h"
#include "runtime/platform/timer.h"
#include "runtime/pool/dump.h"

namespace cmwq::core {

// The system allows `allowed` now. Cheap when nothing has changed, but workers are placed again then too:
// who changes the affinity of all threads of a process (taskset -a) has moved ours as well.
// Context: any thread that holds none of our locks and is no worker: a watcher's own, or the event thread
// (from a timer with kTimer dropped). May create threads; does nothing before the runtime has started.
// Returns 0; EINVAL: empty, or none that the engine can have; ENOMEM or EAGAIN: a CPU that came back
// could not be taken into use, call again later. Whatever it returns, nothing is lost.
int CpuSetChanged(const platform::CpuSet& allowed);

// The program wants these used. Context and result as CpuSetChanged.
int RequestCpus(const platform::CpuSet& requested);

// What could not be done at the last change is tried again; nothing if there was none. Context and result
// as CpuSetChanged.
int RetryCpus();

// A copy of the usable set. Context: any.
platform::CpuSet UsableCpus();

// Watches the system from the first work on: platform/cpu_watch.h. Looks every cpu_watch_ms while there
// is work, and when there is some again; an idle process makes no wake-ups. Context: Runtime::Start.
void StartCpuWatch(platform::EventThread* events);
// Child of fork: starts anew with the child's first work.
void ResetCpuWatchAfterFork();
// The quota as of the last look, in thousandths of a CPU; 0: none. Context: any.
uint32_t CpuQuotaMilli();
// "CPUs 0-3, quota 1.500". Context: none of our locks held.
void WriteCpus(pool::LineWriter* out);

}  // namespace cmwq::core

#endif  // CMWQ_RUNTIME_CORE_CPUS_H_
