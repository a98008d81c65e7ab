// Making a gate, and taking and releasing its slots.

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <fcntl.h>

#include "hooks/gate/cpu_gate.h"
#include "runtime/base/sys.h"
#include "runtime/platform/stats_page.h"

namespace cmwq::gate {
namespace {

void* ReservePages(size_t bytes) {
  const long p = base::Sys(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p > 0 ? reinterpret_cast<void*>(p) : nullptr;
}

// Out of the way of programs that expect low numbers; close-on-exec.
int MoveHigh(int fd) {
  // Below the usual limit of 1024, above what select() programs and shells pick by number.
  long high = base::Sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 960);
  if (high < 0) high = base::Sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 100);
  if (high < 0) return fd;
  base::SysClose(fd);
  return static_cast<int>(high);
}

}  // namespace

bool CpuGate::Init(int index, int cpu, int* err) {
  index_ = index;
  cpu_ = cpu;
  platform::StatsGate* const row = platform::g_stats_page.GateRow(static_cast<uint32_t>(index));
  if (row != nullptr) row_ = row;
  row_->cpu.store(static_cast<uint32_t>(cpu), std::memory_order_relaxed);
  row_->used.store(1, std::memory_order_relaxed);
  words_ = static_cast<pool::StateWord*>(ReservePages(sizeof(pool::StateWord) * kMaxMembers));
  members_ = static_cast<Member*>(ReservePages(sizeof(Member) * kMaxMembers));
  const long ep = base::Sys(SYS_epoll_create1, EPOLL_CLOEXEC);
  const long kick = ep < 0 ? ep : base::Sys(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (words_ == nullptr || members_ == nullptr || kick < 0) {
    *err = kick < 0 ? static_cast<int>(-kick) : 12;  // ENOMEM
    if (ep >= 0) base::SysClose(static_cast<int>(ep));
    return false;
  }
  epoll_fd_.store(MoveHigh(static_cast<int>(ep)), std::memory_order_relaxed);
  kick_fd_.store(MoveHigh(static_cast<int>(kick)), std::memory_order_relaxed);
  struct epoll_event ev;
  ev.events = EPOLLIN | EPOLLET;  // each write is one event; the counter is never read
  ev.data.u64 = kKickData;
  base::Sys(SYS_epoll_ctl, epoll_fd(), EPOLL_CTL_ADD, kick_fd(), &ev);
  return true;
}

void CpuGate::Close() {
  if (lost()) return;  // the numbers are the program's by now
  base::SysClose(epoll_fd());
  base::SysClose(kick_fd());
  epoll_fd_.store(-1, std::memory_order_relaxed);
  kick_fd_.store(-1, std::memory_order_relaxed);
}

int CpuGate::MoveFd(int fd) {
  if (fd < 0 || (fd != epoll_fd() && fd != kick_fd())) return -1;
  long to = base::Sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, fd + 1);
  if (to < 0) to = base::Sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 100);
  if (to < 0) return -1;
  (fd == epoll_fd() ? epoll_fd_ : kick_fd_).store(static_cast<int>(to), std::memory_order_relaxed);
  return static_cast<int>(to);
}

void CpuGate::StartWatch() { detector_ = pool::AttachDetector(cpu_, this); }

Member* CpuGate::Take() {
  Member* m = nullptr;
  {
    sync::MutexLock hold(lock_);
    if (base::ListNode* const node = free_.PopFront()) {
      m = reinterpret_cast<Member*>(node);
    } else {
      const int slot = used_.load(std::memory_order_relaxed);
      if (slot == kMaxMembers) return nullptr;
      m = &members_[slot];
      m->slot = slot;
      m->gate = this;
      m->word = &words_[slot];
      m->word->Reset(pool::WorkerFlag::kPrep);
      m->stats = platform::g_stats_page.TakeWorker();
      if (m->stats != nullptr) m->stats->pool.store(static_cast<uint32_t>(index_), std::memory_order_relaxed);
      base::ListInit(&m->entry);
      used_.store(slot + 1, std::memory_order_release);  // pairs with ListSuspects
    }
    const int n = population_.load(std::memory_order_relaxed) + 1;
    population_.store(n, std::memory_order_relaxed);
    row_->members.store(static_cast<uint32_t>(n), std::memory_order_relaxed);
    m->NoteBoundary(false);
    m->NoteUnblock();
    if (m->stats != nullptr) m->stats->tid.store(static_cast<uint32_t>(base::Tid()), std::memory_order_relaxed);
    if (n > peak_.load(std::memory_order_relaxed)) peak_.store(n, std::memory_order_relaxed);
  }
  m->wait.store(kAway, std::memory_order_relaxed);
  m->in_block = m->pinned = false;  // `ready` is false: a late event may be looking at it
  m->placed.store(false, std::memory_order_relaxed);
  m->frame = nullptr;
  // Not started over from zero in a slot used before: a detector may hold an old value of the word.
  conc_.Running(*m->word);
  m->tid.store(base::Tid(), std::memory_order_release);  // pairs with ListSuspects
  conc_.ClearFlags(*m->word, pool::WorkerFlag::kPrep);   // counted from here on
  m->audit = pool::OpenSwitchAudit(cpu_);
  EnterPhase(m, pool::Phase::kItem);
  return m;
}

void CpuGate::Release(Member* m) {
  // A handler left an earlier wait by a jump, past the destructor that ends it.
  Abandon(m);
  const bool last = conc_.SetFlags(*m->word, pool::WorkerFlag::kPrep);
  m->tid.store(0, std::memory_order_relaxed);
  if (m->audit != nullptr) m->audit->End();
  m->audit = nullptr;
  {
    sync::MutexLock hold(lock_);
    population_.store(population_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
    row_->members.store(static_cast<uint32_t>(population()), std::memory_order_relaxed);
    m->NoteBoundary(true);
    m->NoteUnblock();
    if (m->stats != nullptr) m->stats->tid.store(0, std::memory_order_relaxed);
    free_.PushFront(&m->entry);
  }
  if (last) OnIdle();
}

// Context: whoever follows the CPUs. Wakes every waiter of a gate that is left.
void CpuGate::SetUse(bool allowed, bool used) {
  allowed_.store(allowed, std::memory_order_relaxed);
  {
    sync::MutexLock hold(lock_);
    used_cpu_.store(used, std::memory_order_relaxed);
  }
  if (!used) SendAway();
}

// Also by the tick until they are gone: a harvest may have taken the leader's kick before it saw it.
bool CpuGate::SendAway() {
  bool waiting, led;
  {
    sync::MutexLock hold(lock_);
    waiting = nr_waiting_ > 0;
    led = leader_ != nullptr;
  }
  if (!waiting) return false;
  ForEachMember([](Member* m) { Poke(m); });
  if (led) {
    const uint64_t one = 1;
    base::Sys(SYS_write, kick_fd(), &one, sizeof(one));
  }
  return true;
}

GateStats CpuGate::Stats() {
  sync::MutexLock hold(lock_);
  return stats_;
}

}  // namespace cmwq::gate
