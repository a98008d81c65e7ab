// FakeEnv: a clock that stands still until told, thread creation that fails on demand, CPUs that need
// not exist. Engine: pools and queues on top of it, without the process's runtime; timers run when the
// test says so.

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
#include "tests/support/pool_test_peer.h"

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
