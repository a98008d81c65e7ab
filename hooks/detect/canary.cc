#include "hooks/detect/canary.h"

#include <sched.h>
#include <sys/prctl.h>

#include "hooks/detect/block_sites.h"
#include "runtime/base/conf.h"
#include "runtime/base/raw_log.h"
#include "runtime/base/sys.h"
#include "runtime/platform/cpu_set.h"
#include "runtime/platform/env.h"
#include "runtime/sync/mutex.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

namespace cmwq::detect {
namespace {

// sched_setattr(2); libc has no wrapper for it.
struct SchedAttr {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

// SCHED_IDLE with the shortest slice that the scheduler takes (0.1 ms). A yield moves a thread's
// deadline on by its slice divided by its weight, which is 3/1024 here: with the default slice a
// canary that was picked beside a running worker would not be picked again for a second, nor could it
// die before that.
bool BecomeIdleClass() {
  SchedAttr attr = {};
  attr.size = sizeof(attr);
  attr.policy = SCHED_IDLE;
  attr.runtime = 100'000;
  if (base::Sys(SYS_sched_setattr, 0, &attr, 0) == 0) return true;
  struct sched_param param = {};
  return base::Sys(SYS_sched_setscheduler, 0, SCHED_IDLE, &param) == 0;
}

}  // namespace

void Canary::Run(int cpu) {
  cpu_ = cpu;
  char name[16];
  base::RawFormat(name, sizeof(name), "wq/C%d", cpu);
  platform::NameSelf(name);
  // A table of our own, empty but for the standard three: nothing of the program's stays open through
  // us, and nothing of ours is closed or counted with the program's.
  base::Sys(SYS_close_range, 3, ~0u, CLOSE_RANGE_UNSHARE);
  const bool bound = platform::CpuSet::Of(cpu).StoreAffinity(0) == 0;
  const bool idle = BecomeIdleClass();
  tick_mode_ = !bound || !idle;
  if (tick_mode_) {
    base::RawLog(base::LogLevel::kInfo,
                 "CPU %d: %s refused; unannounced blocks are found by a %ld ms tick", cpu,
                 bound ? "SCHED_IDLE" : "affinity", static_cast<long>(base::g_conf.tick_ms));
    base::Sys(SYS_prctl, PR_SET_TIMERSLACK, 1);
  }
  int in_vain = 0;
  for (;;) {
    if (!Wanted() && (tick_mode_ || !Linger())) {
      Sleep();
      in_vain = nudges_ = 0;
      continue;
    }
    bool acted = false;
    for (auto& slot : watched_) {
      pool::Watched* const w = slot.load(std::memory_order_acquire);  // pairs with Watch
      if (w != nullptr && w->WantsWatch() && LookOnce(w)) acted = true;
    }
    // Whoever was woken has preempted us by now. Not so if the hint was stale again and again.
    if (acted && !tick_mode_ && ++in_vain < kMaxInVain) continue;
    in_vain = 0;
    // Nobody counts as running, and nobody that we woke changed that: no reason to keep an idle CPU
    // busy with asking.
    if (nudges_ > kMaxNudges) {
      Nap();
    } else {
      Pause();
    }
  }
}

// Work often comes back at once, and being woken with fresh lag would let us preempt a worker. Spinning,
// not yielding: at idle priority one yield costs our place for seconds of anybody's CPU time, and a
// process does not end before its last thread has had the CPU to die.
bool Canary::Linger() const {
  const uint64_t until = base::MonotonicNs() + kLingerNs;
  while (base::MonotonicNs() < until) {
    if (Wanted()) return true;
    sync::CpuRelax();
  }
  return false;
}

bool Canary::Wanted() const {
  for (const auto& slot : watched_) {
    const pool::Watched* const w = slot.load(std::memory_order_acquire);
    if (w != nullptr && w->WantsWatch()) return true;
  }
  return false;
}

// One look at one set. A sleeper that moved on meanwhile makes Presume fail, and nothing is done.
// True: somebody was woken.
bool Canary::LookOnce(pool::Watched* watched) {
  pool::Suspect suspects[kMaxSuspects];
  const int n = watched->ListSuspects(suspects, kMaxSuspects);
  if (n == 0) {
    // Nobody counts as running: somebody was woken and is on its way, or a wake-up met a stale hint.
    watched->Nudge();
    if (nudges_ <= kMaxNudges) ++nudges_;
    return true;
  }
  nudges_ = 0;
  bool acted = false;
  for (int i = 0; i < n; ++i) {
    if (reader_.Read(suspects[i].tid) != TaskState::kAsleep) {
      alarms_.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    NoteBlockSite(suspects[i].tid);  // before: the next worker takes the CPU from us
    if (watched->Presume(suspects[i])) {
      found_.fetch_add(1, std::memory_order_relaxed);
      acted = true;
    }
  }
  return acted;
}

void Canary::Pause() {
  if (!tick_mode_) {
    base::SchedYield();
  } else {
    Nap();
  }
}

void Canary::Nap() {
  const struct timespec ts = base::ToTimespec(base::g_conf.tick_ms * base::kNsPerMs);
  base::Sys(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &ts, nullptr);
}

void Canary::Sleep() {
  // seq_cst: pairs with the load in Arm. Either the queuer sees kDormant and wakes us, or we see what
  // it queued.
  state_.store(kDormant, std::memory_order_seq_cst);
  if (!Wanted()) {
    while (state_.load(std::memory_order_relaxed) == kDormant) {
      base::FutexWait(&state_, kDormant);
    }
  }
  state_.store(kWatching, std::memory_order_relaxed);
}

void Canary::WakeUp() {
  int32_t expected = kDormant;
  if (state_.compare_exchange_strong(expected, kWatching, std::memory_order_relaxed)) {
    base::FutexWake(&state_, 1);
  }
}

bool Canary::Watch(pool::Watched* watched) {
  for (auto& slot : watched_) {
    pool::Watched* expected = nullptr;
    // Release pairs with the loads in Run.
    if (slot.compare_exchange_strong(expected, watched, std::memory_order_acq_rel)) return true;
    if (expected == watched) return true;  // its thread could not be made the first time
  }
  return false;
}

void Canary::Reset() {
  state_.store(kDormant, std::memory_order_relaxed);
  for (auto& slot : watched_) slot.store(nullptr, std::memory_order_relaxed);
  found_.store(0, std::memory_order_relaxed);
  alarms_.store(0, std::memory_order_relaxed);
  reader_ = TaskStateReader();  // the parent's descriptors were in the canary's own table
}

}  // namespace cmwq::detect
