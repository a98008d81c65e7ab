// The process's gates, one per CPU, made at the first adoption and when CPUs come.

#ifndef CMWQ_HOOKS_GATE_GATES_H_
#define CMWQ_HOOKS_GATE_GATES_H_

#include "hooks/gate/cpu_gate.h"

namespace cmwq::gate {

struct Gates {
  static constexpr int kMax = 256;
  CpuGate* gate[kMax];  // I: those below n
  std::atomic<int> n;   // AT(SetCpus, CurrentGates): grows when CPUs come
};

// Null before the first adoption, in a forked child, and where gates cannot be made.
Gates* CurrentGates();
// Makes the gate of one more CPU; the last step is the count. False: it cannot be made.
bool AddGate(Gates* gates, int cpu);
// The calling thread's member, or null: no thread of the gate.
Member* Self();
// Its CPU is our choice, and the program has not placed it since.
bool IsPinned(const Member* m);
// The mask that a member has without us.
platform::CpuSet OwnMask(const Member* m);
// The calling thread's membership ends. Its affinity is the caller's affair.
void Leave(Member* m);
// The mask that the program gave its main thread; -EPERM while that says no more than the process's CPUs.
int ProgramAffinity(platform::CpuSet* set);
// HostOps::create_thread, if there is one.
bool HasHostThreads();
int CreateHostThread(void* (*fn)(void*), unsigned long stack);

}  // namespace cmwq::gate

#endif  // CMWQ_HOOKS_GATE_GATES_H_
