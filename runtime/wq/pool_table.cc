#include "runtime/wq/pool_table.h"

#include <new>

#include "runtime/base/raw_log.h"

namespace cmwq::wq {

// Context: start-up, or under `mu`. Null without memory.
pool::WorkerPool* PoolTable::Make(const pool::WorkerPool::Attrs& attrs) {
  auto* const pool = new (std::nothrow) pool::WorkerPool(attrs, env_, events_, conf_, base_nice_);
  if (pool == nullptr) return nullptr;
  by_id_[attrs.id].store(pool, std::memory_order_release);  // pairs with the load in ById
  nr_pools.store(attrs.id + 1, std::memory_order_release);  // pairs with the load in ForEachPool
  sync::MutexLock hold(pool->lock);
  if (pool->bound()) {
    pool->Keep();
  } else {
    pool->AddUser();
  }
  return pool;
}

void PoolTable::Start(platform::Env* env, platform::EventThread* events, const base::Conf* conf,
                      const char* sys_root, int nice) {
  env_ = env;
  events_ = events;
  conf_ = conf;
  sys_root_ = sys_root;
  highpri_nice = nice;
  base_nice_ = platform::SelfNice();
  const platform::CpuSet allowed = env->AllowedCpus();
  platform::CpuSet possible;
  if (!platform::Topology::ReadPossibleCpus(sys_root, &possible)) possible = allowed;
  possible = possible | allowed;
  for (int cpu = possible.Next(0); cpu >= 0; cpu = possible.Next(cpu + 1)) nr_cpu_ids = cpu + 1;
  for (int cpu = allowed.Next(0); cpu >= 0; cpu = allowed.Next(cpu + 1)) CMWQ_CHECK(MakeCpu(cpu));
  unbound_requested_ = platform::CpuSet::First(nr_cpu_ids);
  SetCpus(allowed);
}

bool PoolTable::MakeCpu(int cpu) {
  for (int high = 0; high < 2; ++high) {
    if (per_cpu[high][cpu] != nullptr) continue;
    const auto id = static_cast<uint16_t>(nr_pools.load(std::memory_order_relaxed));
    per_cpu[high][cpu] = Make({cpu, high != 0 ? highpri_nice : 0, id});
    if (per_cpu[high][cpu] == nullptr) return false;
  }
  if (!known_.Has(cpu)) known_.Store(known_.Load() | platform::CpuSet::Of(cpu));
  return true;
}

void PoolTable::SetCpus(const platform::CpuSet& set) {
  usable_.Store(set);
  topology_stale_ = true;
  FollowUnbound();
}

const platform::Topology* PoolTable::topology() {
  if (topology_stale_) {
    const int next = topology_ == 0 ? 1 : 0;
    if (topologies_[next].Load(sys_root_, cpus(), static_cast<int>(conf_->cache_shard_size))) {
      topology_ = next;
      topology_stale_ = false;
    }
  }
  if (topology_ < 0) return nullptr;
  const platform::Topology* const now = &topologies_[topology_];
  if (nr_node_slots_ == 0) {
    nr_node_slots_ = now->nr_possible_nodes() < kMaxNodeSlots ? now->nr_possible_nodes() : kMaxNodeSlots;
  }
  return now;
}

int PoolTable::NodeSlot(const platform::CpuSet& pod) {
  const platform::Topology* const now = topology();
  const int node_pod = now->Pod(platform::Scope::kNuma, pod.Next(0));
  if (node_pod < 0 || !pod.SubsetOf(now->PodCpus(platform::Scope::kNuma, node_pod))) {
    return nr_node_slots_;
  }
  const int node = now->NodeOf(node_pod);
  for (int slot = 0; slot < nr_nodes_seen_; ++slot) {
    if (slot_node_[slot] == node) return slot;
  }
  if (nr_nodes_seen_ == nr_node_slots_) return nr_node_slots_;
  slot_node_[nr_nodes_seen_] = node;
  return nr_nodes_seen_++;
}

platform::CpuSet PoolTable::SlotCpus(int slot) {
  const platform::Topology* const now = topology();
  platform::CpuSet members;
  for (int pod = 0; pod < now->nr_pods(platform::Scope::kNuma); ++pod) {
    const platform::CpuSet cpus_of_pod = now->PodCpus(platform::Scope::kNuma, pod);
    if (NodeSlot(cpus_of_pod) == slot) members = cpus_of_pod;
  }
  return members;
}

pool::WorkerPool* PoolTable::GetUnbound(int nice, bool strict, const platform::CpuSet& pod,
                                        const platform::CpuSet& mask) {
  pool::WorkerPool* spare = nullptr;
  const int n = nr_pools.load(std::memory_order_relaxed);
  for (int i = 0; i < n; ++i) {
    pool::WorkerPool* const pool = ById(i);
    if (pool->bound()) continue;
    sync::MutexLock hold(pool->lock);
    const auto& a = pool->attrs();
    // A strict pool's workers never leave the pod: the mask makes no difference.
    if (a.nice == nice && a.strict == strict && a.pod == pod && (strict || a.mask == mask)) {
      pool->AddUser();
      return pool;
    }
    if (spare == nullptr && pool->Reusable()) spare = pool;
  }
  pool::WorkerPool::Attrs attrs{-1, nice, static_cast<uint16_t>(n), strict, pod, mask};
  if (spare != nullptr) {
    attrs.id = spare->attrs().id;
    sync::MutexLock place(spare->attach);
    sync::MutexLock hold(spare->lock);
    spare->Reuse(attrs);  // only we, under `mu`, give it users
    spare->AddUser();
    return spare;
  }
  if (nr_unbound_ >= kMaxUnbound) return nullptr;
  pool::WorkerPool* const made = Make(attrs);
  if (made != nullptr) ++nr_unbound_;
  return made;
}

void PoolTable::SetUnboundCpus(const platform::CpuSet& set) {
  unbound_requested_ = set;
  FollowUnbound();
}

void PoolTable::FollowUnbound() {
  unbound_cpus_ = unbound_requested_ & cpus();
  if (unbound_cpus_.Empty()) unbound_cpus_ = cpus();
  ++unbound_version_;
  for (int cpu = 0; cpu < nr_cpu_ids; ++cpu) {
    unbound_ok_[cpu].store(unbound_cpus_.Has(cpu) ? 1 : 0, std::memory_order_relaxed);
  }
}

int PoolTable::CpuOfNode(int node) {
  sync::MutexLock hold(mu);
  const platform::Topology* const now = topology();
  if (now == nullptr) return CMWQ_CPU_ANY;
  const platform::CpuSet members =
      now->PodCpus(platform::Scope::kNuma, now->PodOfNode(node)) & unbound_cpus_;
  const int here = env_->Cpu();
  return members.Has(here) ? here : members.Next(0);
}

int PoolTable::PickUnboundCpu(int cpu) {
  if (cpu >= 0 && cpu < nr_cpu_ids && unbound_ok_[cpu].load(std::memory_order_relaxed) != 0) {
    return cpu;
  }
  const auto start = static_cast<int>(round_robin_.fetch_add(1, std::memory_order_relaxed) %
                                      static_cast<uint32_t>(nr_cpu_ids));
  for (int i = 0; i < nr_cpu_ids; ++i) {
    const int candidate = (start + i) % nr_cpu_ids;
    if (unbound_ok_[candidate].load(std::memory_order_relaxed) != 0) return candidate;
  }
  return UsableCpu(0);
}

}  // namespace cmwq::wq
