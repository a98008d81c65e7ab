// CpuSet: a set of CPU numbers, up to 4096. Plain data, no allocation.

#ifndef CMWQ_RUNTIME_PLATFORM_CPU_SET_H_
#define CMWQ_RUNTIME_PLATFORM_CPU_SET_H_

#include <atomic>
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
  CpuSet operator|(const CpuSet& other) const {
    CpuSet any;
    for (int i = 0; i < kMaxCpus / 64; ++i) any.words_[i] = words_[i] | other.words_[i];
    return any;
  }
  // Those of *this that `other` lacks.
  CpuSet operator-(const CpuSet& other) const {
    CpuSet rest;
    for (int i = 0; i < kMaxCpus / 64; ++i) rest.words_[i] = words_[i] & ~other.words_[i];
    return rest;
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
  // CPUs 0 to n - 1.
  static CpuSet First(int n) {
    CpuSet set;
    for (int cpu = 0; cpu < n; ++cpu) set.Add(cpu);
    return set;
  }

  const uint64_t* words() const { return words_; }
  static constexpr int kBytes = kMaxCpus / 8;

 private:
  friend class SharedCpuSet;
  uint64_t words_[kMaxCpus / 64] = {};
};

// A set that one thread changes while others ask. Never seen empty by Pick.
class SharedCpuSet {
 public:
  bool Has(int cpu) const {
    if (cpu < 0 || cpu >= CpuSet::kMaxCpus) return false;
    // acquire: pairs with the stores in Store; what was made for the CPU before is visible.
    return ((words_[cpu / 64].load(std::memory_order_acquire) >> (cpu % 64)) & 1) != 0;
  }
  // A copy. While the set changes it may be a mixture of both.
  CpuSet Load() const {
    CpuSet set;
    for (int i = 0; i < kWords; ++i) set.words_[i] = words_[i].load(std::memory_order_acquire);
    return set;
  }
  // `cpu` if it is in the set, else the next one that is, else the first.
  int Pick(int cpu) const {
    // Again: a set that moves from a high word to a low one meanwhile may look empty once.
    for (int from = cpu;; from = 0) {
      if (Has(cpu)) return cpu;
      const CpuSet set = Load();
      const int next = set.Next(from);
      if (next >= 0) return next;
    }
  }
  // One caller at a time; `set` is not empty.
  void Store(const CpuSet& set) {
    // What comes first, then what goes: a reader that scans in one direction finds something.
    for (int i = 0; i < kWords; ++i) {
      words_[i].fetch_or(set.words_[i], std::memory_order_release);  // pairs with the loads above
    }
    for (int i = 0; i < kWords; ++i) words_[i].store(set.words_[i], std::memory_order_release);
  }

 private:
  static constexpr int kWords = CpuSet::kMaxCpus / 64;
  std::atomic<uint64_t> words_[kWords] = {};  // AT(Store, Has)
};

// CPU that the caller runs on; a hint, it may change at once. vDSO or rseq, no system call.
int CurrentCpu();

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_CPU_SET_H_
