// What an item leaves behind in its worker's thread (kernel: the checks after the call in
// process_one_work): told once per function and put right, so that the next item is not hurt.

#ifndef CMWQ_RUNTIME_POOL_LEAK_CHECK_H_
#define CMWQ_RUNTIME_POOL_LEAK_CHECK_H_

#include <cmwq/cmwq.h>

#include <cstdint>

#include "runtime/platform/cpu_set.h"

namespace cmwq::pool {

// Attributes of the calling thread that an item may change by mistake.
class ThreadAttributes {
 public:
  // About ten system calls.
  void Read();
  // Gives the calling thread these attributes where it has others, but for its CPUs; returns what they
  // were, as text, or null. Context: worker, no locks held.
  const char* Restore() const;
  // The calling thread may run on other CPUs than these. The engine may have moved it.
  bool OnOtherCpus() const;
  const platform::CpuSet& cpus() const { return cpus_; }

 private:
  static constexpr int kNames = 16;
  uint64_t signals_ = 0;      // the kernel's signal set
  platform::CpuSet cpus_;
  char name_[kNames] = {};
  int nice_ = 0;
  int cancel_state_ = 0, cancel_type_ = 0;
};

// "<function> of queue <queue> left <what>; ...": once per function. Locks: none held.
void ReportLeak(cmwq_work_fn fn, const char* queue, const char* what);

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_LEAK_CHECK_H_
