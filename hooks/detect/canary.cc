#include "hooks/detect/canary.h"

#include <sys/prctl.h>

#include "hooks/detect/block_sites.h"
#include "runtime/base/conf.h"
#include "runtime/base/raw_log.h"
#include "runtime/base/sys.h"
#include "runtime/platform/cpu_set.h"
#include "runtime/platform/env.h"
#include "runtime/platform/facility.h"
#include "runtime/sync/mutex.h"

namespace cmwq::detect {
namespace {

// Each once per process: every CPU's detector meets the same refusal.
constinit std::atomic<bool> g_said_tick{false};   // AT(SayTick)
constinit std::atomic<bool> g_said_clock{false};  // AT(SayClock)

void SayTick(const char* what, int err) {
  if (g_said_tick.exchange(true, std::memory_order_relaxed)) return;
  base::RawLog(base::LogLevel::kInfo,
               "%s refused (errno %d); unannounced blocks are found by a %ld ms tick", what, -err,
               static_cast<long>(base::g_conf.tick_ms));
}

void SayClock() {
  if (g_said_clock.exchange(true, std::memory_order_relaxed)) return;
  base::RawLog(base::LogLevel::kInfo,
               "cannot read /proc/self/task; who sleeps is told by CPU clocks, which takes longer");
}

}  // namespace

void Canary::Run(int cpu) {
  cpu_ = cpu;
  char name[16];
  base::RawFormat(name, sizeof(name), "wq/C%d", cpu);
  platform::NameSelf(name);
  // Nothing of the program's stays open through us, and nothing of ours is closed or counted with the
  // program's.
  platform::UnshareDescriptors();
  const int place_err = platform::CpuSet::Of(cpu).StoreAffinity(0);
  // Not at idle priority without its CPU: a tick that waits for its turn behind everybody is none.
  const int class_err = place_err == 0 ? platform::EnterIdleClass(nullptr) : 0;
  tick_mode_ = IsTick(ChooseRung(place_err == 0, class_err == 0, true));
  if (tick_mode_) {
    SayTick(place_err != 0 ? "affinity" : "SCHED_IDLE", place_err != 0 ? place_err : class_err);
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
  if (reader_.by_clock() && !by_clock_.load(std::memory_order_relaxed)) {
    by_clock_.store(true, std::memory_order_relaxed);
    SayClock();
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
  by_clock_.store(false, std::memory_order_relaxed);
  reader_ = TaskStateReader();  // the parent's descriptors were in the canary's own table
}

}  // namespace cmwq::detect
