// Ring: one io_uring, shared by all workers that wait for a descriptor or a time.
//
// Only the event thread touches the kernel's side of it: it submits what the workers left for it,
// sleeps in io_uring_enter instead of its parker, and reaps. Measured against workers that submit for
// themselves (pipe ping-pong on one CPU, per round trip of two waits): 15 us and 2.7 context switches
// against 22-26 us and 5.7, because a completion is work for the thread that submitted: the worker is
// woken to post it, the event thread to reap it, and the worker again. It also keeps the ring's side
// effects away from work functions: no EINTR in a system call of a worker that submitted for another,
// no request cancelled because the worker that submitted it was culled. Flags: SINGLE_ISSUER and
// DEFER_TASKRUN are what this arrangement allows, and where the difference comes from.
//
// The ring has no descriptor: it is registered with the event thread and then closed. A program that
// closes all descriptors cannot break it, and none is inherited.
//
// Workers hand over through one word, head_, and no lock is taken: see "No request is left behind" in
// uring.cc. Where there is no ring to be had, or it fails later, every request comes back as kRefused
// and its thread makes the plain call.

#ifndef CMWQ_RUNTIME_PLATFORM_URING_H_
#define CMWQ_RUNTIME_PLATFORM_URING_H_

#include <linux/time_types.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdint>

#include "runtime/base/intrusive_list.h"
#include "runtime/platform/timer.h"
#include "runtime/sync/parker.h"

#ifndef CMWQ_HAVE_URING
#define CMWQ_HAVE_URING 0
#endif

struct io_uring;
struct io_uring_sqe;

namespace cmwq::platform {

// One request, on the stack of the thread that waits for it. The waiter fills it in before Ring::Do;
// from there to the Unpark it belongs to the event thread.
struct RingOp {
  enum class Kind : uint8_t { kRead, kWrite, kRecv, kSend, kAccept, kConnect, kPoll, kSleep };

  Kind kind;
  int fd = -1;
  int flags = 0;                        // MSG_*, SOCK_* or poll events
  uint32_t length = 0;                  // of buffer; kConnect: of the address
  void* buffer = nullptr;               // kAccept, kConnect: the address
  socklen_t* addr_length = nullptr;     // kAccept
  uint64_t offset = ~uint64_t{0};       // kRead, kWrite; all ones: current position
  uint64_t deadline_ns = base::kNever;  // kPoll, kSleep

  // Private to Ring.
  int result = 0;
  sync::Parker* parker = nullptr;
  RingOp* next = nullptr;               // handed over before this one
  struct __kernel_timespec time = {};
  base::ListNode entry = {};
};

class Ring final : public WaitPoint {
 public:
  // No error number: the kernel's are above -4096.
  static constexpr int kRefused = -4096;

  constexpr Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Waits for `op`: its result or -errno as in the completion, or kRefused: nothing was done, there is
  // no ring. The first call makes `events` sleep in the ring from then on. `parker` is the caller's own
  // and has no token. Context: any thread but the event thread, no locks held.
  int Do(RingOp* op, sync::Parker* parker, EventThread* events);
  // False once the ring was refused or failed.
  bool usable() const {
    return CMWQ_HAVE_URING != 0 && (head_.load(std::memory_order_relaxed) & kClosed) == 0;
  }

  // WaitPoint.
  void Wait(uint64_t deadline_ns) override;
  void Wake() override;

  // Child of fork, single-threaded: the parent's ring is not mapped here and is forgotten. Whoever
  // waited in it does not exist here.
  void ResetAfterFork();

 private:
  // Bits of head_ beside the pointer to the newest request.
  static constexpr uintptr_t kAsleep = 1;  // the event thread sleeps, or is about to: ring the bell
  static constexpr uintptr_t kPoked = 2;   // Wait is to return
  static constexpr uintptr_t kClosed = 4;  // for good: no request is taken any more
  static constexpr uintptr_t kBits = 7;
  static_assert(alignof(RingOp) > kBits);

  bool Push(RingOp* op);
  void Bell();

  // Event thread only.
  bool Take();
  bool Create();
  void Prepare();
  void Fill(RingOp* op, struct io_uring_sqe* sqe);
  int Enter(bool sleep, uint64_t deadline_ns);
  void Reap();
  void Close(int err, const char* what);
  static void Finish(RingOp* op, int result);

  std::atomic<uintptr_t> head_{0};         // AT(Push, Take)
  std::atomic<uint32_t> bell_{0};          // AT(Bell, Prepare): futex that the ring waits on
  std::atomic<bool> attached_{false};      // AT(Do, Do): one thread calls SetWaitPoint; relaxed
  EventThread* events_ = nullptr;          // I: before SetWaitPoint publishes this object
  // S of the event thread from here on.
  struct io_uring* ring_ = nullptr;        // S
  bool live_ = false;                      // S: ring_ is set up
  bool bell_armed_ = false;                // S: a futex wait on bell_ is in the ring
  RingOp* taken_ = nullptr;                // S: oldest of the requests that are not in the ring yet
  RingOp* taken_last_ = nullptr;           // S
  base::ListNode flying_ = {};             // S: head of the requests in the ring; see Create
};

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_URING_H_
