// ThreadRing: an io_uring of one worker, for its own waits.
//
// One system call submits the request and waits for it, and the completion wakes the worker itself:
// a wait costs one context switch, as in a plain call. What was measured against it, pipe ping-pong
// on one CPU, per round trip of two waits (plain calls 5.1 us, 1.2 switches; this 6.8 us, 1.2):
//   - One ring for all workers, each submits, the event thread reaps: 22-26 us, 4.8-5.7 switches.
//     A completion is work for the thread that submitted: it is woken to post it, then the event
//     thread to reap it, then the worker. Completions of requests that a thread submitted for
//     others interrupt its system calls with EINTR; its end cancels them.
//   - One ring for all, the event thread submits and reaps: 13-15 us, 2.3-2.7 switches. Where all
//     CPUs are busy it waits for its turn twice per request: 2000 x (50 us, 1 ms wait, 50 us) on
//     2 CPUs takes 130-400 ms instead of 111.
// Flags: SINGLE_ISSUER and DEFER_TASKRUN, which this arrangement allows: the completion is worked
// off inside the wait instead of interrupting it.
//
// The ring has no descriptor: it is registered with its thread and then closed. A program that
// closes all descriptors cannot break it, no other program inherits it, and it ends with its
// thread.

#ifndef CMWQ_RUNTIME_PLATFORM_URING_H_
#define CMWQ_RUNTIME_PLATFORM_URING_H_

#include <sys/socket.h>

#include <cstdint>

#include "runtime/base/sys.h"

struct __kernel_timespec;
struct io_uring;

namespace cmwq::platform {

// One request. Only for what becomes ready: sockets, pipes and the like, and times. Files would
// make the kernel keep a thread that makes the plain call, and outlive a ring that is given up.
struct RingOp {
  enum class Kind : uint8_t { kRead, kWrite, kRecv, kSend, kAccept, kConnect, kPoll, kSleep };

  Kind kind;
  int fd = -1;
  int flags = 0;                        // MSG_*, SOCK_* or poll events
  uint32_t length = 0;                  // of buffer; kConnect: of the address
  void* buffer = nullptr;               // kAccept, kConnect: the address
  socklen_t* addr_length = nullptr;     // kAccept
  uint64_t offset = ~uint64_t{0};       // kRead, kWrite; all ones: current position
  uint64_t deadline_ns = base::kNever;  // kPoll, kSleep; CLOCK_MONOTONIC
};

class ThreadRing {
 public:
  // No error number: the kernel's are above -4096.
  static constexpr int kRefused = -4096;

  constexpr ThreadRing() = default;
  ThreadRing(const ThreadRing&) = delete;
  ThreadRing& operator=(const ThreadRing&) = delete;
  ~ThreadRing();

  // Waits for `op` in the ring, which is created by the first call. Returns the completion's result
  // or -errno, or kRefused: nothing was done, make the plain call. Context: always the same thread.
  int Do(const RingOp& op);

  // False once a ring was refused to any thread of the process, or taken away: nobody asks again.
  static bool Usable() { return Refusal() == 0; }
  // The errno of that refusal; ENOSYS: built without liburing. 0: none so far.
  static int Refusal();
  // Rings that this process has made so far. For reports.
  static int NrCreated();

  // Child of fork, single-threaded: the ring of the thread that forked is its parent's and not
  // mapped here.
  void ResetAfterFork();

 private:
  bool Create();
  void Fill(const RingOp& op, struct __kernel_timespec* until);
  bool Reap(int* result);
  void Withdraw();

  struct io_uring* ring_ = nullptr;  // S: one allocation, kept until the thread ends
  bool live_ = false;                // S
};

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_URING_H_
