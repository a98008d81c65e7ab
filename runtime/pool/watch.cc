// The two timers that look after a pool from the event thread.
//
// The tick finds workers that compute for long while others wait, and a counter that has drifted from
// its words. The watchdog finds a worklist from which nobody takes anything. Both are armed only by
// pending work, so an idle process is not woken; both log with no lock held.
//
// Threads: the event thread. Locks: called with kTimer held, which they drop to log; take kPool.

#include <signal.h>

#include "runtime/base/test_point.h"
#include "runtime/platform/symbol.h"
#include "runtime/pool/dump.h"
#include "runtime/pool/hog_table.h"
#include "runtime/pool/pool.h"
#include "runtime/pool/pwq_base.h"
#include "runtime/pool/switch_audit.h"

namespace cmwq::pool {
namespace {

constexpr int kMaxCounted = 64;    // counted workers that one tick looks at
constexpr int kDriftTicks = 3;     // a hook between its word and its counter is not drift
constexpr int kLooks = 4;          // of the watchdog per threshold: what a stop of the process can hide

WatchTimer* WatchOf(platform::Timer* t) { return reinterpret_cast<WatchTimer*>(t); }

std::atomic<int64_t> g_stalls{0};  // AT(ReportStall, ResetWatchAfterFork): relaxed, a count only

}  // namespace

constinit Callback g_work_arrives = nullptr;
constinit Callback g_stall_reported = nullptr;

// Context: any. Locks: `lock` held. One futex wake at most, and only when the timer was idle.
void WorkerPool::ArmTickSlow() {
  tick_armed_ = true;
  events_->ArmSoon(&watch_.tick.soon, conf_->tick_ms * base::kNsPerMs);
}

void WorkerPool::ArmStallSlow() {
  noted_ = true;
  if (g_work_arrives != nullptr) g_work_arrives();
  if (stall_armed_) return;
  if (conf_->watchdog_thresh == 0) return;
  stall_armed_ = true;
  watch_.stall_progress = progress_;
  watch_.stall_since_ns = env_->NowNs();
  watch_.stall_reported_ns = 0;
  events_->ArmSoon(&watch_.stall.soon, StallPeriodNs());
}

uint64_t WorkerPool::StallPeriodNs() const {
  return conf_->watchdog_thresh * base::kNsPerSec / kLooks;
}

// Context: event thread, kTimer held; dropped and retaken to log.
void WorkerPool::TickFire(platform::Timer* t) {
  WorkerPool* const pool = WatchOf(t)->pool;
  HogReport reports[kMaxHogReports];
  if (pool->audited_) DrainSwitchAudits();
  pool->SampleIfNobodyAttends();
  const int hogs = pool->FindHogs(reports);
  const int repaired = pool->RepairDrift();
  if (hogs > 0 || (repaired != 0 && !pool->watch_.drift_reported)) {
    // The timer is idle but counts as armed, so nobody requests it meanwhile.
    pool->events_->mu.Unlock();
    pool->ReportHogs(reports, hogs);
    if (repaired != 0 && !pool->watch_.drift_reported) {
      pool->watch_.drift_reported = true;
      base::RawLog(base::LogLevel::kWarn,
                   "pool of CPU %d: nr_running was off by %d and was corrected; further corrections "
                   "are only counted", pool->attrs_.cpu, repaired);
    }
    pool->events_->mu.Lock();
  }
  sync::MutexLock hold(pool->lock);
  if (pool->nr_pending_ == 0 || pool->conc_.RawRunning() <= 0) {
    // Whoever took the last one out, this tick in a detector's place included, called the worker that was
    // first on the idle list, if one was: it may have been on its way to that list with the last look
    // behind it. With the lock held there is no such way.
    Wake(pool->NeedWake());
    pool->tick_armed_ = false;
    pool->watch_.drift_ticks = 0;
    return;
  }
  const uint64_t step = pool->conf_->tick_ms * base::kNsPerMs;
  const uint64_t next = pool->env_->NowNs() + step;
  pool->events_->ArmLocked(t, next - next % step);
}

// Where no canary looks, the tick does, and tries to have one again.
// Context: event thread, kTimer held; dropped and retaken.
void WorkerPool::SampleIfNobodyAttends() {
  BlockingSource* const detector = detector_.load(std::memory_order_acquire);  // pairs: FindDetector
  if (detector == nullptr || detector->Attends()) return;
  // The timer is idle but counts as armed, so nobody requests it meanwhile.
  events_->mu.Unlock();
  detector->Tick(this);
  events_->mu.Lock();
}

// Looks at the CPU time of every counted worker. One that has used more than the threshold since it was
// first seen in its present run (same item, not asleep in between) leaves nr_running until the item
// ends. The run is known by the state word's sequence and the count of executed items, so the hot path
// keeps no clock; the price is that the time before the first look is not counted.
int WorkerPool::FindHogs(HogReport* reports) {
  const uint64_t threshold = static_cast<uint64_t>(conf_->cpu_intensive_thresh_us) * 1000;
  if (threshold == 0) return 0;
  Suspect suspects[kMaxCounted];
  const int n = ListSuspects(suspects, kMaxCounted);
  int found = 0;
  for (int i = 0; i < n; ++i) {
    const Suspect& s = suspects[i];
    Worker* const w = slots_[s.slot].load(std::memory_order_acquire);  // pairs: TakeSlot
    const uint64_t executed = w->nr_executed.load(std::memory_order_relaxed);
    const uint64_t cpu = env_->ThreadCpuNs(s.tid);
    if (cpu == base::kNever) continue;
    if (w->hog_word != s.word || w->hog_executed != executed || cpu < w->hog_cpu_ns) {
      w->hog_word = s.word;
      w->hog_executed = executed;
      w->hog_cpu_ns = cpu;
      continue;
    }
    if (cpu - w->hog_cpu_ns < threshold) continue;
    cmwq_work_fn fn = nullptr;
    CMWQ_TEST_POINT("watch.mark");
    if (!MarkIntensive(w, s.word, executed, &fn)) continue;
    const uint64_t count =
        g_hogs.Count(fn, static_cast<uint64_t>(conf_->cpu_intensive_warning_thresh));
    if (count != 0 && found < kMaxHogReports) reports[found++] = {fn, count};
  }
  return found;
}

// Takes the hog out of nr_running and wakes one worker. False: it moved on.
bool WorkerPool::MarkIntensive(Worker* w, uint32_t seen, uint64_t executed, cmwq_work_fn* fn) {
  Worker* wake;
  {
    sync::MutexLock hold(lock);
    // Items begin and end under the lock: the flag cannot hit the next one.
    if (w->current_work == nullptr ||
        w->nr_executed.load(std::memory_order_relaxed) != executed) {
      return false;
    }
    // Its own hook may be taking it out at this very moment: whoever changes the word first pays, and
    // the other one sees a change and does nothing.
    if (!conc_.SetFlagsIf(*w->word, seen, WorkerFlag::kCpuIntensive)) return false;
    *fn = w->current_fn;
    ++stats_.hogs;
    wake = NeedWake();
  }
  Wake(wake);
  return true;
}

void WorkerPool::ReportHogs(const HogReport* reports, int n) {
  for (int i = 0; i < n; ++i) {
    const platform::Symbol symbol(reports[i].fn);
    base::RawLog(base::LogLevel::kWarn,
                 "%s hogged CPU for >%ldus %lu times, consider switching to CMWQ_UNBOUND",
                 symbol.text, static_cast<long>(conf_->cpu_intensive_thresh_us),
                 static_cast<unsigned long>(reports[i].count));
  }
}

// Corrects nr_running when it differed from the words by the same amount at several ticks in a row. A
// thread that lost the CPU between its word and its counter looks the same; then the correction is
// taken back some ticks later. Returns what was added.
int WorkerPool::RepairDrift() {
  sync::MutexLock hold(lock);
  const int drift = Drift();
  watch_.drift_ticks = drift != 0 && drift == watch_.drift ? watch_.drift_ticks + 1 : 1;
  watch_.drift = drift;
  if (drift == 0 || watch_.drift_ticks < kDriftTicks) return 0;
  conc_.Repair(drift);
  stats_.drift += static_cast<uint64_t>(drift > 0 ? drift : -drift);
  watch_.drift_ticks = 0;
  // Too high a counter has kept everybody asleep.
  Wake(NeedWake());
  return drift;
}

bool WorkerPool::Awake() {
  sync::MutexLock hold(lock);
  const bool awake = noted_;
  noted_ = nr_pending_ != 0 && stall_armed_;
  return awake;
}

// Context: event thread, kTimer held; dropped and retaken to log.
void WorkerPool::StallFire(platform::Timer* t) {
  WorkerPool* const pool = WatchOf(t)->pool;
  PoolWatch& watch = pool->watch_;
  const uint64_t now = pool->env_->NowNs();
  const uint64_t period = pool->StallPeriodNs();
  const uint64_t thresh = pool->conf_->watchdog_thresh * base::kNsPerSec;
  // Nobody ran, the watchdog included: stopped by a signal, a debugger, a paused virtual machine.
  const bool touched = now > t->deadline + period / 2;
  uint64_t stalled_ns = 0;
  {
    sync::MutexLock hold(pool->lock);
    if (pool->nr_pending_ == 0) {
      pool->stall_armed_ = pool->noted_ = false;
      return;
    }
    pool->NoteInFlight(now);
    if (touched || pool->progress_ != watch.stall_progress) {
      watch.stall_progress = pool->progress_;
      watch.stall_since_ns = now;
      watch.stall_reported_ns = 0;
    }
    const uint64_t last =
        watch.stall_reported_ns != 0 ? watch.stall_reported_ns : watch.stall_since_ns;
    if (now - last >= thresh) {
      watch.stall_reported_ns = now;
      stalled_ns = now - watch.stall_since_ns;
      ++pool->stats_.stalls;
    }
  }
  if (stalled_ns != 0) {
    // The timer is idle but counts as armed, so nobody requests it meanwhile.
    pool->events_->mu.Unlock();
    pool->ReportStall(stalled_ns);
    pool->events_->mu.Lock();
  }
  pool->events_->ArmLocked(t, now + period);
}

// Context: event thread. Locks: none held.
void WorkerPool::ReportStall(uint64_t for_ns) {
  const auto seconds = static_cast<unsigned long>(for_ns / base::kNsPerSec);
  char name[32];
  {
    sync::MutexLock hold(lock);
    PoolName(attrs_, name, sizeof(name));
  }
  base::RawLog(base::LogLevel::kError,
               "BUG: workqueue lockup: pool %s has pending items and began none for %lus", name,
               seconds);
  LogWriter writer;
  ShowPool(&writer);
  if (g_stall_reported != nullptr) g_stall_reported();
  const int64_t stalls = g_stalls.fetch_add(1, std::memory_order_relaxed) + 1;
  const bool count = conf_->panic_on_stall > 0 && stalls >= conf_->panic_on_stall;
  const bool time = conf_->panic_on_stall_time > 0 &&
                    for_ns >= conf_->panic_on_stall_time * base::kNsPerSec;
  if (!count && !time) return;
  base::RawLog(base::LogLevel::kError, "aborting: %s", count ? "panic_on_stall" : "panic_on_stall_time");
  base::Sys(SYS_tgkill, base::Pid(), base::Tid(), SIGABRT);
}

void WorkerPool::ResetWatchAfterFork() {
  tick_armed_ = stall_armed_ = noted_ = false;
  watch_.tick.soon.timer.prev = watch_.stall.soon.timer.prev = nullptr;
  watch_.drift = watch_.drift_ticks = 0;
  g_stalls.store(0, std::memory_order_relaxed);  // the parent's
}

}  // namespace cmwq::pool
