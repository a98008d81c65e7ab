// FakeEnv: a clock that stands still until told, thread creation that fails on demand, CPUs that need
// not exist. Engine: pools and queues on top of it, without the process's runtime; timers run when the
// test says so.
// size: what every engine test needs, and the one door to the inside of pools.

#ifndef CMWQ_TESTS_SUPPORT_FAKE_ENV_H_
#define CMWQ_TESTS_SUPPORT_FAKE_ENV_H_

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <functional>
#include <vector>

#include "runtime/base/conf.h"
#include "runtime/platform/env.h"
#include "runtime/platform/timer.h"
#include "runtime/pool/pool.h"
#include "runtime/wq/cpus.h"
#include "runtime/wq/workqueue.h"
#include "tests/support/gate.h"

namespace cmwq::pool {

// What tests must see of a pool's inside.
class PoolTestPeer {
 public:
  static bool Managing(WorkerPool& pool) {
    sync::MutexLock hold(pool.lock);
    return pool.managing_;
  }
  static TrusteeState State(WorkerPool& pool) {
    sync::MutexLock hold(pool.lock);
    return pool.trustee_.state();
  }
  // When the trustee looks again, or kNever.
  static uint64_t TrusteeDue(WorkerPool& pool) { return Due(pool, &pool.trustee_calls_.look.timer); }
  // Some worker has one of these flags. Every worker has.
  static bool AnyFlag(WorkerPool& pool, uint32_t flags) { return NrFlagged(pool, flags, true) > 0; }
  static bool AllFlags(WorkerPool& pool, uint32_t flags) { return NrFlagged(pool, flags, false) == 0; }
  // Where the pool's workers belong.
  static const platform::CpuSet& Place(const WorkerPool& pool) { return pool.place_; }
  static size_t Pending(WorkerPool& pool) {
    sync::MutexLock hold(pool.lock);
    return pool.nr_pending_;
  }
  // Queues, and calls to rescuers that have not ended.
  static int Users(WorkerPool& pool) {
    sync::MutexLock hold(pool.lock);
    return pool.nr_users_;
  }
  // When the pool's timer fires, or kNever.
  static uint64_t CullDue(WorkerPool& pool) { return Due(pool, &pool.cull_timer_.timer); }
  static uint64_t ManageDue(WorkerPool& pool) { return Due(pool, &pool.manage_timer_.timer); }
  // Every worker is idle and asleep, nothing is pending, and who went idle last has armed the timer for
  // it if there are too many: that comes after the idle list, without the lock. A worker that was just
  // made is idle before its thread runs, and takes a look once it does.
  static bool Settled(WorkerPool& pool) {
    sync::MutexLock timers(pool.events_->mu);
    sync::MutexLock hold(pool.lock);
    for (base::ListNode* node = pool.idle_list_.front(); node != nullptr;
         node = pool.idle_list_.next(node)) {
      if (!base::ListOwner<Worker>(node, offsetof(Worker, entry))->parker.parked()) return false;
    }
    return pool.nr_workers_ > 0 && pool.nr_idle_ == pool.nr_workers_ && pool.nr_pending_ == 0 &&
           CullSettledLocked(pool);
  }
  // The same of the timer alone, while some are busy.
  static bool CullSettled(WorkerPool& pool) {
    sync::MutexLock timers(pool.events_->mu);
    sync::MutexLock hold(pool.lock);
    return CullSettledLocked(pool);
  }
  // Objects of workers that have ended.
  static int FreeSlots(WorkerPool& pool) {
    sync::MutexLock hold(pool.lock);
    int n = 0;
    for (base::ListNode* node = pool.free_slots_.front(); node != nullptr;
         node = pool.free_slots_.next(node)) {
      ++n;
    }
    return n;
  }
  static bool SetFlags(WorkerPool& pool, Worker* w, uint32_t flags) {
    return pool.conc_.SetFlags(*w->word, flags);
  }
  static void ReplaceFlags(WorkerPool& pool, Worker* w, uint32_t clear, uint32_t set) {
    pool.conc_.ReplaceFlags(*w->word, clear, set);
  }
  // Makes nr_running wrong, as a skipped hook would.
  static void Skew(WorkerPool& pool, int by) { pool.conc_.Repair(by); }
  static bool TickArmed(WorkerPool& pool) {
    sync::MutexLock hold(pool.lock);
    return pool.tick_armed_;
  }
  static bool StallArmed(WorkerPool& pool) {
    sync::MutexLock hold(pool.lock);
    return pool.stall_armed_;
  }
  static int RawRunning(WorkerPool& pool) { return pool.conc_.RawRunning(); }
  // As WorkerPool::Presume, by a detector that then loses the CPU: nobody is woken.
  static bool PresumeOnly(WorkerPool& pool, const Suspect& suspect) {
    return pool.conc_.Presume(pool.words_[suspect.slot], suspect.word);
  }
  static bool Stopping(Rescuer& rescuer) {
    sync::MutexLock hold(rescuer.mayday_lock_);
    return rescuer.stop_;
  }
  static size_t Maydays(Rescuer& rescuer) {
    sync::MutexLock hold(rescuer.mayday_lock_);
    size_t n = 0;
    for (base::ListNode* node = rescuer.maydays_.front(); node != nullptr;
         node = rescuer.maydays_.next(node)) {
      ++n;
    }
    return n;
  }
  // With the lock: a worker that looks whether there is work is off the idle list for a moment.
  static bool Wants(WorkerPool& pool) {
    sync::MutexLock hold(pool.lock);
    return pool.WantsWatch();
  }
  // For tests that break something while they hold the lock, and mend it.
  static int& NrIdle(WorkerPool& pool) CMWQ_NO_TSA { return pool.nr_idle_; }
  static int& NrWorkers(WorkerPool& pool) CMWQ_NO_TSA { return pool.nr_workers_; }
  static uint32_t& NrPending(WorkerPool& pool) CMWQ_NO_TSA { return pool.nr_pending_; }
  static Concurrency& Conc(WorkerPool& pool) { return pool.conc_; }
  static Worker*& Manager(WorkerPool& pool) CMWQ_NO_TSA { return pool.manager_; }
  static base::List& IdleList(WorkerPool& pool) CMWQ_NO_TSA { return pool.idle_list_; }
  static base::List& Worklist(WorkerPool& pool) CMWQ_NO_TSA { return pool.worklist_; }
  static Worker* Executing(WorkerPool& pool, struct cmwq_work* work) CMWQ_NO_TSA {
    return pool.FindExecuting(work, work->fn_);
  }
  static void HashInsert(WorkerPool& pool, Worker* w) CMWQ_NO_TSA { pool.HashInsert(w); }
  static void HashRemove(WorkerPool& pool, Worker* w) CMWQ_NO_TSA { pool.HashRemove(w); }

 private:
  static bool CullSettledLocked(WorkerPool& pool) CMWQ_NO_TSA {
    return pool.cull_armed_ ? platform::TimerHeap::Armed(&pool.cull_timer_.timer)
                            : !pool.cull_wanted_;
  }
  // Workers with a thread that have one of the flags, or none.
  static int NrFlagged(WorkerPool& pool, uint32_t flags, bool has) {
    sync::MutexLock hold(pool.lock);
    int n = 0;
    for (int i = 0; i < pool.slots_used_.load(); ++i) {
      const Worker* const w = pool.slots_[i].load();
      if (w != nullptr && w->tid.load() != 0 && ((pool.words_[i].Load() & flags) != 0) == has) ++n;
    }
    return n;
  }
  static uint64_t Due(WorkerPool& pool, const platform::Timer* t) {
    sync::MutexLock hold(pool.events_->mu);
    return platform::TimerHeap::Armed(t) ? t->deadline : base::kNever;
  }
};

}  // namespace cmwq::pool

namespace cmwq::test {

using pool::PoolTestPeer;

class FakeEnv final : public platform::Env {
 public:
  uint64_t NowNs() override { return now.load(std::memory_order_acquire); }
  void ParkUntil(sync::Parker& parker, uint64_t) override { parker.Park(); }
  int CreateThread(void* (*fn)(void*), void* arg, size_t, pthread_t* thread) override {
    creations.fetch_add(1);
    if (before_create != nullptr) before_create();
    for (int left = fail_next.load(); left > 0;) {
      if (fail_next.compare_exchange_weak(left, left == INT_MAX ? left : left - 1)) return fail_errno.load();
    }
    const int err = pthread_create(thread, nullptr, fn, arg);
    if (err == 0 && after_create != nullptr) after_create(arg);
    return err;
  }
  void JoinThread(pthread_t thread) override { pthread_join(thread, nullptr); }
  platform::CpuSet AllowedCpus() override { return allowed; }
  int Cpu() override { return cpu.load(); }
  uint64_t YieldCpu() override {
    yields.fetch_add(1);
    if (on_yield != nullptr) return on_yield();
    base::SchedYield();
    return base::kNsPerSec;  // the need has lasted
  }
  uint64_t ThreadCpuNs(int) override { return thread_cpu_ns.load(); }
  int BindSelf(const platform::CpuSet& cpus) override {
    binds.fetch_add(1);
    if (on_bind != nullptr) on_bind(cpus);
    return bind_result.load();
  }
  int BindThread(int tid, const platform::CpuSet& cpus) override {
    if (on_place != nullptr) return on_place(tid, cpus);
    return 0;
  }

  std::atomic<uint64_t> now{base::kNsPerSec};
  std::function<void()> before_create;  // as after_create; an attempt may be held here
  std::function<void(void* arg)> after_create;  // set while nothing is created: between creation and use
  std::function<void(const platform::CpuSet& cpus)> on_bind;  // as after_create
  std::function<uint64_t()> on_yield;  // as after_create; returns how long the CPU was away
  // As after_create; what BindThread answers.
  std::function<int(int tid, const platform::CpuSet& cpus)> on_place;
  std::atomic<int> creations{0};      // attempts
  std::atomic<int> yields{0};
  std::atomic<int> fail_next{0};      // so many attempts fail; INT_MAX: all
  std::atomic<int> fail_errno{EAGAIN};
  std::atomic<uint64_t> thread_cpu_ns{0};  // of every thread alike
  std::atomic<int> cpu{0};
  std::atomic<int> binds{0};
  std::atomic<int> bind_result{0};
  platform::CpuSet allowed;
};

// Pools outlive their tests, as they outlive everything in the product: engines are never freed.
class Engine final : public wq::QueueList {
 public:
  // sys_root: a folder with a synthetic sysfs; the default has none, so that all CPUs share one cache.
  static Engine& Make(int cpus = 2, void (*tune)(base::Conf* conf) = nullptr,
                      const char* sys_root = "/nonexistent") {
    static std::vector<Engine*>* const all = new std::vector<Engine*>;
    base::g_conf.canary = 0;  // blocks are announced here, or meant to go unseen
    all->push_back(new Engine(cpus, tune, sys_root));
    return *all->back();
  }

  wq::Workqueue* Alloc(unsigned flags = 0, int max_active = 0, bool ordered = false) {
    int err = 0;
    if (ordered) flags |= CMWQ_UNBOUND;
    wq::Workqueue* const wq =
        wq::CreateWorkqueue("test", flags, max_active, ordered, &table, &env, &err);
    sync::MutexLock hold(table.mu);
    if (wq != nullptr) queues_.push_back(wq);
    return wq;
  }
  void Destroy(wq::Workqueue* wq) {
    wq->state.store(wq::WqState::kDestroying);
    wq::DrainWorkqueue(wq);
    if (wq->rescuer != nullptr) wq->rescuer->Stop();
    {
      sync::MutexLock hold(table.mu);
      std::erase(queues_, wq);
    }
    wq::FreeWorkqueue(wq);
  }

  // The process may use these CPUs from now on: "0,2-3".
  int Cpus(const char* list) {
    platform::CpuSet usable;
    EXPECT_TRUE(usable.Parse(list));
    sync::MutexLock hold(table.mu);
    return wq::ChangeCpus(&table, usable, this, false);
  }
  void ForEach(void (*visit)(wq::Workqueue* wq, void* arg), void* arg) override {
    for (wq::Workqueue* const wq : queues_) visit(wq, arg);
  }

  static bool Queue(wq::Workqueue* wq, Item& item, int cpu = 0) {
    return wq::QueueWork(wq, cpu, item.work());
  }
  bool Cancel(Item& item) { return wq::CancelWork(item.work(), &table, &events); }
  bool CancelSync(Item& item) {
    const bool pending = wq::DisableWork(item.work(), &table, &events, true);
    wq::EnableWork(item.work());
    return pending;
  }
  bool Disable(Item& item, bool sync = false) {
    return wq::DisableWork(item.work(), &table, &events, sync);
  }
  bool Flush(Item& item) { return wq::FlushWork(item.work(), &table); }
  bool QueueDelayed(wq::Workqueue* wq, Item& item, uint64_t ms) {
    return wq::QueueDelayed(wq, table.UsableCpu(env.Cpu()), &item.d, ms * base::kNsPerMs, &events, &env);
  }
  bool ModDelayed(wq::Workqueue* wq, Item& item, uint64_t ms) {
    return wq::ModDelayed(wq, table.UsableCpu(env.Cpu()), &item.d, ms * base::kNsPerMs, &table, &events, &env);
  }
  bool FlushDelayed(Item& item) { return wq::FlushDelayed(&item.d, &table, &events); }

  // Lets time pass in steps of 1 ms, firing what falls due.
  void Advance(uint64_t ms) {
    for (uint64_t i = 0; i < ms; ++i) {
      env.now.fetch_add(base::kNsPerMs);
      events.RunDue(env.NowNs());
    }
  }

  pool::WorkerPool& Pool(int cpu = 0, bool high = false) { return *table.per_cpu[high][cpu]; }
  // Every worker of the pool is idle and nothing is pending.
  static void WaitIdle(pool::WorkerPool& pool) {
    Eventually([&pool] { return PoolTestPeer::Settled(pool); });
    pool.CheckInvariants();
  }

  FakeEnv env;
  base::Conf conf;
  platform::EventThread events{&env};
  wq::PoolTable table;

 private:
  std::vector<wq::Workqueue*> queues_;  // L: of the table (kAttrs)
  Engine(int cpus, void (*tune)(base::Conf* conf), const char* sys_root) {
    if (tune != nullptr) tune(&conf);
    for (int cpu = 0; cpu < cpus; ++cpu) env.allowed.Add(cpu);
    table.Start(&env, &events, &conf, sys_root, -1);
  }
};

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_SUPPORT_FAKE_ENV_H_
