// What the gate needs from the library it lives in, without the gate knowing that library: the
// owner of the process hooks (the preload, or a test) hands these functions over before Init().

#ifndef CMWQ_HOOKS_GATE_HOST_H_
#define CMWQ_HOOKS_GATE_HOST_H_

namespace cmwq::gate {

struct HostOps {
  // I: makes the calling thread call ThreadExit() when it ends. Idempotent; allocates nothing.
  void (*arm_thread_exit)();
  // I: starts a detached thread with every signal blocked that bypasses the hooks. `stack` is its
  // size in bytes, 0 for the default. Returns 0 or an error number.
  int (*create_thread)(void* (*fn)(void*), void* arg, unsigned long stack);
};

// Context: the constructor, before Init(). The functions must stay valid for the process's life.
void SetHost(const HostOps& ops);

}  // namespace cmwq::gate

#endif  // CMWQ_HOOKS_GATE_HOST_H_
