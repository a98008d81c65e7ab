#include "runtime/platform/env.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <cerrno>

#include "runtime/base/check.h"

namespace cmwq::platform {
namespace {

class RealEnv final : public Env {
 public:
  uint64_t NowNs() override { return base::MonotonicNs(); }

  void ParkUntil(sync::Parker& parker, uint64_t deadline_ns) override { parker.Park(deadline_ns); }

  int CreateThread(void* (*fn)(void*), void* arg, size_t stack_bytes, pthread_t* thread) override {
    pthread_attr_t attr;
    int err = pthread_attr_init(&attr);
    if (err != 0) return err;
    if (stack_bytes != 0) pthread_attr_setstacksize(&attr, stack_bytes);
    // The new thread inherits the mask: application handlers must not run on our threads. libc's own
    // signals (setxid, cancellation) stay deliverable, sigfillset leaves them out.
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    err = pthread_create(thread, &attr, fn, arg);
    if (err == EINVAL && stack_bytes != 0) {
      // The program's thread-local storage does not fit into so small a stack.
      pthread_attr_destroy(&attr);
      if (pthread_attr_init(&attr) == 0) err = pthread_create(thread, &attr, fn, arg);
    }
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
    pthread_attr_destroy(&attr);
    return err;
  }

  void JoinThread(pthread_t thread) override { pthread_join(thread, nullptr); }

  CpuSet AllowedCpus() override {
    CpuSet set;
    if (set.LoadAffinity(0) < 0 || set.Count() == 0) set.Add(CurrentCpu());
    return set;
  }

  int Cpu() override { return CurrentCpu(); }
  uint64_t YieldCpu() override {
    const uint64_t start = base::MonotonicNs();
    base::SchedYield();
    return base::MonotonicNs() - start;
  }
  uint64_t ThreadCpuNs(int tid) override {
    // clock_getcpuclockid(3) of a thread: per thread (4), time on the CPU (2); see clock_gettime(2).
    const auto clock = static_cast<clockid_t>((~static_cast<unsigned>(tid) << 3) | 6u);
    struct timespec ts;
    if (base::Sys(SYS_clock_gettime, clock, &ts) != 0) return base::kNever;
    return static_cast<uint64_t>(ts.tv_sec) * base::kNsPerSec + static_cast<uint64_t>(ts.tv_nsec);
  }
  int BindSelf(const CpuSet& cpus) override { return cpus.StoreAffinity(0); }
  int BindThread(int tid, const CpuSet& cpus) override { return cpus.StoreAffinity(tid); }
};

}  // namespace

Env* SystemEnv() {
  static constinit RealEnv env;
  return &env;
}

void NameSelf(const char* name) { base::Sys(SYS_prctl, PR_SET_NAME, name); }

int SelfNice() {
  const long r = base::Sys(SYS_getpriority, PRIO_PROCESS, 0);
  return r > 0 ? 20 - static_cast<int>(r) : 0;  // the system call returns 20 - nice
}

void NiceSelf(int nice) {
  const long err = base::Sys(SYS_setpriority, PRIO_PROCESS, 0, nice);
  if (err < 0) {
    CMWQ_WARN_ONCE("nice %d refused (errno %ld): workers keep the priority of the thread that made "
                   "them; RLIMIT_NICE or CAP_SYS_NICE allows it", nice, -err);
  }
}

}  // namespace cmwq::platform
