// PoolTable: every worker pool there is. Two per CPU from the start; unbound ones as attributes ask for
// them, shared by all queues whose attributes come to the same (kernel: get_unbound_pool).
//
// Pools are never freed: a work word keeps the number of the pool that ran the item last. One that
// nobody uses has no threads, and is taken again for the next attributes.

#ifndef CMWQ_RUNTIME_WQ_POOL_TABLE_H_
#define CMWQ_RUNTIME_WQ_POOL_TABLE_H_

#include <atomic>
#include <cstdint>

#include "runtime/base/annotations.h"
#include "runtime/base/conf.h"
#include "runtime/platform/topology.h"
#include "runtime/pool/pool.h"
#include "runtime/sync/mutex.h"

namespace cmwq::wq {

class PoolTable {
 public:
  static constexpr int kMaxUnbound = 1024;
  static constexpr int kMaxPools = 2 * platform::CpuSet::kMaxCpus + kMaxUnbound;

  // Makes the pools of all CPUs that the process may use now, without threads: those come with a pool's
  // first item. sys_root: where the topology is read, "/sys" in the product; it must stay valid.
  // Context: once, before anybody else knows the table. Locks: none needed.
  void Start(platform::Env* env, platform::EventThread* events, const base::Conf* conf,
             const char* sys_root, int highpri_nice) CMWQ_NO_TSA;

  // The pool for these attributes, with one more user; made if there is none. Null: no memory, or
  // kMaxUnbound different ones in use. Undone by WorkerPool::DropUser.
  pool::WorkerPool* GetUnbound(int nice, bool strict, const platform::CpuSet& pod,
                               const platform::CpuSet& mask) CMWQ_REQUIRES(mu);
  // Of the CPUs that are usable now; read when somebody asks first, and after a change. Null without
  // memory; after a change, the one before then.
  const platform::Topology* topology() CMWQ_REQUIRES(mu);
  // NUMA nodes keep their slot while CPUs come and go, so that counts by node stay where they are. How
  // many slots there are is settled at the first look; what has none is as if it spanned nodes.
  int nr_node_slots() CMWQ_REQUIRES(mu) { return topology() != nullptr ? nr_node_slots_ : 0; }
  // The slot of the node that holds all of `pod`, or nr_node_slots().
  int NodeSlot(const platform::CpuSet& pod) CMWQ_REQUIRES(mu);
  // Usable CPUs of the node with that slot.
  platform::CpuSet SlotCpus(int slot) CMWQ_REQUIRES(mu);
  // Usable CPUs that unbound queues may use (kernel: wq_unbound_cpumask).
  platform::CpuSet unbound_cpus() const CMWQ_REQUIRES(mu) { return unbound_cpus_; }
  // Only those of `set`, if any of them is usable.
  void SetUnboundCpus(const platform::CpuSet& set) CMWQ_REQUIRES(mu);
  platform::CpuSet unbound_requested() const CMWQ_REQUIRES(mu) { return unbound_requested_; }
  // Counts the changes of unbound_cpus().
  uint64_t unbound_version() const CMWQ_REQUIRES(mu) { return unbound_version_; }
  // The CPU whose pod takes an unbound item that was queued on `cpu`: that one if unbound work may run
  // there, else one after the other of those where it may (kernel: wq_select_unbound_cpu).
  int PickUnboundCpu(int cpu);
  // A CPU of NUMA node `node`, the caller's if it is one. CMWQ_CPU_ANY: no such node.
  int CpuOfNode(int node) CMWQ_EXCLUDES(mu);

  // CPUs that items may be queued to. Has needs no lock; everything that a CPU needs is there before.
  platform::CpuSet cpus() const { return usable_.Load(); }
  bool Usable(int cpu) const { return usable_.Has(cpu); }
  // It is usable, or was.
  bool Known(int cpu) const { return cpu >= 0 && cpu < nr_cpu_ids && known_.Has(cpu); }
  // `cpu`, or another one if it is not usable.
  int UsableCpu(int cpu) const { return usable_.Pick(cpu); }
  // Changing them (cpus.cc): makes the pools of a CPU, false without memory; publishes the new set, which
  // is not empty, and what follows from it for unbound queues.
  bool MakeCpu(int cpu) CMWQ_REQUIRES(mu);
  void SetCpus(const platform::CpuSet& set) CMWQ_REQUIRES(mu);
  // What Scope::kDefault means.
  platform::Scope default_scope() const {
    return static_cast<platform::Scope>(conf_->default_affinity_scope);
  }

  template <class F>
  void ForEachPool(F visit) const {
    const int n = nr_pools.load(std::memory_order_acquire);  // pairs with the store in Make
    for (int i = 0; i < n; ++i) visit(*by_id_[i].load(std::memory_order_acquire));
  }
  // Null: no such pool. Every number in a work word names one.
  pool::WorkerPool* ById(int id) const {
    return id < kMaxPools ? by_id_[id].load(std::memory_order_acquire) : nullptr;  // pairs: Make
  }

  // Attributes, and who shares which pool. Held over attribute changes, thread creation included: an
  // outermost lock, taken with none of ours held.
  sync::Mutex mu{sync::Rank::kAttrs};

  // [high priority][cpu]
  pool::WorkerPool* per_cpu[2][platform::CpuSet::kMaxCpus] = {};  // I: from Known(cpu) on
  std::atomic<int> nr_pools{0};                             // AT(Make, ForEachPool)
  int nr_cpu_ids = 0;         // I: after start-up; highest CPU number that may ever be usable, plus one
  int highpri_nice = -20;                                   // I: after start-up

 private:
  static constexpr int kMaxNodeSlots = 64;

  pool::WorkerPool* Make(const pool::WorkerPool::Attrs& attrs);
  void FollowUnbound() CMWQ_REQUIRES(mu);

  std::atomic<pool::WorkerPool*> by_id_[kMaxPools] = {};    // AT(Make, ById): set once
  platform::Env* env_ = nullptr;                            // I: after start-up
  platform::EventThread* events_ = nullptr;                 // I: after start-up
  const base::Conf* conf_ = nullptr;                        // I: after start-up
  const char* sys_root_ = nullptr;                          // I: after start-up
  int base_nice_ = 0;                                       // I: after start-up; of the starting thread
  int nr_unbound_ CMWQ_GUARDED_BY(mu) = 0;
  platform::SharedCpuSet usable_;                           // AT(SetCpus, Usable)
  platform::SharedCpuSet known_;                            // AT(MakeCpu, Known)
  platform::Topology topologies_[2] CMWQ_GUARDED_BY(mu);    // the present one, and a place for the next
  int topology_ CMWQ_GUARDED_BY(mu) = -1;                   // index of the present one; -1: none
  bool topology_stale_ CMWQ_GUARDED_BY(mu) = true;
  int nr_node_slots_ CMWQ_GUARDED_BY(mu) = 0;
  int nr_nodes_seen_ CMWQ_GUARDED_BY(mu) = 0;
  int slot_node_[kMaxNodeSlots] CMWQ_GUARDED_BY(mu) = {};   // the machine's number, or -1: see NodeOf
  platform::CpuSet unbound_requested_ CMWQ_GUARDED_BY(mu);
  platform::CpuSet unbound_cpus_ CMWQ_GUARDED_BY(mu);
  uint64_t unbound_version_ CMWQ_GUARDED_BY(mu) = 0;
  // Copy for queuers, who take no lock: one flag per CPU. Relaxed, either answer is a usable CPU.
  std::atomic<uint8_t> unbound_ok_[platform::CpuSet::kMaxCpus] = {};  // AT(FollowUnbound, PickUnboundCpu)
  std::atomic<uint32_t> round_robin_{0};                    // AT(PickUnboundCpu): relaxed, a hint
};

}  // namespace cmwq::wq

#endif  // CMWQ_RUNTIME_WQ_POOL_TABLE_H_
