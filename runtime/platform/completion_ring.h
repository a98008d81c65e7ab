// CompletionRing: the io_uring of the thread that looks after operations nobody waits for (core/io_loop.h).
//
// All submissions and completions are that thread's: SINGLE_ISSUER and DEFER_TASKRUN where the kernel
// has them (6.1), any ring from 5.10 on otherwise. Which operations the kernel knows is asked, not
// inferred from its version.
//
// Where the kernel can (5.18; 6.3 for buffers), the ring has no descriptor, as in platform/uring.h, and
// it is woken by a futex that it waits for itself (6.7); else by an eventfd. A process gets a table of
// futexes of its own when it makes its first thread (6.16), and what a ring waited for before is not moved
// there: no Enter before that. The thread of the operations is itself one.

#ifndef CMWQ_RUNTIME_PLATFORM_COMPLETION_RING_H_
#define CMWQ_RUNTIME_PLATFORM_COMPLETION_RING_H_

#include <atomic>
#include <cstdint>

#include "runtime/base/sys.h"
#include "runtime/platform/io_kind.h"
#include "runtime/platform/io_stream.h"

struct io_uring;
struct io_uring_buf_ring;
struct io_uring_sqe;

namespace cmwq::platform {

// Wakes one sleeper: a word where a futex will do, else an eventfd.
class Waker {
 public:
  int CreateEventFd();  // 0 or -errno
  // Context: any; one system call.
  void Wake();
  void Close();
  int fd() const { return fd_; }
  uint32_t* word() { return reinterpret_cast<uint32_t*>(&word_); }
  uint32_t value() const { return word_.load(std::memory_order_acquire); }

 private:
  std::atomic<uint32_t> word_{0};  // AT(Wake, value)
  int fd_ = -1;                    // I: after the sleeper's start
};

class CompletionRing {
 public:
  struct Completion {
    Io* io;
    int result;
    bool more;       // of a stream: its request is still there
    int32_t buffer;  // of a stream's, or IoStream::kNoBuffer
  };

  // 0 or -errno. Context: the thread that will use it, as for all that follows.
  int Create(Waker* waker);
  bool live() const { return live_; }
  bool Supports(IoKind kind) const { return (kinds_ >> static_cast<int>(kind) & 1) != 0; }

  // Slots of the ring's tables of registered buffers and files, which are made for the first. null:
  // cleared; what operations still use the kernel keeps until they end. 0, or -errno: none is set.
  int SetBuffers(unsigned first, const struct iovec* buffers, unsigned nr);
  int SetFiles(unsigned first, const int* fds, unsigned nr);

  // False: the ring is full, Enter first.
  bool HasSpace() const;
  // Puts a request for `io` into the ring, which has space; poll: that its descriptor be ready. file,
  // buffer: slots of the tables to be used in the place of descriptor and memory, or -1.
  void Prepare(Io* io, bool poll, int file = -1, int buffer = -1);
  // Asks that the request for `io`, if it is still there, be given up; its completion comes as usual.
  bool PrepareCancel(Io* io);
  // Whoever wakes after this ends the next Enter. Locks: that which the wakers hold when they decide to.
  void BeforeSleep() { seen_ = waker_->value(); }
  // Makes a stream's buffers known, and no longer. 0 or -errno: multishot requests do not work for it.
  int AddGroup(IoStream* s);
  void DropGroup(IoStream* s);
  // A buffer of a known group may be filled again. Context: any thread, under the lock of the stream.
  static void GiveBuffer(IoStream* s, int32_t buffer);

  // Submits, and waits for a completion or `until_ns` (0: does not wait). The waker ends the wait. 0 or
  // -errno: the ring does not work any more.
  int Enter(uint64_t until_ns);
  // Calls f(completion) for what has completed, at most `max` times. True: there is more.
  template <class F>
  bool Reap(int max, F f) {
    Completion c;
    for (int n = 0; n < max; ++n) {
      if (!Next(&c)) return false;
      f(c);
    }
    return true;
  }
  // Child of fork: the ring is not mapped here.
  void ResetAfterFork();

 private:
  bool Next(Completion* c);
  int Setup();
  int Register(unsigned op, void* arg, unsigned nr);
  int MakeTable(unsigned op, unsigned nr, bool* made);
  int Update(unsigned op, unsigned first, const void* entries, size_t size, const void* none,
             unsigned nr);
  void Probe();
  void ArmWaker();
  void Fill(struct io_uring_sqe* sqe, Io* io);
  void FillFile(struct io_uring_sqe* sqe, Io* io);

  struct io_uring* ring_ = nullptr;
  Waker* waker_ = nullptr;
  uint64_t kinds_ = 0;
  uint16_t next_group_ = 0;
  uint32_t seen_ = 0;        // the waker's value
  uint64_t wake_count_ = 0;  // what an eventfd is read into
  bool live_ = false;
  bool futex_ = false;
  bool waker_armed_ = false;
  bool has_buffers_ = false;  // the tables have been made
  bool has_files_ = false;
};

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_COMPLETION_RING_H_
