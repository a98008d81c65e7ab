#include "hooks/gate/cpus.h"

#include "hooks/gate/gates.h"
#include "hooks/gate/host.h"
#include "hooks/gate/tick.h"
#include "runtime/base/check.h"
#include "runtime/base/conf.h"
#include "runtime/base/sys.h"
#include "runtime/platform/cpu_watch.h"
#include "runtime/platform/env.h"

namespace cmwq::gate {

constinit std::atomic<uint32_t> g_layout{1};
constinit std::atomic<bool> g_limited{false};

namespace {

CpuGate* GateOf(Gates* gates, int cpu) {
  for (int i = 0; i < gates->n; ++i) {
    if (gates->gate[i]->cpu() == cpu) return gates->gate[i];
  }
  return nullptr;
}

bool Apply(const platform::CpuGrant& grant, void*) { return SetCpus(grant); }
void Wanted(void*);

constinit platform::CpuGrantReader g_reader{"", &ProgramAffinity};
constinit platform::Uevents g_uevents;
constinit platform::CpuWatch g_watch{&g_reader, &g_uevents, &Apply, &Wanted, nullptr};
constinit std::atomic<bool> g_wanted{false};  // AT(Wanted, LookAtCpus): seq_cst, see CpuLookWanted
constinit uint64_t g_next_ns = 0;             // S: the tick; when to look next

void Wanted(void*) {
  g_wanted.store(true, std::memory_order_seq_cst);  // pairs with the load in CpuLookWanted
  ArmTick();
}

void* WatchMain(void*) {
  platform::NameSelf("wq/cpus");
  g_watch.Run();
  return nullptr;
}

}  // namespace

bool SetCpus(const platform::CpuGrant& grant) {
  Gates* const gates = CurrentGates();
  if (gates == nullptr || grant.cpus.Empty()) return false;
  bool done = true;
  for (int cpu = grant.cpus.Next(0); cpu >= 0; cpu = grant.cpus.Next(cpu + 1)) {
    if (GateOf(gates, cpu) == nullptr && gates->n < Gates::kMax && !AddGate(gates, cpu)) done = false;
  }
  const int cpus = grant.cpus.Count();
  const int quota = static_cast<int>((grant.quota_milli + 999ull) / 1000);
  int left = quota == 0 || quota > cpus ? cpus : quota;
  g_limited.store(left < cpus, std::memory_order_relaxed);
  // First those that are used, so that there is somewhere to go when the others are left.
  platform::CpuSet used;
  for (int i = 0; i < gates->n; ++i) {
    CpuGate* const gate = gates->gate[i];
    if (!grant.cpus.Has(gate->cpu()) || left == 0) continue;
    --left;
    used.Add(gate->cpu());
    gate->SetUse(true, true);
  }
  // None of them has a gate, for want of descriptors: the old ones serve on.
  if (used.Empty()) return done;
  for (int i = 0; i < gates->n; ++i) {
    CpuGate* const gate = gates->gate[i];
    if (!used.Has(gate->cpu())) gate->SetUse(grant.cpus.Has(gate->cpu()), false);
  }
  pool::RebindDetectors(grant.cpus);
  g_layout.fetch_add(1, std::memory_order_release);  // pairs with the load in Relocate
  ArmTick();  // it sends away who did not hear it
  return done;
}

platform::CpuSet AllowedCpus() {
  platform::CpuSet set;
  Gates* const gates = CurrentGates();
  for (int i = 0; gates != nullptr && i < gates->n; ++i) {
    if (gates->gate[i]->allowed()) set.Add(gates->gate[i]->cpu());
  }
  return set;
}

uint32_t CpuQuotaMilli() { return g_watch.quota_milli(); }

void StartCpuWatch() {
  if (base::g_conf.cpu_watch_ms == 0 || !HasHostThreads()) return;
  // What has changed since the gates were made, and the quota.
  Wanted(nullptr);
  const int err = CreateHostThread(&WatchMain, 64 * 1024);
  if (err != 0) {
    CMWQ_WARN_ONCE("preload: no thread for CPU events (errno %d): changes of CPUs are noticed every "
                   "cpu_watch_ms while requests wait", err);
  }
}

void LookAtCpus() {
  if (base::g_conf.cpu_watch_ms == 0 || !HasHostThreads()) return;
  const uint64_t now = base::MonotonicNs();
  if (!g_wanted.exchange(false, std::memory_order_seq_cst) && now < g_next_ns) return;
  g_watch.Look();
  g_next_ns = now + static_cast<uint64_t>(base::g_conf.cpu_watch_ms) * base::kNsPerMs;
}

bool CpuLookWanted() { return g_wanted.load(std::memory_order_seq_cst); }

void ResetCpuWatchAfterFork() {
  g_watch.ResetAfterFork();
  g_wanted.store(false, std::memory_order_relaxed);
  g_limited.store(false, std::memory_order_relaxed);
  g_next_ns = 0;
}

}  // namespace cmwq::gate
