#include "hooks/gate/cpu_gate.h"

#include <pthread.h>
#include <sys/eventfd.h>

#include <cerrno>

#include "hooks/gate/tick.h"
#include "runtime/base/check.h"
#include "runtime/base/conf.h"
#include "runtime/base/sys.h"

namespace cmwq::gate {
namespace {

using pool::WorkerFlag;

uint64_t EventData(const Member* m) {
  return static_cast<uint64_t>(m->slot) |
         (static_cast<uint64_t>(m->wait_seq.load(std::memory_order_relaxed)) << 32);
}

int MillisLeft(uint64_t deadline_ns) {
  if (deadline_ns == base::kNever) return -1;
  const uint64_t now = base::MonotonicNs();
  const uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
  const uint64_t ms = (left + base::kNsPerMs - 1) / base::kNsPerMs;
  return ms > 0x7fffffff ? 0x7fffffff : static_cast<int>(ms);
}

// A system call that is a cancellation point. A function of its own without cleanups: asynchronous
// cancellation unwinds from the instruction itself, and only calls have entries in the tables that
// lead to the callers' cleanups.
[[gnu::noinline]] long CancellableSys(long nr, long a, long b, long c, long d, long e, long f) {
  int old;
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
  const long ret = base::SysCall6(nr, a, b, c, d, e, f);
  pthread_setcanceltype(old, nullptr);
  return ret;
}

long WaitSys(bool cancellable, long nr, long a, long b, long c, long d, long e, long f) {
  return cancellable ? CancellableSys(nr, a, b, c, d, e, f) : base::SysCall6(nr, a, b, c, d, e, f);
}

}  // namespace

class CpuGate::AtBoundary {
 public:
  AtBoundary(CpuGate* gate, Member* m) : gate_(gate), m_(m) {}
  ~AtBoundary() {
    if (m_->wait.load(std::memory_order_relaxed) != kAway) gate_->Withdraw(m_, Wait::kInterrupted);
  }

 private:
  CpuGate* const gate_;
  Member* const m_;
};

// Puts the descriptor under watch for one event. The modify re-checks readiness and tells when the
// number belongs to another file by now, so nothing has to be known about closes that we did not see.
bool CpuGate::Arm(Member* m, int fd, uint32_t events, std::atomic<uint32_t>* home,
                  uint32_t home_here) {
  struct epoll_event ev;
  ev.events = events | EPOLLONESHOT;
  ev.data.u64 = EventData(m);
  if (home->load(std::memory_order_relaxed) == home_here) {
    const long err = base::Sys(SYS_epoll_ctl, epoll_fd(), EPOLL_CTL_MOD, fd, &ev);
    if (err == 0) return true;
    if (err != -ENOENT) return false;
  }
  long err = base::Sys(SYS_epoll_ctl, epoll_fd(), EPOLL_CTL_ADD, fd, &ev);
  // A duplicate of the number may have left a registration behind.
  if (err == -EEXIST) err = base::Sys(SYS_epoll_ctl, epoll_fd(), EPOLL_CTL_MOD, fd, &ev);
  if (err == 0) home->store(home_here, std::memory_order_relaxed);
  return err == 0;
}

// Numbers for those who look without the lock. Called after every change of the lists.
void CpuGate::Publish() {
  // seq_cst: pairs with the load in WantsWatch. Arm() follows: either it sees the detector dormant, or
  // the detector, on its way to sleep, sees what is ready.
  ready_hint_.store(nr_ready_, std::memory_order_seq_cst);
  led_hint_.store(leader_ != nullptr, std::memory_order_relaxed);
  if (nr_ready_ > 0) {
    // Release pairs with the load in Nudge.
    top_hint_.store(reinterpret_cast<Member*>(ready_.front()), std::memory_order_release);
  }
  conc_.LowerPending(nr_waiting_);
  FillRow();
}

// The row is on lines of its own, which other CPUs do not touch: some stores without waiting.
void CpuGate::FillRow() {
  constexpr auto kPlain = std::memory_order_relaxed;
  row_->waiting.store(nr_waiting_, kPlain);
  row_->held.store(static_cast<uint32_t>(nr_ready_), kPlain);
  row_->requests.store(stats_.requests, kPlain);
  row_->direct.store(stats_.direct, kPlain);
  row_->held_total.store(stats_.held, kPlain);
  row_->held_ns.store(stats_.held_ns, kPlain);
  row_->held_max_ns.store(stats_.held_max_ns, kPlain);
  row_->over_limit.store(stats_.over_limit, kPlain);
  row_->leads.store(stats_.leads, kPlain);
  row_->found.store(presumed_.load(kPlain), kPlain);
}

void CpuGate::LeaveRunning(Member* m) {
  m->wait.store(kWaiting, std::memory_order_relaxed);
  m->wait_seq.store(m->wait_seq.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  ++nr_waiting_;
  m->NoteBoundary(true);
  // Ordered inside: a member that goes to sleep now sees that somebody waits, or we see it asleep.
  conc_.SetPending(nr_waiting_);
  conc_.SetFlags(*m->word, WorkerFlag::kPrep);
  top_hint_.store(m, std::memory_order_release);  // pairs with the load in Nudge
}

void CpuGate::MarkReady(Member* m, uint64_t now) {
  const int32_t wait = m->wait.load(std::memory_order_relaxed);
  if (m->ready || wait == kAway || wait == kGranted) return;
  m->ready = true;
  m->ready_since_ns = now;
  m->ready_round = round_;
  ready_.PushFront(&m->entry);
  // seq_cst: pairs with the load in Sleeping.
  ready_hint_.store(++nr_ready_, std::memory_order_seq_cst);
}

void CpuGate::MarkEvents(const struct epoll_event* events, int n) {
  if (n <= 0) return;
  const uint64_t now = base::MonotonicNs();
  for (int i = 0; i < n; ++i) {
    const uint64_t data = events[i].data.u64;
    const uint64_t slot = data & 0xffffffff;
    // The kick, or nothing of ours.
    if (data == kKickData || slot >= static_cast<uint64_t>(used_.load(std::memory_order_relaxed))) {
      continue;
    }
    Member* const m = &members_[slot];
    // An event of an earlier wait, delivered late.
    if (m->wait_seq.load(std::memory_order_relaxed) != data >> 32) continue;
    MarkReady(m, now);
  }
}

Member* CpuGate::PickReady(uint64_t now) {
  if (nr_ready_ == 0) return nullptr;
  auto* const oldest = reinterpret_cast<Member*>(ready_.back());
  // A full round over many members takes longer than one over few.
  const uint64_t members = static_cast<uint64_t>(population_.load(std::memory_order_relaxed));
  const uint64_t fair = static_cast<uint64_t>(base::g_conf.gate_fair_ms) * base::kNsPerMs +
                        members * static_cast<uint64_t>(base::g_conf.gate_fair_us) * 1000;
  // At most every kFairShare-th: when all are late, serving them in order would make every statement
  // queue behind all others, and nothing would ever be on time again.
  if (nr_ready_ > 1 && ++fair_turn_ % kFairShare == 0 && now - oldest->ready_since_ns > fair) {
    return oldest;
  }
  return reinterpret_cast<Member*>(ready_.front());
}

// Lets a ready member in. It is counted from here on, so that nobody lets a second one in meanwhile.
void CpuGate::Grant(Member* m, const Member* self, uint64_t now, WakeList* wakes) {
  base::ListUnlink(&m->entry);
  m->ready = false;
  --nr_ready_;
  --nr_waiting_;
  ++stats_.requests;
  if (m->ready_round == round_) {
    ++stats_.direct;
  } else {
    const uint64_t held = now - m->ready_since_ns;
    ++stats_.held;
    stats_.held_ns += held;
    if (held > stats_.held_max_ns) stats_.held_max_ns = held;
    row_->hold.Add(held);
  }
  m->NoteRequest();
  conc_.Running(*m->word);
  conc_.ClearFlags(*m->word, WorkerFlag::kPrep);
  // Release pairs with the acquire in WaitLoop.
  m->wait.store(kGranted, std::memory_order_release);
  if (m != self) wakes->members[wakes->n++] = m;
}

// Lets ready members in while there is room. `self` needs no wake-up.
void CpuGate::Dispatch(const Member* self, WakeList* wakes) {
  const uint64_t now = nr_ready_ > 0 ? base::MonotonicNs() : 0;
  while (wakes->n < WakeList::kMax && conc_.nr_running() < Limit()) {
    Member* const m = PickReady(now);
    if (m == nullptr) break;
    Grant(m, self, now, wakes);
  }
  ++round_;
  // A leader that somebody else lets in leads until it is up: nobody may enter epoll_wait beside it and
  // be woken in its place. Again in every pass until then: the kick is one event, and any harvest may
  // have taken it before the leader saw it.
  if (leader_ != nullptr && leader_ != self &&
      leader_->wait.load(std::memory_order_relaxed) == kGranted) {
    wakes->kick = true;
  }
  Publish();
  // The known ready ones must not wait for a member that blocks without a word; the others must not
  // stay unseen while nobody leads.
  if (nr_ready_ > 0 && detector_ != nullptr) detector_->Arm();
  if (nr_ready_ > 0 || (nr_waiting_ > 0 && leader_ == nullptr)) ArmTick();
}

void CpuGate::WakeAll(const WakeList& wakes) {
  for (int i = 0; i < wakes.n; ++i) base::FutexWake(&wakes.members[i]->wait, 1);
  if (wakes.kick) {
    const uint64_t one = 1;
    base::Sys(SYS_write, kick_fd(), &one, sizeof(one));
  }
}

int CpuGate::Harvest(struct epoll_event* events) {
  return static_cast<int>(base::Sys(SYS_epoll_pwait, epoll_fd(), events, kBatch, 0, 0, 8));
}

bool CpuGate::Settle(const struct epoll_event* events, int n) {
  WakeList wakes;
  {
    sync::MutexLock hold(lock_);
    MarkEvents(events, n);
    Dispatch(nullptr, &wakes);
  }
  WakeAll(wakes);
  return wakes.n > 0;
}

Wait CpuGate::WaitFor(Member* m, int fd, uint32_t events, uint64_t deadline_ns,
                      std::atomic<uint32_t>* home, uint32_t home_here) {
  if (lost()) return Wait::kPlain;
  {
    sync::MutexLock hold(lock_);
    LeaveRunning(m);
  }
  AtBoundary restore(this, m);
  // Armed after "waiting" is published: an event that comes at once finds somebody to mark.
  if (!Arm(m, fd, events, home, home_here)) return Withdraw(m, Wait::kPlain);
  return WaitLoop(m, deadline_ns);
}

// Context: member that left nr_running. Locks: none held; kGate in turns.
Wait CpuGate::WaitLoop(Member* m, uint64_t deadline_ns) {
  struct epoll_event events[kBatch];
  int n = Harvest(events);
  for (;;) {
    WakeList wakes;
    bool granted, lead = false, leave;
    {
      sync::MutexLock hold(lock_);
      if (leader_ == m) leader_ = nullptr;
      TakePoke(m);
      MarkEvents(events, n);
      Dispatch(m, &wakes);
      // Acquire pairs with the release in Grant.
      granted = m->wait.load(std::memory_order_acquire) == kGranted;
      // With somebody ready there was no room a moment ago; if there is now, whoever made it says so.
      // The ready one itself must not lead: its event is spent.
      // Under the lock: SetUse pokes whoever did not see it here.
      leave = !granted && !used();
      lead = !granted && !leave && leader_ == nullptr && nr_ready_ == 0 && conc_.nr_running() < Limit();
      if (lead) {
        leader_ = m;
        led_hint_.store(true, std::memory_order_relaxed);
        ++stats_.leads;
      }
    }
    WakeAll(wakes);
    if (granted) {
      m->wait.store(kAway, std::memory_order_relaxed);
      return Wait::kReady;
    }
    if (leave) return Withdraw(m, Wait::kMoved);
    n = lead ? SleepLeading(m, events, deadline_ns) : SleepParked(m, deadline_ns);
    if (n == -EINTR) return Withdraw(m, Wait::kInterrupted);
    if (n == -ETIMEDOUT) return Withdraw(m, Wait::kTimeout);
    if (n < 0) GiveUp();
    if (lost()) return Withdraw(m, Wait::kPlain);
    if (n == 0) n = Harvest(events);
  }
}

// The epoll set is gone: no gate without it. Everybody who waits makes the plain call instead.
void CpuGate::GiveUp() {
  if (lost_.exchange(true, std::memory_order_acq_rel)) return;
  CMWQ_WARN_ONCE("preload: the readiness set of CPU %d was closed: requests are not held any more",
                 cpu_);
  ForEachMember([](Member* m) { Poke(m); });
}

// Before the look that a poke asks for: one that comes later is kept.
void CpuGate::TakePoke(Member* m) {
  int32_t poked = kPoked;
  // Acquire pairs with the release in Poke: we see the state for which we were poked.
  m->wait.compare_exchange_strong(poked, kWaiting, std::memory_order_acq_rel);
}

// False if the member is not at the boundary, or has been told already.
bool CpuGate::Poke(Member* m) {
  int32_t waiting = kWaiting;
  if (!m->wait.compare_exchange_strong(waiting, kPoked, std::memory_order_acq_rel)) return false;
  base::FutexWake(&m->wait, 1);
  return true;
}

// Number of events, 0 for "look again", -EINTR, -ETIMEDOUT, or what epoll_wait said.
int CpuGate::SleepLeading(Member* m, struct epoll_event* events, uint64_t deadline_ns) {
  m->frame = __builtin_frame_address(0);
  const int timeout_ms = MillisLeft(deadline_ns);
  const long n = WaitSys(m->cancellable, SYS_epoll_pwait, epoll_fd(),
                         reinterpret_cast<long>(events), kBatch, timeout_ms, 0, 8);
  if (n == 0) return base::MonotonicNs() >= deadline_ns ? -ETIMEDOUT : 0;
  return static_cast<int>(n);
}

int CpuGate::SleepParked(Member* m, uint64_t deadline_ns) {
  // Always with a time-out, be it years away: then a signal handler ends the wait whatever its
  // SA_RESTART, as it would poll. A far timer is not programmed into the hardware and costs nothing.
  m->frame = __builtin_frame_address(0);
  constexpr uint64_t kYears = uint64_t{10} * 365 * 86400 * base::kNsPerSec;
  const uint64_t until = deadline_ns != base::kNever ? deadline_ns : base::MonotonicNs() + kYears;
  const struct timespec ts = base::ToTimespec(until);
  while (m->wait.load(std::memory_order_acquire) == kWaiting) {
    const long err = WaitSys(m->cancellable, SYS_futex, reinterpret_cast<long>(&m->wait),
                             FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, kWaiting,
                             reinterpret_cast<long>(&ts), 0, FUTEX_BITSET_MATCH_ANY);
    if (err == -EINTR || err == -ETIMEDOUT) return static_cast<int>(err);
  }
  // Poked: see what the kernel has. Granted: nothing to see.
  return 0;
}

// Leaves the boundary without a grant, unless one has come: then that counts.
Wait CpuGate::Withdraw(Member* m, Wait why) {
  WakeList wakes;
  {
    sync::MutexLock hold(lock_);
    if (leader_ == m) leader_ = nullptr;
    if (m->wait.load(std::memory_order_acquire) == kGranted) {
      m->wait.store(kAway, std::memory_order_relaxed);
      why = Wait::kReady;
    } else {
      if (m->ready) {
        base::ListUnlink(&m->entry);
        m->ready = false;
        --nr_ready_;
        // A ready descriptor at the deadline is ready, not late.
        if (why == Wait::kTimeout) why = Wait::kReady;  // one that moves asks again at its new gate
      }
      --nr_waiting_;
      m->NoteBoundary(false);
      m->wait.store(kAway, std::memory_order_relaxed);
      conc_.Running(*m->word);
      conc_.ClearFlags(*m->word, WorkerFlag::kPrep);
    }
    Dispatch(nullptr, &wakes);
  }
  WakeAll(wakes);
  return why;
}

void CpuGate::Admit(Member* m) {
  WakeList wakes;
  {
    sync::MutexLock hold(lock_);
    if (conc_.nr_running() <= Limit()) return;  // counts the caller
    LeaveRunning(m);
    MarkReady(m, base::MonotonicNs());
    Dispatch(m, &wakes);
  }
  WakeAll(wakes);
  AtBoundary restore(this, m);
  while (m->wait.load(std::memory_order_acquire) != kGranted) {
    // A handler may run; the hold goes on, the tick bounds it.
    if (SleepParked(m, base::kNever) != 0) continue;
    TakePoke(m);
    Settle(nullptr, 0);
  }
  m->wait.store(kAway, std::memory_order_relaxed);
}

void CpuGate::Interrupt(Member* m) {
  // A handler that interrupted one of our own sections. The waiter sleeps on, as in the plain call.
  if (sync::t_locks_held != 0) return;
  WakeList wakes;
  {
    sync::MutexLock hold(lock_);
    const int32_t wait = m->wait.load(std::memory_order_relaxed);
    if (wait == kAway || wait == kGranted) return;
    MarkReady(m, base::MonotonicNs());
    Dispatch(nullptr, &wakes);
  }
  WakeAll(wakes);
}

// The last running member went to sleep in the middle of its request while others wait.
// Context: hook, about to block; the application's locks may be held. Takes kGate.
void CpuGate::OnIdle() {
  if (Settle(nullptr, 0) || led_hint_.load(std::memory_order_relaxed)) return;
  struct epoll_event events[kBatch];
  const int n = Harvest(events);
  if (n > 0 && Settle(events, n)) return;
  // Nothing to do now. If the CPU really stays idle, the detector gets it and has somebody lead.
  if (detector_ != nullptr && detector_->Attends()) {
    detector_->Arm();
  } else {
    Nudge();
  }
}

bool CpuGate::WantsWatch() const {
  // seq_cst: pairs with the stores in Publish and MarkReady.
  if (ready_hint_.load(std::memory_order_seq_cst) > 0) return true;
  return !led_hint_.load(std::memory_order_relaxed) && conc_.nr_running() == 0 &&
         conc_.nr_pending() > 0;
}

int CpuGate::ListSuspects(pool::Suspect* out, int max) {
  const int used = used_.load(std::memory_order_acquire);
  int n = 0;
  for (int i = 0; i < used && n < max; ++i) {
    const uint32_t word = words_[i].Load();
    if (!pool::StateWord::Counted(word)) continue;
    const int tid = members_[i].tid.load(std::memory_order_acquire);
    if (tid != 0) out[n++] = {i, tid, word};
  }
  return n;
}

bool CpuGate::Presume(const pool::Suspect& suspect) {
  if (!conc_.Presume(words_[suspect.slot], suspect.word)) return false;
  presumed_.fetch_add(1, std::memory_order_relaxed);
  if (conc_.nr_running() < Limit()) Nudge();
  return true;
}

// Has one waiting member look again: it lets somebody in, or leads.
void CpuGate::Nudge() {
  // Acquire pairs with the stores in Publish and LeaveRunning.
  Member* const top = top_hint_.load(std::memory_order_acquire);
  if (top != nullptr && Poke(top)) return;
  const int used = used_.load(std::memory_order_acquire);
  for (int i = 0; i < used; ++i) {
    if (Poke(&members_[i])) return;
  }
}

// Sum of the words that count, and in *mark a value that differs if any of them changed.
int CpuGate::SumWords(uint32_t* mark) const {
  int counted = 0;
  *mark = 0;
  const int used = used_.load(std::memory_order_acquire);
  for (int i = 0; i < used; ++i) {
    const uint32_t word = words_[i].Load();
    counted += pool::StateWord::Counted(word) ? 1 : 0;
    *mark = *mark * 31 + word;
  }
  return counted;
}

// The counter against the sum of the words. Members hand over while we add up, and a hook may be
// between its word and its counter: only what two passes agree on says anything, and only a difference
// that stays over several ticks is drift. A wrong repair would close the gate for as long.
bool CpuGate::RepairDrift() {
  uint32_t mark, again;
  const int running = conc_.RawRunning();
  const int drift = SumWords(&mark) - running;
  SumWords(&again);
  if (mark != again || conc_.RawRunning() != running) return false;
  const uint64_t now = base::MonotonicNs();
  if (drift == 0 || drift != last_drift_) {
    last_drift_ = drift;
    drift_since_ns_ = now;
    return drift != 0;
  }
  const uint64_t bound = kDriftTicks * static_cast<uint64_t>(base::g_conf.tick_ms) * base::kNsPerMs;
  if (now - drift_since_ns_ < bound) return true;
  conc_.Repair(drift);
  last_drift_ = 0;
  return true;
}

bool CpuGate::Tick() {
  if (detector_ != nullptr) detector_->Tick(this);
  const uint64_t bound = static_cast<uint64_t>(base::g_conf.gate_wait_ms) * base::kNsPerMs;
  WakeList wakes;
  bool collect, active;
  const bool leaving = !used() && SendAway();
  const bool drifts = RepairDrift();
  {
    sync::MutexLock hold(lock_);
    const uint64_t now = base::MonotonicNs();
    // Nobody was let in since the last tick, and somebody waits for longer than the bound: those inside
    // are at something long. A mere queue is no reason: it moves.
    const bool stuck = stats_.requests == last_requests_;
    if (stuck && nr_ready_ > 0) {
      auto* const latest = reinterpret_cast<Member*>(ready_.front());
      auto* const oldest = reinterpret_cast<Member*>(ready_.back());
      if (now - oldest->ready_since_ns >= bound) {
        if (conc_.nr_running() >= Limit()) ++stats_.over_limit;
        Grant(now - latest->ready_since_ns >= bound ? latest : oldest, nullptr, now, &wakes);
      }
    }
    Dispatch(nullptr, &wakes);
    last_requests_ = stats_.requests;
    collect = nr_waiting_ > 0 && leader_ == nullptr;
    active = collect || nr_ready_ > 0 || drifts || leaving;
  }
  WakeAll(wakes);
  if (!collect) return active;
  struct epoll_event events[kBatch];
  const int n = Harvest(events);
  if (n > 0) Settle(events, n);
  if (conc_.nr_running() == 0) Nudge();
  return active;
}

}  // namespace cmwq::gate
