// Work behind a timer. PENDING|TIMER means that the armed timer owns the item; both change only under
// the timer lock, and the timer fires under it, so there is no moment in which nobody owns it.

#include "runtime/wq/ownership.h"
#include "runtime/wq/workqueue.h"

namespace cmwq::wq {
namespace {

struct cmwq_delayed_work* DelayedOf(platform::Timer* t) {
  return reinterpret_cast<struct cmwq_delayed_work*>(
      reinterpret_cast<char*>(t) - offsetof(struct cmwq_delayed_work, timer_));
}

uint64_t Deadline(platform::Env* env, uint64_t delay_ns) {
  const uint64_t now = env->NowNs();
  return delay_ns < base::kNever - now ? now + delay_ns : base::kNever - 1;
}

// Claims an idle item for the timer and arms it. False: pending or disabled.
bool ArmDelayed(Workqueue* wq, int cpu, struct cmwq_delayed_work* d, uint64_t deadline,
                platform::EventThread* events) {
  sync::MutexLock hold(events->mu);
  if (!ClaimTimer(WordOf(&d->work))) return false;
  d->wq_ = reinterpret_cast<struct cmwq_workqueue*>(wq);
  d->cpu_ = cpu;
  d->timer_.fire = &FireDelayed;
  d->timer_.prev = nullptr;
  events->ArmLocked(&d->timer_, deadline);
  return true;
}

}  // namespace

// Context: event thread. Locks: kTimer held, takes kPool.
void FireDelayed(platform::Timer* t) {
  struct cmwq_delayed_work* const d = DelayedOf(t);
  Workqueue* const wq = reinterpret_cast<Workqueue*>(d->wq_);
  if (!wq->alive()) {
    // Nobody may be left with a token that nobody will use.
    Leave(WordOf(&d->work));
    CMWQ_WARN_ONCE("delayed work %p expired after its queue was destroyed; it was dropped",
                   static_cast<void*>(&d->work));
    return;
  }
  QueueFromTimer(wq, d->cpu_, &d->work);
}

bool QueueDelayed(Workqueue* wq, int cpu, struct cmwq_delayed_work* d, uint64_t delay_ns,
                  platform::EventThread* events, platform::Env* env) {
  if (delay_ns == 0) return QueueWork(wq, cpu, &d->work);
  LivePwq(wq, cpu);  // not from the timer: it would create threads under kTimer
  return ArmDelayed(wq, cpu, d, Deadline(env, delay_ns), events);
}

bool ModDelayed(Workqueue* wq, int cpu, struct cmwq_delayed_work* d, uint64_t delay_ns, PoolTable* pools,
                platform::EventThread* events, platform::Env* env) {
  bool was_pending = false;
  for (;;) {
    if (CancelWork(&d->work, pools, events)) was_pending = true;
    if (Word::Disabled(WordOf(&d->work).load(std::memory_order_relaxed))) return was_pending;
    if (QueueDelayed(wq, cpu, d, delay_ns, events, env)) return was_pending;
    // Refused, for as long as the queue drains; or somebody queued it in between: then that queueing is
    // taken back in turn.
    if (Refused(wq)) return was_pending;
  }
}

bool FlushDelayed(struct cmwq_delayed_work* d, PoolTable* pools, platform::EventThread* events) {
  {
    sync::MutexLock hold(events->mu);
    if (events->DisarmLocked(&d->timer_)) FireDelayed(&d->timer_);
  }
  return FlushWork(&d->work, pools);
}

}  // namespace cmwq::wq
