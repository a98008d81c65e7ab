// CpuSet: a set of CPU numbers, up to 4096. Plain data, no allocation.

#ifndef CMWQ_RUNTIME_PLATFORM_CPU_SET_H_
#define CMWQ_RUNTIME_PLATFORM_CPU_SET_H_

#include <cstddef>
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

  bool Empty() const {
    for (uint64_t w : words_) {
      if (w != 0) return false;
    }
    return true;
  }
  bool operator==(const CpuSet& other) const {
    for (int i = 0; i < kMaxCpus / 64; ++i) {
      if (words_[i] != other.words_[i]) return false;
    }
    return true;
  }
  CpuSet operator&(const CpuSet& other) const {
    CpuSet both;
    for (int i = 0; i < kMaxCpus / 64; ++i) both.words_[i] = words_[i] & other.words_[i];
    return both;
  }
  bool SubsetOf(const CpuSet& other) const { return (*this & other) == *this; }

  // The kernel's list format: "0-3,8" (cpuset(7)); blanks and a final newline are allowed, an empty
  // list is the empty set. False, and *this unspecified, for anything else or a CPU beyond kMaxCpus.
  bool Parse(const char* list);
  // Writes the list and a NUL. Returns the bytes written without the NUL; what does not fit is cut at
  // a comma.
  size_t Format(char* out, size_t size) const;
  // From a mask as sched_setaffinity(2) takes it. False: a CPU beyond kMaxCpus.
  bool FromMask(const void* mask, size_t bytes);

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
