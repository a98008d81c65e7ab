// The blocks that the detection table measures: ways for a thread to leave the CPU, each with a way
// for another thread to end it.
//
// The stamp of a block is NowNs() taken directly before the instruction, or the library call, that
// blocks; 30 ns lie between the two. Three kinds differ, and say so where they are defined: the
// resolver, whose own work would count otherwise, and those whose lock must first be taken by
// others.

#ifndef CMWQ_BENCH_DETECTION_BLOCKS_H_
#define CMWQ_BENCH_DETECTION_BLOCKS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace cmwq::bench {

// Everything that kinds need of their surroundings.
struct BlockSetup {
  uint64_t hold_ns;           // how long a block must last at least if nobody ends it
  int other_cpu;              // for helper threads
  int scratch_fd = -1;        // file of kScratchBytes on a real disk; -1: none
  bool own_resolver = false;  // OwnResolver succeeded
};

inline constexpr size_t kScratchBytes = size_t{64} << 20;

// One block after another, of one kind. Prepare and Clear: the measuring thread, while nobody is
// blocked. Enter: the thread that blocks. Release: whoever comes next, or the measuring thread if
// nobody came; any number of times.
class Block {
 public:
  virtual ~Block() = default;
  // False: this one block cannot be made, the sample is left out.
  bool Prepare() {
    released_.store(false, std::memory_order_relaxed);
    return DoPrepare();
  }
  virtual void Enter(uint64_t* left) = 0;
  void Release() {
    if (released_.exchange(true, std::memory_order_acq_rel)) return;
    if (!DoRelease()) released_.store(false, std::memory_order_release);
  }
  virtual void Clear() {}
  // The stamp, if it was another than Enter's.
  virtual uint64_t Left(uint64_t left) const { return left; }

 protected:
  virtual bool DoPrepare() { return true; }
  // False: there is nothing to release yet, ask again.
  virtual bool DoRelease() { return true; }

 private:
  std::atomic<bool> released_{false};  // AT(Release, Release, Prepare)
};

// `made` is null and *why says what is missing where a kind cannot be had.
struct BlockKind {
  const char* key;   // for --rows
  const char* name;  // in the table
  std::unique_ptr<Block> (*make)(const BlockSetup& setup, std::string* why);
};

// Announced: the kind brackets itself, or is a wrapper of the library.
extern const BlockKind kAnnouncedFutex, kAnnouncedIoRead, kAnnouncedIoSleep, kAnnouncedScoped;
// The same waits without announcement, and everything else.
extern const BlockKind kFutex, kAsmSleep, kAsmRead, kLibcRead, kLibcSleep, kDiskFault, kUserFault,
    kResolver, kStdio, kLoader, kPipeMutex, kInodeLock, kFileLock, kMmapLock, kUring;

// Namespaces of our own in which /etc/resolv.conf names a server on loopback that nobody runs but
// us. The calling process must have one thread. False: refused.
bool OwnResolver();

// A file of kScratchBytes in `folder`, written and unlinked. -1: the folder is in memory, or it
// fails.
int MakeScratch(const std::string& folder);

}  // namespace cmwq::bench

#endif  // CMWQ_BENCH_DETECTION_BLOCKS_H_
