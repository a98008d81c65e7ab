// The life of the canary thread: where it may run, when it looks, when it sleeps.

#include "hooks/detect/canary.h"

#include <cerrno>

#include "hooks/detect/block_sites.h"
#include "hooks/detect/spawn.h"
#include "runtime/base/conf.h"
#include "runtime/base/raw_log.h"
#include "runtime/base/sys.h"
#include "runtime/platform/env.h"
#include "runtime/platform/facility.h"
#include "runtime/sync/sync.h"

namespace cmwq::detect {
namespace {

constexpr unsigned long kStackBytes = 64 * 1024;

// Each once per process: every CPU's detector meets the same refusal.
constinit std::atomic<bool> g_said_tick{false};   // AT(SayTick)
constinit std::atomic<bool> g_said_clock{false};  // AT(SayClock)

// Whether threads can be looked at in /proc. Asked by whoever starts the first canary, and not again by
// the children of a fork. A canary that never looks must leave no trace there: what the kernel's cache
// knows of a process under /proc is cleared away when its threads end, by canaries at idle priority, for as
// long as that takes on a busy machine; and whoever reaps the process spins in the kernel until that is done
// (shrink_dcache_parent). Three programs that fork took 38 s beside each other instead of one.
enum : int { kUnasked, kProc, kNoProc };
constinit std::atomic<int> g_proc{kUnasked};  // AT(AskProc, Settle): relaxed, says nothing of anything else

// Not when descriptors are all in use: a table of our own has room.
void AskProc() {
  if (g_proc.load(std::memory_order_relaxed) != kUnasked) return;
  const int fd = platform::OpenTaskFile(base::Tid(), "stat");
  if (fd >= 0) base::SysClose(fd);
  g_proc.store(fd >= 0 || fd == -EMFILE ? kProc : kNoProc, std::memory_order_relaxed);
}

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

int Canary::Start() {
  if (base::g_conf.canary == 2) {
    mode_.store(kRefused, std::memory_order_relaxed);
    return 0;
  }
  int32_t none = kThreadless;
  // Acquire pairs with the release below: one starter at a time.
  if (!mode_.compare_exchange_strong(none, kHome, std::memory_order_acq_rel)) return 0;
  AskProc();
  const int err = SpawnThread(&Main, this, kStackBytes);
  if (err == 0) return 0;
  const uint64_t pause = static_cast<uint64_t>(base::g_conf.create_cooldown_ms) * base::kNsPerMs;
  next_try_ns_.store(base::MonotonicNs() + pause, std::memory_order_relaxed);
  mode_.store(kThreadless, std::memory_order_release);
  return err;
}

void* Canary::Main(void* arg) {
  Canary* const self = static_cast<Canary*>(arg);
  if (self->Settle()) self->Loop();
  return nullptr;
}

// Takes the thread's place in the system. False: there is none for it.
bool Canary::Settle() {
  NameSelf("");
  const int place_err = platform::CpuSet::Of(cpu_).StoreAffinity(0);
  const int class_err = platform::EnterIdleClass(nullptr);
  if (class_err != 0 || place_err != 0) {
    SayTick(place_err != 0 ? "affinity" : "SCHED_IDLE", place_err != 0 ? place_err : class_err);
  }
  if (class_err != 0) {
    mode_.store(kRefused, std::memory_order_relaxed);
    return false;
  }
  if (g_proc.load(std::memory_order_relaxed) == kNoProc) {
    by_clock_.store(true, std::memory_order_relaxed);
    SayClock();
  }
  reader_.set_keep(platform::UnshareDescriptors() == 0);
  tid_.store(base::Tid(),
             std::memory_order_release);  // pairs with the loads in ReturnHome and Rebind
  if (place_err != 0) StayAway();
  return true;
}

void Canary::Loop() {
  int in_vain = 0;
  for (;;) {
    if (platform::CurrentCpu() != cpu_ && !AtHome()) StayAway();
    if (!Wanted() && !Linger()) {
      Sleep();
      in_vain = nudges_ = 0;
      continue;
    }
    // Whoever was woken has preempted us by now. Not so if the hint was stale again and again.
    if (LookAtAll() && ++in_vain < kMaxInVain) continue;
    in_vain = 0;
    // Nobody counts as running, and nobody that we woke changed that: no reason to keep an idle CPU
    // busy with asking.
    if (nudges_ > kMaxNudges) {
      Nap();
    } else {
      base::SchedYield();
    }
  }
}

// Found on another CPU: the process's mask or its cpuset was changed. The kernel moves us at once,
// and does not move us back; a mask that leaves our CPU out is respected.
bool Canary::AtHome() {
  platform::CpuSet mask;
  return mask.LoadAffinity(0) == 0 && mask.Has(cpu_) &&
         platform::CpuSet::Of(cpu_).StoreAffinity(0) == 0;
}

// The CPU that would tell us by being idle is not ours. On another one we would only burn what is
// idle there, so the tick looks until it has found that the CPU is back.
void Canary::StayAway() {
  NameSelf("-away");
  mode_.store(kAway, std::memory_order_release);  // pairs with the exchange in GoHome
  while (mode_.load(std::memory_order_acquire) == kAway) base::FutexWait(&mode_, kAway);
  NameSelf("");
}

// `cmwq doctor --pid` tells by the name what the thread does.
void Canary::NameSelf(const char* suffix) const {
  char name[16];
  base::RawFormat(name, sizeof(name), "wq/C%d%s", cpu_, suffix);
  platform::NameSelf(name);
}

// Context: any thread. True: it is at home again.
bool Canary::GoHome(int tid) {
  if (platform::CpuSet::Of(cpu_).StoreAffinity(tid) != 0) return false;
  int32_t away = kAway;
  if (mode_.compare_exchange_strong(away, kHome, std::memory_order_acq_rel)) {
    base::FutexWake(&mode_, 1);
  }
  return true;
}

bool Canary::ReturnHome() {
  const int tid = tid_.load(std::memory_order_acquire);
  platform::CpuSet mask;
  return tid != 0 && mask.LoadAffinity(tid) == 0 && mask.Has(cpu_) && GoHome(tid);
}

void Canary::Rebind(const platform::CpuSet& allowed) {
  const int tid = tid_.load(std::memory_order_acquire);
  if (tid == 0) return;
  if (allowed.Has(cpu_)) {
    GoHome(tid);
  } else {
    allowed.StoreAffinity(tid);  // off its CPU: it finds so itself when it runs next
  }
}

// Work often comes back at once, and being woken with fresh lag would let us preempt a worker.
// Spinning, not yielding: at idle priority one yield costs our place for seconds of anybody's CPU
// time, and a process does not end before its last thread has had the CPU to die.
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
    const pool::Watched* const w = slot.load(std::memory_order_acquire);  // pairs with Watch
    if (w != nullptr && w->WantsWatch()) return true;
  }
  return false;
}

bool Canary::LookAtAll() {
  bool acted = false;
  for (auto& slot : watched_) {
    pool::Watched* const w = slot.load(std::memory_order_acquire);  // pairs with Watch
    if (w != nullptr && w->WantsWatch() && LookOnce(w)) acted = true;
  }
  return acted;
}

// One look at one set. True: somebody was woken.
bool Canary::LookOnce(pool::Watched* watched) {
  int listed;
  const int found = Sample(watched, &reader_, &listed);
  if (listed == 0) {
    // Nobody counts as running: somebody was woken and is on its way, or a wake-up met a stale
    // hint.
    watched->Nudge();
    if (nudges_ <= kMaxNudges) ++nudges_;
    return true;
  }
  nudges_ = 0;
  found_.fetch_add(static_cast<uint64_t>(found), std::memory_order_relaxed);
  if (found > 0) worth_.store(kMaxLooksInVain, std::memory_order_relaxed);
  if (reader_.by_clock()) by_clock_.store(true, std::memory_order_relaxed);
  return found > 0;
}

// Asks for the state of every counted worker and takes the sleepers out of nr_running. A sleeper
// that moved on meanwhile makes Presume fail, and nothing is done. Returns how many were found;
// *listed: how many counted.
int Canary::Sample(pool::Watched* watched, TaskStateReader* reader, int* listed) {
  pool::Suspect suspects[kMaxSuspects];
  int found = 0;
  *listed = 0;
  for (;;) {
    const int n = watched->ListSuspects(suspects, kMaxSuspects);
    const int before = found;
    *listed += n;
    for (int i = 0; i < n; ++i) {
      if (reader->Read(suspects[i].tid) != TaskState::kAsleep) {
        alarms_.fetch_add(1, std::memory_order_relaxed);
        continue;
      }
      NoteBlockSite(suspects[i].tid);  // before: the next worker takes the CPU from us
      if (watched->Presume(suspects[i])) ++found;
    }
    // A full list may have left some out. Of those who run, the last look sees the same ones again.
    if (n < kMaxSuspects || found == before) return found;
  }
}

// Context: the event thread, or the gate's tick: one thread only.
void Canary::Tick(pool::Watched* watched) {
  switch (mode_.load(std::memory_order_acquire)) {
    case kHome:
      return;
    case kThreadless:
      if (base::MonotonicNs() >= next_try_ns_.load(std::memory_order_relaxed) && Start() == 0)
        return;
      break;
    case kAway:
      if (ReturnHome()) return;
      break;
    default:
      break;
  }
  if (!watched->WantsWatch()) return;
  int listed;
  const int found = Sample(watched, &tick_reader_, &listed);
  ticked_.fetch_add(static_cast<uint64_t>(found), std::memory_order_relaxed);
  if (found > 0) worth_.store(kMaxLooksInVain, std::memory_order_relaxed);
  if (!tick_reader_.by_clock() || by_clock_.exchange(true, std::memory_order_relaxed)) return;
  SayClock();
}

// One that runs is reason enough for the caller to park: the others are the canary's then.
bool Canary::LookForWorker(pool::Watched* watched, int tid) {
  // Acquire pairs with the releases below and in WorkerEnds: what the last one did to peers_.
  if (peers_taken_.exchange(true, std::memory_order_acquire)) return false;
  pool::Suspect suspects[kMaxPeers];
  const int n = watched->ListSuspects(suspects, kMaxPeers);
  int found = 0;
  for (int i = 0; i < n; ++i) {
    if (suspects[i].tid == tid) continue;
    if (peers_.Read(suspects[i].tid) != TaskState::kAsleep) break;
    NoteBlockSite(suspects[i].tid);
    if (watched->Presume(suspects[i])) ++found;
  }
  peers_taken_.store(false, std::memory_order_release);
  if (found > 0) {
    // For the account of whoever would have found them.
    (Attends() ? found_ : ticked_)
        .fetch_add(static_cast<uint64_t>(found), std::memory_order_relaxed);
    worth_.store(kMaxLooksInVain, std::memory_order_relaxed);
  } else {
    worth_.fetch_sub(1, std::memory_order_relaxed);
  }
  return found > 0;
}

// If somebody looks at this moment, the descriptor stays until its place is needed.
void Canary::WorkerEnds(int tid) {
  if (peers_taken_.exchange(true, std::memory_order_acquire)) return;  // pairs: LookForWorker
  peers_.Drop(tid);
  peers_taken_.store(false, std::memory_order_release);  // pairs: LookForWorker
}

void Canary::Nap() {
  const struct timespec ts = base::ToTimespec(base::g_conf.tick_ms * base::kNsPerMs);
  base::Sys(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &ts, nullptr);
}

void Canary::Sleep() {
  // seq_cst: pairs with the load in Arm. Either the queuer sees kDormant and wakes us, or we see
  // what it queued.
  state_.store(kDormant, std::memory_order_seq_cst);
  if (!Wanted()) {
    while (state_.load(std::memory_order_relaxed) == kDormant) {
      base::FutexWait(&state_, kDormant);
    }
  }
  state_.store(kWatching, std::memory_order_relaxed);
}

// Without a thread this is one futex wake too many, once: nobody goes dormant again.
void Canary::WakeUp() {
  int32_t expected = kDormant;
  if (state_.compare_exchange_strong(expected, kWatching, std::memory_order_relaxed)) {
    base::FutexWake(&state_, 1);
  }
}

bool Canary::Watch(pool::Watched* watched) {
  for (auto& slot : watched_) {
    pool::Watched* expected = nullptr;
    // Release pairs with the loads in Wanted and LookAtAll.
    if (slot.compare_exchange_strong(expected, watched, std::memory_order_acq_rel)) return true;
    if (expected == watched) return true;  // asked again
  }
  return false;
}

void Canary::Reset() {
  mode_.store(kThreadless, std::memory_order_relaxed);
  tid_.store(0, std::memory_order_relaxed);
  next_try_ns_.store(0, std::memory_order_relaxed);
  state_.store(kDormant, std::memory_order_relaxed);
  for (auto& slot : watched_) slot.store(nullptr, std::memory_order_relaxed);
  found_.store(0, std::memory_order_relaxed);
  ticked_.store(0, std::memory_order_relaxed);
  alarms_.store(0, std::memory_order_relaxed);
  by_clock_.store(false, std::memory_order_relaxed);
  reader_.Forget();  // the parent's descriptors were in the canary's own table
  tick_reader_.Forget();
  worth_.store(0, std::memory_order_relaxed);
  peers_.DropAll();  // these the child has inherited
  peers_taken_.store(false, std::memory_order_relaxed);
  nudges_ = 0;
}

}  // namespace cmwq::detect
