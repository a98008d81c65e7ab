// The kernel's record of one thread's context switches: a perf ring of PERF_RECORD_SWITCH.
//
// Unprivileged while kernel.perf_event_paranoid is at most 2. Without wake-ups, time stamps and ids
// a record is a bare header of 8 bytes, so a page holds 512 and nobody is disturbed; a switch out
// says whether the thread wanted to go on (preempted) or not (slept).
//
// The descriptor is closed at once: the mapping keeps the event alive, so programs that close
// everything do not hurt it and their limit does not count it.

#ifndef CMWQ_HOOKS_DETECT_PERF_RING_H_
#define CMWQ_HOOKS_DETECT_PERF_RING_H_

#include <cstddef>
#include <cstdint>

struct perf_event_mmap_page;

namespace cmwq::detect {

struct SwitchCounts {
  uint64_t slept = 0;      // switched out of its own will
  uint64_t preempted = 0;  // switched out although runnable
  uint64_t lost = 0;       // records that the ring had no room for, or that make no sense
};

// Not thread-safe: one reader at a time.
class PerfRing {
 public:
  // Records the calling thread's switches from now on. 0 or errno, and then *what names the call
  // that was refused.
  int Open(const char** what);
  void Close();
  // Child of fork: the mapping was not inherited.
  void Forget() { meta_ = nullptr; }
  bool open() const { return meta_ != nullptr; }

  // Adds what was recorded since the last Read and makes room for more. Nothing while it is not
  // open.
  void Read(SwitchCounts* counts);
  // Half of it waits to be read.
  bool HalfFull() const;

  // For tests: a ring in memory. `size` is a power of two.
  void Adopt(perf_event_mmap_page* meta, const void* data, size_t size);

 private:
  uint64_t Word(uint64_t at) const;

  perf_event_mmap_page* meta_ = nullptr;  // S: of whoever may read
  const char* data_ = nullptr;            // S: as meta_
  size_t size_ = 0;                       // S: as meta_; bytes of data
  uint64_t tail_ = 0;  // S: as meta_; what was read, the kernel's view is in meta_
};

}  // namespace cmwq::detect

#endif  // CMWQ_HOOKS_DETECT_PERF_RING_H_
