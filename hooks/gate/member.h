// Member: an adopted thread of the server, the gate's worker. Lives in reserved pages of its gate and
// is never freed, only re-used.

#ifndef CMWQ_HOOKS_GATE_MEMBER_H_
#define CMWQ_HOOKS_GATE_MEMBER_H_

#include <atomic>
#include <cstdint>

#include "hooks/gate/gate.h"
#include "runtime/base/intrusive_list.h"
#include "runtime/platform/cpu_set.h"
#include "runtime/platform/stats_layout.h"
#include "runtime/pool/state_word.h"
#include "runtime/pool/switch_audit.h"

namespace cmwq::gate {

class CpuGate;

// What a member at the boundary is told through its futex word.
enum WaitWord : int32_t {
  kAway = 0,     // not at the boundary
  kWaiting = 1,  // parked, or leading
  kPoked = 2,    // look again: there may be something to grant or to lead
  kGranted = 3,  // may run; counted in nr_running by the granter already
};

struct Member {
  base::ListNode entry;                // L: of the gate: ready list or free list; first
  CpuGate* gate;                       // I: after the slot's first use
  pool::StateWord* word;               // I: after the slot's first use
  int slot;                            // I: after the slot's first use
  std::atomic<int> tid;                // AT(Adopt, ListSuspects): 0 while the slot is free
  std::atomic<int32_t> wait;           // AT(Grant, Nudge, SleepParked): futex
  std::atomic<uint32_t> wait_seq;      // AT(WaitFor, MarkEvents): tells a stale event from a fresh one
  bool ready;                          // L: of the gate: on the ready list
  uint64_t ready_since_ns;             // L: of the gate
  uint64_t ready_round;                // L: of the gate: pass of Dispatch in which it became ready
  bool cancellable;                    // S: the present wait is a cancellation point
  bool in_block;                       // S: EnterSlow did something that LeaveSlow must undo
  bool pinned;                         // S: bound to the gate's CPU by us
  std::atomic<bool> placed;            // AT(NoteOwnPlacement, WaitInput): relaxed, it has to leave
  bool follows;                        // S: the program may use what the process may; else own_mask; read by VirtualAffinity
  uint32_t layout;                     // S: of the CPUs, as of its last look (cpus.h)
  const void* frame;                   // S: of its sleep in the present wait; null: none
  platform::CpuSet own_mask;           // S: mask before we pinned it; read by VirtualAffinity
  platform::StatsWorker* stats;        // I: after the slot's first use; null: it has no row
  pool::SwitchAudit* audit;            // S: null: its switches are not counted
  // What it is at, for those who read the page. Written under the gate's lock.
  void NoteBoundary(bool waits) {
    if (stats != nullptr) stats->function.store(waits ? 0 : 1, std::memory_order_relaxed);
  }
  void NoteRequest() {
    if (stats == nullptr) return;
    stats->executed.store(stats->executed.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    NoteBoundary(false);
  }
  // By the member itself.
  void NoteBlock() {
    if (stats == nullptr) return;
    stats->blocks.store(stats->blocks.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  void NoteUnblock() {
    if (stats == nullptr) return;
    stats->unblocks.store(stats->blocks.load(std::memory_order_relaxed), std::memory_order_relaxed);
  }

  // Statistics, single writer, relaxed.
  std::atomic<uint64_t> blocks[static_cast<int>(Hook::kCount)];  // AT(EnterSlow, Report): relaxed
};

// What the member's audit is told; a request counts as an item, the boundary as the engine's business.
inline void EnterPhase(Member* m, pool::Phase phase) {
  if (__builtin_expect(m->audit != nullptr, 0)) m->audit->Enter(phase, nullptr);
}

}  // namespace cmwq::gate

#endif  // CMWQ_HOOKS_GATE_MEMBER_H_
