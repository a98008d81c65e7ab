// The default queues, and what is built on them.

#include <cmwq/system_wq.h>

#include <atomic>
#include <cerrno>
#include <new>

#include "runtime/core/capi.h"
#include "runtime/core/runtime.h"

namespace {

using cmwq::core::AllocQueue;
using cmwq::core::Fail;
using cmwq::core::Handle;
using cmwq::core::Runtime;

struct SystemQueue {
  const char* const name;                     // I
  const unsigned flags;                       // I
  const int max_active;                       // I
  std::atomic<cmwq::wq::Workqueue*> queue;    // AT(Get, Runtime::AddQueue): set once
};

// Kernel: workqueue_init_early.
constinit SystemQueue g_percpu = {"events", CMWQ_SYSFS, 0, {}};
constinit SystemQueue g_highpri = {"events_highpri", CMWQ_SYSFS | CMWQ_HIGHPRI, 0, {}};
constinit SystemQueue g_long = {"events_long", CMWQ_SYSFS, 0, {}};
constinit SystemQueue g_freezable = {"events_freezable", CMWQ_SYSFS | CMWQ_FREEZABLE, 0, {}};
constinit SystemQueue g_dfl = {"events_dfl", CMWQ_SYSFS | CMWQ_UNBOUND, CMWQ_MAX_ACTIVE, {}};
constinit SystemQueue g_dfl_long = {"events_dfl_long", CMWQ_SYSFS | CMWQ_UNBOUND, CMWQ_MAX_ACTIVE, {}};

// Null with errno if it cannot be made now; the next call tries again.
struct cmwq_workqueue* Get(SystemQueue* s) {
  cmwq::wq::Workqueue* const queue = s->queue.load(std::memory_order_acquire);  // pairs: AddQueue
  if (queue != nullptr) return Handle(queue);
  return Handle(AllocQueue(s->name, s->flags, s->max_active, false, &s->queue));
}

struct CallOnCpu {
  struct cmwq_work work;  // first
  long (*fn)(void* arg);
  void* arg;
  long result;
};

}  // namespace

extern "C" {

struct cmwq_workqueue* cmwq_system_percpu_wq(void) { return Get(&g_percpu); }
struct cmwq_workqueue* cmwq_system_highpri_wq(void) { return Get(&g_highpri); }
struct cmwq_workqueue* cmwq_system_long_wq(void) { return Get(&g_long); }
struct cmwq_workqueue* cmwq_system_freezable_wq(void) { return Get(&g_freezable); }
struct cmwq_workqueue* cmwq_system_dfl_wq(void) { return Get(&g_dfl); }
struct cmwq_workqueue* cmwq_system_dfl_long_wq(void) { return Get(&g_dfl_long); }

long cmwq_work_on_cpu(int cpu, long (*fn)(void* arg), void* arg) {
  struct cmwq_workqueue* const wq = fn != nullptr ? cmwq_system_percpu_wq() : nullptr;
  if (fn == nullptr) return Fail(EINVAL);
  if (wq == nullptr) return -1;
  const auto* const pools = Runtime::Get().pools();
  if (!pools->Usable(cpu)) return Fail(pools->Known(cpu) ? ENODEV : EINVAL);
  CallOnCpu call = {{}, fn, arg, 0};
  cmwq_work_init(&call.work, [](struct cmwq_work* work) {
    auto* const c = reinterpret_cast<CallOnCpu*>(work);
    c->result = c->fn(c->arg);
  });
  cmwq_queue_work_on(cpu, wq, &call.work);
  cmwq_flush_work(&call.work);
  return call.result;
}

int cmwq_schedule_on_each_cpu(cmwq_work_fn fn) {
  struct cmwq_workqueue* const wq = fn != nullptr ? cmwq_system_percpu_wq() : nullptr;
  if (fn == nullptr) return Fail(EINVAL);
  if (wq == nullptr) return -1;
  const auto cpus = Runtime::Get().pools()->cpus();
  auto* const works = new (std::nothrow) struct cmwq_work[static_cast<size_t>(cpus.Count())];
  if (works == nullptr) return Fail(ENOMEM);
  int n = 0;
  for (int cpu = cpus.Next(0); cpu >= 0; cpu = cpus.Next(cpu + 1)) {
    cmwq_work_init(&works[n], fn);
    cmwq_queue_work_on(cpu, wq, &works[n++]);
  }
  for (int i = 0; i < n; ++i) cmwq_flush_work(&works[i]);
  delete[] works;
  return 0;
}

}  // extern "C"
