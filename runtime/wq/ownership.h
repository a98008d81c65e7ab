// The PENDING protocol: who has an item, decided by one compare-and-swap on its word (work_word.h).
//
// Templates on the reference to the word (std::atomic_ref in the product) and on a host that knows pools,
// lists and locks, so that tests/model runs these very functions under a deterministic scheduler.
//
//   idle --ClaimQueued--> QUEUED --Leave (a worker starts it)--> idle
//   idle --ClaimTimer--> TIMER --TimerToQueued--> QUEUED
//   QUEUED, TIMER --Steal--> idle
//
// QUEUED changes only under the lock of the pool that the word names, TIMER only under the timer lock.
// The disable depth may change at any time, in any state.

#ifndef CMWQ_RUNTIME_WQ_OWNERSHIP_H_
#define CMWQ_RUNTIME_WQ_OWNERSHIP_H_

#include <atomic>
#include <cstdint>

#include "runtime/wq/work_word.h"

namespace cmwq::wq {

inline bool MayNotQueue(uint64_t word) { return (word & Word::kPending) != 0 || Word::Disabled(word); }

// Reads the word of an item that is to be queued. False: it is pending or disabled.
template <class Ref>
bool ReadIdle(Ref ref, uint64_t* word) {
  *word = ref.load(std::memory_order_relaxed);
  if (!MayNotQueue(*word)) return true;
  // A refusal must be as ordered as a success: the execution that is still to come has to see the
  // caller's stores. Pairs with the fetch_and in Leave.
  *word = ref.fetch_or(0, std::memory_order_seq_cst);
  return !MayNotQueue(*word);
}

// The item is nobody's from here on: neither the list nor the timer has it. Returns the word before.
// Locks: of the pool that the word names, or the timer lock.
template <class Ref>
uint64_t Leave(Ref ref) {
  // seq_cst, twice needed by a worker that starts the item: what the queuer did before is visible before
  // PENDING is seen clear, and the function's loads come after it, so that a queuer who was told
  // "pending already" is not missed. Pairs with the read-modify-writes in ReadIdle and ClaimQueued.
  return ref.fetch_and(Word::kLeaveMask, std::memory_order_seq_cst);
}

// Locks the pool that must take the item. If the item still runs on the pool that had it last, for the
// same queue, it goes there: one item is never executed twice at once. The host supplies
//   LastPool(word)      the pool of the last execution if it is to be asked, else null
//   TargetPool()        where the caller wants the item
//   Lock(p), Unlock(p)
//   RunsOn(p)           the item is being executed there for this queue; under the lock of p
//   Redirect(p)         called under the lock of the pool that was chosen instead
//   GoTo(p)             called under the lock of the target. False: it takes nothing any more, and
//                       TargetPool names another now
// Locks: returns with the lock of the chosen pool held; never two at once.
template <class Host>
void LockTarget(Host& host, uint64_t word) {
  for (;;) {
    auto* const target = host.TargetPool();
    auto* const last = host.LastPool(word);
    if (last != nullptr && last != target) {
      host.Lock(last);
      if (host.RunsOn(last)) {
        host.Redirect(last);
        return;
      }
      host.Unlock(last);
    }
    host.Lock(target);
    if (host.GoTo(target)) return;
    host.Unlock(target);
  }
}

// Claims an idle item and puts it on a list. False: pending, disabled or refused. Beside the above the
// host supplies
//   Refused()           the queue takes nothing from this thread
//   QueuedWord(word)    the word that the item is to have; under the chosen pool's lock
//   Enqueue()           puts the item, which is the caller's now, on a list
//   UnlockChosen(), UnlockAndWake()
template <class Ref, class Host>
bool ClaimQueued(Ref ref, Host& host) {
  for (;;) {
    uint64_t word;
    if (!ReadIdle(ref, &word) || host.Refused()) return false;
    LockTarget(host, word);
    const uint64_t queued = host.QueuedWord(word);
    // The generation in `word` makes this fail if the item was queued and run since it was read: then
    // it may be running elsewhere, and the pool that is locked may be the wrong one.
    if (ref.compare_exchange_strong(word, queued, std::memory_order_seq_cst)) {
      host.Enqueue();
      host.UnlockAndWake();
      return true;
    }
    host.UnlockChosen();
  }
}

// Claims an idle item for the timer; the caller arms it. False: pending or disabled.
// Locks: timer lock held.
template <class Ref>
bool ClaimTimer(Ref ref) {
  uint64_t word;
  for (;;) {
    if (!ReadIdle(ref, &word)) return false;
    if (ref.compare_exchange_weak(word, word | Word::kPending | Word::kTimer,
                                  std::memory_order_seq_cst)) {
      return true;
    }
  }
}

// The timer has fired: its PENDING becomes the queue's. Locks: timer lock held. The host is as for
// ClaimQueued.
template <class Ref, class Host>
void TimerToQueued(Ref ref, Host& host) {
  if (host.Refused()) {
    // The token must not leak: a leaked PENDING hangs the next cancel for ever.
    Leave(ref);
    return;
  }
  uint64_t word = ref.load(std::memory_order_relaxed);
  LockTarget(host, word);
  // Only the disable depth can change under us: the timer lock, which we hold, owns the rest.
  while (!ref.compare_exchange_weak(word, host.QueuedWord(word), std::memory_order_seq_cst)) {
  }
  host.Enqueue();
  host.UnlockAndWake();
}

// Takes the PENDING instance, wherever it is (kernel: try_to_grab_pending). True if there was one. Never
// spins: PENDING is always under a lock that the word names. The host supplies
//   LockTimer(), UnlockTimer(), Disarm()
//   PoolOf(word)        the pool that the word names
//   Lock(p), Unlock(p)
//   Dequeue(word)       takes the item off its list; under the pool's lock
//   Dequeued(word)      accounts for it; must not look at the item, which is left by then
template <class Ref, class Host>
bool Steal(Ref ref, Host& host) {
  for (;;) {
    uint64_t word = ref.load(std::memory_order_acquire);
    if ((word & Word::kPending) == 0) return false;
    if ((word & Word::kTimer) != 0) {
      host.LockTimer();
      const bool ours = (ref.load(std::memory_order_relaxed) & Word::kTimer) != 0;
      if (ours) {
        host.Disarm();
        Leave(ref);
      }
      host.UnlockTimer();
      if (ours) return true;
      continue;
    }
    auto* const pool = host.PoolOf(word);
    host.Lock(pool);
    word = ref.load(std::memory_order_relaxed);
    // Under the lock of the pool that the word names, "queued here" cannot change.
    const bool ours = (word & Word::kQueued) != 0 && host.PoolOf(word) == pool;
    if (ours) {
      host.Dequeue(word);
      Leave(ref);
      host.Dequeued(word);
    }
    host.Unlock(pool);
    if (ours) return true;
  }
}

// Finds the instance of an item that a flush must wait for, and lets the host plant a barrier behind it.
// False: there is none. The host supplies
//   PoolOf(word), Lock(p), Unlock(p)
//   Plant(p, word)      false: neither queued nor running on p; under the lock of p
template <class Ref, class Host>
bool PlantBehind(Ref ref, Host& host) {
  for (;;) {
    const uint64_t word = ref.load(std::memory_order_acquire);
    const uint16_t id = Word::Pool(word);
    if (id == Word::kNoPool) return false;
    auto* const pool = host.PoolOf(word);
    host.Lock(pool);
    const uint64_t now = ref.load(std::memory_order_relaxed);
    // Queued elsewhere in between: what runs there is what must be waited for.
    const bool here = Word::Pool(now) == id;
    const bool planted = here && host.Plant(pool, now);
    host.Unlock(pool);
    if (here) return planted;
  }
}

// False: the depth is at its limit and stays.
template <class Ref>
bool RaiseDisable(Ref ref) {
  uint64_t word = ref.load(std::memory_order_relaxed);
  do {
    if (Word::DisableDepth(word) == Word::kMaxDisable) return false;
  } while (!ref.compare_exchange_weak(word, word + Word::kDisableOne, std::memory_order_seq_cst));
  return true;
}

// The depth that is left, or -1: it was not disabled.
template <class Ref>
int LowerDisable(Ref ref) {
  uint64_t word = ref.load(std::memory_order_relaxed);
  do {
    if (!Word::Disabled(word)) return -1;
  } while (!ref.compare_exchange_weak(word, word - Word::kDisableOne, std::memory_order_seq_cst));
  return static_cast<int>(Word::DisableDepth(word)) - 1;
}

}  // namespace cmwq::wq

#endif  // CMWQ_RUNTIME_WQ_OWNERSHIP_H_
