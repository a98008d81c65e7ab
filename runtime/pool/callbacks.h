// What a pool calls outside of itself, at moments that only it knows.

#ifndef CMWQ_RUNTIME_POOL_CALLBACKS_H_
#define CMWQ_RUNTIME_POOL_CALLBACKS_H_

namespace cmwq::pool {

// Called once before a pool's first thread is made; set by the runtime, may be null.
using Callback = void (*)();
extern Callback g_before_live;
// Called by each worker thread at its start; set by the runtime, may be null.
extern Callback g_worker_start;
// When something is pending in a pool for the first time since its Awake was asked, or its watchdog slept.
// Under the pool's lock.
extern Callback g_work_arrives;
// After the report of a stall by the event thread, without locks.
extern Callback g_stall_reported;

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_CALLBACKS_H_
