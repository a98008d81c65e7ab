// The gate's tick: one thread of normal priority that looks at all gates every tick_ms, but only while
// requests wait and nobody leads. Dormant otherwise: an idle server has no wake-ups.

#ifndef CMWQ_HOOKS_GATE_TICK_H_
#define CMWQ_HOOKS_GATE_TICK_H_

#include <atomic>
#include <cstdint>

namespace cmwq::gate {

extern std::atomic<int32_t> g_tick_state;  // AT(ArmTick, TickMain): 0 dormant, 1 awake; futex
void WakeTick();

// Context: any, under kGate. One load while the tick is awake.
inline void ArmTick() {
  // seq_cst: pairs with the store of "dormant" in TickMain, which then asks every gate once more.
  if (g_tick_state.load(std::memory_order_seq_cst) == 0) WakeTick();
}

// Body of the thread.
void* TickMain(void*);

}  // namespace cmwq::gate

#endif  // CMWQ_HOOKS_GATE_TICK_H_
