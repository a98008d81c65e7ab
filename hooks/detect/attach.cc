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

namespace cmwq::detect {
namespace {

int SpawnDetached(void* (*fn)(void*), void* arg, unsigned long stack_bytes) {
  pthread_t thread;
  const int err = platform::SystemEnv()->CreateThread(fn, arg, stack_bytes, &thread);
  if (err == 0) pthread_detach(thread);
  return err;
}

constinit std::atomic<SpawnFn> g_spawn{&SpawnDetached};  // AT(SetSpawn, SpawnThread): relaxed, code only

constinit std::atomic<Canary*> g_sites[platform::CpuSet::kMaxCpus] =
    {};  // AT(SiteFor, ForEachSite)

Canary* SiteFor(int cpu) {
  Canary* const old = g_sites[cpu].load(std::memory_order_acquire);
  if (old != nullptr) return old;
  const long p = base::Sys(SYS_mmap, 0, sizeof(Canary), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p < 0) return nullptr;
  Canary* const made = new (reinterpret_cast<void*>(p)) Canary(cpu);
  Canary* expected = nullptr;
  if (g_sites[cpu].compare_exchange_strong(expected, made, std::memory_order_acq_rel)) return made;
  base::Sys(SYS_munmap, p, sizeof(Canary));
  return expected;
}

template <class F>
void ForEachSite(F visit) {
  for (int cpu = 0; cpu < platform::CpuSet::kMaxCpus; ++cpu) {
    Canary* const site =
        g_sites[cpu].load(std::memory_order_acquire);  // pairs: exchange in SiteFor
    if (site != nullptr) visit(cpu, site);
  }
}

}  // namespace

void SetSpawn(SpawnFn spawn) {
  g_spawn.store(spawn != nullptr ? spawn : &SpawnDetached, std::memory_order_relaxed);
}

int SpawnThread(void* (*fn)(void*), void* arg, unsigned long stack_bytes) {
  return g_spawn.load(std::memory_order_relaxed)(fn, arg, stack_bytes);
}

void ForEachDetector(void (*visit)(int cpu, const pool::BlockingSource& source, void* arg),
                     void* arg) {
  ForEachSite([=](int cpu, Canary* site) { visit(cpu, *site, arg); });
  ForEachBpfSource(visit, arg);
}

}  // namespace cmwq::detect

namespace cmwq::pool {

BlockingSource* AttachDetector(int cpu, Watched* watched) {
  using namespace detect;
  if (BlockingSource* const exact = AttachBpfSource(cpu, watched)) return exact;
  if (base::g_conf.canary == 0 || cpu < 0 || cpu >= platform::CpuSet::kMaxCpus) return nullptr;
  Canary* const site = SiteFor(cpu);
  if (site == nullptr || !site->Watch(watched)) return nullptr;
  const int err = site->Start();
  if (err != 0) {
    CMWQ_WARN_ONCE(
        "cannot create the canary of CPU %d (errno %d): the tick looks in its place, every "
        "%ld ms, and tries again",
        cpu, err, static_cast<long>(base::g_conf.tick_ms));
  }
  return site;
}

void RebindDetectors(const platform::CpuSet& allowed) {
  detect::ForEachSite([&allowed](int, detect::Canary* site) { site->Rebind(allowed); });
}

void ForgetDetectors() {
  detect::ForEachSite([](int, detect::Canary* site) { site->Reset(); });
}

}  // namespace cmwq::pool
