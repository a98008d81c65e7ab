// The event thread and its timers: delayed work, mayday, idle culling.
//
// Timers live in a pairing heap whose nodes are the callers' (struct cmwq_timer): arming is O(1)
// however many are pending, nothing is allocated. The thread sleeps without a time-out while no timer
// is armed, so an idle process makes no wake-ups.
//
// Locks: the heap has rank kTimer, and timers fire under it, so that "armed" and "handed on" have
// nothing in between and a canceller never has to spin. A function may take kPool and below; one that
// must block drops the lock and retakes it, and its timer is idle meanwhile.

#ifndef CMWQ_RUNTIME_PLATFORM_TIMER_H_
#define CMWQ_RUNTIME_PLATFORM_TIMER_H_

#include <cmwq/cmwq.h>

#include <atomic>
#include <cstdint>

#include "runtime/base/annotations.h"
#include "runtime/platform/env.h"
#include "runtime/sync/mutex.h"

namespace cmwq::platform {

using Timer = struct cmwq_timer;

// Pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986). Not thread-safe.
class TimerHeap {
 public:
  static bool Armed(const Timer* t) { return t->prev != nullptr; }
  Timer* first() const { return root_; }
  // Looks at every node: for checks. `t` may be any address and is not looked at.
  bool Contains(const Timer* t) const;
  void Insert(Timer* t);
  void Remove(Timer* t);

 private:
  static Timer* Meld(Timer* a, Timer* b);
  static Timer* MeldSiblings(Timer* first);
  Timer* root_ = nullptr;  // prev of the root points at itself: that marks it armed
};

// A timer that can be armed under locks that come after kTimer: the event thread arms it in the
// caller's place.
struct SoonTimer {
  Timer timer = {};        // L: of the event thread (kTimer); first: `fire` is given this address
  uint64_t delay_ns = 0;   // L: of the requester, until the event thread takes the request
  uint64_t align_ns = 1;   // I: deadlines are multiples of it, so that many timers make one wake-up
  SoonTimer* next = nullptr;  // AT(ArmSoon, TakeRequests): as delay_ns
};

class EventThread {
 public:
  explicit EventThread(Env* env) : env_(env) {}

  // Starts the thread. 0 or errno. Once.
  int Start();
  // Never called in the product (the runtime lives as long as the process); tests stop it.
  void Stop() CMWQ_EXCLUDES(mu);

  // Arms an idle timer.
  void Arm(Timer* t, uint64_t deadline_ns) CMWQ_EXCLUDES(mu) {
    sync::MutexLock lock(mu);
    ArmLocked(t, deadline_ns);
  }
  void ArmLocked(Timer* t, uint64_t deadline_ns) CMWQ_REQUIRES(mu);
  // True: it was armed and will not fire. False: it was idle.
  bool Disarm(Timer* t) CMWQ_EXCLUDES(mu) {
    sync::MutexLock lock(mu);
    return DisarmLocked(t);
  }
  bool DisarmLocked(Timer* t) CMWQ_REQUIRES(mu);

  // Asks the event thread to arm `t`, which fires about delay_ns after that. One request at a time per
  // timer, none while it is armed: the caller keeps a flag under its lock, cleared when it has fired.
  // Context: any, under any lock; one futex wake at most.
  void ArmSoon(SoonTimer* t, uint64_t delay_ns);

  // `t` is in the heap; it may be any address. Looks at every timer: for checks.
  bool Contains(const Timer* t) CMWQ_EXCLUDES(mu) {
    sync::MutexLock lock(mu);
    return heap_.Contains(t);
  }

  // Fires everything due at `now` in the calling thread; returns the next deadline (kNever: none).
  // The thread's own loop, and the way tests with a fake clock run timers.
  uint64_t RunDue(uint64_t now) CMWQ_EXCLUDES(mu);

  // Lets the thread look at its timers again. Context: any.
  void Poke() { parker_.Unpark(); }
  // Child of fork: the thread is gone. Calls drop for each timer that was armed.
  void ResetAfterFork(void (*drop)(Timer* t)) CMWQ_NO_TSA;
  bool started() const { return started_; }

  sync::Mutex mu{sync::Rank::kTimer};

 private:
  void LetOthersIn() CMWQ_REQUIRES(mu);
  static void* Main(void* self);
  void Loop();
  void TakeRequests(uint64_t now) CMWQ_REQUIRES(mu);

  Env* const env_;                                       // I
  TimerHeap heap_ CMWQ_GUARDED_BY(mu);
  uint64_t sleeping_until_ CMWQ_GUARDED_BY(mu) = 0;      // 0: awake
  bool stop_ CMWQ_GUARDED_BY(mu) = false;
  bool started_ = false;                                 // I: after Start
  pthread_t thread_{};                                   // I: after Start
  std::atomic<SoonTimer*> requests_{nullptr};            // AT(ArmSoon, TakeRequests)
  sync::Parker parker_;                                  // AT(Loop, ArmLocked)
};

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_TIMER_H_
