#include "runtime/core/runtime.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <new>

#include "runtime/base/conf.h"
#include "runtime/core/cpus.h"
#include "runtime/core/io.h"
#include "runtime/core/io_loop.h"
#include "runtime/platform/stats_page.h"
#include "runtime/pool/dump.h"
#include "runtime/pool/sched_hooks.h"
#include "runtime/pool/switch_audit.h"
#include "runtime/wq/attrs.h"
#include "runtime/wq/cpus.h"
#include "runtime/wq/dependency.h"
#include "runtime/wq/work_word.h"

namespace cmwq::core {
namespace {

constexpr int kHighPriNice = -20;  // kernel HIGHPRI_NICE_LEVEL

// Offered by the preload: makes its wrappers report the calling worker's waits to us.
using PreloadWorkerFn = void (*)(void (*sleeping)(), void (*running)());
constinit PreloadWorkerFn g_preload_worker = nullptr;

void TellPreload() { g_preload_worker(&pool::WorkerSleeping, &pool::WorkerRunning); }

void ReportAtExit() { Runtime::Get().Report(2); }
void UnlinkStatsAtExit() { platform::g_stats_page.Unlink(); }

// The item was the parent's business: here it is idle.
void DropWork(struct cmwq_work* work) {
  wq::WordOf(work).fetch_and(wq::Word::kLeaveMask, std::memory_order_relaxed);
}

void DropTimer(platform::Timer* t) {
  if (t->fire != &wq::FireDelayed) return;
  DropWork(reinterpret_cast<struct cmwq_work*>(reinterpret_cast<char*>(t) -
                                               offsetof(struct cmwq_delayed_work, timer_)));
}

}  // namespace

Runtime& Runtime::Get() {
  alignas(Runtime) static constinit char storage[sizeof(Runtime)] = {};
  static Runtime* const instance = new (storage) Runtime;
  return *instance;
}

int Runtime::Start() {
  if (started()) return 0;
  sync::MutexLock hold(mu_);
  return StartLocked();
}

int Runtime::StartLocked() {
  if (started_.load(std::memory_order_relaxed)) return 0;
  if (env_ == nullptr) {
    env_ = platform::SystemEnv();
    base::ParseConf(secure_getenv("CMWQ_CONF"), &base::g_conf);
    events_ = new (std::nothrow) platform::EventThread(env_);
    if (events_ == nullptr) return ENOMEM;
    // Before the first pool, which asks for its row.
    if (base::g_conf.stats != 0 &&
        platform::g_stats_page.Create(platform::StatsPage::Edition::kLibrary) == 0) {
      atexit(&UnlinkStatsAtExit);
    }
    table_.Start(env_, events_, &base::g_conf, "/sys", kHighPriNice);
    pool::g_before_live = [] { Get().Revive(); };
    pool::g_stall_reported = [] {
      pool::LogWriter log;
      Get().ShowQueues(&log);
    };
    StartCpuWatch(events_);
    g_preload_worker =
        reinterpret_cast<PreloadWorkerFn>(dlsym(RTLD_DEFAULT, "cmwq_preload_library_worker"));
    if (g_preload_worker != nullptr) pool::g_worker_start = &TellPreload;
  }
  const int err = events_->Start();
  if (err != 0) {
    base::RawLog(base::LogLevel::kWarn,
                 "cannot create the event thread (errno %d); raise the limit of threads", err);
    return err;
  }
  if (!handlers_) {
    handlers_ = true;
    pthread_atfork(&BeforeFork, &AfterForkInParent, &AfterForkInChild);
    const char* const report = secure_getenv("CMWQ_REPORT");
    if (report != nullptr && strcmp(report, "1") == 0) atexit(&ReportAtExit);
  }
  started_.store(true, std::memory_order_release);  // pairs with the load in started
  return 0;
}

int Runtime::PickCpu(int cpu) {
  return table_.UsableCpu(cpu == CMWQ_CPU_ANY ? env_->Cpu() : cpu);
}

namespace {

void FreezeQueue(wq::Workqueue* queue, bool frozen) {
  if ((queue->flags & CMWQ_FREEZABLE) == 0) return;
  sync::MutexLock hold(queue->mutex);
  queue->frozen = frozen;
  wq::ApplyMaxActive(queue);
}

}  // namespace

void Runtime::Freeze(bool frozen) {
  sync::MutexLock hold(mu_);
  frozen_ = frozen;
  for (base::ListNode* n = queues_.front(); n != nullptr; n = queues_.next(n)) {
    FreezeQueue(base::ListOwner<wq::Workqueue>(n, offsetof(wq::Workqueue, all_entry)), frozen);
  }
}

wq::Workqueue* Runtime::AddQueue(wq::Workqueue* queue, std::atomic<wq::Workqueue*>* slot, int* err) {
  sync::MutexLock table(table_.mu);
  queue->pools->mu.AssertHeld();  // the same
  *err = wq::FollowCpus(queue) ? wq::FollowUnboundCpus(queue) : ENOMEM;
  if (*err != 0) return nullptr;
  sync::MutexLock hold(mu_);
  if (slot != nullptr) {
    if (wq::Workqueue* const first = slot->load(std::memory_order_relaxed)) return first;
    slot->store(queue, std::memory_order_release);  // pairs with the load in Get, system_wq.cc
  }
  if (frozen_) FreezeQueue(queue, true);
  queues_.PushBack(&queue->all_entry);
  return queue;
}

void Runtime::RemoveQueue(wq::Workqueue* queue) {
  // The table's lock too: who changes the attributes of all queues holds it throughout.
  sync::MutexLock table(table_.mu);
  sync::MutexLock hold(mu_);
  base::ListUnlink(&queue->all_entry);
}

// Locks: PoolTable::mu throughout, so that no queue goes away; mu_ only for the list, because the first
// worker of a pool may need it (Revive).
int Runtime::SetUnboundCpus(const platform::CpuSet& set) {
  sync::MutexLock table(table_.mu);
  if ((set & table_.cpus()).Empty()) return EINVAL;
  const platform::CpuSet old = table_.unbound_requested();
  table_.SetUnboundCpus(set);
  wq::AttrsChange* changes = nullptr;
  int err = 0;
  ForEachQueue([&](wq::Workqueue* queue) CMWQ_NO_TSA {
    if (err != 0 || !queue->unbound()) return;
    auto* const change = new (std::nothrow) wq::AttrsChange;
    if (change == nullptr) {
      err = ENOMEM;
      return;
    }
    change->next = changes;
    changes = change;
    err = change->Prepare(queue, queue->attrs);
  });
  for (wq::AttrsChange* c = changes; c != nullptr && err == 0; c = c->next) err = c->GoLive();
  if (err != 0) table_.SetUnboundCpus(old);
  while (changes != nullptr) {
    wq::AttrsChange* const change = changes;
    changes = change->next;
    if (err == 0) change->Commit();
    delete change;
  }
  return err;
}

// Before a pool's first thread. Only a forked child has something to do: the event thread and the
// rescuers that its queues had in the parent.
void Runtime::Revive() {
  sync::MutexLock hold(mu_);
  if (!revive_) return;
  revive_ = false;
  platform::g_stats_page.Again();  // no pool has a worker yet, and there is no event thread
  if (events_->Start() != 0) {
    base::RawLog(base::LogLevel::kError, "fork child: cannot create the event thread");
  }
  for (base::ListNode* n = queues_.front(); n != nullptr; n = queues_.next(n)) {
    auto* const queue = base::ListOwner<wq::Workqueue>(n, offsetof(wq::Workqueue, all_entry));
    if (queue->rescuer != nullptr && queue->rescuer->Start() != 0) {
      base::RawLog(base::LogLevel::kError, "fork child: queue %s has no rescuer", queue->name);
    }
  }
}

// Every lock is taken in rank order, so that the child finds all structures whole. Locks of one rank
// are taken in the order of the tables; nobody else ever holds two of them.
void Runtime::BeforeFork() {
  Runtime& r = Get();
  r.table_.mu.Lock();
  r.mu_.Lock();
  for (base::ListNode* n = r.queues_.front(); n != nullptr; n = r.queues_.next(n)) {
    base::ListOwner<wq::Workqueue>(n, offsetof(wq::Workqueue, all_entry))->mutex.LockSameRank();
  }
  r.events_->mu.Lock();
  IoLoop::Get().BeforeFork();
  r.table_.ForEachPool([](pool::WorkerPool& pool) CMWQ_NO_TSA { pool.attach.LockSameRank(); });
  r.table_.ForEachPool([](pool::WorkerPool& pool) CMWQ_NO_TSA { pool.lock.LockSameRank(); });
}

void Runtime::AfterForkInParent() {
  Runtime& r = Get();
  r.table_.ForEachPool([](pool::WorkerPool& pool) CMWQ_NO_TSA { pool.lock.Unlock(); });
  r.table_.ForEachPool([](pool::WorkerPool& pool) CMWQ_NO_TSA { pool.attach.Unlock(); });
  IoLoop::Get().AfterForkInParent();
  r.events_->mu.Unlock();
  for (base::ListNode* n = r.queues_.front(); n != nullptr; n = r.queues_.next(n)) {
    base::ListOwner<wq::Workqueue>(n, offsetof(wq::Workqueue, all_entry))->mutex.Unlock();
  }
  r.mu_.Unlock();
  r.table_.mu.Unlock();
}

// Single-threaded, in a process that may never use the engine again: nothing is created here.
void Runtime::AfterForkInChild() {
  Runtime& r = Get();
  pool::SetCurrentWorker(nullptr);
  sync::t_locks_held = 0;
  platform::g_stats_page.ResetAfterFork();  // what follows may count
  r.events_->ResetAfterFork(&DropTimer);  // first: it unlinks the pools' timers
  ResetIoAfterFork();
  IoLoop::Get().ResetAfterFork();
  ResetCpuWatchAfterFork();
  r.table_.ForEachPool([](pool::WorkerPool& pool) { pool.ResetAfterFork(&DropWork); });
  for (base::ListNode* n = r.queues_.front(); n != nullptr; n = r.queues_.next(n)) {
    wq::ResetAfterFork(base::ListOwner<wq::Workqueue>(n, offsetof(wq::Workqueue, all_entry)),
                       &DropWork);
  }
  pool::ForgetDetectors();
  pool::ForgetSwitchAudits();
  wq::ResetDependenciesAfterFork();
  r.mu_.ResetAfterFork();
  r.table_.mu.ResetAfterFork();
  r.revive_ = true;
}

}  // namespace cmwq::core
