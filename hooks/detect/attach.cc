// One canary per CPU, made when its first set is attached.

#include <pthread.h>
#include <sys/mman.h>

#include <new>

#include "hooks/detect/bpf_source.h"
#include "hooks/detect/canary.h"
#include "hooks/detect/spawn.h"
#include "runtime/base/check.h"
#include "runtime/base/conf.h"
#include "runtime/base/raw_log.h"
#include "runtime/base/sys.h"
#include "runtime/platform/cpu_set.h"
#include "runtime/platform/env.h"
#include "runtime/sync/mutex.h"

namespace cmwq::detect {
namespace {

int SpawnDetached(void* (*fn)(void*), void* arg, unsigned long stack_bytes) {
  pthread_t thread;
  const int err = platform::SystemEnv()->CreateThread(fn, arg, stack_bytes, &thread);
  if (err == 0) pthread_detach(thread);
  return err;
}

constinit SpawnFn g_spawn = &SpawnDetached;

struct Site {
  Canary canary;
  int cpu = -1;
  bool running = false;  // under g_mu
};

// One lock for the rare act of attaching; leaf but for the thread creation beneath, which is foreign.
constinit sync::Mutex g_mu{sync::Rank::kLeaf};
constinit std::atomic<Site*> g_sites[platform::CpuSet::kMaxCpus] = {};  // AT(SiteFor, ForEachSite)

Site* SiteFor(int cpu) {
  Site* const old = g_sites[cpu].load(std::memory_order_acquire);
  if (old != nullptr) return old;
  const long p = base::Sys(SYS_mmap, 0, sizeof(Site), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p < 0) return nullptr;
  Site* const made = new (reinterpret_cast<void*>(p)) Site;
  made->cpu = cpu;
  Site* expected = nullptr;
  if (g_sites[cpu].compare_exchange_strong(expected, made, std::memory_order_acq_rel)) return made;
  base::Sys(SYS_munmap, p, sizeof(Site));
  return expected;
}

// A running canary of some CPU that takes `watched` on as well. What it asks /proc holds for workers of
// any CPU; it only comes to ask while its own CPU is idle.
Canary* AnyCanary(pool::Watched* watched) {
  for (auto& slot : g_sites) {
    Site* const site = slot.load(std::memory_order_acquire);  // pairs with the exchange in SiteFor
    if (site == nullptr) continue;
    bool running;
    {
      sync::MutexLock hold(g_mu);
      running = site->running;
    }
    if (running && site->canary.Watch(watched)) return &site->canary;
  }
  return nullptr;
}

void* CanaryMain(void* arg) {
  Site* const site = static_cast<Site*>(arg);
  site->canary.Run(site->cpu);
  return nullptr;
}

}  // namespace

void SetSpawn(SpawnFn spawn) { g_spawn = spawn; }

int SpawnThread(void* (*fn)(void*), void* arg, unsigned long stack_bytes) {
  return g_spawn(fn, arg, stack_bytes);
}

void ForEachDetector(void (*visit)(int cpu, const pool::BlockingSource& source, void* arg),
                     void* arg) {
  for (int cpu = 0; cpu < platform::CpuSet::kMaxCpus; ++cpu) {
    const Site* const site = g_sites[cpu].load(std::memory_order_acquire);
    if (site != nullptr && site->running) visit(cpu, site->canary, arg);
  }
  ForEachBpfSource(visit, arg);
}

}  // namespace cmwq::detect

namespace cmwq::pool {

BlockingSource* AttachDetector(int cpu, Watched* watched) {
  using namespace detect;
  if (BlockingSource* const exact = AttachBpfSource(cpu, watched)) return exact;
  if (base::g_conf.canary == 0 || cpu < 0 || cpu >= platform::CpuSet::kMaxCpus) return nullptr;
  Site* const site = SiteFor(cpu);
  if (site == nullptr || !site->canary.Watch(watched)) return nullptr;
  bool start;
  {
    sync::MutexLock hold(g_mu);
    start = !site->running;
    site->running = true;
  }
  if (!start) return &site->canary;
  const int err = g_spawn(&CanaryMain, site, 64 * 1024);
  if (err == 0) return &site->canary;
  {
    sync::MutexLock hold(g_mu);
    site->running = false;
  }
  if (Canary* const other = AnyCanary(watched)) {
    CMWQ_WARN_ONCE("cannot create the canary of CPU %d (errno %d): another CPU's looks after it, when "
                   "it has time", cpu, err);
    return other;
  }
  CMWQ_WARN_ONCE("cannot create the canary of CPU %d (errno %d): only announced blocks are seen there",
                 cpu, err);
  return nullptr;
}

void ForgetDetectors() {
  using namespace detect;
  g_mu.ResetAfterFork();
  for (auto& slot : g_sites) {
    Site* const site = slot.load(std::memory_order_relaxed);
    if (site == nullptr) continue;
    site->canary.Reset();
    site->running = false;
  }
}

}  // namespace cmwq::pool
