// Blocks that need nothing but the kernel and libc: futex, pipe, sleep, file lock, ring, announced
// ones. Those that need a helper or a set-up are in detection_locks.cc and detection_faults.cc.

#include "bench/detection_blocks.h"

#include <cmwq/io.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmwq/blocking.hpp>
#include <cstdlib>

#include "bench/harness.h"

namespace cmwq::bench {
namespace {

// No libc in between, so that neither wrappers nor bookkeeping can notice.
long InlineSyscall(long number, long a, long b, long c) {
#if defined(__x86_64__)
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c)
               : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
#else
#error "inline system call: unknown machine"
#endif
}

class FutexBlock : public Block {
 public:
  void Enter(uint64_t* left) override {
    *left = NowNs();
    FutexWaitWhile(&open_, 0);
  }

 protected:
  bool DoPrepare() override {
    __atomic_store_n(&open_, 0, __ATOMIC_RELAXED);
    return true;
  }
  bool DoRelease() override {
    __atomic_store_n(&open_, 1, __ATOMIC_RELEASE);
    FutexWakeAll(&open_);
    return true;
  }
  int open_ = 0;
};

class AnnouncedFutexBlock final : public FutexBlock {
 public:
  void Enter(uint64_t* left) override {
    *left = NowNs();
    while (__atomic_load_n(&open_, __ATOMIC_ACQUIRE) == 0) {
      cmwq_futex_wait(reinterpret_cast<uint32_t*>(&open_), 0, CMWQ_NO_TIMEOUT);
    }
  }
};

enum class Reading { kLibc, kInline, kStdio, kWrapper, kScoped };

template <Reading kHow>
class PipeBlock final : public Block {
 public:
  PipeBlock() {
    if (pipe2(ends_, O_CLOEXEC) != 0) abort();
    if (kHow == Reading::kStdio) file_ = fdopen(dup(ends_[0]), "r");
  }
  ~PipeBlock() override {
    if (file_ != nullptr) fclose(file_);
    close(ends_[0]);
    close(ends_[1]);
  }

  void Enter(uint64_t* left) override {
    char byte;
    *left = NowNs();
    long n = 0;
    if constexpr (kHow == Reading::kLibc) {
      n = read(ends_[0], &byte, 1);
    } else if constexpr (kHow == Reading::kInline) {
      n = InlineSyscall(SYS_read, ends_[0], reinterpret_cast<long>(&byte), 1);
    } else if constexpr (kHow == Reading::kStdio) {
      n = static_cast<long>(fread(&byte, 1, 1, file_));
    } else if constexpr (kHow == Reading::kWrapper) {
      n = cmwq_io_read(ends_[0], &byte, 1, -1);
    } else {
      const ScopedBlocking blocking;
      n = read(ends_[0], &byte, 1);
    }
    if (n != 1) abort();
  }

 protected:
  bool DoRelease() override {
    if (write(ends_[1], "x", 1) != 1) abort();
    return true;
  }

 private:
  int ends_[2];
  FILE* file_ = nullptr;
};

enum class Sleeping { kLibc, kInline, kWrapper };

template <Sleeping kHow>
class SleepBlock final : public Block {
 public:
  explicit SleepBlock(uint64_t ns) : ns_(ns) {}
  void Enter(uint64_t* left) override {
    struct timespec ts = {static_cast<time_t>(ns_ / 1'000'000'000),
                          static_cast<long>(ns_ % 1'000'000'000)};
    *left = NowNs();
    if constexpr (kHow == Sleeping::kLibc) {
      nanosleep(&ts, nullptr);
    } else if constexpr (kHow == Sleeping::kInline) {
      InlineSyscall(SYS_nanosleep, reinterpret_cast<long>(&ts), 0, 0);
    } else {
      cmwq_io_sleep(ns_);
    }
  }

 private:
  const uint64_t ns_;
};

class FileLockBlock final : public Block {
 public:
  FileLockBlock() : mine_(memfd_create("detection", MFD_CLOEXEC)) {
    const std::string path = "/proc/self/fd/" + std::to_string(mine_);
    theirs_ = open(path.c_str(), O_RDWR | O_CLOEXEC);  // another open file, so the locks conflict
    if (theirs_ < 0) abort();
  }
  ~FileLockBlock() override {
    close(mine_);
    close(theirs_);
  }
  void Enter(uint64_t* left) override {
    *left = NowNs();
    flock(theirs_, LOCK_EX);
    flock(theirs_, LOCK_UN);
  }

 protected:
  bool DoPrepare() override { return flock(mine_, LOCK_EX) == 0; }
  bool DoRelease() override { return flock(mine_, LOCK_UN) == 0; }

 private:
  int mine_, theirs_;
};

// A ring of the program's own. The blocked thread waits for a completion; who comes next submits a
// request that does nothing.
class UringBlock final : public Block {
 public:
  UringBlock() {
    io_uring_params params = {};
    fd_ = static_cast<int>(syscall(SYS_io_uring_setup, 4, &params));
    if (fd_ < 0) return;
    const size_t length = std::max(params.sq_off.array + params.sq_entries * sizeof(uint32_t),
                                   params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe));
    ring_ = Map(length, IORING_OFF_SQ_RING);
    sqes_ = Map(params.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES);
    if ((params.features & IORING_FEAT_SINGLE_MMAP) == 0) abort();
    sq_tail_ = Word(params.sq_off.tail);
    sq_mask_ = *Word(params.sq_off.ring_mask);
    sq_array_ = Word(params.sq_off.array);
    cq_head_ = Word(params.cq_off.head);
    cq_tail_ = Word(params.cq_off.tail);
  }
  ~UringBlock() override {
    if (fd_ >= 0) close(fd_);  // the mappings end with the process
  }
  bool usable() const { return fd_ >= 0; }

  void Enter(uint64_t* left) override {
    *left = NowNs();
    syscall(SYS_io_uring_enter, fd_, 0, 1, IORING_ENTER_GETEVENTS, nullptr, 0);
  }
  void Clear() override { *cq_head_ = __atomic_load_n(cq_tail_, __ATOMIC_ACQUIRE); }

 protected:
  bool DoRelease() override {
    const uint32_t tail = *sq_tail_;
    memset(&static_cast<io_uring_sqe*>(sqes_)[tail & sq_mask_], 0, sizeof(io_uring_sqe));
    sq_array_[tail & sq_mask_] = tail & sq_mask_;
    __atomic_store_n(sq_tail_, tail + 1, __ATOMIC_RELEASE);
    return syscall(SYS_io_uring_enter, fd_, 1, 0, 0, nullptr, 0) == 1;
  }

 private:
  void* Map(size_t length, off_t offset) const {
    void* const at =
        mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_, offset);
    if (at == MAP_FAILED) abort();
    return at;
  }
  uint32_t* Word(uint32_t offset) const {
    return reinterpret_cast<uint32_t*>(static_cast<char*>(ring_) + offset);
  }

  int fd_ = -1;
  void* ring_ = nullptr;
  void* sqes_ = nullptr;
  uint32_t *sq_tail_ = nullptr, *sq_array_ = nullptr, *cq_head_ = nullptr, *cq_tail_ = nullptr;
  uint32_t sq_mask_ = 0;
};

template <class T>
std::unique_ptr<Block> Make(const BlockSetup&, std::string*) {
  return std::make_unique<T>();
}
template <class T>
std::unique_ptr<Block> MakeSleep(const BlockSetup& setup, std::string*) {
  return std::make_unique<T>(setup.hold_ns);
}
std::unique_ptr<Block> MakeUring(const BlockSetup&, std::string* why) {
  auto made = std::make_unique<UringBlock>();
  if (made->usable()) return made;
  *why = "io_uring is refused";
  return nullptr;
}

}  // namespace

const BlockKind kAnnouncedFutex = {"cmwq_futex", "cmwq_futex_wait", &Make<AnnouncedFutexBlock>};
const BlockKind kAnnouncedIoRead = {"cmwq_read", "cmwq_io_read, pipe",
                                    &Make<PipeBlock<Reading::kWrapper>>};
const BlockKind kAnnouncedIoSleep = {"cmwq_sleep", "cmwq_io_sleep",
                                     &MakeSleep<SleepBlock<Sleeping::kWrapper>>};
const BlockKind kAnnouncedScoped = {"scoped", "ScopedBlocking, pipe",
                                    &Make<PipeBlock<Reading::kScoped>>};
const BlockKind kFutex = {"futex", "futex", &Make<FutexBlock>};
const BlockKind kAsmSleep = {"asm_sleep", "inline nanosleep",
                             &MakeSleep<SleepBlock<Sleeping::kInline>>};
const BlockKind kAsmRead = {"asm_read", "inline read, pipe", &Make<PipeBlock<Reading::kInline>>};
const BlockKind kLibcRead = {"read", "read, pipe", &Make<PipeBlock<Reading::kLibc>>};
const BlockKind kLibcSleep = {"sleep", "nanosleep", &MakeSleep<SleepBlock<Sleeping::kLibc>>};
const BlockKind kStdio = {"fread", "fread, pipe", &Make<PipeBlock<Reading::kStdio>>};
const BlockKind kFileLock = {"flock", "flock", &Make<FileLockBlock>};
const BlockKind kUring = {"uring", "io_uring_enter", &MakeUring};

}  // namespace cmwq::bench
