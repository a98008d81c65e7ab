// Locks that a program does not take itself: the loader's, and the kernel's of a pipe, an inode and
// an address space. Another thread must hold each one while the worker runs into it.

#include <dlfcn.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "bench/detection_blocks.h"
#include "bench/harness.h"
#include "bench/user_fault.h"

namespace cmwq::bench {
namespace {

// A thread of another CPU that calls Hold each time it is asked to.
class Holder {
 public:
  virtual ~Holder() = default;

 protected:
  virtual void Hold() = 0;

  void Start(int cpu) {
    thread_ = std::make_unique<Thread>(cpu, [this] { Loop(); });
  }
  // By the destructor of the last class, whose Hold may be running.
  void Stop() {
    Ask(kEnd);
    thread_.reset();
  }
  void Ask() { Ask(kHold); }
  void WaitUntilIdle() {
    for (int seen; (seen = __atomic_load_n(&order_, __ATOMIC_ACQUIRE)) != kIdle;) {
      FutexWaitWhile(&order_, seen);
    }
  }

 private:
  static constexpr int kIdle = 0, kHold = 1, kEnd = 2;
  void Ask(int order) {
    __atomic_store_n(&order_, order, __ATOMIC_RELEASE);
    FutexWakeAll(&order_);
  }
  void Loop() {
    for (;;) {
      FutexWaitWhile(&order_, kIdle);
      if (__atomic_load_n(&order_, __ATOMIC_ACQUIRE) == kEnd) return;
      Hold();
      Ask(kIdle);
    }
  }
  int order_ = kIdle;  // futex
  std::unique_ptr<Thread> thread_;
};

// dlopen while another thread is inside the constructor of a library, where the loader's lock is
// held.
class LoaderBlock final : public Block, private Holder {
 public:
  explicit LoaderBlock(int cpu) : library_(BuildFile("bench/libdetection-slow-load.so")) {
    if (pipe2(loading_, O_CLOEXEC) != 0 || pipe2(go_on_, O_CLOEXEC) != 0) abort();
    setenv("CMWQ_BENCH_LOADING_FD", std::to_string(loading_[1]).c_str(), 1);
    setenv("CMWQ_BENCH_GO_ON_FD", std::to_string(go_on_[0]).c_str(), 1);
    Start(cpu);
  }
  ~LoaderBlock() override {
    Stop();
    for (const int fd : {loading_[0], loading_[1], go_on_[0], go_on_[1]}) close(fd);
  }
  void Enter(uint64_t* left) override {
    *left = NowNs();
    void* const self = dlopen(nullptr, RTLD_LAZY);
    if (self != nullptr) dlclose(self);
  }
  void Clear() override { WaitUntilIdle(); }

 protected:
  bool DoPrepare() override {
    Ask();
    char byte;
    return read(loading_[0], &byte, 1) == 1;
  }
  bool DoRelease() override { return write(go_on_[1], "x", 1) == 1; }

 private:
  void Hold() override {
    void* const handle = dlopen(library_.c_str(), RTLD_NOW);
    if (handle == nullptr) {
      fprintf(stderr, "%s\n", dlerror());
      abort();
    }
    dlclose(handle);
  }
  const std::string library_;
  int loading_[2], go_on_[2];
};

// The holder writes from a page that is missing: it sleeps in the middle of the copy, with the
// lock. The owner being off its CPU, the kernel does not spin for the lock either.
class CopyBlock : public Block, private Holder {
 public:
  void Clear() override { WaitUntilIdle(); }

 protected:
  CopyBlock(UserFault fault, int cpu) : fault_(std::move(fault)) { Start(cpu); }
  bool DoPrepare() override {
    if (!fault_.Remove()) return false;
    Ask();
    return fault_.WaitForFault(1000);
  }
  bool DoRelease() override { return fault_.Supply(); }
  void End() { Stop(); }
  const char* page() const { return fault_.page(); }

 private:
  UserFault fault_;
};

class PipeMutexBlock final : public CopyBlock {
 public:
  PipeMutexBlock(UserFault fault, int cpu) : CopyBlock(std::move(fault), cpu) {
    if (pipe2(ends_, O_CLOEXEC) != 0) abort();
  }
  ~PipeMutexBlock() override {
    End();
    close(ends_[0]);
    close(ends_[1]);
  }
  void Enter(uint64_t* left) override {
    char byte;
    *left = NowNs();
    if (read(ends_[0], &byte, 1) != 1) abort();
  }

 private:
  void Hold() override {
    if (write(ends_[1], page(), 1) != 1) abort();
  }
  int ends_[2];
};

class InodeLockBlock final : public CopyBlock {
 public:
  InodeLockBlock(UserFault fault, int cpu)
      : CopyBlock(std::move(fault), cpu), fd_(memfd_create("detection", MFD_CLOEXEC)) {}
  ~InodeLockBlock() override {
    End();
    close(fd_);
  }
  void Enter(uint64_t* left) override {
    *left = NowNs();
    if (pwrite(fd_, "x", 1, 0) != 1) abort();
  }

 private:
  void Hold() override {
    if (pwrite(fd_, page(), 1, 0) != 1) abort();
  }
  const int fd_;
};

// The lock of the address space: another thread changes the protection of many pages, the worker
// asks something about a page. The holder begins when the worker is about to ask, for it cannot be
// made to hold the lock until it is told: the stamp is kHeadStartNs after that, and the block lasts
// as long as the holder's call does, a few milliseconds.
class MmapLockBlock final : public Block, private Holder {
 public:
  MmapLockBlock(size_t bytes, int cpu) : bytes_(bytes) {
    void* const at =
        mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) abort();
    area_ = static_cast<char*>(at);
    madvise(area_, bytes_, MADV_NOHUGEPAGE);
    // Every page is the zero page: page tables are all the memory that this takes.
    for (size_t i = 0; i < bytes_; i += UserFault::kPage) {
      static_cast<void>(*const_cast<volatile char*>(area_ + i));
    }
    Start(cpu);
  }
  ~MmapLockBlock() override {
    Stop();
    munmap(area_, bytes_);
  }
  void Enter(uint64_t* left) override {
    unsigned char resident;
    __atomic_store_n(&begin_, 1, __ATOMIC_RELEASE);
    const uint64_t start = NowNs() + kHeadStartNs;
    while (NowNs() < start) {
    }
    *left = NowNs();
    mincore(area_, UserFault::kPage, &resident);
  }
  void Clear() override { WaitUntilIdle(); }

 protected:
  bool DoPrepare() override {
    begin_ = ready_ = 0;
    Ask();
    while (__atomic_load_n(&ready_, __ATOMIC_ACQUIRE) == 0) sched_yield();
    return true;
  }

 private:
  static constexpr uint64_t kHeadStartNs = 100'000;

  void Hold() override {
    __atomic_store_n(&ready_, 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&begin_, __ATOMIC_ACQUIRE) == 0) sched_yield();
    mprotect(area_, bytes_, PROT_READ | PROT_EXEC);
    const uint64_t end = NowNs() + 4 * kHeadStartNs;  // the worker has long got its answer
    while (NowNs() < end) {
    }
    mprotect(area_, bytes_, PROT_READ);
  }
  const size_t bytes_;
  char* area_;
  int begin_ = 0, ready_ = 0;
};

std::unique_ptr<Block> MakeLoader(const BlockSetup& setup, std::string* why) {
  const std::string library = BuildFile("bench/libdetection-slow-load.so");
  if (access(library.c_str(), R_OK) == 0) return std::make_unique<LoaderBlock>(setup.other_cpu);
  *why = "no " + library;
  return nullptr;
}
constexpr uint64_t kLongestNs = 50'000'000;  // beyond, filling the page tables takes seconds

template <class T>
std::unique_ptr<Block> MakeCopy(const BlockSetup& setup, std::string* why) {
  UserFault fault;
  if (fault.usable()) return std::make_unique<T>(std::move(fault), setup.other_cpu);
  *why = "userfaultfd is refused";
  return nullptr;
}
std::unique_ptr<Block> MakeMmapLock(const BlockSetup& setup, std::string* why) {
  if (setup.hold_ns > kLongestNs) {
    *why = "cannot be held so long";
    return nullptr;
  }
  // 40 us per megabyte and more, with some to spare.
  const size_t megabytes = std::max(size_t{64}, setup.hold_ns / 20'000);
  return std::make_unique<MmapLockBlock>(megabytes << 20, setup.other_cpu);
}

}  // namespace

const BlockKind kLoader = {"loader", "dlopen, loader's lock", &MakeLoader};
const BlockKind kPipeMutex = {"pipe_mutex", "kernel mutex, pipe", &MakeCopy<PipeMutexBlock>};
const BlockKind kInodeLock = {"inode_lock", "kernel rwsem, inode", &MakeCopy<InodeLockBlock>};
const BlockKind kMmapLock = {"mmap_lock", "kernel rwsem, mmap", &MakeMmapLock};

}  // namespace cmwq::bench
