// Creation, limits and the accounting of queues.

#include "runtime/wq/workqueue.h"

#include <cerrno>
#include <cstring>
#include <new>

#include "runtime/base/test_point.h"
#include "runtime/pool/work_link.h"
#include "runtime/wq/attrs.h"
#include "runtime/wq/dependency.h"

namespace cmwq::wq {
namespace {

using pool::work::WorkOf;

}  // namespace

int ClampMaxActive(int max_active) {
  if (max_active == 0) return CMWQ_DFL_ACTIVE;
  return max_active > CMWQ_MAX_ACTIVE ? CMWQ_MAX_ACTIVE : max_active;
}

Workqueue::Workqueue(const char* queue_name, unsigned queue_flags, int limit, bool is_ordered,
                     PoolTable* table)
    : flags(queue_flags),
      ordered(is_ordered),
      pools(table),
      saved_max_active(limit),
      saved_min_active(0) {
  strncpy(name, queue_name, sizeof(name) - 1);
  name[sizeof(name) - 1] = '\0';
  if (strlen(queue_name) >= sizeof(name)) {
    CMWQ_WARN_ONCE("queue name '%s' is longer than 31 bytes and was cut", queue_name);
  }
  base::ListInit(&all_entry);
}

void Workqueue::Link(Pwq* pwq) {
  pwq->next.store(first_pwq.load(std::memory_order_relaxed), std::memory_order_relaxed);
  first_pwq.store(pwq, std::memory_order_release);  // pairs with the load in ForEachPwq
}

void FreeWorkqueue(Workqueue* wq) {
  if (wq == nullptr) return;
  CMWQ_ASSERT(WorkqueueEmpty(wq));  // I10
  ForgetDependencies(wq);
  Pwq* pwq = wq->first_pwq.load(std::memory_order_relaxed);
  while (pwq != nullptr) {
    Pwq* const next = pwq->next.load(std::memory_order_relaxed);
    {
      sync::MutexLock hold(pwq->pool->lock);
      if (pwq->uses_pool) pwq->pool->DropUser();
    }
    delete pwq;
    pwq = next;
  }
  delete[] wq->cpu_pwq;
  delete[] wq->nodes;
  delete[] wq->node_cpus;
  delete wq->rescuer;
  delete wq;
}

namespace {

// One pwq per CPU, on the pools that every process has. False without memory.
bool MakeBoundPwqs(Workqueue* wq) {
  const platform::CpuSet cpus = wq->pools->cpus();
  sync::MutexLock hold(wq->mutex);
  for (int cpu = cpus.Next(0); cpu >= 0; cpu = cpus.Next(cpu + 1)) {
    if (!AddBoundPwq(wq, cpu)) return false;
  }
  return true;
}

bool MakePwqs(Workqueue* wq) {
  wq->cpu_pwq = new (std::nothrow) std::atomic<Pwq*>[wq->pools->nr_cpu_ids]();
  if (wq->cpu_pwq == nullptr) return false;
  return wq->unbound() ? InitAttrs(wq) == 0 : MakeBoundPwqs(wq);
}

int LimitNow(const Workqueue* wq) CMWQ_REQUIRES(wq->mutex) {
  return (wq->flags & CMWQ_FREEZABLE) != 0 && wq->frozen ? 0 : wq->saved_max_active;
}

}  // namespace

bool AddBoundPwq(Workqueue* wq, int cpu) {
  if (wq->cpu_pwq[cpu].load(std::memory_order_relaxed) != nullptr) return true;
  pool::WorkerPool* const pool = wq->pools->per_cpu[(wq->flags & CMWQ_HIGHPRI) != 0 ? 1 : 0][cpu];
  Pwq* const pwq = new (std::nothrow) Pwq(wq, pool, nullptr, LimitNow(wq));
  if (pwq == nullptr) return false;
  pwq->cpu_intensive = (wq->flags & CMWQ_CPU_INTENSIVE) != 0;
  pwq->rescuer = wq->rescuer;
  {
    sync::MutexLock hold(pwq->pool->lock);
    pwq->current = true;
    pwq->colour = static_cast<int>(wq->flush.current() % kColours);
  }
  wq->Link(pwq);
  wq->cpu_pwq[cpu].store(pwq, std::memory_order_release);  // pairs with the load in PwqFor
  return true;
}

Workqueue* CreateWorkqueue(const char* name, unsigned flags, int max_active, bool ordered,
                           PoolTable* table, platform::Env* env, int* err) {
  const int limit = ordered ? 1 : ClampMaxActive(max_active);
  Workqueue* const wq = new (std::nothrow) Workqueue(name, flags, limit, ordered, table);
  if (wq == nullptr || !MakePwqs(wq)) {
    *err = ENOMEM;
    FreeWorkqueue(wq);
    return nullptr;
  }
  if ((flags & CMWQ_MEM_RECLAIM) == 0) return wq;
  wq->rescuer = new (std::nothrow) pool::Rescuer(env, wq->name);
  *err = wq->rescuer != nullptr ? wq->rescuer->Start() : ENOMEM;
  if (*err != 0) {
    base::RawLog(base::LogLevel::kWarn, "queue %s: its rescuer cannot be created (errno %d)", name,
                 *err);
    FreeWorkqueue(wq);
    return nullptr;
  }
  wq->ForEachPwq([wq](Pwq* pwq) { pwq->rescuer = wq->rescuer; });
  return wq;
}

// One waiting item after the other, from each pwq in turn, until nothing more may start.
void ApplyMaxActive(Workqueue* wq) {
  const int limit = LimitNow(wq);
  if (wq->unbound()) UpdateNodeMax(wq);
  wq->ForEachPwq([limit](Pwq* pwq) {
    sync::MutexLock hold(pwq->pool->lock);
    pwq->max_active = limit;
    // In the same section: nothing waits for a free slot when the lock is free (I12).
    while (pwq->node == nullptr && pwq->ActivateFirst(true)) {
    }
    CMWQ_TEST_POINT_LOCKED("queue.limit_set", pwq->pool);
  });
  for (bool activated = true; activated;) {
    activated = false;
    wq->ForEachPwq([&activated](Pwq* pwq) {
      sync::MutexLock hold(pwq->pool->lock);
      if (pwq->ActivateFirst(true)) activated = true;
    });
  }
}

bool SetMaxActive(Workqueue* wq, int max_active) {
  if (wq->ordered || max_active < 0) return false;
  sync::MutexLock hold(wq->mutex);
  wq->saved_max_active = ClampMaxActive(max_active);
  if (wq->saved_min_active > wq->saved_max_active) wq->saved_min_active = wq->saved_max_active;
  ApplyMaxActive(wq);
  return true;
}

bool SetMinActive(Workqueue* wq, int min_active) {
  if (wq->ordered || !wq->unbound() || min_active < 0) return false;
  sync::MutexLock hold(wq->mutex);
  wq->saved_min_active =
      min_active < wq->saved_max_active ? min_active : wq->saved_max_active;
  ApplyMaxActive(wq);
  return true;
}

void ResetAfterFork(Workqueue* wq, void (*drop)(struct cmwq_work* work)) {
  wq->mutex.ResetAfterFork();
  wq->flush.Reset();
  wq->nr_drainers.store(0, std::memory_order_relaxed);
  if (wq->rescuer != nullptr) wq->rescuer->ResetAfterFork(drop);
  wq->ForEachPwq([drop](Pwq* pwq) CMWQ_NO_TSA {
    while (base::ListNode* const node = pwq->inactive.PopFront()) drop(WorkOf(node));
    base::ListInit(&pwq->mayday_entry.node);
    for (; pwq->mayday_users > 0; --pwq->mayday_users) pwq->pool->DropUser();
    pwq->nr_active = 0;
    for (int& n : pwq->nr_in_flight) n = 0;
    base::ListInit(&pwq->line_entry.node);
    pwq->in_line = pwq->plugged = false;
    if (pwq->current) return;
    pwq->drained = true;
    if (pwq->uses_pool) pwq->pool->DropUser();
    pwq->uses_pool = false;
  });
  for (int i = 0; wq->nodes != nullptr && i <= wq->nr_nodes; ++i) {
    wq->nodes[i].lock.ResetAfterFork();
    wq->nodes[i].count.Reset();
    base::ListInit(wq->nodes[i].line.head());
  }
}

}  // namespace cmwq::wq
