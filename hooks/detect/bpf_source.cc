#include "hooks/detect/bpf_source.h"

#include <poll.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include <new>

#include "hooks/detect/block_sites.h"
#include "hooks/detect/spawn.h"
#include "runtime/base/conf.h"
#include "runtime/base/raw_log.h"
#include "runtime/base/sys.h"
#include "runtime/platform/cpu_set.h"
#include "runtime/platform/env.h"
#include "runtime/pool/switch_audit.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

namespace cmwq::detect {
namespace {

// Gives the calling thread a descriptor table of its own with the standard three and `fds` in it,
// which it sorts. False: refused, nothing was closed.
bool KeepOnly(int* fds, int n) {
  if (base::Sys(SYS_unshare, CLONE_FILES) < 0) return false;
  for (int i = 1; i < n; ++i) {
    for (int j = i; j > 0 && fds[j] < fds[j - 1]; --j) {
      const int t = fds[j];
      fds[j] = fds[j - 1];
      fds[j - 1] = t;
    }
  }
  unsigned from = 3;
  for (int i = 0; i < n; ++i) {
    const auto keep = static_cast<unsigned>(fds[i]);
    if (keep > from) base::Sys(SYS_close_range, from, keep - 1, 0);
    if (keep >= from) from = keep + 1;
  }
  base::Sys(SYS_close_range, from, ~0u, 0);
  return true;
}

// The reader's side of a BPF ring buffer: a page with the consumer's position, one with the
// producer's.
struct Doorbell {
  unsigned long* consumer = nullptr;
  const unsigned long* producer = nullptr;

  bool Map(int fd) {
    const size_t page = getauxval(AT_PAGESZ);
    const long c = base::Sys(SYS_mmap, 0, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    const long p = base::Sys(SYS_mmap, 0, page, PROT_READ, MAP_SHARED, fd, page);
    if (c <= 0 || p <= 0) return false;
    consumer = reinterpret_cast<unsigned long*>(c);
    producer = reinterpret_cast<const unsigned long*>(p);
    return true;
  }
  // What rang does not matter, only that it did.
  void Silence() {
    __atomic_store_n(consumer, __atomic_load_n(producer, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
  }
};

// One CPU's source and its thread.
struct Seat {
  enum State : int32_t { kWanted, kRunning, kFailed };
  BpfSource source;                     // AT: see there
  int cpu = -1;                         // I
  std::atomic<int32_t> state{kWanted};  // AT(StartSeats, AttachBpfSource): futex
};

constinit std::atomic<Seat*> g_seats[CMWQ_BPF_MAX_CPUS] = {};  // AT(SeatFor, StartSeats)

// The thread that holds the descriptors. Threads that it starts share its table.
struct Holder {
  enum State : int32_t { kStarting, kHolds, kRefused };
  BpfHandles handles;                     // I: once kHolds; numbers of its own table
  std::atomic<int32_t> state{kStarting};  // AT(HolderMain, StartBpfHolder): futex
  std::atomic<uint32_t> requests{0};      // AT(HolderMain, AttachBpfSource): futex
};
constinit Holder g_holder;

void* SeatMain(void* arg) {
  Seat* const seat = static_cast<Seat*>(arg);
  seat->source.Run(g_holder.handles.doorbell[seat->cpu]);
  return nullptr;
}

// Context: the holder.
void StartSeats() {
  for (auto& slot : g_seats) {
    Seat* const seat = slot.load(std::memory_order_acquire);  // pairs with SeatFor
    if (seat == nullptr || seat->state.load(std::memory_order_relaxed) != Seat::kWanted) continue;
    const bool ok = seat->cpu < g_holder.handles.nr_doorbells &&
                    SpawnThread(&SeatMain, seat, 64 * 1024) == 0;
    seat->state.store(ok ? Seat::kRunning : Seat::kFailed, std::memory_order_release);
    base::FutexWake(&seat->state, INT32_MAX);
  }
}

void* HolderMain(void*) {
  platform::NameSelf("wq/bpf");
  BpfHandles& h = g_holder.handles;
  // The maps are mapped; only the link and the doorbells are needed further.
  int keep[1 + CMWQ_BPF_MAX_CPUS] = {h.link};
  for (int i = 0; i < h.nr_doorbells; ++i) keep[1 + i] = h.doorbell[i];
  const bool ok = KeepOnly(keep, 1 + h.nr_doorbells);
  g_holder.state.store(ok ? Holder::kHolds : Holder::kRefused, std::memory_order_release);
  base::FutexWake(&g_holder.state, 1);
  while (ok) {
    const uint32_t seen = g_holder.requests.load(std::memory_order_acquire);
    StartSeats();
    base::FutexWait(&g_holder.requests, seen);
  }
  return nullptr;
}

Seat* SeatFor(int cpu, const BpfMemory& memory) {
  if (Seat* const old = g_seats[cpu].load(std::memory_order_acquire)) return old;
  const long p = base::Sys(SYS_mmap, 0, sizeof(Seat), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p < 0) return nullptr;
  Seat* const made = new (reinterpret_cast<void*>(p)) Seat;
  made->cpu = cpu;
  made->source.SetUp(cpu, memory);
  Seat* expected = nullptr;
  // Release: pairs with the load in StartSeats.
  if (g_seats[cpu].compare_exchange_strong(expected, made, std::memory_order_acq_rel)) return made;
  base::Sys(SYS_munmap, p, sizeof(Seat));
  return expected;
}

}  // namespace

void BpfSource::SetUp(int cpu, const BpfMemory& memory) {
  cpu_ = cpu;
  memory_ = memory;
}

void BpfSource::Run(int doorbell_fd) {
  char name[16];
  base::RawFormat(name, sizeof(name), "wq/B%d", cpu_);
  platform::NameSelf(name);
  platform::CpuSet::Of(cpu_).StoreAffinity(0);  // where it is refused a wake-up crosses CPUs
  Doorbell doorbell;
  if (!doorbell.Map(doorbell_fd)) {
    // Rounds of tick_ms with a look at /proc are left: ppoll ignores a negative descriptor.
    base::RawLog(base::LogLevel::kWarn, "CPU %d: BPF doorbell cannot be mapped; unannounced blocks "
                 "are found by a %ld ms tick", cpu_, static_cast<long>(base::g_conf.tick_ms));
    doorbell_fd = -1;
  }
  TaskStateReader reader;
  struct pollfd bell = {doorbell_fd, POLLIN, 0};
  for (;;) {
    long rung = 1;
    if (Wanted()) {
      struct timespec left = base::ToTimespec(base::g_conf.tick_ms * base::kNsPerMs);
      rung = base::Sys(SYS_ppoll, &bell, 1, &left, nullptr, 0);
      if (rung > 0) doorbell.Silence();
    } else {
      Sleep();
    }
    Look(rung == 0 ? &reader : nullptr, true);
  }
}

bool BpfSource::Wanted() const {
  for (const auto& slot : watched_) {
    const pool::Watched* const w = slot.load(std::memory_order_acquire);  // pairs with Watch
    if (w != nullptr && w->WantsWatch()) return true;
  }
  return false;
}

bool BpfSource::Asleep(const pool::Suspect& suspect, TaskStateReader* reader) const {
  const cmwq_bpf_slot* const slot = FindSlot(memory_, suspect.tid);
  if (slot != nullptr && __atomic_load_n(&slot->blocked, __ATOMIC_ACQUIRE) != 0 &&
      __atomic_load_n(&slot->phase, __ATOMIC_RELAXED) ==
          static_cast<unsigned>(pool::Phase::kItem)) {
    return true;
  }
  return reader != nullptr && reader->Read(suspect.tid) == TaskState::kAsleep;
}

// A sleeper that moved on meanwhile makes Presume fail, and nothing is done. Presume wakes a worker
// if nobody is left running; a stale hint may wake the wrong one, and the next look does it again.
void BpfSource::Look(TaskStateReader* reader, bool self) {
  for (auto& slot : watched_) {
    pool::Watched* const w = slot.load(std::memory_order_acquire);  // pairs with Watch
    if (w == nullptr || !w->WantsWatch()) continue;
    pool::Suspect suspects[kMaxSuspects];
    const int n = w->ListSuspects(suspects, kMaxSuspects);
    // Nobody counts: whoever was woken is on its way, or met a stale hint. Not in a queuer's place,
    // who has just woken somebody.
    if (n == 0 && self) w->Nudge();
    for (int i = 0; i < n; ++i) {
      if (!Asleep(suspects[i], reader)) continue;
      if (self) NoteBlockSite(suspects[i].tid);
      if (w->Presume(suspects[i])) {
        found_.fetch_add(1, std::memory_order_relaxed);
      }
    }
  }
}

void BpfSource::SetArmed(unsigned armed) {
  __atomic_store_n(&memory_.controls[cpu_].armed, armed, __ATOMIC_SEQ_CST);
}

void BpfSource::Sleep() {
  // First: whoever finds kDormant below may set it again.
  SetArmed(0);
  // seq_cst: pairs with the load in Arm. Either the queuer sees kDormant and wakes us, or we see
  // what it queued.
  state_.store(kDormant, std::memory_order_seq_cst);
  if (Wanted()) {
    int32_t expected = kDormant;
    if (state_.compare_exchange_strong(expected, kWatching, std::memory_order_relaxed)) {
      SetArmed(1);
    }
    return;  // to look
  }
  while (state_.load(std::memory_order_relaxed) == kDormant) base::FutexWait(&state_, kDormant);
}

// Context: see Arm: under kPool perhaps. Whoever slept before the bell was armed did not ring it.
void BpfSource::WakeUp() {
  int32_t expected = kDormant;
  if (!state_.compare_exchange_strong(expected, kWatching, std::memory_order_relaxed)) return;
  SetArmed(1);
  Look(nullptr, false);
  base::FutexWake(&state_, 1);
}

bool BpfSource::Watch(pool::Watched* watched) {
  for (auto& slot : watched_) {
    pool::Watched* expected = nullptr;
    // Release pairs with the loads in Look and Wanted.
    if (slot.compare_exchange_strong(expected, watched, std::memory_order_acq_rel)) return true;
    if (expected == watched) return true;
  }
  return false;
}

bool StartBpfHolder(const BpfHandles& handles) {
  g_holder.handles = handles;
  g_holder.state.store(Holder::kStarting, std::memory_order_relaxed);
  if (SpawnThread(&HolderMain, nullptr, 64 * 1024) != 0) return false;
  int32_t state;
  // Acquire: pairs with the store in HolderMain. The caller closes its copies afterwards.
  while ((state = g_holder.state.load(std::memory_order_acquire)) == Holder::kStarting) {
    base::FutexWait(&g_holder.state, Holder::kStarting);
  }
  return state == Holder::kHolds;
}

pool::BlockingSource* AttachBpfSource(int cpu, pool::Watched* watched) {
  if (base::g_conf.switches != base::kSwitchesExact || cpu < 0 || cpu >= CMWQ_BPF_MAX_CPUS) {
    return nullptr;
  }
  const BpfMemory* const memory = ConnectBpf();
  Seat* const seat = memory != nullptr ? SeatFor(cpu, *memory) : nullptr;
  if (seat == nullptr) return nullptr;
  int32_t state;
  while ((state = seat->state.load(std::memory_order_acquire)) == Seat::kWanted) {
    g_holder.requests.fetch_add(1, std::memory_order_release);  // pairs with the load in HolderMain
    base::FutexWake(&g_holder.requests, 1);
    base::FutexWait(&seat->state, Seat::kWanted);
  }
  return state == Seat::kRunning && seat->source.Watch(watched) ? &seat->source : nullptr;
}

void ForEachBpfSource(void (*visit)(int cpu, const pool::BlockingSource& source, void* arg),
                      void* arg) {
  for (auto& slot : g_seats) {
    const Seat* const seat = slot.load(std::memory_order_acquire);  // pairs with StartSeat
    if (seat != nullptr && seat->state.load(std::memory_order_relaxed) == Seat::kRunning) {
      visit(seat->cpu, seat->source, arg);
    }
  }
}

void ForgetBpfSources() {
  for (auto& slot : g_seats) slot.store(nullptr, std::memory_order_relaxed);
}

}  // namespace cmwq::detect
