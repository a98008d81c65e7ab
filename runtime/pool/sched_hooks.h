// The only way from a hook into the engine (kernel: wq_worker_sleeping, wq_worker_running,
// wq_worker_tick).
//
// Context: hooks; any thread, signal handlers included, with the application's locks held. Take kPool
// at most. No allocation, errno untouched. No-ops on a thread that is no worker and inside the engine.

#ifndef CMWQ_RUNTIME_POOL_SCHED_HOOKS_H_
#define CMWQ_RUNTIME_POOL_SCHED_HOOKS_H_

namespace cmwq::pool {

// The calling worker is about to block. Nests; the outermost call counts.
void WorkerSleeping();
// It is back. Never holds the caller up: it may own the application's locks.
void WorkerRunning();

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_SCHED_HOOKS_H_
