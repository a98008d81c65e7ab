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
  cpus = env->AllowedCpus();
  for (int cpu = cpus.Next(0); cpu >= 0; cpu = cpus.Next(cpu + 1)) {
    for (int high = 0; high < 2; ++high) {
      const auto id = static_cast<uint16_t>(nr_pools.load(std::memory_order_relaxed));
      per_cpu[high][cpu] = Make({cpu, high != 0 ? nice : 0, id});
      CMWQ_CHECK(per_cpu[high][cpu] != nullptr);
    }
    nr_cpu_ids = cpu + 1;
  }
  SetUnboundCpus(cpus);
}

const platform::Topology* PoolTable::topology() {
  if (!topology_read_) {
    topology_read_ = topology_.Load(sys_root_, cpus, static_cast<int>(conf_->cache_shard_size));
  }
  return topology_read_ ? &topology_ : nullptr;
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
  unbound_cpus_ = set & cpus;
  ++unbound_version_;
  for (int cpu = 0; cpu < nr_cpu_ids; ++cpu) {
    unbound_ok_[cpu].store(unbound_cpus_.Has(cpu) ? 1 : 0, std::memory_order_relaxed);
  }
}

int PoolTable::CpuOfNode(int node) {
  sync::MutexLock hold(mu);
  if (topology() == nullptr) return CMWQ_CPU_ANY;
  const platform::CpuSet members =
      topology_.PodCpus(platform::Scope::kNuma, topology_.PodOfNode(node)) & unbound_cpus_;
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
  return cpus.Next(0);
}

}  // namespace cmwq::wq
