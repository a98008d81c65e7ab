// What the event thread does now and then while there is work: it looks at the system's CPUs, and says
// what is done with what it finds, and it publishes the pools' statistics.

#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "runtime/base/conf.h"
#include "runtime/base/raw_log.h"
#include "runtime/core/cpus.h"
#include "runtime/core/runtime.h"
#include "runtime/platform/cpu_watch.h"
#include "runtime/platform/stats_page.h"
#include "runtime/pool/callbacks.h"

namespace cmwq::core {
namespace {

// By libc's name: where the preload has pinned the program's main thread, it answers with the mask that the
// program gave it.
int ProgramAffinity(platform::CpuSet* set) {
  cpu_set_t mask[platform::CpuSet::kBytes / sizeof(cpu_set_t)] = {};
  if (sched_getaffinity(getpid(), sizeof(mask), mask) != 0) return -errno;
  return set->FromMask(mask, sizeof(mask)) ? 0 : -EINVAL;
}

constinit bool g_applied = false;  // S: event thread; Apply was called during this look

bool Apply(const platform::CpuGrant& grant, void*) {
  g_applied = true;
  const int err = CpuSetChanged(grant.cpus);
  return err == 0 || err == EINVAL;
}

constinit platform::CpuGrantReader g_reader{"", &ProgramAffinity};
constinit platform::Uevents g_uevents;
void OnEvent(void*);

constinit platform::CpuWatch g_watch{&g_reader, &g_uevents, &Apply, &OnEvent, nullptr};

constinit platform::SoonTimer g_timer;                 // L: see SoonTimer
constinit platform::EventThread* g_events = nullptr;   // I: after StartCpuWatch
constinit std::atomic<bool> g_armed{false};            // AT(OnWork, Fire): the timer is requested or armed
constinit bool g_threaded = false;                     // S: event thread; the watch's own thread was made
constinit uint64_t g_next_ns = 0;                      // S: event thread; not before that
constinit uint64_t g_next_look_ns = 0;                 // S: event thread; no look at the CPUs before that
constinit bool g_event = false;                        // L: of the event thread (kTimer); do not wait for it
static_assert(offsetof(platform::SoonTimer, timer) == 0);

constexpr uint64_t kPublishNs = 100 * base::kNsPerMs;  // what a person takes for "now"

bool Watches() { return base::g_conf.cpu_watch_ms != 0; }
uint64_t LookNs() { return static_cast<uint64_t>(base::g_conf.cpu_watch_ms) * base::kNsPerMs; }
uint64_t PeriodNs() {
  if (!Watches()) return kPublishNs;  // also between the end of the page and that of the process
  return platform::g_stats_page.published() && kPublishNs < LookNs() ? kPublishNs : LookNs();
}

// Context: any, under kPool. One load unless the process has been idle.
void OnWork() {
  // Whoever arms it, looks for all; Fire asks the pools once more after it has cleared the flag.
  if (g_armed.load(std::memory_order_relaxed) || g_armed.exchange(true, std::memory_order_acq_rel)) return;
  g_events->ArmSoon(&g_timer, 0);
}

// Context: the watch's thread. Takes kTimer.
void OnEvent(void*) CMWQ_NO_TSA {
  sync::MutexLock hold(g_events->mu);
  g_event = true;
  // If it is requested, or firing, it will see the flag.
  if (g_events->DisarmLocked(&g_timer.timer) || !g_armed.exchange(true, std::memory_order_acq_rel)) {
    g_events->ArmLocked(&g_timer.timer, 0);
  }
}

void* WatchMain(void*) {
  platform::NameSelf("wq/cpus");
  g_watch.Run();
  return nullptr;
}

void MakeThread() {
  g_threaded = true;
  pthread_t thread;
  const int err = Runtime::Get().env()->CreateThread(&WatchMain, nullptr, 256 * 1024, &thread);
  if (err == 0) {
    pthread_detach(thread);
    return;
  }
  CMWQ_WARN_ONCE("cannot create the thread for CPU events (errno %d): changes of CPUs are noticed every "
                 "cpu_watch_ms", err);
}

bool AnyAwake() {
  bool awake = false;
  Runtime::Get().pools()->ForEachPool([&awake](pool::WorkerPool& pool) {
    if (pool.Awake()) awake = true;  // of each: it forgets
  });
  return awake;
}

// Context: event thread. Locks: none held; takes each pool's.
void Look(uint64_t now, bool event) {
  if (platform::g_stats_page.published()) {
    Runtime::Get().pools()->ForEachPool([](pool::WorkerPool& pool) { pool.PublishStats(); });
  }
  if (!Watches() || (now < g_next_look_ns && !event)) return;
  if (!g_threaded) MakeThread();
  g_applied = false;
  g_watch.Look();
  // What the program asked for and could not have at once. What the system brings, the watch repeats.
  if (!g_applied) RetryCpus();
  g_next_look_ns = Runtime::Get().env()->NowNs() + LookNs();
}

// Context: event thread, kTimer held; dropped and retaken. The timer is idle but g_armed says it is not,
// so nobody requests it meanwhile.
void Fire(platform::Timer* t) CMWQ_NO_TSA {
  const uint64_t now = Runtime::Get().env()->NowNs();
  if (now < g_next_ns && !g_event) return g_events->ArmLocked(t, g_next_ns);
  do {
    const bool event = g_event;
    g_event = false;
    g_events->mu.Unlock();
    Look(now, event);
    g_events->mu.Lock();
  } while (g_event);
  g_next_ns = Runtime::Get().env()->NowNs() + PeriodNs();
  g_armed.store(false, std::memory_order_release);
  // The pools' locks order this: who had work before we look at its pool is seen here, who does
  // so afterwards sees the flag cleared.
  if (AnyAwake() && !g_armed.exchange(true, std::memory_order_acq_rel)) {
    g_events->ArmLocked(t, g_next_ns);
  }
}

}  // namespace

void StartCpuWatch(platform::EventThread* events) {
  if (!Watches() && !platform::g_stats_page.published()) return;
  g_events = events;
  g_timer.timer.fire = &Fire;
  pool::g_work_arrives = &OnWork;
}

void ResetCpuWatchAfterFork() {
  g_watch.ResetAfterFork();
  g_armed.store(false, std::memory_order_relaxed);
  g_threaded = false;
  g_next_ns = g_next_look_ns = 0;
  g_event = false;
}

uint32_t CpuQuotaMilli() { return g_watch.quota_milli(); }

void WriteCpus(pool::LineWriter* out) {
  char list[160], line[240];
  UsableCpus().Format(list, sizeof(list));
  const uint32_t quota = CpuQuotaMilli();
  if (quota == 0) {
    base::RawFormat(line, sizeof(line), "  CPUs %s", list);
  } else {
    const char* const zeros = quota % 1000 < 10 ? "00" : quota % 1000 < 100 ? "0" : "";
    base::RawFormat(line, sizeof(line), "  CPUs %s, quota %u.%s%u", list, quota / 1000, zeros,
                    quota % 1000);
  }
  out->Line(line);
}

}  // namespace cmwq::core
