// Env: everything the engine asks of the outside, so that tests can supply it: time, threads, CPUs.

#ifndef CMWQ_RUNTIME_PLATFORM_ENV_H_
#define CMWQ_RUNTIME_PLATFORM_ENV_H_

#include <pthread.h>

#include <cstdint>

#include "runtime/platform/cpu_set.h"
#include "runtime/sync/parker.h"

namespace cmwq::platform {

class Env {
 public:
  virtual uint64_t NowNs() = 0;
  // Parks until unparked or until `deadline_ns`; the caller looks at NowNs() to tell which.
  virtual void ParkUntil(sync::Parker& parker, uint64_t deadline_ns) = 0;
  // Starts a joinable thread with all signals blocked but those libc needs for itself. stack_bytes 0:
  // the process's default. 0, or errno of pthread_create (EAGAIN: no more threads).
  virtual int CreateThread(void* (*fn)(void*), void* arg, size_t stack_bytes, pthread_t* thread) = 0;
  virtual void JoinThread(pthread_t thread) = 0;
  // CPUs this process may use.
  virtual CpuSet AllowedCpus() = 0;
  // CPU of the calling thread.
  virtual int Cpu() = 0;
  // Lets other threads of this CPU run first. Returns how long that took.
  virtual uint64_t YieldCpu() = 0;
  // CPU time that a thread of this process has consumed; kNever if that cannot be read (it ended).
  virtual uint64_t ThreadCpuNs(int tid) = 0;
  // Places the calling thread. 0 or -errno.
  virtual int BindSelf(const CpuSet& cpus) = 0;
  // Places thread `tid` of this process. 0 or -errno (-EINVAL: none of these CPUs can be had).
  virtual int BindThread(int tid, const CpuSet& cpus) = 0;

 protected:
  ~Env() = default;
};

// The real one. Never destroyed.
Env* SystemEnv();

// Names the calling thread (15 bytes count) and sets its nice value; a refused nice value is reported
// once and ignored.
void NameSelf(const char* name);
void NiceSelf(int nice);
// Nice value of the calling thread.
int SelfNice();

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_ENV_H_
