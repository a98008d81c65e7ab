// The C interface: argument checks, then the engine.

#include <cmwq/cmwq.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "runtime/base/test_point.h"
#include "runtime/core/capi.h"
#include "runtime/core/io_loop.h"
#include "runtime/core/runtime.h"
#include "runtime/pool/sched_hooks.h"
#include "runtime/wq/show.h"
#include "runtime/wq/work_word.h"

namespace cmwq::core {

int Fail(int err) {
  errno = err;
  return -1;
}

wq::Workqueue* AllocQueue(const char* name, unsigned flags, int max_active, bool ordered,
                          std::atomic<wq::Workqueue*>* slot) {
  constexpr unsigned kKnownFlags = CMWQ_UNBOUND | CMWQ_FREEZABLE | CMWQ_MEM_RECLAIM |
                                   CMWQ_HIGHPRI | CMWQ_CPU_INTENSIVE | CMWQ_SYSFS;
  if (name == nullptr || (flags & ~kKnownFlags) != 0 || max_active < 0) {
    errno = EINVAL;
    return nullptr;
  }
  Runtime& r = Runtime::Get();
  int err = r.Start();
  wq::Workqueue* queue = nullptr;
  if (err == 0) {
    queue = wq::CreateWorkqueue(name, ordered ? flags | CMWQ_UNBOUND : flags, max_active, ordered,
                                r.pools(), r.env(), &err);
  }
  if (queue != nullptr && !wq::LivePwq(queue, r.PickCpu(CMWQ_CPU_ANY))->pool->served()) {
    // No worker anywhere that could ever run its items: better no queue than one that hangs.
    base::RawLog(base::LogLevel::kWarn,
                 "queue %s: not one worker can be created; raise the limit of threads", name);
    err = EAGAIN;
  }
  CMWQ_TEST_POINT("capi.created");
  wq::Workqueue* listed = nullptr;
  if (err == 0) {
    queue->shared = slot != nullptr;
    listed = r.AddQueue(queue, slot, &err);
  }
  if (queue != nullptr && listed != queue) {  // nobody has seen it
    if (queue->rescuer != nullptr) queue->rescuer->Stop();
    wq::FreeWorkqueue(queue);
  }
  if (listed == nullptr) errno = err;
  CMWQ_TEST_POINT("capi.listed");
  return listed;
}

}  // namespace cmwq::core

namespace {

using cmwq::core::AllocQueue;
using cmwq::core::Fail;
using cmwq::core::Handle;
using cmwq::core::Impl;
using cmwq::core::Misuse;
using cmwq::core::Runtime;
using cmwq::core::Sound;
using cmwq::core::Usable;
using cmwq::wq::Word;
using cmwq::wq::WordOf;
using cmwq::wq::Workqueue;

static_assert(sizeof(struct cmwq_work) <= 64);
static_assert(sizeof(struct cmwq_delayed_work) <= 128);

bool FromOwnItem(const Workqueue* wq) {
  const cmwq::pool::Worker* const w = cmwq::pool::CurrentWorker();
  return w != nullptr && w->current_pwq != nullptr &&
         static_cast<cmwq::wq::Pwq*>(w->current_pwq)->wq == wq;
}

// What it would wait for is not known to anybody.
bool RefuseShared(const char* function, const Workqueue* wq) {
  if (wq->shared) Misuse(function, "a default queue is shared by the whole process");
  return wq->shared;
}

// CMWQ_CPU_ANY for a CPU that is not usable.
int CheckedCpu(const char* function, int cpu) {
  if (cpu == CMWQ_CPU_ANY || Runtime::Get().pools()->Usable(cpu)) return cpu;
  // One that has left is nobody's mistake.
  if (!Runtime::Get().pools()->Known(cpu)) {
    CMWQ_WARN_ONCE("%s: CPU %d is not usable here; another one is taken", function, cpu);
  }
  return CMWQ_CPU_ANY;
}

bool QueueOn(const char* function, int cpu, struct cmwq_workqueue* wq, struct cmwq_work* work) {
  if (!Usable(function, wq) || !Usable(function, work)) return false;
  Runtime& r = Runtime::Get();
  return cmwq::wq::QueueWork(Impl(wq), r.PickCpu(cpu), work);
}

}  // namespace

extern "C" {

int cmwq_version(void) {
  return CMWQ_VERSION_MAJOR * 10000 + CMWQ_VERSION_MINOR * 100 + CMWQ_VERSION_PATCH;
}

struct cmwq_workqueue* cmwq_alloc_workqueue(const char* name, unsigned flags, int max_active) {
  return Handle(AllocQueue(name, flags, max_active, false, nullptr));
}

struct cmwq_workqueue* cmwq_alloc_ordered_workqueue(const char* name, unsigned flags) {
  return Handle(AllocQueue(name, flags, 1, true, nullptr));
}

void cmwq_destroy_workqueue(struct cmwq_workqueue* handle) {
  if (handle == nullptr || !Usable("cmwq_destroy_workqueue", handle)) return;
  Workqueue* const wq = Impl(handle);
  if (FromOwnItem(wq)) {
    Misuse("cmwq_destroy_workqueue", "called from an item of the same queue");
    return;
  }
  if (RefuseShared("cmwq_destroy_workqueue", wq)) return;
  auto live = cmwq::wq::WqState::kLive;
  if (!wq->state.compare_exchange_strong(live, cmwq::wq::WqState::kDestroying)) {
    Misuse("cmwq_destroy_workqueue", "somebody else is destroying the workqueue, or has tried to");
    return;
  }
  cmwq::core::IoLoop::Get().EndAll(wq);
  cmwq::wq::DrainWorkqueue(wq);
  if (wq->rescuer != nullptr) wq->rescuer->Stop();
  Runtime::Get().RemoveQueue(wq);
  if (!cmwq::wq::WorkqueueEmpty(wq)) {
    // Somebody queued during the destruction: leaking is safe, freeing is not.
    cmwq::base::RawLog(cmwq::base::LogLevel::kError,
                       "queue %s is busy after its destruction; its memory is leaked", wq->name);
    cmwq::pool::LogWriter log;
    cmwq::wq::ShowWorkqueue(wq, &log);
    wq->state.store(cmwq::wq::WqState::kDead, std::memory_order_seq_cst);
    return;
  }
  cmwq::wq::FreeWorkqueue(wq);
}

void cmwq_flush_workqueue(struct cmwq_workqueue* wq) {
  if (!Usable("cmwq_flush_workqueue", wq)) return;
  if (RefuseShared("cmwq_flush_workqueue", Impl(wq))) return;
  cmwq::wq::FlushWorkqueue(Impl(wq));
}

void cmwq_drain_workqueue(struct cmwq_workqueue* wq) {
  if (!Usable("cmwq_drain_workqueue", wq)) return;
  if (RefuseShared("cmwq_drain_workqueue", Impl(wq))) return;
  cmwq::wq::DrainWorkqueue(Impl(wq));
}

int cmwq_workqueue_set_max_active(struct cmwq_workqueue* wq, int max_active) {
  if (wq == nullptr || !Usable("cmwq_workqueue_set_max_active", wq) ||
      !cmwq::wq::SetMaxActive(Impl(wq), max_active)) {
    return Fail(EINVAL);
  }
  return 0;
}

int cmwq_workqueue_set_min_active(struct cmwq_workqueue* wq, int min_active) {
  if (wq == nullptr || !Usable("cmwq_workqueue_set_min_active", wq) ||
      !cmwq::wq::SetMinActive(Impl(wq), min_active)) {
    return Fail(EINVAL);
  }
  return 0;
}

bool cmwq_workqueue_congested(int cpu, struct cmwq_workqueue* wq) {
  if (!Usable("cmwq_workqueue_congested", wq)) return false;
  Runtime& r = Runtime::Get();
  cmwq::wq::Pwq* const pwq =
      Impl(wq)->PwqFor(r.PickCpu(CheckedCpu("cmwq_workqueue_congested", cpu)));
  cmwq::sync::MutexLock hold(pwq->pool->lock);
  return !pwq->inactive.empty();
}

int cmwq_workqueue_set_fail(struct cmwq_workqueue* handle, cmwq_work_fail_fn fn) {
  if (!Usable("cmwq_workqueue_set_fail", handle)) {
    errno = EINVAL;
    return -1;
  }
  Impl(handle)->fail.store(fn, std::memory_order_release);  // pairs with the load in Pwq::fail
  return 0;
}

void cmwq_work_init(struct cmwq_work* work, cmwq_work_fn fn) {
  if (work == nullptr || fn == nullptr) {
    Misuse("cmwq_work_init", "null argument");
    return;
  }
  if (Runtime::Get().ReallyPending(work)) {
    Misuse("cmwq_work_init", "the work is pending");
    return;
  }
  memset(work, 0, sizeof(*work));
  work->word_ = Word::kIdle;
  work->entry_.next = work->entry_.prev = &work->entry_;
  work->fn_ = fn;
}

bool cmwq_queue_work(struct cmwq_workqueue* wq, struct cmwq_work* work) {
  return QueueOn("cmwq_queue_work", CMWQ_CPU_ANY, wq, work);
}

bool cmwq_queue_work_on(int cpu, struct cmwq_workqueue* wq, struct cmwq_work* work) {
  constexpr const char* kName = "cmwq_queue_work_on";
  return QueueOn(kName, wq != nullptr ? CheckedCpu(kName, cpu) : cpu, wq, work);
}

bool cmwq_queue_work_node(int node, struct cmwq_workqueue* wq, struct cmwq_work* work) {
  constexpr const char* kName = "cmwq_queue_work_node";
  int cpu = CMWQ_CPU_ANY;
  if (wq != nullptr && Impl(wq)->unbound()) cpu = Runtime::Get().pools()->CpuOfNode(node);
  return QueueOn(kName, cpu, wq, work);
}

bool cmwq_flush_work(struct cmwq_work* work) {
  if (!Sound("cmwq_flush_work", work) || !Runtime::Get().started()) return false;
  return cmwq::wq::FlushWork(work, Runtime::Get().pools());
}

bool cmwq_cancel_work(struct cmwq_work* work) {
  if (!Sound("cmwq_cancel_work", work) || !Runtime::Get().started()) return false;
  Runtime& r = Runtime::Get();
  return cmwq::wq::CancelWork(work, r.pools(), r.events());
}

bool cmwq_disable_work(struct cmwq_work* work) {
  if (!Sound("cmwq_disable_work", work)) return false;
  Runtime& r = Runtime::Get();
  return cmwq::wq::DisableWork(work, r.pools(), r.events(), false);
}

bool cmwq_disable_work_sync(struct cmwq_work* work) {
  if (!Sound("cmwq_disable_work_sync", work)) return false;
  Runtime& r = Runtime::Get();
  return cmwq::wq::DisableWork(work, r.pools(), r.events(), true);
}

bool cmwq_enable_work(struct cmwq_work* work) {
  return Sound("cmwq_enable_work", work) && cmwq::wq::EnableWork(work);
}

bool cmwq_enable_and_queue_work(struct cmwq_workqueue* wq, struct cmwq_work* work) {
  if (!Usable("cmwq_enable_and_queue_work", wq)) return false;
  if (!cmwq_enable_work(work)) return false;
  cmwq_queue_work(wq, work);  // pending already is as good
  return true;
}

// Kernel: cancel_work_sync is disable, cancel, wait, enable.
bool cmwq_cancel_work_sync(struct cmwq_work* work) {
  if (!Sound("cmwq_cancel_work_sync", work) || !Runtime::Get().started()) return false;
  Runtime& r = Runtime::Get();
  const bool pending = cmwq::wq::DisableWork(work, r.pools(), r.events(), true);
  cmwq::wq::EnableWork(work);
  return pending;
}

unsigned cmwq_work_busy(const struct cmwq_work* work) {
  if (work == nullptr || !Sound("cmwq_work_busy", work)) return 0;
  const uint64_t word = WordOf(work).load(std::memory_order_acquire);
  unsigned busy = (word & Word::kPending) != 0 ? CMWQ_WORK_PENDING : 0;
  if (Word::Pool(word) != Word::kNoPool) {
    cmwq::pool::WorkerPool* const pool = Runtime::Get().pools()->ById(Word::Pool(word));
    cmwq::sync::MutexLock hold(pool->lock);
    if (pool->FindExecuting(work, work->fn_) != nullptr) busy |= CMWQ_WORK_RUNNING;
  }
  return busy;
}

struct cmwq_work* cmwq_current_work(void) {
  const cmwq::pool::Worker* const w = cmwq::pool::CurrentWorker();
  return w != nullptr ? w->current_work : nullptr;
}

bool cmwq_current_is_workqueue_rescuer(void) {
  const cmwq::pool::Worker* const w = cmwq::pool::CurrentWorker();
  return w != nullptr && w->is_rescuer && !w->fails;
}

void cmwq_set_worker_desc(const char* desc) {
  cmwq::pool::Worker* const w = cmwq::pool::CurrentWorker();
  if (w == nullptr || w->current_work == nullptr || desc == nullptr) return;
  cmwq::sync::MutexLock hold(w->pool->lock);
  strncpy(w->desc, desc, sizeof(w->desc) - 1);
  w->described = true;
}

void cmwq_delayed_work_init(struct cmwq_delayed_work* d, cmwq_work_fn fn) {
  if (d == nullptr || fn == nullptr) {
    Misuse("cmwq_delayed_work_init", "null argument");
    return;
  }
  if (Runtime::Get().ReallyPending(&d->work)) {
    Misuse("cmwq_delayed_work_init", "the work is pending");
    return;
  }
  memset(d, 0, sizeof(*d));
  cmwq_work_init(&d->work, fn);
}

bool cmwq_queue_delayed_work_on(int cpu, struct cmwq_workqueue* wq, struct cmwq_delayed_work* d,
                                uint64_t delay_ns) {
  if (!Usable("cmwq_queue_delayed_work", wq)) return false;
  if (!Usable("cmwq_queue_delayed_work", d != nullptr ? &d->work : nullptr)) return false;
  Runtime& r = Runtime::Get();
  cpu = r.PickCpu(CheckedCpu("cmwq_queue_delayed_work_on", cpu));
  return cmwq::wq::QueueDelayed(Impl(wq), cpu, d, delay_ns, r.events(), r.env());
}

bool cmwq_queue_delayed_work(struct cmwq_workqueue* wq, struct cmwq_delayed_work* d,
                             uint64_t delay_ns) {
  return cmwq_queue_delayed_work_on(CMWQ_CPU_ANY, wq, d, delay_ns);
}

bool cmwq_mod_delayed_work_on(int cpu, struct cmwq_workqueue* wq, struct cmwq_delayed_work* d,
                              uint64_t delay_ns) {
  if (!Usable("cmwq_mod_delayed_work", wq)) return false;
  if (!Sound("cmwq_mod_delayed_work", d != nullptr ? &d->work : nullptr)) return false;
  Runtime& r = Runtime::Get();
  cpu = r.PickCpu(CheckedCpu("cmwq_mod_delayed_work_on", cpu));
  return cmwq::wq::ModDelayed(Impl(wq), cpu, d, delay_ns, r.pools(), r.events(), r.env());
}

bool cmwq_mod_delayed_work(struct cmwq_workqueue* wq, struct cmwq_delayed_work* d,
                           uint64_t delay_ns) {
  return cmwq_mod_delayed_work_on(CMWQ_CPU_ANY, wq, d, delay_ns);
}

bool cmwq_disable_delayed_work(struct cmwq_delayed_work* d) {
  return cmwq_disable_work(d != nullptr ? &d->work : nullptr);
}

bool cmwq_disable_delayed_work_sync(struct cmwq_delayed_work* d) {
  return cmwq_disable_work_sync(d != nullptr ? &d->work : nullptr);
}

bool cmwq_enable_delayed_work(struct cmwq_delayed_work* d) {
  return cmwq_enable_work(d != nullptr ? &d->work : nullptr);
}

bool cmwq_cancel_delayed_work(struct cmwq_delayed_work* d) {
  return cmwq_cancel_work(d != nullptr ? &d->work : nullptr);
}

bool cmwq_cancel_delayed_work_sync(struct cmwq_delayed_work* d) {
  return cmwq_cancel_work_sync(d != nullptr ? &d->work : nullptr);
}

bool cmwq_flush_delayed_work(struct cmwq_delayed_work* d) {
  if (!Sound("cmwq_flush_delayed_work", d != nullptr ? &d->work : nullptr)) return false;
  Runtime& r = Runtime::Get();
  if (!r.started()) return false;
  return cmwq::wq::FlushDelayed(d, r.pools(), r.events());
}

void cmwq_freeze_workqueues_begin(void) { Runtime::Get().Freeze(true); }

bool cmwq_freeze_workqueues_busy(void) {
  bool busy = false;
  Runtime::Get().ForEachQueue([&busy](Workqueue* wq) {
    if ((wq->flags & CMWQ_FREEZABLE) == 0) return;
    wq->ForEachPwq([&busy](cmwq::wq::Pwq* pwq) {
      cmwq::sync::MutexLock hold(pwq->pool->lock);
      if (pwq->nr_active > 0) busy = true;
    });
  });
  return busy;
}

void cmwq_thaw_workqueues(void) { Runtime::Get().Freeze(false); }

void cmwq_show_all_workqueues(int fd) { Runtime::Get().Show(fd); }

void cmwq_block_begin(void) { cmwq::pool::WorkerSleeping(); }
void cmwq_block_end(void) { cmwq::pool::WorkerRunning(); }

}  // extern "C"
