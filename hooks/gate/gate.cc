// Adoption, the descriptor table, affinity and fork: the gate's outer face. The policy is in
// cpu_gate.cc.

#include "hooks/gate/gate.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>

#include "hooks/detect/spawn.h"
#include "hooks/gate/fd_table.h"
#include "hooks/gate/gates.h"
#include "hooks/gate/host.h"
#include "hooks/gate/tick.h"
#include "runtime/base/check.h"
#include "runtime/base/conf.h"
#include "runtime/base/sys.h"

namespace cmwq::gate {

thread_local constinit ThreadState t_state = {};
thread_local constinit LibraryWorker t_library = {};
constinit FdTable g_fds;

namespace {

constinit HostOps g_host = {};                         // I: after SetHost
constinit std::atomic<Gates*> g_gates{nullptr};        // AT(MakeGates, CurrentGates)
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

// Fills the gates. False: give up, with the reason logged.
bool BuildGates(Gates* made) {
  platform::CpuSet cpus;
  if (cpus.LoadAffinity(0) < 0 || cpus.Count() == 0) cpus.Add(platform::CurrentCpu());
  for (int cpu = cpus.Next(0); cpu >= 0 && made->n < Gates::kMax; cpu = cpus.Next(cpu + 1)) {
    const long p = base::Sys(SYS_mmap, 0, sizeof(CpuGate), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int err = ENOMEM;
    CpuGate* const gate = p > 0 ? new (reinterpret_cast<void*>(p)) CpuGate : nullptr;
    if (gate == nullptr || !gate->Init(made->n, cpu, &err)) {
      base::RawLog(base::LogLevel::kWarn,
                   "preload: no readiness set for CPU %d (errno %d): requests are not held", cpu, err);
      return false;
    }
    for (int fd : {gate->epoll_fd(), gate->kick_fd()}) {
      if (FdEntry* const e = g_fds.At(fd)) e->origin.store(Origin::kOwn, std::memory_order_relaxed);
    }
    made->gate[made->n++] = gate;
  }
  return made->n > 0;
}

// First adoption: makes the gates. Callers that come meanwhile are not held up, they go on unmanaged.
Gates* MakeGates() {
  int32_t idle = 0;
  if (!g_making.compare_exchange_strong(idle, 1, std::memory_order_acq_rel)) return nullptr;
  static constinit Gates storage = {};
  storage.n = 0;
  const bool made = BuildGates(&storage);
  if (made && g_host.create_thread != nullptr &&
      g_host.create_thread(&TickMain, nullptr, 64 * 1024) != 0) {
    base::RawLog(base::LogLevel::kWarn,
                 "preload: no thread for the tick: held requests rely on the canary alone");
  }
  if (!made) {
    g_refused.store(true, std::memory_order_relaxed);
    return nullptr;
  }
  g_gates.store(&storage, std::memory_order_release);  // pairs with the load in CurrentGates
  return &storage;
}

CpuGate* Emptiest(Gates* gates) {
  CpuGate* best = gates->gate[0];
  for (int i = 1; i < gates->n; ++i) {
    if (gates->gate[i]->population() < best->population()) best = gates->gate[i];
  }
  return best;
}

void Pin(Member* m) {
  if (base::g_conf.gate_pin == 0 || m->own_mask.LoadAffinity(0) < 0) return;
  const int err = platform::CpuSet::Of(m->gate->cpu()).StoreAffinity(0);
  m->pinned = err == 0;
  if (err < 0) {
    CMWQ_WARN_ONCE("preload: cannot pin threads (errno %d); they stay where the kernel puts them",
                   -err);
  }
}

// Makes the calling thread a member. Null: it stays what it is.
Member* Adopt() {
  Gates* gates = CurrentGates();
  if (gates == nullptr) gates = MakeGates();
  if (gates == nullptr || t_state.dead || t_state.own_affinity) return nullptr;
  ++t_state.depth;  // what follows may call wrapped functions
  Member* const m = Emptiest(gates)->Take();
  if (m != nullptr) {
    Pin(m);
    if (g_host.arm_thread_exit != nullptr) g_host.arm_thread_exit();
    t_state.worker = m;
  }
  --t_state.depth;
  return m;
}

Member* Self() {
  void* const w = t_state.worker;
  return w != &t_library ? static_cast<Member*>(w) : nullptr;
}

Member* MemberOf(uint32_t waiter) {
  Gates* const gates = CurrentGates();
  if (waiter == 0 || gates == nullptr || waiter >> 20 != (g_epoch & 0xfff)) return nullptr;
  const int index = static_cast<int>((waiter >> 12) & 0xff);
  if (index >= gates->n) return nullptr;
  Member* found = nullptr;
  gates->gate[index]->ForEachMember([&found, waiter](Member* m) {
    if (m->slot == static_cast<int>(waiter & 0xfff)) found = m;
  });
  return found;
}

}  // namespace

Gates* CurrentGates() { return g_gates.load(std::memory_order_acquire); }
void SetHost(const HostOps& ops) { g_host = ops; }

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
  if (!g_ready || t_state.depth != 0 || t_state.held_locks != 0 || t_state.dead ||
      t_state.worker == &t_library || sync::t_locks_held != 0) {
    return false;
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
    if (seen != 0 && !stale) return;
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

Wait WaitInput(int fd, uint32_t events, int64_t timeout_ns, bool cancellable) {
  if (timeout_ns == 0) return Wait::kPlain;
  FdEntry* const e = g_fds.At(fd);
  Member* const m = Self() != nullptr ? Self() : Adopt();
  if (m == nullptr || e == nullptr) return Wait::kPlain;
  Claim claim(e, m);
  if (!claim.held()) return Wait::kPlain;
  m->cancellable = cancellable;
  // A handler that runs while we wait makes its calls plainly. Not restored by unwinding: the thread
  // is cancelled then, and its depth keeps the rest of its life plain.
  ++t_state.depth;
  const Wait result =
      m->gate->WaitFor(m, fd, events, DeadlineOf(timeout_ns), &e->home, HomeOf(m->gate));
  --t_state.depth;
  return result;
}

void Admit() {
  Member* const m = Self();
  if (m == nullptr || t_state.depth != 0 || t_state.held_locks != 0) return;
  ++t_state.depth;
  m->cancellable = false;
  m->gate->Admit(m);
  --t_state.depth;
}

void EnterSlow(Hook hook) {
  if (t_state.worker == &t_library) {
    if (t_library.sleeping != nullptr) t_library.sleeping();
    return;
  }
  Member* const m = Self();
  std::atomic<uint64_t>& count = m->blocks[static_cast<int>(hook)];
  count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  // A handler interrupted one of our own sections: the lock is taken, and the thread runs anyway.
  m->in_block = sync::t_locks_held == 0;
  if (m->in_block) m->gate->Sleeping(m);
}

void LeaveSlow() {
  if (t_state.worker == &t_library) {
    if (t_library.running != nullptr) t_library.running();
    return;
  }
  Member* const m = Self();
  if (m->in_block) m->gate->Running(m);
  m->in_block = false;
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

bool VirtualAffinity(int tid, unsigned long* mask, unsigned long bytes) {
  Gates* const gates = CurrentGates();
  if (gates == nullptr) return false;
  const Member* found = nullptr;
  if (tid == 0 || tid == base::Tid()) {
    found = Self();
  } else {
    for (int i = 0; i < gates->n; ++i) {
      gates->gate[i]->ForEachMember([&found, tid](const Member* m) {
        if (m->tid.load(std::memory_order_relaxed) == tid) found = m;
      });
    }
  }
  if (found == nullptr || !found->pinned) return false;
  const unsigned long have = platform::CpuSet::kBytes;
  memcpy(mask, found->own_mask.words(), bytes < have ? bytes : have);
  if (bytes > have) memset(reinterpret_cast<char*>(mask) + have, 0, bytes - have);
  return true;
}

void NoteOwnPlacement(int tid) {
  // Another thread's membership ends when it next looks; its placement is already the program's.
  if (tid != 0 && tid != base::Tid()) return;
  Member* const m = Self();
  t_state.own_affinity = 1;
  if (m == nullptr) return;
  t_state.worker = nullptr;
  m->gate->Release(m);
}

UnpinForCreate::UnpinForCreate() : pinned_(Self() != nullptr && Self()->pinned) {
  if (pinned_) Self()->own_mask.StoreAffinity(0);
}

UnpinForCreate::~UnpinForCreate() {
  if (pinned_) platform::CpuSet::Of(Self()->gate->cpu()).StoreAffinity(0);
}

void ThreadExit() {
  Member* const m = Self();
  if (m == nullptr) return;
  t_state.worker = nullptr;
  m->gate->Release(m);
}

// The epoll sets are shared with the parent: the child must not touch them, only let go of them.
void AfterForkInChild() {
  Gates* const gates = CurrentGates();
  Member* const m = Self();
  if (m != nullptr && m->pinned) m->own_mask.StoreAffinity(0);
  for (int i = 0; gates != nullptr && i < gates->n; ++i) {
    for (int fd : {gates->gate[i]->epoll_fd(), gates->gate[i]->kick_fd()}) {
      base::SysClose(fd);
      if (FdEntry* const e = g_fds.At(fd)) {
        e->origin.store(Origin::kUnknown, std::memory_order_relaxed);
      }
    }
  }
  if (t_state.worker != &t_library) t_state.worker = nullptr;
  t_state.depth = 0;
  sync::t_locks_held = 0;
  g_epoch = g_epoch % 0xfff + 1;
  g_gates.store(nullptr, std::memory_order_relaxed);
  g_making.store(0, std::memory_order_relaxed);
  g_tick_state.store(0, std::memory_order_relaxed);
  pool::ForgetDetectors();
}

void SetLibraryWorker(void (*sleeping)(), void (*running)()) {
  if (!g_ready) return;
  t_library.sleeping = sleeping;
  t_library.running = running;
  t_state.worker = &t_library;
}

}  // namespace cmwq::gate
