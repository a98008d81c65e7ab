// IoLoop: operations that nobody waits for (cmwq/io_work.h), and the thread that ends them.
//
// An operation is, at any moment, in one place (Place), and only whoever has it there may end it:
//
//   held    by the submitter, or by the thread of the loop, which tries it without waiting, no lock held
//   listed  for the ring; ring: the kernel has it, and its completion is the only way out
//   polled  in the poller's table: taken out under the lock and ended by anybody
//   called  by an item of the queue `calls`, or queued there
//   paused  a stream that has no room for results: nobody does anything
//
// Stopping marks an operation and prods the place; whoever has it looks at the mark. Ended is the one
// way to the end: in one section of `mu` the operation leaves the list, its state becomes even, and the
// item is queued, so there is no moment in which it is neither. After that the object is the caller's.
//
// Locks: mu has rank kTimer and is held while items are queued (kPool). No thread is made under it.

#ifndef CMWQ_RUNTIME_CORE_IO_LOOP_H_
#define CMWQ_RUNTIME_CORE_IO_LOOP_H_

#include <atomic>
#include <cstdint>

#include "runtime/base/annotations.h"
#include "runtime/base/intrusive_list.h"
#include "runtime/platform/completion_ring.h"
#include "runtime/platform/env.h"
#include "runtime/platform/io_kind.h"
#include "runtime/platform/io_table.h"
#include "runtime/platform/poller.h"
#include "runtime/platform/timer.h"
#include "runtime/pool/dump.h"
#include "runtime/sync/mutex.h"
#include "runtime/wq/workqueue.h"

namespace cmwq::core {

using platform::Io;
using platform::IoKind;

enum class Place : uint8_t { kNowhere, kHeld, kListed, kRing, kPolled, kCalled, kPaused };

// bits_ of an operation.
struct IoBit {
  static constexpr uint8_t kEnd = 1 << 0;       // to be ended
  static constexpr uint8_t kCancel = 1 << 1;    // and its function not to be called
  static constexpr uint8_t kTimedOut = 1 << 2;  // because its time has passed
  static constexpr uint8_t kWaiters = 1 << 3;   // threads sleep on state_
  static constexpr uint8_t kAsked = 1 << 4;     // on the list of what the ring is to give up
  static constexpr uint8_t kDropped = 1 << 5;   // idle: it ended while the item was disabled
  static constexpr uint8_t kEndNext = 1 << 6;   // idle: the next operation is to be ended
};

// phase_ of an operation.
struct IoPhase {
  static constexpr uint8_t kCall = 0;
  static constexpr uint8_t kPoll = 1;       // in the ring: waits until it can be tried again
  static constexpr uint8_t kConnecting = 2; // poller: the connect has begun
};

struct IoRequest {
  IoKind kind;
  int fd;
  int flags = 0;
  void* buf = nullptr;
  uint64_t len = 0;
  int64_t offset = -1;
  void* aux = nullptr;
  uint64_t timeout_ns = CMWQ_NO_TIMEOUT;
};

// First in, first out, by next_.
class IoFifo {
 public:
  bool empty() const { return head_ == nullptr; }
  void Push(Io* io);
  void PushFront(Io* io);
  Io* Pop();
  bool Remove(Io* io);

 private:
  Io* head_ = nullptr;
  Io* last_ = nullptr;
};

// A registration that the thread is to tell the ring of, or to take back. Of who waits for it.
struct TableChange {
  bool files;                     // I
  bool add;                       // I
  unsigned nr = 0;                // I: once handed over, as the next two
  const void* entries = nullptr;  // I: iovec or int
  int first = -1;                 // I
  int result = 0;                 // L: IoLoop::mu, until it is done
  TableChange* next = nullptr;    // L: IoLoop::mu
  std::atomic<uint32_t> done{0};  // AT(Changed, Await)
};

class IoLoop {
 public:
  static IoLoop& Get();

  // False: pending, disabled or refused. Context: any thread. Locks: none held.
  bool Submit(wq::Workqueue* wq, Io* io, const IoRequest& request) CMWQ_EXCLUDES(mu);
  // Marks the operation with `bits` and kEnd. True if that changed anything: an operation is under way
  // and, with kCancel, was not cancelled before; or one was dropped.
  bool Stop(Io* io, uint8_t bits) CMWQ_EXCLUDES(mu);
  // Waits until the operation that is under way has ended. False: there is none.
  bool WaitEnded(Io* io) CMWQ_EXCLUDES(mu);
  // The function of call_.
  static void CallFn(struct cmwq_work* work);
  // Ends all operations of a queue that takes nothing any more, and waits for it.
  void EndAll(wq::Workqueue* wq) CMWQ_EXCLUDES(mu);
  // For checks of uninitialised memory: `io` is really on the list.
  bool Contains(const Io* io) CMWQ_EXCLUDES(mu);

  // True once a ring is used; false: the poller is, or nothing yet. For reports and tests.
  bool UsesRing() CMWQ_EXCLUDES(mu);

  // Streams (cmwq/io_stream.h; io_stream.cc). Next: as cmwq_io_stream_next.
  int Next(Io* io, struct cmwq_io_result* r) CMWQ_EXCLUDES(mu);
  // False: `data` is no buffer of this stream that is out.
  bool PutBuffer(Io* io, void* data) CMWQ_EXCLUDES(mu);
  // WaitEnded if somebody has ended it.
  bool WaitIfEnding(Io* io) CMWQ_EXCLUDES(mu);

  // Registered buffers and files (cmwq/io_fixed.h; io_fixed.cc). Entries are iovec or int and have been
  // looked at. The first slot, or -errno. Context: any thread; waits, announced.
  int Register(bool files, const void* entries, unsigned nr) CMWQ_EXCLUDES(mu);
  // 0 or -errno.
  int Unregister(bool files, int64_t first) CMWQ_EXCLUDES(mu);

  // One line on what is under way, if there ever was anything. Context: reports.
  void Show(pool::LineWriter* out) CMWQ_EXCLUDES(mu);

  // Fork handlers: with every lock of smaller rank held; in the child everything is idle.
  void BeforeFork() CMWQ_NO_TSA { mu.LockSameRank(); }
  void AfterForkInParent() CMWQ_NO_TSA { mu.Unlock(); }
  void ResetAfterFork() CMWQ_NO_TSA;

  sync::Mutex mu{sync::Rank::kTimer};

 private:
  enum class Mode : uint8_t { kNone, kStarting, kRing, kPoller };

  // A section of mu that wakes the thread at its end if something in it asked for that.
  class CMWQ_SCOPED_CAPABILITY Section {
   public:
    explicit Section(IoLoop* loop) CMWQ_ACQUIRE(loop->mu) : loop_(loop) { loop_->mu.Lock(); }
    ~Section() CMWQ_RELEASE() { loop_->UnlockAndWake(); }
    Section(const Section&) = delete;
    Section& operator=(const Section&) = delete;

   private:
    IoLoop* const loop_;
  };
  void UnlockAndWake() CMWQ_RELEASE(mu);
  void WantThread() CMWQ_REQUIRES(mu);

  bool Claim(wq::Workqueue* wq, int cpu, Io* io, const IoRequest& request) CMWQ_REQUIRES(mu);
  void ArmTimeout(Io* io, uint64_t deadline_ns) CMWQ_REQUIRES(mu);
  bool StopLocked(Io* io, uint8_t bits) CMWQ_REQUIRES(mu);
  // Sends what must wait on its way. May end it.
  void Route(Io* io) CMWQ_REQUIRES(mu);
  void RouteToPoller(Io* io) CMWQ_REQUIRES(mu);
  void List(Io* io) CMWQ_REQUIRES(mu);
  void Call(Io* io) CMWQ_REQUIRES(mu);
  // The operation's call gave `result`: it goes on or ends.
  void Complete(Io* io, int64_t result) CMWQ_REQUIRES(mu);
  // `io` must not be touched afterwards but by whoever keeps it alive.
  void Ended(Io* io, int64_t result) CMWQ_REQUIRES(mu);

  void EnsureRunning() CMWQ_EXCLUDES(mu);
  static void* Main(void* self);
  void Begin() CMWQ_EXCLUDES(mu);
  void RingMain() CMWQ_EXCLUDES(mu);
  void PollerMain() CMWQ_EXCLUDES(mu);
  void FireTimeouts() CMWQ_REQUIRES(mu);
  uint64_t BeforeSleep() CMWQ_REQUIRES(mu);
  bool GiveListed() CMWQ_REQUIRES(mu);
  void FromRing(const platform::CompletionRing::Completion& c) CMWQ_REQUIRES(mu);
  void Ask(Io* io) CMWQ_REQUIRES(mu);
  // Sends a stream on its way: there is room for a result, or it pauses.
  void RouteStream(Io* io) CMWQ_REQUIRES(mu);
  void PrepareStream(Io* io) CMWQ_REQUIRES(mu);
  void StreamFromRing(const platform::CompletionRing::Completion& c) CMWQ_REQUIRES(mu);
  // The stream's request is gone, with `result` as its last word.
  void StreamStopped(Io* io, int64_t result) CMWQ_REQUIRES(mu);
  void Deliver(Io* io, int64_t value, int32_t buffer) CMWQ_REQUIRES(mu);
  // Takes what is there by plain calls. Context: the thread, which holds the stream.
  void TakeTurn(Io* io) CMWQ_EXCLUDES(mu);
  void TakeTurns() CMWQ_EXCLUDES(mu);
  void FromPoller(const platform::Poller::Ready& ready) CMWQ_EXCLUDES(mu);

  platform::IoTable& TableOf(bool files) CMWQ_REQUIRES(mu) { return files ? files_ : buffers_; }
  // The operation uses what its request names: 0, or what is wrong with that.
  int UseTables(Io* io) CMWQ_REQUIRES(mu);
  void LeaveTables(Io* io) CMWQ_REQUIRES(mu);
  void PrepareInRing(Io* io, bool poll) CMWQ_REQUIRES(mu);
  // Has the thread make the change, and waits for that.
  void Hand(TableChange* change) CMWQ_REQUIRES(mu);
  static int Await(TableChange* change);
  // Context: the thread.
  void MakeChanges() CMWQ_EXCLUDES(mu);
  int TellRing(bool files, unsigned first, const void* entries, unsigned nr);
  void Changed(TableChange* change, int result, bool in_ring) CMWQ_REQUIRES(mu);
  // Tells a ring that has just been made of what a parent had registered.
  void FillTables() CMWQ_REQUIRES(mu);

  Mode mode_ CMWQ_GUARDED_BY(mu) = Mode::kNone;
  base::List ops_ CMWQ_GUARDED_BY(mu);              // all that are under way
  IoFifo listed_ CMWQ_GUARDED_BY(mu);               // to be given to the ring, or routed
  IoFifo asked_ CMWQ_GUARDED_BY(mu);                // in the ring, to be given up
  IoFifo turns_ CMWQ_GUARDED_BY(mu);                // held: streams with something to take by plain calls
  platform::IoTable buffers_ CMWQ_GUARDED_BY(mu);   // registered
  platform::IoTable files_ CMWQ_GUARDED_BY(mu);
  TableChange* changes_ CMWQ_GUARDED_BY(mu) = nullptr;  // for the thread
  platform::TimerHeap timeouts_ CMWQ_GUARDED_BY(mu);
  bool sleeping_ CMWQ_GUARDED_BY(mu) = false;       // the thread will not look before it is woken
  uint64_t sleeping_until_ CMWQ_GUARDED_BY(mu) = 0;
  bool wake_ CMWQ_GUARDED_BY(mu) = false;           // at the end of the section
  int nr_end_waiters_ CMWQ_GUARDED_BY(mu) = 0;      // threads in EndAll
  std::atomic<uint32_t> nr_ended_{0};               // AT(Ended, EndAll)
  std::atomic<wq::Workqueue*> calls_{nullptr};      // AT(Begin, Call): set once
  platform::Waker waker_;                           // I: after Begin
  platform::CompletionRing ring_;                   // S: of the thread; Supports: I after Begin
  platform::Poller poller_;                         // L: mu, but for Wait
  pthread_t thread_{};                              // I: after EnsureRunning
};

}  // namespace cmwq::core

#endif  // CMWQ_RUNTIME_CORE_IO_LOOP_H_
