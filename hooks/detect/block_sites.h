// Where threads sleep without a word: samples that a detector takes of a sleeper before it acts.
//
// From /proc: the system call, the user-space address behind it, the kernel function. No signal, no
// stack: the address and the work function say enough to find the line, and both are free of charge
// for the sleeper.

#ifndef CMWQ_HOOKS_DETECT_BLOCK_SITES_H_
#define CMWQ_HOOKS_DETECT_BLOCK_SITES_H_

#include <atomic>
#include <cstdint>

#include "runtime/pool/switch_audit.h"

namespace cmwq::detect {

// Fills nr, pc and wchan. False: it runs, is gone, or /proc does not tell.
bool ReadBlockSite(int tid, pool::BlockSite* site);
// The text of /proc/<pid>/syscall. False: the thread runs, or that is no such text.
bool ParseSyscall(const char* text, pool::BlockSite* site);

// The thread's voluntary switches since its start, from /proc. False: it is gone, or /proc is not
// there.
bool ReadNvcsw(int tid, uint64_t* value);

// Counts sites. Lock-free: detectors write it at idle priority.
class SiteTable {
 public:
  void Count(const pool::BlockSite& site);
  // The most frequent first; returns how many, at most max.
  int Copy(pool::BlockSite* out, int max) const;
  // Samples that found no place.
  uint64_t overflow() const { return overflow_.load(std::memory_order_relaxed); }
  void Reset();

 private:
  static constexpr int kEntries = 64;
  struct Entry {
    std::atomic<uint64_t> key{0};      // AT(Count, Count): hash; 0: free
    std::atomic<bool> ready{false};    // AT(Count, Copy): what follows is written
    std::atomic<uint64_t> samples{0};  // AT(Count, Copy): relaxed, a count
    cmwq_work_fn fn = nullptr;         // I: once ready, as all that follows
    long nr = 0;                       // I
    const void* pc = nullptr;          // I
    char wchan[sizeof(pool::BlockSite::wchan)] = {};  // I
  };
  Entry entries_[kEntries];           // AT: see Entry
  std::atomic<uint64_t> overflow_{0};  // AT(Count, overflow): relaxed, a count
};

// A detector found `tid` asleep without a word. Does nothing unless switches are counted, and then
// at most once in a millisecond. Context: detectors; makes system calls.
void NoteBlockSite(int tid);

}  // namespace cmwq::detect

#endif  // CMWQ_HOOKS_DETECT_BLOCK_SITES_H_
