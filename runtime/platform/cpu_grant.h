// CpuGrant: what the system lets this process use, and how to find out.
//
// Four facts: the CPUs that are online; the affinity mask of the process, that is of its main thread (our
// own threads are placed by us and say nothing); the cpuset; the CPU quota (cpu.max, or cpu.cfs_quota_us)
// of its cgroup and of those above. Only the first sends an event when it changes.

#ifndef CMWQ_RUNTIME_PLATFORM_CPU_GRANT_H_
#define CMWQ_RUNTIME_PLATFORM_CPU_GRANT_H_

#include <cstdint>

#include "runtime/platform/cpu_set.h"

namespace cmwq::platform {

struct CpuGrant {
  CpuSet cpus;
  uint32_t quota_milli = 0;  // CPU time per time in thousandths, rounded up; 0: not limited

  bool operator==(const CpuGrant& other) const {
    return cpus == other.cpus && quota_milli == other.quota_milli;
  }
};

// The mask of the process's main thread, asked of the kernel. 0 or -errno.
int ProcessAffinity(CpuSet* set);

// Reads the grant. Not thread-safe.
class CpuGrantReader {
 public:
  // `root` stands for "/" (the product: ""). `affinity` reads the mask of the process, 0 or -errno.
  constexpr CpuGrantReader(const char* root, int (*affinity)(CpuSet* set))
      : root_(root), affinity_(affinity) {}

  // False: nothing is known, *grant is unchanged. A fact that cannot be read, or that leaves nothing of the
  // others (they were read one after the other, while all of them changed), does not count.
  // Some ten system calls.
  bool Read(CpuGrant* grant);
  // Child of fork: another thread of the parent may have been reading.
  void Forget() { known_[0] = '\0'; }

 private:
  static constexpr int kPath = 512;
  // Where a hierarchy is mounted, and our place below that.
  struct Mount {
    char path[kPath];  // mount point; empty: not mounted, or too long a path
    char root[kPath];  // what of the hierarchy is mounted there
    char own[kPath];   // our cgroup below `path`: empty or "/…"
  };
  enum Hierarchy { kUnified, kCpuset, kCpu, kHierarchies };

  bool FindPlace();
  void FindMounts();
  void TakeMount(char* line);
  void TakeCgroup(char* line);
  bool ReadCpuset(CpuSet* set) const;
  uint32_t ReadQuota() const;
  bool ReadAt(const Mount& mount, const char* own, const char* file, char* text, size_t size) const;

  const char* const root_;                // I
  int (*const affinity_)(CpuSet* set);    // I
  char known_[2048] = {};                 // S: /proc/self/cgroup as of FindMounts
  Mount mounts_[kHierarchies] = {};       // S
};

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_CPU_GRANT_H_
