// Adoption, the descriptor table and fork: the gate's outer face. The policy is in
// cpu_gate.cc.

#include "hooks/gate/gate.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>

#include "hooks/detect/spawn.h"
#include "hooks/gate/cpus.h"
#include "hooks/gate/fd_table.h"
#include "hooks/gate/gates.h"
#include "hooks/gate/host.h"
#include "hooks/gate/tick.h"
#include "runtime/base/check.h"
#include "runtime/base/conf.h"
#include "runtime/base/sys.h"
#include "runtime/platform/stats_page.h"

namespace cmwq::gate {

thread_local constinit ThreadState t_state = {};
thread_local constinit LibraryWorker t_library = {};
constinit FdTable g_fds;

namespace {

constinit HostOps g_host = {};                         // I: after SetHost
constinit Gates g_storage = {};                        // I: after MakeGates; a child starts over
constinit std::atomic<Gates*> g_gates{nullptr};        // AT(MakeGates, CurrentGates): null or storage
constinit std::atomic<int32_t> g_making{0};            // AT(MakeGates, MakeGates): 1 while one makes them
constinit std::atomic<bool> g_refused{false};          // AT(MakeGates, IsBoundary): relaxed
constinit bool g_ready = false;                        // I: after Init
// Distinguishes registrations and waiters of this process from those of the parent before fork.
constinit uint32_t g_epoch = 1;                        // I: changes only in the single-threaded child

uint32_t HomeOf(const CpuGate* gate) {
  return (g_epoch << 12) | (static_cast<uint32_t>(gate->index()) + 1);
}

// Members are numbered over all gates: 12 bits of slot, 8 of gate, 12 of epoch.
uint32_t WaiterOf(const Member* m) {
  return (g_epoch << 20) | (static_cast<uint32_t>(m->gate->index()) << 12) |
         static_cast<uint32_t>(m->slot);
}

void NoteOwn(const CpuGate* gate, Origin origin) {
  for (int fd : {gate->epoll_fd(), gate->kick_fd()}) {
    if (FdEntry* const e = g_fds.At(fd)) e->origin.store(origin, std::memory_order_relaxed);
  }
}

CpuGate* BuildGate(int index, int cpu) {
  const long p = base::Sys(SYS_mmap, 0, sizeof(CpuGate), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int err = ENOMEM;
  CpuGate* const gate = p > 0 ? new (reinterpret_cast<void*>(p)) CpuGate : nullptr;
  if (gate != nullptr && gate->Init(index, cpu, &err)) return gate;
  base::RawLog(base::LogLevel::kWarn,
               "preload: no readiness set for CPU %d (errno %d): requests are not held", cpu, err);
  return nullptr;
}

void Append(Gates* gates, CpuGate* gate) {
  NoteOwn(gate, Origin::kOwn);
  const int n = gates->n.load(std::memory_order_relaxed);
  gates->gate[n] = gate;
  gates->n.store(n + 1, std::memory_order_release);  // pairs with those who count up to it
}

// Fills the gates: one for each CPU that the process or the calling thread may use. False: give up,
// with the reason logged.
bool BuildGates(Gates* made) {
  platform::CpuSet own, all;
  own.LoadAffinity(0);
  all.LoadAffinity(base::Pid());
  for (int cpu = own.Next(0); cpu >= 0; cpu = own.Next(cpu + 1)) all.Add(cpu);
  if (all.Count() == 0) all.Add(platform::CurrentCpu());
  for (int cpu = all.Next(0); cpu >= 0 && made->n < Gates::kMax; cpu = all.Next(cpu + 1)) {
    CpuGate* const gate = BuildGate(made->n, cpu);
    if (gate == nullptr) return false;
    Append(made, gate);
  }
  return made->n > 0;
}

// Without the tick a block that nobody announces could hold requests for ever.
bool StartTick() {
  if (g_host.create_thread == nullptr) return true;
  const int err = g_host.create_thread(&TickMain, nullptr, 64 * 1024);
  if (err == 0) return true;
  base::RawLog(base::LogLevel::kWarn,
               "preload: no thread for the tick (errno %d): requests are not held", err);
  return false;
}

void CloseGates(Gates* gates) {
  for (int i = 0; i < gates->n; ++i) {
    NoteOwn(gates->gate[i], Origin::kUnknown);
    gates->gate[i]->Close();
  }
  gates->n = 0;
}

// First adoption: makes the gates. Callers that come meanwhile are not held up, they go on unmanaged.
Gates* MakeGates() {
  int32_t idle = 0;
  if (!g_making.compare_exchange_strong(idle, 1, std::memory_order_acq_rel)) return nullptr;
  g_storage.n = 0;
  if (base::g_conf.stats != 0) {
    platform::g_stats_page.Create(platform::StatsPage::Edition::kPreload);
    platform::g_stats_page.Again();  // in a forked child
  }
  if (!BuildGates(&g_storage) || !StartTick()) {
    CloseGates(&g_storage);
    g_refused.store(true, std::memory_order_relaxed);
    return nullptr;
  }
  for (int i = 0; i < g_storage.n; ++i) g_storage.gate[i]->StartWatch();
  g_gates.store(&g_storage, std::memory_order_release);  // pairs with the load in CurrentGates
  StartCpuWatch();
  return &g_storage;
}

// The gate with the fewest members among the CPUs that the thread may use; null: it may use none. Where
// members are not bound to the CPUs of their gates, any will do.
CpuGate* Emptiest(Gates* gates, const platform::CpuSet& allowed) {
  CpuGate* best = nullptr;
  const bool limited = g_limited.load(std::memory_order_relaxed);
  for (int i = 0; i < gates->n; ++i) {
    CpuGate* const gate = gates->gate[i];
    if (!gate->used() || (!limited && !allowed.Has(gate->cpu()))) continue;
    if (best == nullptr || gate->population() < best->population()) best = gate;
  }
  return best;
}

// libc's: nonzero while the process has had one thread only. Unknown to releases before 2.32.
extern "C" char __libc_single_threaded __attribute__((weak));

// Child of fork that has made no thread: libc keeps the parent's word for it.
constinit std::atomic<bool> g_alone{false};  // AT(AfterForkInChild, NoteThread): relaxed

bool IsSingleThreaded() {
  if (g_alone.load(std::memory_order_relaxed)) return true;
  return &__libc_single_threaded != nullptr && __libc_single_threaded != 0;
}

}  // namespace

// What the thread may use as the program sees it.
platform::CpuSet OwnMask(const Member* m) {
  const platform::CpuSet allowed = AllowedCpus();
  if (m->follows) return allowed;
  const platform::CpuSet both = m->own_mask & allowed;
  return both.Empty() ? m->own_mask : both;
}

namespace {

// The CPU may have gone a moment ago: the next layout says so.
void Pin(Member* m) {
  if (base::g_conf.gate_pin == 0 || g_limited.load(std::memory_order_relaxed)) return;
  const int err = platform::CpuSet::Of(m->gate->cpu()).StoreAffinity(0);
  m->pinned = err == 0;
  if (err < 0 && err != -EINVAL) {
    CMWQ_WARN_ONCE("preload: cannot pin threads (errno %d); they stay where the kernel puts them",
                   -err);
  }
}

// Makes the calling thread, which may use `own`, a member. Null: it stays what it is.
Member* Join(Gates* gates, const platform::CpuSet& own, bool follows) {
  CpuGate* const gate = Emptiest(gates, own);
  if (gate == nullptr || gate->lost()) return nullptr;
  ++t_state.depth;  // what follows may call wrapped functions
  Member* const m = gate->Take();
  if (m != nullptr) {
    m->own_mask = own;
    m->follows = follows;
    m->layout = g_layout.load(std::memory_order_relaxed);
    Pin(m);
    if (g_host.arm_thread_exit != nullptr) g_host.arm_thread_exit();
    t_state.worker = m;
  }
  --t_state.depth;
  return m;
}

// A process of one thread has nothing to manage, and the servers that fork for each connection are spared
// our threads in every child.
Member* Adopt() {
  if (t_state.dead || t_state.own_affinity || IsSingleThreaded()) return nullptr;
  Gates* gates = CurrentGates();
  if (gates == nullptr) gates = MakeGates();
  if (gates == nullptr) return nullptr;
  platform::CpuSet own;
  if (own.LoadAffinity(0) < 0) return nullptr;
  return Join(gates, own, own == AllowedCpus());
}

}  // namespace

Member* Self() {
  void* const w = t_state.worker;
  return w != &t_library ? static_cast<Member*>(w) : nullptr;
}

namespace {

Member* MemberOf(uint32_t waiter) {
  Gates* const gates = CurrentGates();
  if (waiter == 0 || gates == nullptr || waiter >> 20 != (g_epoch & 0xfff)) return nullptr;
  const int index = static_cast<int>((waiter >> 12) & 0xff);
  return index < gates->n ? gates->gate[index]->At(static_cast<int>(waiter & 0xfff)) : nullptr;
}

}  // namespace

// The calling thread's membership ends. Its affinity is the caller's affair.
void Leave(Member* m) {
  t_state.worker = nullptr;
  m->gate->Release(m);
}

namespace {

// The layout has changed, or the member's CPU is not used any more. Null: it is no member any more.
[[gnu::noinline]] Member* Relocate(Member* m) {
  Gates* const gates = CurrentGates();
  const uint32_t layout = g_layout.load(std::memory_order_acquire);  // pairs with the add in SetCpus
  const platform::CpuSet own = OwnMask(m);
  CpuGate* const best = Emptiest(gates, own);
  const bool crowded = best != nullptr && m->gate->population() - best->population() > 1;
  if (m->gate->used() && !crowded) {
    m->layout = layout;
    if (m->pinned && g_limited.load(std::memory_order_relaxed)) {
      own.StoreAffinity(0);
      m->pinned = false;
    }
    Pin(m);
    return m;
  }
  const platform::CpuSet kept = m->own_mask;
  const bool follows = m->follows;
  if (m->pinned) own.StoreAffinity(0);
  Leave(m);
  return Join(gates, follows ? own : kept, follows);
}

Member* InItsPlace(Member* m) {
  const bool right = m->gate->used() && m->layout == g_layout.load(std::memory_order_relaxed);
  return __builtin_expect(right, 1) ? m : Relocate(m);
}

// On the stack of signal handlers, where addresses say nothing about who called whom.
bool OnHandlerStack() {
  stack_t stack = {};
  return base::Sys(SYS_sigaltstack, 0, &stack) < 0 || (stack.ss_flags & SS_ONSTACK) != 0;
}

// A handler left a wait by longjmp(): its frame is gone, and nothing marked its end. A call inside the
// handler differs from one after it by its place: deeper on the stack, or on the handler's own.
// `here` is the frame of the call.
[[gnu::noinline]] bool EndAbandonedWait(const void* here) {
  Member* const m = Self();
  if (m == nullptr || m->frame == nullptr || sync::t_locks_held != 0) return false;
  if (here <= m->frame || OnHandlerStack()) return false;
  m->frame = nullptr;
  m->gate->Abandon(m);
  t_state.depth = 0;
  return true;
}

}  // namespace

Gates* CurrentGates() { return g_gates.load(std::memory_order_acquire); }
void SetHost(const HostOps& ops) { g_host = ops; }
bool HasHostThreads() { return g_host.create_thread != nullptr; }
int CreateHostThread(void* (*fn)(void*), unsigned long stack) {
  return g_host.create_thread(fn, nullptr, stack);
}

bool AddGate(Gates* gates, int cpu) {
  CpuGate* const gate = BuildGate(gates->n, cpu);
  if (gate == nullptr) return false;
  gate->StartWatch();
  Append(gates, gate);
  return true;
}

bool Init(const char** why) {
  base::ParseConf(secure_getenv("CMWQ_CONF"), &base::g_conf);
  if (!g_fds.Init()) {
    *why = "no address space for the descriptor table";
    return false;
  }
  if (g_host.create_thread != nullptr) detect::SetSpawn(g_host.create_thread);
  g_ready = true;
  return true;
}

bool FdTable::Init() {
  const long p = base::Sys(SYS_mmap, 0, sizeof(FdEntry) * kMax, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p < 0) return false;
  entries_ = reinterpret_cast<FdEntry*>(p);
  return true;
}

bool IsBoundary(int fd) {
  if (!g_ready || t_state.held_locks != 0 || t_state.dead || t_state.worker == &t_library ||
      sync::t_locks_held != 0) {
    return false;
  }
  if (t_state.depth != 0) {
    const void* const here = __builtin_frame_address(0);
    EndAbandonedBracket(here);
    if (t_state.depth != 0 && !EndAbandonedWait(here)) return false;
  }
  const FdEntry* const e = g_fds.At(fd);
  return e != nullptr && e->origin.load(std::memory_order_relaxed) == Origin::kAccepted &&
         !g_refused.load(std::memory_order_relaxed);
}

namespace {

// The descriptor's waiter field for the length of one wait. Two threads that wait for one descriptor
// would steal each other's event: the second makes the plain call.
class Claim {
 public:
  Claim(FdEntry* e, const Member* m) : e_(e) {
    uint32_t seen = e->waiter.load(std::memory_order_relaxed);
    const bool stale = seen != 0 && seen >> 20 != (g_epoch & 0xfff);
    // One's own is left from a wait that was abandoned.
    if (seen != 0 && !stale && seen != WaiterOf(m)) return;
    // Release pairs with the acquire in NoteClosing.
    held_ = e->waiter.compare_exchange_strong(seen, WaiterOf(m), std::memory_order_acq_rel);
  }
  ~Claim() {
    if (held_) e_->waiter.store(0, std::memory_order_release);
  }
  bool held() const { return held_; }

 private:
  FdEntry* const e_;
  bool held_ = false;
};

uint64_t DeadlineOf(int64_t timeout_ns) {
  if (timeout_ns < 0) return base::kNever;
  const uint64_t now = base::MonotonicNs();
  const auto t = static_cast<uint64_t>(timeout_ns);
  return t < base::kNever - now ? now + t : base::kNever;
}

}  // namespace

namespace {

Wait WaitAt(Member* m, FdEntry* e, int fd, uint32_t events, uint64_t deadline_ns, bool cancellable) {
  Claim claim(e, m);
  if (!claim.held()) return Wait::kPlain;
  m->cancellable = cancellable;
  // A handler that runs while we wait makes its calls plainly. Not restored by unwinding: the thread
  // is cancelled then, and its depth keeps the rest of its life plain.
  ++t_state.depth;
  EnterPhase(m, pool::Phase::kEngine);
  const Wait result = m->gate->WaitFor(m, fd, events, deadline_ns, &e->home, HomeOf(m->gate));
  EnterPhase(m, pool::Phase::kItem);
  m->frame = nullptr;
  --t_state.depth;
  if (m->gate->lost()) g_refused.store(true, std::memory_order_relaxed);
  return result;
}

}  // namespace

Wait WaitInput(int fd, uint32_t events, int64_t timeout_ns, bool cancellable) {
  if (timeout_ns == 0) return Wait::kPlain;
  FdEntry* const e = g_fds.At(fd);
  const uint64_t deadline_ns = DeadlineOf(timeout_ns);
  for (;;) {
    Member* m = Self() != nullptr ? Self() : Adopt();
    if (m == nullptr || e == nullptr) return Wait::kPlain;
    if (m->placed.load(std::memory_order_relaxed)) {
      t_state.own_affinity = 1;
      Leave(m);
      return Wait::kPlain;
    }
    m = InItsPlace(m);
    if (m == nullptr) return Wait::kPlain;
    const Wait result = WaitAt(m, e, fd, events, deadline_ns, cancellable);
    if (result != Wait::kMoved) return result;
  }
}

void Admit() {
  Member* m = Self();
  if (m == nullptr || t_state.depth != 0 || t_state.held_locks != 0) return;
  m = InItsPlace(m);
  if (m == nullptr) return;
  ++t_state.depth;
  m->cancellable = false;
  EnterPhase(m, pool::Phase::kEngine);
  m->gate->Admit(m);
  EnterPhase(m, pool::Phase::kItem);
  m->frame = nullptr;
  --t_state.depth;
}

void EnterSlow(Hook hook) {
  if (t_state.worker == &t_library) {
    if (t_library.sleeping != nullptr) t_library.sleeping();
    return;
  }
  Member* const m = Self();
  if (m == nullptr) return;  // a handler took it out of the gate just now
  std::atomic<uint64_t>& count = m->blocks[static_cast<int>(hook)];
  count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  // A handler interrupted one of our own sections: the lock is taken, and the thread runs anyway.
  m->in_block = sync::t_locks_held == 0;
  if (!m->in_block) return;
  m->NoteBlock();
  EnterPhase(m, pool::Phase::kAnnounced);
  m->gate->Sleeping(m);
}

void LeaveSlow() {
  if (t_state.worker == &t_library) {
    if (t_library.running != nullptr) t_library.running();
    return;
  }
  Member* const m = Self();
  if (m == nullptr) return;  // it left the gate inside the bracket
  if (!m->in_block) return;
  m->NoteUnblock();
  m->gate->Running(m);
  EnterPhase(m, pool::Phase::kItem);
  m->in_block = false;
}

void LeaveByJump() {
  // A handler that interrupted one of our own sections: the state is not whole.
  if (t_state.bracket == nullptr || sync::t_locks_held != 0) return;
  t_state.bracket = nullptr;
  t_state.depth = 0;
  LeaveSlow();
}

void EndAbandonedBracket(const void* here) {
  // Whoever is called from inside the bracket is below it.
  if (t_state.bracket == nullptr || here < t_state.bracket || OnHandlerStack()) return;
  LeaveByJump();
}

namespace {

void Note(int fd, Origin origin) {
  FdEntry* const e = g_fds.At(fd);
  if (e == nullptr || e->origin.load(std::memory_order_relaxed) == Origin::kOwn) return;
  // Untouched pages stay untouched: most descriptors are never of interest.
  if (e->origin.load(std::memory_order_relaxed) != origin) {
    e->origin.store(origin, std::memory_order_relaxed);
  }
  if (e->home.load(std::memory_order_relaxed) != 0) e->home.store(0, std::memory_order_relaxed);
}

}  // namespace

void NoteAccepted(int fd) { Note(fd, Origin::kAccepted); }
void NoteConnected(int fd) { Note(fd, Origin::kConnected); }
void NoteFresh(int fd) { Note(fd, Origin::kUnknown); }

void NoteClosing(int fd) {
  FdEntry* const e = g_fds.At(fd);
  if (e == nullptr) return;
  // Acquire pairs with Claim. The waiter's registration ends with the descriptor: it would wait on.
  const uint32_t waiter = e->waiter.load(std::memory_order_acquire);
  if (waiter != 0) {
    Member* const m = MemberOf(waiter);
    if (m != nullptr && m != Self()) m->gate->Interrupt(m);
  }
  Note(fd, Origin::kUnknown);
}

bool IsOwnFd(int fd) {
  const FdEntry* const e = g_fds.At(fd);
  return e != nullptr && e->origin.load(std::memory_order_relaxed) == Origin::kOwn;
}

int NextOwnFd(int from) {
  Gates* const gates = CurrentGates();
  int next = -1;
  for (int i = 0; gates != nullptr && i < gates->n; ++i) {
    for (int fd : {gates->gate[i]->epoll_fd(), gates->gate[i]->kick_fd()}) {
      if (fd >= from && (next < 0 || fd < next)) next = fd;
    }
  }
  return next;
}

bool MoveOwnFd(int fd) {
  Gates* const gates = CurrentGates();
  for (int i = 0; gates != nullptr && i < gates->n; ++i) {
    const int moved = gates->gate[i]->MoveFd(fd);
    if (moved < 0) continue;
    NoteOwn(gates->gate[i], Origin::kOwn);
    g_fds.At(fd)->origin.store(Origin::kUnknown, std::memory_order_relaxed);
    return true;
  }
  return false;
}

void NoteThread() {
  if (g_alone.load(std::memory_order_relaxed)) g_alone.store(false, std::memory_order_relaxed);
}

void ThreadExit() {
  Member* const m = Self();
  if (m != nullptr) Leave(m);
}

void RemoveStats() { platform::g_stats_page.Unlink(); }

// The epoll sets are shared with the parent: the child must not touch them, only let go of them.
void AfterForkInChild() {
  platform::g_stats_page.ResetAfterFork();
  Member* const m = Self();
  if (IsPinned(m)) OwnMask(m).StoreAffinity(0);
  if (m != nullptr) m->audit = nullptr;  // the way out of a wait leads past it; its ring was not inherited
  // From the storage: another thread of the parent may have been making them.
  for (int i = 0; i < g_storage.n; ++i) g_storage.gate[i]->AfterForkInChild();
  CloseGates(&g_storage);
  if (t_state.worker != &t_library) t_state.worker = nullptr;
  t_state.depth = 0;
  t_state.bracket = nullptr;
  g_alone.store(true, std::memory_order_relaxed);
  sync::t_locks_held = 0;
  g_epoch = g_epoch % 0xfff + 1;
  g_gates.store(nullptr, std::memory_order_relaxed);
  g_making.store(0, std::memory_order_relaxed);
  g_tick_state.store(0, std::memory_order_relaxed);
  ResetCpuWatchAfterFork();
  pool::ForgetDetectors();
  pool::ForgetSwitchAudits();
}

void SetLibraryWorker(void (*sleeping)(), void (*running)()) {
  if (!g_ready) return;
  t_library.sleeping = sleeping;
  t_library.running = running;
  t_state.worker = &t_library;
}

}  // namespace cmwq::gate
