// Topology: which CPUs share what, read from sysfs. Grouped into pods per affinity scope, as the kernel
// does for unbound workqueues (Documentation/core-api/workqueue.rst, "Affinity Scopes").
//
// Not thread-safe while it loads; immutable afterwards.

#ifndef CMWQ_RUNTIME_PLATFORM_TOPOLOGY_H_
#define CMWQ_RUNTIME_PLATFORM_TOPOLOGY_H_

#include <cstdint>

#include "runtime/platform/cpu_set.h"

namespace cmwq::platform {

// From narrow to wide; each pod of a scope lies within one pod of the next. Numbers as in cmwq.h.
enum class Scope : uint8_t { kDefault, kCpu, kSmt, kCacheShard, kCache, kNuma, kSystem };
inline constexpr int kScopes = 7;

// "cpu", "smt", ... as in the kernel's affinity_scope attribute.
const char* ScopeName(Scope scope);
// False: no such name.
bool ScopeFromName(const char* name, Scope* scope);

class Topology {
 public:
  Topology() = default;
  ~Topology();
  Topology(const Topology&) = delete;
  Topology& operator=(const Topology&) = delete;

  // Groups `cpus` by what `root` (the product: "/sys") says. A fact that cannot be read (a container
  // that hides sysfs, a CPU that is offline) is replaced by the next wider one that can: no siblings:
  // each CPU alone; no caches: one per node; no nodes: one. Shards have about `shard_cores` cores.
  // False without memory.
  // May be called again.
  bool Load(const char* root, const CpuSet& cpus, int shard_cores);

  // CPUs that the machine may ever have. False: it does not say.
  static bool ReadPossibleCpus(const char* root, CpuSet* cpus);

  const CpuSet& cpus() const { return cpus_; }
  // Pods of a scope are numbered from 0. -1: not one of cpus().
  int Pod(Scope scope, int cpu) const {
    return cpus_.Has(cpu) ? pod_of_[static_cast<int>(scope)][cpu] : -1;
  }
  int nr_pods(Scope scope) const { return nr_pods_[static_cast<int>(scope)]; }
  CpuSet PodCpus(Scope scope, int pod) const;
  // The machine's number of a kNuma pod; -1: CPUs that no node claims.
  int NodeOf(int pod) const { return node_of_[pod]; }
  // How many nodes the machine may have in all, as far as it says so; at least those with CPUs of ours.
  int nr_possible_nodes() const { return nr_possible_nodes_; }
  // The kNuma pod with the machine's number `node`. -1: no such node, or none of its CPUs is ours.
  int PodOfNode(int node) const;
  // CPUs that share a pod with `cpu`.
  CpuSet PodOf(Scope scope, int cpu) const { return PodCpus(scope, Pod(scope, cpu)); }

 private:
  void GroupSiblings(Scope scope, Scope within);
  void GroupNodes();
  void GroupCaches();
  void GroupShards(int shard_cores);
  int Add(Scope scope, const CpuSet& members);
  bool Grouped(Scope scope, int cpu) const { return pod_of_[static_cast<int>(scope)][cpu] >= 0; }

  const char* root_ = nullptr;         // S: only while loading
  CpuSet cpus_;                        // I
  int nr_cpu_ids_ = 0;                 // I
  int16_t* pod_of_[kScopes] = {};      // I: by CPU number
  int nr_pods_[kScopes] = {};          // I
  int nr_possible_nodes_ = 0;          // I
  int16_t* node_of_ = nullptr;         // I: by kNuma pod; -1: CPUs that no node claims
};

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_TOPOLOGY_H_
