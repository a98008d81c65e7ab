// Rung: the way in which a detector finds blocks that nobody announced, given what it was granted. The
// detector goes by it and `cmwq doctor` foretells it: there is no second opinion.

#ifndef CMWQ_HOOKS_DETECT_RUNG_H_
#define CMWQ_HOOKS_DETECT_RUNG_H_

#include <cstdint>

namespace cmwq::detect {

enum class Rung : uint8_t {
  kCanary,         // a SCHED_IDLE thread on the CPU, which reads the workers' state
  kCanaryByClock,  // the same without /proc: a worker whose CPU clock stands still sleeps
  kTick,           // a look every tick_ms at normal priority
  kTickByClock,
};

// A thread at idle priority that is not on its CPU would run while that CPU is busy and another idle,
// and one on its CPU at normal priority would take turns with the workers: both are needed.
constexpr Rung ChooseRung(bool placed, bool idle_class, bool task_stat) {
  if (placed && idle_class) return task_stat ? Rung::kCanary : Rung::kCanaryByClock;
  return task_stat ? Rung::kTick : Rung::kTickByClock;
}

constexpr bool IsTick(Rung rung) { return rung == Rung::kTick || rung == Rung::kTickByClock; }

constexpr const char* RungName(Rung rung) {
  switch (rung) {
    case Rung::kCanary:
      return "canary";
    case Rung::kCanaryByClock:
      return "canary by CPU clock";
    case Rung::kTick:
      return "tick";
    case Rung::kTickByClock:
      return "tick by CPU clock";
  }
  return "";
}

}  // namespace cmwq::detect

#endif  // CMWQ_HOOKS_DETECT_RUNG_H_
