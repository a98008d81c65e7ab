// Trustee: looks after the pool of a CPU that has left (kernel, 2.6.36: trustee_thread; flags as later in
// unbind_workers and rebind_workers).
//
//   DONE --Leave--> START --(has the role)--> IN_CHARGE --(gone for good, nothing left)--> BUTCHER
//     ^                          |                |                                          |
//     +--------- RELEASE <-------+----------------+---------------- Return ------------------+
//
//   DONE       the CPU is there; the pool looks after itself
//   START      the workers run anywhere and do not count; whoever manages is still at it
//   IN_CHARGE  the trustee has had the manager role; the pool drains, and is fit to go on for ever
//   BUTCHER    gone for good: workers are let go as soon as all are idle and nothing is left
//   RELEASE    the CPU is back; workers are being placed on it again
//
// It is no thread: Leave and Return are carried out by whoever brings the news, Tick by the event thread,
// which is also who manages when the trustee has the role.
//
// A template on the host, so that tests/model runs these very steps under a deterministic scheduler. The
// host supplies, under the pool's lock unless said otherwise:
//   LockAttach(), UnlockAttach()  no worker comes into being or ends meanwhile; taken before the pool's
//   Lock(), Unlock()              the pool's lock
//   ReplaceFlags(clear, set)      in every worker's word, one store each
//   Managed()                     somebody has the manager role
//   TakeRole()                    nobody had it: the event thread has it from now on
//   AllIdle()                     every worker is idle, nobody manages, nothing is on the list
//   HasWorkers()
//   LetIdleGo()                   ends the idle workers
//   NeedWake(), Wake(w)           as WorkerPool; Wake without the lock
//   CallSoon()                    Tick is to be called soon by the event thread
//   Place(back)                   without the pool's lock: puts every worker on its CPU, or anywhere.
//                                 False: that CPU cannot be had
//   Now()

#ifndef CMWQ_RUNTIME_POOL_TRUSTEE_H_
#define CMWQ_RUNTIME_POOL_TRUSTEE_H_

#include <cstdint>

#include "runtime/base/sys.h"
#include "runtime/pool/state_word.h"

namespace cmwq::pool {

enum class TrusteeState : uint8_t { kDone, kStart, kInCharge, kButcher, kRelease };

class Trustee {
 public:
  struct Times {
    uint64_t look_ns;     // while draining: time between two looks
    uint64_t butcher_ns;  // so long without its CPU: gone for good
  };
  struct Next {
    bool manage;     // the event thread is to do what the manager role asks for, now
    bool call_help;  // something is pending: rescuers may be needed
    uint64_t at_ns;  // next Tick; kNever: none
  };

  TrusteeState state() const { return state_; }
  // Workers run anywhere and do not count. Until the last step of Return.
  bool disassociated() const { return state_ != TrusteeState::kDone; }
  // What a worker that comes into being has in its word. Under the pool's lock, in the section that
  // makes it visible: the CPU may have left while the thread was being made.
  uint32_t AttachFlags() const { return disassociated() ? WorkerFlag::kUnbound : 0; }

  // The CPU has left, or has left again, or the CPUs that are left have changed.
  // Context: one caller at a time for all pools. Locks: takes the host's.
  template <class Host>
  void Leave(Host& host) {
    host.LockAttach();
    host.Lock();
    if (!disassociated()) {
      state_ = TrusteeState::kStart;
      since_ns_ = host.Now();
      // One edge each: a hook that runs at this moment finds the flag, or is found by it. nr_running is
      // not zeroed: the edges bring it there, and a hook's own step that is still to come would make it
      // wrong. A worker that had not noticed the last return loses that flag in the same store.
      host.ReplaceFlags(WorkerFlag::kRebound, WorkerFlag::kUnbound);
      // With the role every worker may start, without making a spare first. Without workers there is
      // nothing to manage: who queues to such a pool asks for the first one.
      if (host.HasWorkers() && !host.Managed()) TakeRole(host);
      host.CallSoon();
    }
    // At once, before anything else is looked at: whoever ran is on no CPU's count any more, and
    // nobody will be told when he blocks. From here on each start wakes the next.
    auto* const wake = host.NeedWake();
    host.Unlock();
    host.Wake(wake);
    host.Place(false);
    host.UnlockAttach();
  }

  // The CPU is back. Also in the middle of a drain, and when it never left: then workers are only placed
  // again. False: it cannot be had, and nothing has changed.
  // Context: as Leave.
  template <class Host>
  bool Return(Host& host) {
    host.LockAttach();
    host.Lock();
    const bool was_gone = disassociated();
    // Nobody is butchered from here on.
    if (was_gone) state_ = TrusteeState::kRelease;
    host.Unlock();
    // First the places, then the flags: a worker that counts is on its CPU.
    const bool back = host.Place(true);
    host.Lock();
    if (was_gone && back) {
      host.ReplaceFlags(WorkerFlag::kUnbound, WorkerFlag::kRebound);
      state_ = TrusteeState::kDone;
    } else if (was_gone) {
      state_ = TrusteeState::kStart;
      host.CallSoon();
    }
    // The role, if the trustee still has it, stays with the event thread until a worker is idle: others
    // have started without a spare because somebody managed.
    auto* const wake = host.NeedWake();
    host.Unlock();
    host.Wake(wake);
    if (was_gone && !back) host.Place(false);
    host.UnlockAttach();
    return back;
  }

  // Context: event thread, under the pool's lock.
  template <class Host>
  Next Tick(Host& host, const Times& times) {
    Next next = {role_, false, base::kNever};
    if (state_ == TrusteeState::kStart) {
      if (!role_ && host.HasWorkers() && !host.Managed()) {
        TakeRole(host);
        next.manage = true;
      }
      if (next.manage || !host.Managed()) state_ = TrusteeState::kInCharge;
    }
    role_ = false;  // the caller has it now
    if (state_ == TrusteeState::kDone || state_ == TrusteeState::kButcher) return next;
    const uint64_t now = host.Now();
    const bool drained = host.AllIdle();
    if (state_ == TrusteeState::kInCharge && drained) {
      if (now >= since_ns_ + times.butcher_ns) {
        state_ = TrusteeState::kButcher;
        host.LetIdleGo();
        return next;
      }
      next.at_ns = since_ns_ + times.butcher_ns;
      return next;
    }
    next.call_help = !drained;
    next.at_ns = now + times.look_ns;
    return next;
  }

  // A worker has just gone idle. Locks: the pool's.
  template <class Host>
  void WentIdle(Host& host) {
    if (state_ == TrusteeState::kButcher && host.AllIdle()) host.LetIdleGo();
  }

  // Something was put on the list of a pool without workers and without a manager.
  // Locks: the pool's.
  template <class Host>
  void NoWorkers(Host& host) {
    TakeRole(host);
    host.CallSoon();
  }

  // Child of fork: no worker is left, and no time has passed.
  void ResetAfterFork() {
    if (disassociated()) state_ = TrusteeState::kButcher;
    role_ = false;
  }

 private:
  template <class Host>
  void TakeRole(Host& host) {
    host.TakeRole();
    role_ = true;
  }

  // Guarded by the pool's lock.
  TrusteeState state_ = TrusteeState::kDone;
  bool role_ = false;      // has taken the manager role, and the event thread does not know yet
  uint64_t since_ns_ = 0;  // when the CPU left
};

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_TRUSTEE_H_
