// CpuSet: a set of CPU numbers, up to 4096. Plain data, no allocation.

#ifndef CMWQ_RUNTIME_PLATFORM_CPU_SET_H_
#define CMWQ_RUNTIME_PLATFORM_CPU_SET_H_

#include <cstdint>

#include "runtime/base/sys.h"

namespace cmwq::platform {

class CpuSet {
 public:
  static constexpr int kMaxCpus = 4096;

  bool Has(int cpu) const {
    return cpu >= 0 && cpu < kMaxCpus && ((words_[cpu / 64] >> (cpu % 64)) & 1) != 0;
  }
  void Add(int cpu) {
    if (cpu >= 0 && cpu < kMaxCpus) words_[cpu / 64] |= uint64_t{1} << (cpu % 64);
  }
  int Count() const {
    int n = 0;
    for (uint64_t w : words_) n += __builtin_popcountll(w);
    return n;
  }
  // Smallest CPU >= from, or -1.
  int Next(int from) const {
    for (int cpu = from < 0 ? 0 : from; cpu < kMaxCpus;) {
      const uint64_t rest = words_[cpu / 64] >> (cpu % 64);
      if (rest != 0) return cpu + __builtin_ctzll(rest);
      cpu = (cpu / 64 + 1) * 64;
    }
    return -1;
  }

  // The mask of thread `tid` (0: the caller). 0 or -errno.
  int LoadAffinity(int tid) {
    for (uint64_t& w : words_) w = 0;
    const long n = base::Sys(SYS_sched_getaffinity, tid, sizeof(words_), words_);
    return n < 0 ? static_cast<int>(n) : 0;
  }
  // Places thread `tid` on the set. 0 or -errno (-EINVAL: no usable CPU left in it; -EPERM: refused).
  int StoreAffinity(int tid) const {
    return static_cast<int>(base::Sys(SYS_sched_setaffinity, tid, sizeof(words_), words_));
  }
  static CpuSet Of(int cpu) {
    CpuSet set;
    set.Add(cpu);
    return set;
  }

  const uint64_t* words() const { return words_; }
  static constexpr int kBytes = kMaxCpus / 8;

 private:
  uint64_t words_[kMaxCpus / 64] = {};
};

// CPU that the caller runs on; a hint, it may change at once. vDSO or rseq, no system call.
int CurrentCpu();

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_CPU_SET_H_
