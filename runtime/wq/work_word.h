// The packed state of one work item.
//
//   bit  0      PENDING: owned by a queueing; set by whoever queues, cleared before the function runs
//        1      INACTIVE: on its queue's inactive list (over max_active), or a barrier
//        2      QUEUED: on a list of pool `id`; changes only under that pool's lock
//        3      LINKED: the next node on the list is a barrier that follows this item
//        4-7    flush colour
//        8-23   disable depth
//        24-39  pool: where it is queued, else where it was executed last (0xffff: nowhere yet)
//        40     TIMER: PENDING is held by an armed timer; changes only under the timer lock
//        41     FRESH: queued for the first time since it was initialised
//        42-63  generation: bumped by each queueing, so that a stale compare-and-swap fails
//
// PENDING is ownership, and it is never in nobody's hands: it is set together with QUEUED (under the
// pool's lock) or TIMER (under the timer lock). A canceller that finds it set therefore knows whose
// lock to take and never spins on a thread that was preempted between claiming and queueing; the
// kernel closes the same gap by disabling interrupts.

#ifndef CMWQ_RUNTIME_WQ_WORK_WORD_H_
#define CMWQ_RUNTIME_WQ_WORK_WORD_H_

#include <cmwq/cmwq.h>

#include <atomic>
#include <cstdint>

#include "runtime/pool/work_link.h"

namespace cmwq::wq {

struct Word {
  static constexpr uint64_t kPending = 1u << 0;
  static constexpr uint64_t kInactive = 1u << 1;
  static constexpr uint64_t kQueued = 1u << 2;
  static constexpr uint64_t kLinked = pool::work::kLinkedBit;
  static constexpr int kColourShift = 4;
  static constexpr uint64_t kColourMask = uint64_t{0xf} << kColourShift;
  static constexpr int kDisableShift = 8;
  static constexpr uint64_t kDisableOne = uint64_t{1} << kDisableShift;
  static constexpr uint64_t kDisableMask = uint64_t{0xffff} << kDisableShift;
  static constexpr unsigned kMaxDisable = 0xffff;
  static constexpr int kPoolShift = 24;
  static constexpr uint64_t kPoolMask = uint64_t{0xffff} << kPoolShift;
  static constexpr uint64_t kTimer = uint64_t{1} << 40;
  static constexpr uint64_t kFresh = pool::work::kFreshBit;
  static constexpr uint64_t kGenerationOne = uint64_t{1} << 42;
  static constexpr uint16_t kNoPool = 0xffff;
  static constexpr uint64_t kIdle = uint64_t{kNoPool} << kPoolShift;

  static uint16_t Pool(uint64_t w) { return static_cast<uint16_t>((w & kPoolMask) >> kPoolShift); }
  static int Colour(uint64_t w) { return static_cast<int>((w & kColourMask) >> kColourShift); }
  static bool Disabled(uint64_t w) { return (w & kDisableMask) != 0; }
  static unsigned DisableDepth(uint64_t w) {
    return static_cast<unsigned>((w & kDisableMask) >> kDisableShift);
  }

  // The word of an item that is queued to `pool` from the idle word `w`.
  static uint64_t Queued(uint64_t w, uint16_t pool, int colour, bool inactive) {
    return (w & kDisableMask) | kPending | kQueued | (inactive ? kInactive : 0) |
           (Pool(w) == kNoPool ? kFresh : 0) |
           (static_cast<uint64_t>(colour) << kColourShift) |
           (static_cast<uint64_t>(pool) << kPoolShift) |
           ((w & ~(kGenerationOne - 1)) + kGenerationOne);
  }
  // The word after leaving the queue: pool, disable depth and generation stay.
  static constexpr uint64_t kLeaveMask =
      ~(kPending | kInactive | kQueued | kLinked | kColourMask | kTimer);
};

inline std::atomic_ref<uint64_t> WordOf(const struct cmwq_work* work) {
  return std::atomic_ref<uint64_t>(const_cast<struct cmwq_work*>(work)->word_);
}

}  // namespace cmwq::wq

#endif  // CMWQ_RUNTIME_WQ_WORK_WORD_H_
