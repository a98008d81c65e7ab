#include "runtime/wq/cpus.h"

#include <cerrno>
#include <new>

#include "runtime/base/raw_log.h"
#include "runtime/base/test_point.h"
#include "runtime/wq/attrs.h"

namespace cmwq::wq {
namespace {

using platform::CpuSet;

// CPUs that have pools and are not in `set`.
template <class F>
void ForEachGone(PoolTable* table, const CpuSet& set, F visit) {
  for (int cpu = 0; cpu < table->nr_cpu_ids; ++cpu) {
    if (table->Known(cpu) && !set.Has(cpu)) visit(cpu);
  }
}

struct Halves {
  int cpu;
  bool all;
};

// Everything that an item queued to `cpu` will find. Undone where it fails, but for what costs nothing.
int BringUp(PoolTable* table, int cpu, QueueList* queues) CMWQ_REQUIRES(table->mu) {
  if (!table->MakeCpu(cpu)) return ENOMEM;
  Halves halves = {cpu, true};
  queues->ForEach([](Workqueue* wq, void* arg) {
    auto* const h = static_cast<Halves*>(arg);
    if (wq->unbound()) return;
    sync::MutexLock hold(wq->mutex);
    if (!AddBoundPwq(wq, h->cpu)) h->all = false;
  }, &halves);
  if (!halves.all) return ENOMEM;
  pool::WorkerPool* const normal = table->per_cpu[0][cpu];
  if (!normal->ReturnCpu()) return EAGAIN;
  if (!table->per_cpu[1][cpu]->ReturnCpu()) {
    normal->LeaveCpu(table->unbound_cpus());
    return EAGAIN;
  }
  return 0;
}

// What a queue has that nobody has given attributes.
bool DefaultAttrs(const Workqueue* wq) CMWQ_REQUIRES(wq->pools->mu) {
  const int nice = (wq->flags & CMWQ_HIGHPRI) != 0 ? wq->pools->highpri_nice : 0;
  return wq->attrs.nice == nice && !wq->attrs.strict && wq->attrs.scope == platform::Scope::kDefault &&
         CpuSet::First(wq->pools->nr_cpu_ids).SubsetOf(wq->attrs.mask);
}

struct Mapping {
  AttrsChange* changes = nullptr;
  int err = 0;
};

// Context: as ChangeCpus. Each queue by itself: a change that cannot be refused must not wait for all.
int MapUnbound(PoolTable* table, QueueList* queues) CMWQ_REQUIRES(table->mu) {
  Mapping mapping;
  queues->ForEach([](Workqueue* wq, void* arg) CMWQ_NO_TSA {
    auto* const m = static_cast<Mapping*>(arg);
    if (!wq->unbound()) return;
    auto* const change = new (std::nothrow) AttrsChange;
    int err = change != nullptr ? 0 : ENOMEM;
    if (err == 0) err = change->Prepare(wq, wq->attrs, AttrsChange::Fallback::kDefault);
    if (err != 0) {
      m->err = err;
      delete change;
      return;
    }
    change->keep = DefaultAttrs(wq);
    change->next = m->changes;
    m->changes = change;
  }, &mapping);
  // The pools of default attributes stay for ever: those of now, that is.
  table->ForEachPool([](pool::WorkerPool& pool) {
    if (pool.bound()) return;
    sync::MutexLock hold(pool.lock);
    pool.Unkeep();
  });
  // Without the list's lock, which a pool's first thread may need.
  while (AttrsChange* const change = mapping.changes) {
    mapping.changes = change->next;
    const int err = change->GoLive();
    if (err == 0) {
      if (change->keep) change->KeepPools();
      change->Commit();
    } else {
      mapping.err = err;
    }
    delete change;
  }
  if (mapping.err != 0) {
    CMWQ_WARN_ONCE("CPUs have changed, but an unbound queue cannot be mapped to them (errno %d): it keeps "
                   "its workers", mapping.err);
  }
  return mapping.err;
}

}  // namespace

int ChangeCpus(PoolTable* table, const CpuSet& usable, QueueList* queues, bool remap) {
  const CpuSet old = table->cpus();
  CpuSet next = old & usable;
  int err = 0;
  const CpuSet coming = usable - old;
  for (int cpu = coming.Next(0); cpu >= 0; cpu = coming.Next(cpu + 1)) {
    const int e = BringUp(table, cpu, queues);
    if (e == 0) {
      next.Add(cpu);
    } else {
      err = e;
      CMWQ_WARN_ONCE("CPU %d cannot be taken into use (errno %d)", cpu, e);
    }
  }
  // None of those that are allowed: the scheduler has moved everybody, and the old pools serve on.
  if (next.Empty()) return err;
  const bool changed = !(next == old);
  if (changed) table->SetCpus(next);
  CMWQ_TEST_POINT("cpus.published");
  // From here on nothing new goes to those that leave, but for what was already on its way.
  const CpuSet elsewhere = table->unbound_cpus();
  ForEachGone(table, next, [&](int cpu) {
    for (auto& pools : table->per_cpu) pools[cpu]->LeaveCpu(elsewhere);
  });
  pool::RebindDetectors(next);
  const CpuSet staying = old & next;
  for (int cpu = staying.Next(0); cpu >= 0; cpu = staying.Next(cpu + 1)) {
    for (auto& pools : table->per_cpu) pools[cpu]->ReturnCpu();
  }
  if (changed || remap) {
    const int e = MapUnbound(table, queues);
    if (e != 0) err = e;
  }
  table->ForEachPool([&](pool::WorkerPool& pool) {
    if (!pool.bound()) pool.PlaceUnbound(next);
  });
  return err;
}

bool FollowCpus(Workqueue* wq) {
  if (wq->unbound()) return true;
  sync::MutexLock hold(wq->mutex);
  const CpuSet cpus = wq->pools->cpus();
  for (int cpu = cpus.Next(0); cpu >= 0; cpu = cpus.Next(cpu + 1)) {
    if (!AddBoundPwq(wq, cpu)) return false;
  }
  return true;
}

}  // namespace cmwq::wq
