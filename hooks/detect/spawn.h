// How detectors get their threads and how reports find them. The library creates threads through
// its Env, the preload through the original pthread_create.

#ifndef CMWQ_HOOKS_DETECT_SPAWN_H_
#define CMWQ_HOOKS_DETECT_SPAWN_H_

#include "runtime/pool/blocking_source.h"

namespace cmwq::detect {

// Starts a detached thread with all signals blocked. 0 or errno.
using SpawnFn = int (*)(void* (*fn)(void*), void* arg, unsigned long stack_bytes);

// Before the first AttachDetector; null: back to the Env's.
void SetSpawn(SpawnFn spawn);
// As SpawnFn, by the function that was set.
int SpawnThread(void* (*fn)(void*), void* arg, unsigned long stack_bytes);

// Calls visit for the detector of each CPU that is watched.
void ForEachDetector(void (*visit)(int cpu, const pool::BlockingSource& source, void* arg),
                     void* arg);

}  // namespace cmwq::detect

#endif  // CMWQ_HOOKS_DETECT_SPAWN_H_
