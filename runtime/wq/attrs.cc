#include "runtime/wq/attrs.h"

#include <cerrno>
#include <new>

#include "runtime/base/test_point.h"

namespace cmwq::wq {
namespace {

constexpr int kDefaultMinActive = 8;  // kernel WQ_DFL_MIN_ACTIVE

}  // namespace

AttrsChange::~AttrsChange() {
  for (int i = 0; i < nr_slots_; ++i) DropSlot(slots_[i]);
  delete[] slots_;
  delete[] by_cpu_;
  delete[] node_cpus_;
}

// A pwq of the queue for `pool` that may be taken into use: of an ordered queue only one that is in use
// or has drained, for a generation must not mix with a younger one.
// The pool may have been used again since, on another node: then the pwq counts on the wrong one.
Pwq* AttrsChange::FindPwq(pool::WorkerPool* pool, const NodeLimit* node) {
  Pwq* found = nullptr;
  const bool ordered = wq_->ordered;
  wq_->ForEachPwq([&found, pool, node, ordered](Pwq* pwq) {
    if (pwq->pool != pool || pwq->node != node || found != nullptr) return;
    sync::MutexLock hold(pwq->pool->lock);
    if (!ordered || pwq->current || pwq->drained) found = pwq;
  });
  return found;
}

Pwq* AttrsChange::GetPwq(bool strict, const platform::CpuSet& pod, const platform::CpuSet& mask) {
  pool::WorkerPool* const pool = wq_->pools->GetUnbound(attrs_.nice, strict, pod, mask);
  if (pool == nullptr) return nullptr;
  Pwq* pwq = nullptr;
  for (int i = 0; i < nr_slots_; ++i) {
    if (slots_[i].pwq->pool == pool) pwq = slots_[i].pwq;
  }
  const bool known = pwq != nullptr;
  bool fresh = false;
  NodeLimit* const node = &wq_->nodes[wq_->pools->NodeSlot(pod)];
  if (!known) pwq = FindPwq(pool, node);
  if (pwq == nullptr) {
    pwq = new (std::nothrow) Pwq(wq_, pool, node, 0);
    fresh = pwq != nullptr;
    if (fresh) {
      pwq->cpu_intensive = (wq_->flags & CMWQ_CPU_INTENSIVE) != 0;
      pwq->rescuer = wq_->rescuer;
    }
  }
  if (known || pwq == nullptr) {
    sync::MutexLock hold(pool->lock);
    pool->DropUser();
  } else {
    slots_[nr_slots_++] = {pwq, fresh};
  }
  return pwq;
}

void AttrsChange::CountNodes(const platform::CpuSet& effective) {
  for (int node = 0; node < wq_->nr_nodes; ++node) {
    node_cpus_[node] = (effective & wq_->pools->SlotCpus(node)).Count();
  }
}

int AttrsChange::Prepare(Workqueue* wq, const WqAttrs& attrs, Fallback fallback) {
  wq_ = wq;
  attrs_ = attrs;
  fallback_ = fallback;
  const platform::Topology* const topology = wq->pools->topology();
  const int n = wq->pools->nr_cpu_ids;
  by_cpu_ = new (std::nothrow) Pwq*[n]();
  slots_ = new (std::nothrow) Slot[n + 1];
  node_cpus_ = new (std::nothrow) int[wq->nr_nodes]();
  if (topology == nullptr || by_cpu_ == nullptr || slots_ == nullptr || node_cpus_ == nullptr) {
    return ENOMEM;
  }
  platform::CpuSet effective = attrs.mask & wq->pools->unbound_cpus();
  if (effective.Empty()) effective = wq->pools->unbound_cpus();
  CountNodes(effective);
  const platform::Scope scope =
      attrs.scope == platform::Scope::kDefault ? wq->pools->default_scope() : attrs.scope;
  dfl_ = GetPwq(false, effective, effective);
  if (dfl_ == nullptr) return ENOMEM;
  const platform::CpuSet cpus = wq->pools->cpus();
  for (int cpu = cpus.Next(0); cpu >= 0; cpu = cpus.Next(cpu + 1)) {
    const platform::CpuSet pod = topology->PodOf(scope, cpu) & effective;
    // One pwq keeps the order of an ordered queue; a pod without usable CPUs has nobody to serve it.
    by_cpu_[cpu] =
        wq->ordered || pod.Empty() ? dfl_ : GetPwq(attrs.strict, pod, effective);
    if (by_cpu_[cpu] == nullptr && fallback == Fallback::kDefault) by_cpu_[cpu] = dfl_;
    if (by_cpu_[cpu] == nullptr) return ENOMEM;
  }
  return 0;
}

void AttrsChange::KeepPools() {
  for (int i = 0; i < nr_slots_; ++i) {
    sync::MutexLock hold(slots_[i].pwq->pool->lock);
    slots_[i].pwq->pool->Keep();
  }
}

int AttrsChange::GoLive() {
  for (int i = 0; i < nr_slots_;) {
    Pwq* const pwq = slots_[i].pwq;
    if (pwq->pool->GoLive()) {
      ++i;
      continue;
    }
    if (fallback_ == Fallback::kNone || pwq == dfl_) return EAGAIN;
    for (int cpu = 0; cpu < wq_->pools->nr_cpu_ids; ++cpu) {
      if (by_cpu_[cpu] == pwq) by_cpu_[cpu] = dfl_;
    }
    DropSlot(slots_[i]);
    slots_[i] = slots_[--nr_slots_];
  }
  return 0;
}

void AttrsChange::DropSlot(const Slot& slot) {
  {
    sync::MutexLock hold(slot.pwq->pool->lock);
    slot.pwq->pool->DropUser();
  }
  if (slot.fresh) delete slot.pwq;
}

bool AttrsChange::Chosen(const Pwq* pwq) const {
  for (int i = 0; i < nr_slots_; ++i) {
    if (slots_[i].pwq == pwq) return true;
  }
  return false;
}

void AttrsChange::TakeInUse(const Slot& slot, int colour) {
  Pwq* const pwq = slot.pwq;
  {
    sync::MutexLock hold(pwq->pool->lock);
    if (!pwq->current) {
      pwq->drained = false;
      // Until UnplugOldest has seen that no older generation has items.
      pwq->plugged = wq_->ordered;
      pwq->generation = ++wq_->generation;
    }
    pwq->current = true;
    if (slot.fresh) pwq->colour = colour;
    if (pwq->uses_pool) {
      pwq->pool->DropUser();
    } else {
      pwq->uses_pool = true;
    }
  }
  if (slot.fresh) wq_->Link(pwq);
}

void AttrsChange::RetireOthers() {
  wq_->ForEachPwq([this](Pwq* pwq) {
    if (Chosen(pwq)) return;
    sync::MutexLock hold(pwq->pool->lock);
    if (!pwq->current) return;
    pwq->current = false;
    if (!pwq->Empty()) return;  // Leave does the rest with the last item
    pwq->drained = true;
    pwq->uses_pool = false;
    pwq->pool->DropUser();
  });
}

void AttrsChange::Commit() {
  sync::MutexLock hold(wq_->mutex);
  const int colour = static_cast<int>(wq_->flush.current() % kColours);
  for (int i = 0; i < nr_slots_; ++i) TakeInUse(slots_[i], colour);
  // First where new items go, then that the old ones take none: a queuer that finds a retired pwq looks
  // here again and must find another.
  for (int cpu = 0; cpu < wq_->pools->nr_cpu_ids; ++cpu) {
    Pwq* const pwq = by_cpu_[cpu] != nullptr ? by_cpu_[cpu] : dfl_;
    wq_->cpu_pwq[cpu].store(pwq, std::memory_order_release);  // pairs with the load in PwqFor
    CMWQ_TEST_POINT("attrs.published_one");
  }
  RetireOthers();
  nr_slots_ = 0;  // the users and the fresh pwqs are the queue's now
  int* const old = wq_->node_cpus;
  wq_->node_cpus = node_cpus_;
  node_cpus_ = old;
  ApplyMaxActive(wq_);
  if (wq_->ordered) UnplugOldest(wq_);
}

void UpdateNodeMax(Workqueue* wq) {
  const bool frozen = (wq->flags & CMWQ_FREEZABLE) != 0 && wq->frozen;
  const int max = frozen ? 0 : wq->saved_max_active;
  const int min = frozen ? 0 : wq->saved_min_active;
  int total = 0;
  for (int node = 0; node < wq->nr_nodes; ++node) total += wq->node_cpus[node];
  // Each node gets its part by CPUs, rounded up, and never less than min_active: chains of items that
  // wait for each other must fit (kernel: wq_update_node_max_active).
  for (int node = 0; node < wq->nr_nodes; ++node) {
    int share = total > 0 ? (max * wq->node_cpus[node] + total - 1) / total : min;
    if (share < min) share = min;
    // Not even where no CPU is left: what waits in retired pwqs has to end.
    if (share < 1) share = 1;
    if (share > max) share = max;
    wq->nodes[node].count.SetMax(share);
  }
  wq->nodes[wq->nr_nodes].count.SetMax(max);
}

int InitAttrs(Workqueue* wq) {
  sync::MutexLock hold(wq->pools->mu);
  const platform::Topology* const topology = wq->pools->topology();
  if (topology == nullptr) return ENOMEM;
  wq->nr_nodes = wq->pools->nr_node_slots();
  wq->nodes = new (std::nothrow) NodeLimit[wq->nr_nodes + 1];
  if (wq->nodes == nullptr) return ENOMEM;
  {
    sync::MutexLock limits(wq->mutex);
    wq->saved_min_active = wq->ordered || wq->saved_max_active < kDefaultMinActive
                               ? wq->saved_max_active
                               : kDefaultMinActive;
  }
  wq->attrs.nice = (wq->flags & CMWQ_HIGHPRI) != 0 ? wq->pools->highpri_nice : 0;
  wq->attrs.mask = platform::CpuSet::First(wq->pools->nr_cpu_ids);
  AttrsChange change;
  const int err = change.Prepare(wq, wq->attrs);
  if (err != 0) return err;
  wq->unbound_version = wq->pools->unbound_version();
  change.KeepPools();
  change.Commit();
  return 0;
}

namespace {

int Apply(Workqueue* wq, const WqAttrs& attrs) CMWQ_REQUIRES(wq->pools->mu) {
  if (!wq->unbound() || attrs.nice < -20 || attrs.nice > 19) return EINVAL;
  if ((attrs.mask & wq->pools->cpus()).Empty()) return EINVAL;
  AttrsChange change;
  int err = change.Prepare(wq, attrs);
  if (err == 0) err = change.GoLive();
  if (err != 0) return err;
  change.Commit();
  wq->attrs = attrs;
  return 0;
}

}  // namespace

int ApplyAttrs(Workqueue* wq, const WqAttrs& attrs) {
  sync::MutexLock hold(wq->pools->mu);
  return Apply(wq, attrs);
}

int EditAttrs(Workqueue* wq, bool (*edit)(WqAttrs* attrs, const char* value), const char* value) {
  sync::MutexLock hold(wq->pools->mu);
  WqAttrs attrs = wq->attrs;
  return edit(&attrs, value) ? Apply(wq, attrs) : EINVAL;
}

int FollowUnboundCpus(Workqueue* wq) {
  if (!wq->unbound() || wq->unbound_version == wq->pools->unbound_version()) return 0;
  return Apply(wq, wq->attrs);
}

}  // namespace cmwq::wq
