// CpuGate: the boundary of one CPU. Which of its members may run, who waits, who is ready, who leads.
//
// The rule: a member that comes to the boundary leaves nr_running. A ready member is let in while
// nr_running is below the limit, the latest first (it is likely inside a transaction, and serving it
// again ends its locks), but the oldest first once it waited for gate_fair_ms. When nr_running is 0 and
// somebody is ready, somebody is let in, at once and always: any stricter cap deadlocks when those
// inside wait for locks that those outside hold (MDEV-5533).
//
// Readiness is collected in one epoll set per CPU, each descriptor armed one-shot by its waiter, and
// harvested by whoever is about to wait; when nobody runs, the last one to wait leads: it sleeps in
// epoll_wait for all, so its own event costs it no second switch. The others park in a futex. While
// somebody runs there is no leader, and events wake nobody.
//
// The thread that finishes hands the CPU to the next one itself, on the same CPU.
//
// Locks: rank kGate. Under it: no system call but futex wake and the write that interrupts a leader.

#ifndef CMWQ_HOOKS_GATE_CPU_GATE_H_
#define CMWQ_HOOKS_GATE_CPU_GATE_H_

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>

#include "hooks/gate/member.h"
#include "runtime/base/annotations.h"
#include "runtime/base/conf.h"
#include "runtime/base/intrusive_list.h"
#include "runtime/platform/stats_layout.h"
#include "runtime/pool/blocking_source.h"
#include "runtime/pool/concurrency.h"
#include "runtime/sync/mutex.h"

namespace cmwq::gate {

struct GateStats {
  uint64_t requests;     // returns from the boundary
  uint64_t direct;       // the waiter's own event let it in: no hold, no second switch
  uint64_t held;         // ready but not let in at once
  uint64_t held_ns;      // sum over those
  uint64_t held_max_ns;
  uint64_t over_limit;   // let in above the limit because they waited too long
  uint64_t leads;        // times that a member slept for all
};

class CpuGate final : public pool::Watched {
 public:
  static constexpr int kMaxMembers = 4096;

  // Makes the epoll set. False, with -errno in *err, if the kernel refuses.
  bool Init(int index, int cpu, int* err);
  // After Init: has a detector look for blocks that nobody announced. May create a thread.
  void StartWatch();
  // Gives the descriptors back; the gate has no members and gets none.
  void Close();

  // A free slot for the calling thread, counted as running; null when full.
  Member* Take() CMWQ_EXCLUDES(lock_);
  // The calling member leaves for good.
  void Release(Member* m) CMWQ_EXCLUDES(lock_);

  // The boundary; see gate.h. home: the descriptor's registration, updated.
  Wait WaitFor(Member* m, int fd, uint32_t events, uint64_t deadline_ns,
               std::atomic<uint32_t>* home, uint32_t home_here) CMWQ_EXCLUDES(lock_);
  // The calling member's wait was left by a jump: it runs.
  void Abandon(Member* m) CMWQ_EXCLUDES(lock_) {
    if (m->wait.load(std::memory_order_relaxed) != kAway) Withdraw(m, Wait::kInterrupted);
  }
  // A running member asks whether it may go on; holds it while the gate is full.
  void Admit(Member* m) CMWQ_EXCLUDES(lock_);
  // The descriptor that m waits for is being closed: let it look.
  void Interrupt(Member* m) CMWQ_EXCLUDES(lock_);
  // Brackets.
  void Sleeping(Member* m) {
    const bool last = conc_.Sleeping(*m->word);
    // With a limit above one there is room before nobody runs. seq_cst: pairs with MarkReady.
    if (last || (Limit() > 1 && ready_hint_.load(std::memory_order_seq_cst) > 0)) OnIdle();
  }
  void Running(Member* m) { conc_.Running(*m->word); }

  // The manager's tick: overdue requests, events that nobody collects, drift of the counter.
  // True if there was anything that may need another tick.
  bool Tick() CMWQ_EXCLUDES(lock_);
  // Child of fork: a handler may have forked in the middle of a wait, and its thread finds its way out.
  void AfterForkInChild() { lock_.ResetAfterFork(); }

  // The process may use the CPU; its gate is one of those that members are spread over. Members of a gate
  // that is not go to others at their next boundary, and who waits here is told to. See cpus.h.
  void SetUse(bool allowed, bool used) CMWQ_EXCLUDES(lock_);
  bool allowed() const { return allowed_.load(std::memory_order_relaxed); }
  bool used() const { return used_cpu_.load(std::memory_order_relaxed); }

  GateStats Stats() CMWQ_EXCLUDES(lock_);
  template <class F>
  void ForEachMember(F visit) {
    for (int i = 0; i < used_.load(std::memory_order_acquire); ++i) visit(&members_[i]);
  }
  int cpu() const { return cpu_; }
  int index() const { return index_; }
  int population() const { return population_.load(std::memory_order_relaxed); }
  // Requests that are ready and not let in; a hint.
  int held() const { return ready_hint_.load(std::memory_order_relaxed); }
  int peak() const { return peak_.load(std::memory_order_relaxed); }
  const pool::BlockingSource* detector() const { return detector_; }
  Member* At(int slot) {
    return slot < used_.load(std::memory_order_acquire) ? &members_[slot] : nullptr;
  }
  // The epoll set was closed under us: nothing is managed here any more.
  bool lost() const { return lost_.load(std::memory_order_acquire); }
  int epoll_fd() const { return epoll_fd_.load(std::memory_order_relaxed); }
  int kick_fd() const { return kick_fd_.load(std::memory_order_relaxed); }
  // The program wants number `fd`, one of ours: the file goes on under another. Returns that, or -1 if fd is
  // none of ours or there is no other. Leaves fd open, to be replaced by the program's own call. A member
  // that read the old number a moment ago may still make one call with it.
  int MoveFd(int fd);
  uint64_t presumed() const { return presumed_.load(std::memory_order_relaxed); }

  // Watched: for detectors, lock-free.
  bool WantsWatch() const override;
  int ListSuspects(pool::Suspect* out, int max) override;
  bool Presume(const pool::Suspect& suspect) override;
  void Nudge() override;

 private:
  static constexpr int kBatch = 64;  // events per harvest
  static constexpr uint64_t kKickData = ~uint64_t{0};
  static constexpr uint32_t kFairShare = 4;
  static constexpr int kDriftTicks = 3;  // arbitrary: few hooks stay preempted midway so long

  struct WakeList {
    static constexpr int kMax = kBatch;
    Member* members[kMax];
    int n = 0;
    bool kick = false;  // one of them leads: it sleeps in epoll_wait and does not hear its futex
  };
  // Restores the member's state if the wait is left by unwinding.
  class AtBoundary;

  bool Arm(Member* m, int fd, uint32_t events, std::atomic<uint32_t>* home, uint32_t home_here);
  Wait WaitLoop(Member* m, uint64_t deadline_ns) CMWQ_EXCLUDES(lock_);
  void LeaveRunning(Member* m) CMWQ_REQUIRES(lock_);
  void Grant(Member* m, const Member* self, uint64_t now, WakeList* wakes) CMWQ_REQUIRES(lock_);
  void Dispatch(const Member* self, WakeList* wakes) CMWQ_REQUIRES(lock_);
  Member* PickReady(uint64_t now) CMWQ_REQUIRES(lock_);
  void MarkReady(Member* m, uint64_t now) CMWQ_REQUIRES(lock_);
  void MarkEvents(const struct epoll_event* events, int n) CMWQ_REQUIRES(lock_);
  void Publish() CMWQ_REQUIRES(lock_);
  void FillRow() CMWQ_REQUIRES(lock_);
  void WakeAll(const WakeList& wakes);
  int Harvest(struct epoll_event* events);
  // Marks n events, lets in whoever may go. True: somebody was let in.
  bool Settle(const struct epoll_event* events, int n) CMWQ_EXCLUDES(lock_);
  int SleepLeading(Member* m, struct epoll_event* events, uint64_t deadline_ns);
  int SleepParked(Member* m, uint64_t deadline_ns);
  Wait Withdraw(Member* m, Wait why) CMWQ_EXCLUDES(lock_);
  void OnIdle() CMWQ_EXCLUDES(lock_);
  void GiveUp();
  bool SendAway() CMWQ_EXCLUDES(lock_);
  static void TakePoke(Member* m);
  static bool Poke(Member* m);
  static int Limit() { return static_cast<int>(base::g_conf.gate_limit); }
  int SumWords(uint32_t* mark) const;
  bool RepairDrift();

  int index_ = 0;                                       // I
  int cpu_ = -1;                                        // I
  std::atomic<int> epoll_fd_{-1};                       // AT(MoveFd, Arm): relaxed, the file is the same
  std::atomic<int> kick_fd_{-1};                        // AT(MoveFd, WakeAll): the same; interrupts the leader
  pool::StateWord* words_ = nullptr;                    // I: array, dense
  Member* members_ = nullptr;                           // I: array
  pool::BlockingSource* detector_ = nullptr;            // I: after StartWatch
  std::atomic<int> used_{0};                            // AT(Take, ListSuspects): high-water mark
  std::atomic<int> population_{0};                      // AT(Take, Release): relaxed, for balance
  std::atomic<int> peak_{0};                            // AT(Take, Report): relaxed

  pool::Concurrency conc_;                              // AT: see concurrency.h; pending = waiters

  sync::Mutex lock_{sync::Rank::kGate};
  base::List ready_ CMWQ_GUARDED_BY(lock_);             // front: latest
  base::List free_ CMWQ_GUARDED_BY(lock_);
  int nr_ready_ CMWQ_GUARDED_BY(lock_) = 0;
  uint32_t nr_waiting_ CMWQ_GUARDED_BY(lock_) = 0;      // at the boundary, ready or not
  Member* leader_ CMWQ_GUARDED_BY(lock_) = nullptr;
  uint64_t round_ CMWQ_GUARDED_BY(lock_) = 0;           // passes of Dispatch
  uint32_t fair_turn_ CMWQ_GUARDED_BY(lock_) = 0;       // picks; every kFairShare-th may be the oldest
  uint64_t last_requests_ CMWQ_GUARDED_BY(lock_) = 0;   // as of the last tick
  GateStats stats_ CMWQ_GUARDED_BY(lock_) = {};
  platform::StatsGate* row_ = &own_row_;                // I: after Init; or its row of the page
  platform::StatsGate own_row_ = {};                    // L: of the gate
  // For the detector, which takes no lock.
  std::atomic<int> ready_hint_{0};                      // AT(MarkReady, WantsWatch): nr_ready_
  std::atomic<Member*> top_hint_{nullptr};              // AT(Publish, Nudge): whom to poke
  std::atomic<bool> led_hint_{false};                   // AT(WaitLoop, WantsWatch): somebody leads
  std::atomic<uint64_t> presumed_{0};                   // AT(Presume, Report): relaxed, a count
  std::atomic<bool> allowed_{true};                     // AT(SetUse, VirtualAffinity): relaxed
  std::atomic<bool> used_cpu_{true};                    // AT(SetUse, WaitLoop): relaxed; set under lock_
  std::atomic<bool> lost_{false};                       // AT(GiveUp, WaitFor)
  int last_drift_ = 0;                                  // S: tick thread
  uint64_t drift_since_ns_ = 0;                         // S: tick thread; first look that saw it
};

}  // namespace cmwq::gate

#endif  // CMWQ_HOOKS_GATE_CPU_GATE_H_
