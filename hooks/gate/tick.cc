#include "hooks/gate/tick.h"

#include <sys/prctl.h>

#include "hooks/gate/cpus.h"
#include "hooks/gate/gates.h"
#include "runtime/base/conf.h"
#include "runtime/base/sys.h"
#include "runtime/platform/env.h"
#include "runtime/pool/switch_audit.h"

namespace cmwq::gate {

constinit std::atomic<int32_t> g_tick_state{0};

void WakeTick() {
  int32_t dormant = 0;
  if (g_tick_state.compare_exchange_strong(dormant, 1, std::memory_order_seq_cst)) {
    base::FutexWake(&g_tick_state, 1);
  }
}

namespace {

// Quiet rounds before the thread goes dormant: under load it is then woken once, not per request.
constexpr int kLinger = 5;

bool TickAll() {
  pool::DrainSwitchAudits();
  Gates* const gates = CurrentGates();
  bool active = false;
  for (int i = 0; gates != nullptr && i < gates->n; ++i) {
    if (gates->gate[i]->Tick()) active = true;
  }
  return active;
}

}  // namespace

void* TickMain(void*) {
  platform::NameSelf("wq/tick");
  int quiet = 0;
  for (;;) {
    while (g_tick_state.load(std::memory_order_seq_cst) == 0) base::FutexWait(&g_tick_state, 0);
    const struct timespec ts = base::ToTimespec(base::g_conf.tick_ms * base::kNsPerMs);
    if (!CpuLookWanted()) base::Sys(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &ts, nullptr);
    LookAtCpus();
    if (TickAll()) {
      quiet = 0;
      continue;
    }
    if (++quiet < kLinger) continue;
    quiet = 0;
    // seq_cst: pairs with the load in ArmTick. Either the armer sees "dormant" and wakes us, or we see
    // what it left.
    g_tick_state.store(0, std::memory_order_seq_cst);
    if (TickAll() || CpuLookWanted()) g_tick_state.store(1, std::memory_order_seq_cst);
  }
}

}  // namespace cmwq::gate
