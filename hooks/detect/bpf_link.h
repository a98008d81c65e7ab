// The connection to the BPF program that watches this process's threads, and the memory that both
// see.
//
// The program is loaded by somebody with CAP_BPF and CAP_PERFMON (tools/bpf), who hands its
// descriptors over a socket that CMWQ_BPF names: "fd:N", a socket that was inherited, or the path
// of one. The library itself needs no privilege and no libbpf. Descriptors do not stay in the
// program's table: a thread with a table of its own holds them, and with its last one the kernel
// detaches the program.

#ifndef CMWQ_HOOKS_DETECT_BPF_LINK_H_
#define CMWQ_HOOKS_DETECT_BPF_LINK_H_

#include <cstdint>

#include "hooks/detect/bpf_abi.h"

namespace cmwq::detect {

// What was received. Descriptors are of the caller's table.
struct BpfHandles {
  int slots = -1;
  int controls = -1;
  int link = -1;
  int doorbell[CMWQ_BPF_MAX_CPUS] = {};
  int nr_doorbells = 0;
};

// Receives the handles over the socket that `where` names. 0 or errno; *what says what went wrong.
// Context: blocks for a few seconds at most.
int ReceiveBpf(const char* where, BpfHandles* handles, const char** what);
void CloseBpf(BpfHandles* handles);

// The maps of a program, mapped. Read and written by the program at any time.
struct BpfMemory {
  cmwq_bpf_slot* slots = nullptr;
  cmwq_bpf_control* controls = nullptr;
};
bool MapBpf(const BpfHandles& handles, BpfMemory* memory);
void UnmapBpf(BpfMemory* memory);

// A place for thread `tid`, whose items are for `cpu`; null: all places where it could be are
// taken. Context: the thread itself: registered by another while it sleeps it would look awake.
cmwq_bpf_slot* ClaimSlot(const BpfMemory& memory, int tid, int cpu);
void ReleaseSlot(cmwq_bpf_slot* slot);
// The slot of a registered thread, or null. Context: any.
cmwq_bpf_slot* FindSlot(const BpfMemory& memory, int tid);

// The process's connection, made by the first call. Null: none to be had, and why was said in one
// line. Context: no locks held; blocks, and starts threads.
const BpfMemory* ConnectBpf();
// The connection, if there is one already. Context: any.
const BpfMemory* ConnectedBpf();
// Child of fork: the parent's program does not watch it. Another connection may be made.
void ForgetBpf();

}  // namespace cmwq::detect

#endif  // CMWQ_HOOKS_DETECT_BPF_LINK_H_
