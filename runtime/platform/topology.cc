#include "runtime/platform/topology.h"

#include <cstring>
#include <new>

#include "runtime/base/raw_log.h"
#include "runtime/platform/text_file.h"

namespace cmwq::platform {
namespace {

constexpr const char* kScopeNames[kScopes] = {"default", "cpu",  "smt",   "cache_shard",
                                              "cache",   "numa", "system"};
constexpr int kMaxCacheIndex = 16;

}  // namespace

const char* ScopeName(Scope scope) { return kScopeNames[static_cast<int>(scope)]; }

bool ScopeFromName(const char* name, Scope* scope) {
  for (int i = 0; i < kScopes; ++i) {
    if (strcmp(name, kScopeNames[i]) != 0) continue;
    *scope = static_cast<Scope>(i);
    return true;
  }
  return false;
}

Topology::~Topology() { delete[] pod_of_[0]; }

// Makes a pod of those of `members` that have none yet. Its number, or -1 for an empty one.
int Topology::Add(Scope scope, const CpuSet& members) {
  int16_t* const pod_of = pod_of_[static_cast<int>(scope)];
  int& nr = nr_pods_[static_cast<int>(scope)];
  bool any = false;
  for (int cpu = members.Next(0); cpu >= 0; cpu = members.Next(cpu + 1)) {
    if (!cpus_.Has(cpu) || pod_of[cpu] >= 0) continue;
    pod_of[cpu] = static_cast<int16_t>(nr);
    any = true;
  }
  return any ? nr++ : -1;
}

CpuSet Topology::PodCpus(Scope scope, int pod) const {
  CpuSet members;
  if (pod < 0) return members;
  for (int cpu = cpus_.Next(0); cpu >= 0; cpu = cpus_.Next(cpu + 1)) {
    if (pod_of_[static_cast<int>(scope)][cpu] == pod) members.Add(cpu);
  }
  return members;
}

// The hardware threads of one core; those without a word about it are alone.
void Topology::GroupSiblings(Scope scope, Scope within) {
  static constexpr const char* kFiles[] = {"topology/core_cpus_list",
                                           "topology/thread_siblings_list"};
  for (int cpu = cpus_.Next(0); cpu >= 0; cpu = cpus_.Next(cpu + 1)) {
    if (Grouped(scope, cpu)) continue;
    CpuSet members;
    bool found = false;
    for (const char* const file : kFiles) {
      char path[256];
      if (found) break;
      base::RawFormat(path, sizeof(path), "%s/devices/system/cpu/cpu%d/%s", root_, cpu, file);
      found = ReadCpuList(path, &members);
    }
    if (!found) members = CpuSet();
    members.Add(cpu);
    Add(scope, members & PodOf(within, cpu));
  }
}

int Topology::PodOfNode(int node) const {
  for (int pod = 0; pod < nr_pods(Scope::kNuma); ++pod) {
    if (node >= 0 && node_of_[pod] == node) return pod;
  }
  return -1;
}

void Topology::GroupNodes() {
  char path[256];
  CpuSet nodes;
  base::RawFormat(path, sizeof(path), "%s/devices/system/node/online", root_);
  if (ReadCpuList(path, &nodes)) {
    for (int node = nodes.Next(0); node >= 0; node = nodes.Next(node + 1)) {
      CpuSet members;
      base::RawFormat(path, sizeof(path), "%s/devices/system/node/node%d/cpulist", root_, node);
      if (!ReadCpuList(path, &members)) continue;
      const int pod = Add(Scope::kNuma, members);
      if (pod >= 0) node_of_[pod] = static_cast<int16_t>(node);
    }
  }
  Add(Scope::kNuma, cpus_);  // those that no node claims
  nr_possible_nodes_ = nr_pods(Scope::kNuma);
  for (const char* const file : {"online", "possible"}) {
    base::RawFormat(path, sizeof(path), "%s/devices/system/node/%s", root_, file);
    if (ReadCpuList(path, &nodes) && nodes.Count() > nr_possible_nodes_) nr_possible_nodes_ = nodes.Count();
  }
}

// The last level: the widest cache that holds data.
void Topology::GroupCaches() {
  for (int cpu = cpus_.Next(0); cpu >= 0; cpu = cpus_.Next(cpu + 1)) {
    if (Grouped(Scope::kCache, cpu)) continue;
    CpuSet widest;
    int highest = 0;
    for (int index = 0; index < kMaxCacheIndex; ++index) {
      char path[256], text[64];
      base::RawFormat(path, sizeof(path), "%s/devices/system/cpu/cpu%d/cache/index%d/level", root_,
                      cpu, index);
      if (ReadText(path, text, sizeof(text)) <= 0) break;
      const int level = text[0] - '0';
      base::RawFormat(path, sizeof(path), "%s/devices/system/cpu/cpu%d/cache/index%d/type", root_,
                      cpu, index);
      if (ReadText(path, text, sizeof(text)) > 0 && text[0] == 'I') continue;  // instructions
      if (level <= highest) continue;
      CpuSet shared;
      base::RawFormat(path, sizeof(path),
                      "%s/devices/system/cpu/cpu%d/cache/index%d/shared_cpu_list", root_, cpu, index);
      if (!ReadCpuList(path, &shared)) continue;
      highest = level;
      widest = shared;
    }
    if (highest == 0) widest = PodOf(Scope::kNuma, cpu);
    widest.Add(cpu);
    Add(Scope::kCache, widest & PodOf(Scope::kNuma, cpu));
  }
}

// Each cache is cut into shards of about `shard_cores` cores whose sizes differ by one core at most;
// the siblings of a core stay together (kernel 7.1: cache_shard).
void Topology::GroupShards(int shard_cores) {
  for (int cache = 0; cache < nr_pods(Scope::kCache); ++cache) {
    const CpuSet members = PodCpus(Scope::kCache, cache);
    int cores = 0;
    for (int cpu = members.Next(0); cpu >= 0; cpu = members.Next(cpu + 1)) {
      if (PodOf(Scope::kSmt, cpu).Next(0) == cpu) ++cores;  // each core once, by its first thread
    }
    const int shards = shard_cores > 0 ? (cores + shard_cores - 1) / shard_cores : 1;
    int cpu = members.Next(0);
    for (int shard = 0; shard < shards; ++shard) {
      int left = cores / shards + (shard < cores % shards ? 1 : 0);
      CpuSet part;
      for (; left > 0 && cpu >= 0; cpu = members.Next(cpu + 1)) {
        if (PodOf(Scope::kSmt, cpu).Next(0) != cpu) continue;
        const CpuSet core = PodOf(Scope::kSmt, cpu);
        for (int c = core.Next(0); c >= 0; c = core.Next(c + 1)) part.Add(c);
        --left;
      }
      Add(Scope::kCacheShard, part);
    }
  }
}

bool Topology::ReadPossibleCpus(const char* root, CpuSet* cpus) {
  char path[256];
  base::RawFormat(path, sizeof(path), "%s/devices/system/cpu/possible", root);
  return ReadCpuList(path, cpus);
}

bool Topology::Load(const char* root, const CpuSet& cpus, int shard_cores) {
  root_ = root;
  cpus_ = cpus;
  nr_cpu_ids_ = 0;
  for (int cpu = cpus.Next(0); cpu >= 0; cpu = cpus.Next(cpu + 1)) nr_cpu_ids_ = cpu + 1;
  const size_t n = static_cast<size_t>(nr_cpu_ids_) * (kScopes + 1);
  delete[] pod_of_[0];
  int16_t* const all = new (std::nothrow) int16_t[n];
  pod_of_[0] = all;
  if (all == nullptr) return false;
  for (size_t i = 0; i < n; ++i) all[i] = -1;
  for (int s = 0; s < kScopes; ++s) {
    pod_of_[s] = all + static_cast<size_t>(s) * nr_cpu_ids_;
    nr_pods_[s] = 0;
  }
  node_of_ = all + static_cast<size_t>(kScopes) * nr_cpu_ids_;
  Add(Scope::kSystem, cpus_);
  Add(Scope::kDefault, cpus_);
  GroupNodes();
  GroupCaches();
  GroupSiblings(Scope::kSmt, Scope::kCache);
  for (int cpu = cpus_.Next(0); cpu >= 0; cpu = cpus_.Next(cpu + 1)) {
    Add(Scope::kCpu, CpuSet::Of(cpu));
  }
  GroupShards(shard_cores);
  root_ = nullptr;
  return true;
}

}  // namespace cmwq::platform
