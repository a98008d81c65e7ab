// The process's gates, one per usable CPU, made at the first adoption.

#ifndef CMWQ_HOOKS_GATE_GATES_H_
#define CMWQ_HOOKS_GATE_GATES_H_

#include "hooks/gate/cpu_gate.h"

namespace cmwq::gate {

struct Gates {
  static constexpr int kMax = 256;
  CpuGate* gate[kMax];  // I: after publication
  int n;                // I: after publication
};

// Null before the first adoption, in a forked child, and where gates cannot be made.
Gates* CurrentGates();

}  // namespace cmwq::gate

#endif  // CMWQ_HOOKS_GATE_GATES_H_
