// Concurrency: the two numbers that decide whether a pool must wake somebody, and the hard transition
// between "the last running worker goes to sleep" and "work arrives".
//
//   queueing side                          sleeping side
//   1. put the item on the list (lock)     1. word: counted -> not counted
//   2. nr_pending := n      (seq_cst)      2. nr_running -= 1      (seq_cst)
//   3. read nr_running      (seq_cst)      3. read nr_pending      (seq_cst)
//   4. if it is <= 0: kick                 4. if nr_running was 1 and pending > 0: kick
//
// Steps 2 and 3 of both sides are totally ordered: at least one side sees the other's step 2, so an
// item never sits on the list with everybody asleep. With anything weaker both may read the old value
// (store buffering) and nobody kicks. Kick means: take the pool's lock and re-evaluate the predicates;
// a kick too many is harmless, one too few loses work.
//
// nr_running has a cache line of its own: workers write it at each block, queuers only read it.

#ifndef CMWQ_RUNTIME_POOL_CONCURRENCY_H_
#define CMWQ_RUNTIME_POOL_CONCURRENCY_H_

#include <cstdint>

#include "runtime/base/test_point.h"
#include "runtime/pool/state_word.h"

namespace cmwq::pool {

template <class Sync>
class BasicConcurrency {
 public:
  using Word = BasicStateWord<Sync>;

  // Sleeping side, steps 1-3. True: the caller must kick.
  bool Sleeping(Word& word) { return Apply(word.Sleep()); }
  // Detector found a counted worker asleep (steps 1-2 on its behalf; the caller asks nr_running() and
  // wakes). True: it was so and was changed. The count is lowered first and given back on failure: a
  // detector may lose the CPU for long at idle priority, and a count that stays one too high meanwhile
  // would stop the pool, while one too low starts a worker too many at worst.
  bool Presume(Word& word, uint32_t seen) {
    if (!Word::Counted(seen)) return false;
    nr_running_.fetch_sub(1, std::memory_order_seq_cst);  // pairs with SetPending
    if (word.Presume(seen) != 0) return true;
    nr_running_.fetch_add(1, std::memory_order_seq_cst);
    return false;
  }
  void Unpresume(Word& word, uint32_t seen) { Apply(word.Unpresume(seen)); }
  // Back from blocking. Never kicks: the count only rises.
  void Running(Word& word) { Apply(word.Run()); }
  // Flag edges. True: the caller must kick.
  bool SetFlags(Word& word, uint32_t flags) { return Apply(word.SetFlags(flags)); }
  // Sets them only while the word is `seen`, counted: the tick, which races with the worker's own hooks.
  bool SetFlagsIf(Word& word, uint32_t seen, uint32_t flags) {
    const int change = word.SetFlagsIf(seen, flags);
    Apply(change);  // the caller asks for a wake-up anyway
    return change != 0;
  }
  void ClearFlags(Word& word, uint32_t flags) { Apply(word.ClearFlags(flags)); }
  bool ReplaceFlags(Word& word, uint32_t clear, uint32_t set) {
    return Apply(word.ReplaceFlags(clear, set));
  }

  // Queueing side, steps 2-3, under the pool's lock. True: the caller must kick.
  bool SetPending(uint32_t n) {
    nr_pending_.store(n, std::memory_order_seq_cst);  // pairs with the load in Apply
    return nr_running_.load(std::memory_order_seq_cst) <= 0;  // pairs with the RMW in Apply
  }
  // The list got shorter: no order needed, a stale high value only costs a needless kick.
  void LowerPending(uint32_t n) { nr_pending_.store(n, std::memory_order_relaxed); }

  // A detector that paid in advance can make the sum low by one; nobody may act on the sign.
  int32_t nr_running() const {
    const int32_t n = nr_running_.load(std::memory_order_seq_cst);
    return n > 0 ? n : 0;
  }
  uint32_t nr_pending() const { return nr_pending_.load(std::memory_order_seq_cst); }

  // Tick: the sum over all state words differs from the counter by `drift` (sum - counter).
  void Repair(int32_t drift) { nr_running_.fetch_add(drift, std::memory_order_seq_cst); }
  int32_t RawRunning() const { return nr_running_.load(std::memory_order_seq_cst); }
  // Child of fork.
  void Reset() {
    nr_running_.store(0, std::memory_order_relaxed);
    nr_pending_.store(0, std::memory_order_relaxed);
  }

 private:
  bool Apply(int change) {
    if (change == 0) return false;
    CMWQ_JITTER(true);  // the word says one thing, the counter another
    // seq_cst: step 2 of the sleeping side; pairs with SetPending.
    const int32_t now = nr_running_.fetch_add(change, std::memory_order_seq_cst) + change;
    if (change > 0 || now > 0) return false;
    return nr_pending_.load(std::memory_order_seq_cst) > 0;  // step 3; pairs with SetPending
  }

  alignas(64) typename Sync::template Atomic<int32_t> nr_running_{0};   // AT(SetPending, Apply)
  alignas(64) typename Sync::template Atomic<uint32_t> nr_pending_{0};  // AT(SetPending, Apply)
};

using Concurrency = BasicConcurrency<sync::RealSync>;

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_CONCURRENCY_H_
