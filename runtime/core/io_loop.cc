#include "runtime/core/io_loop.h"

#include <cerrno>
#include <new>

#include "runtime/base/test_point.h"
#include "runtime/core/capi.h"
#include "runtime/core/io_op.h"
#include "runtime/core/runtime.h"
#include "runtime/pool/sched_hooks.h"
#include "runtime/wq/work_word.h"

namespace cmwq::core {
namespace {

using wq::Word;
using wq::WordOf;

Place PlaceOf(const Io* io) { return static_cast<Place>(io->where_); }
void Put(Io* io, Place place) { io->where_ = static_cast<uint8_t>(place); }
std::atomic_ref<uint32_t> StateOf(Io* io) { return std::atomic_ref<uint32_t>(io->state_); }
// Relaxed: under mu, or a hint.
bool UnderWay(Io* io) { return (StateOf(io).load(std::memory_order_relaxed) & 1) != 0; }

// Waits in a worker let the next one start.
class Announced {
 public:
  Announced() { pool::WorkerSleeping(); }
  ~Announced() { pool::WorkerRunning(); }
  Announced(const Announced&) = delete;
  Announced& operator=(const Announced&) = delete;
};

}  // namespace

void IoFifo::Push(Io* io) {
  io->next_ = nullptr;
  (head_ == nullptr ? head_ : last_->next_) = io;
  last_ = io;
}

void IoFifo::PushFront(Io* io) {
  io->next_ = head_;
  if (head_ == nullptr) last_ = io;
  head_ = io;
}

Io* IoFifo::Pop() {
  Io* const io = head_;
  if (io != nullptr) head_ = io->next_;
  return io;
}

bool IoFifo::Remove(Io* io) {
  Io* before = nullptr;
  for (Io* at = head_; at != nullptr; before = at, at = at->next_) {
    if (at != io) continue;
    (before == nullptr ? head_ : before->next_) = io->next_;
    if (last_ == io) last_ = before;
    return true;
  }
  return false;
}

IoLoop& IoLoop::Get() {
  alignas(IoLoop) static constinit char storage[sizeof(IoLoop)] = {};
  static IoLoop* const instance = new (storage) IoLoop;
  return *instance;
}

void IoLoop::UnlockAndWake() {
  const bool wake = wake_;
  wake_ = false;
  mu.Unlock();
  if (wake) waker_.Wake();
}

// The thread must look at the lists. Before it has begun it will anyway.
void IoLoop::WantThread() {
  if (!sleeping_) return;
  sleeping_ = false;
  wake_ = true;
}

// Context: Submit. The item is idle, or its function runs.
bool IoLoop::Claim(wq::Workqueue* wq, int cpu, Io* io, const IoRequest& request) {
  // seq_cst, as every refusal: whoever is told "pending already" must be seen by the execution to come.
  const uint64_t word = WordOf(&io->work).fetch_or(0, std::memory_order_seq_cst);
  if (UnderWay(io) || (word & Word::kPending) != 0 || Word::Disabled(word)) return false;
  // Pairs with EndAll, which takes the lock after the state was changed.
  if (wq->state.load(std::memory_order_seq_cst) != wq::WqState::kLive) return false;
  io->wq_ = Handle(wq);
  io->buf_ = request.buf;
  io->aux_ = request.aux;
  io->len_ = request.len;
  io->offset_ = request.offset;
  io->fd_ = request.fd;
  io->file_ = 0;
  io->flags_ = request.flags;
  io->kind_ = static_cast<uint8_t>(request.kind);
  io->cpu_ = cpu;
  io->done_ = 0;
  io->bits_ = (io->bits_ & IoBit::kEndNext) != 0 ? IoBit::kEnd : 0;
  io->phase_ = IoPhase::kCall;
  Put(io, Place::kHeld);
  StateOf(io).fetch_add(1, std::memory_order_relaxed);
  base::ListInit(&io->entry_);
  ops_.PushBack(&io->entry_);
  ++wq->nr_operations;
  // What nobody took before a cancel.
  if (platform::IsStream(io) && platform::StreamOf(io)->nr_results() > 0) {
    wq::QueueAccepted(wq, cpu, &io->work);
  }
  return true;
}

bool IoLoop::Submit(wq::Workqueue* wq, Io* io, const IoRequest& request) {
  const int cpu = Runtime::Get().PickCpu(CMWQ_CPU_ANY);
  if (wq::Refused(wq)) return false;
  wq::BringUp(wq, cpu);  // here, where threads can be made
  bool poller;
  {
    Section hold(this);
    if (!Claim(wq, cpu, io, request)) return false;
    const int unusable = UseTables(io);
    const int err = (io->bits_ & IoBit::kEnd) != 0 ? -ECANCELED : unusable;
    if (err != 0) {
      Ended(io, err);
      return true;
    }
    poller = mode_ == Mode::kPoller;
  }
  CMWQ_TEST_POINT("io.claimed");
  const int64_t result = TryOp(io, pool::CurrentWorker() != nullptr);
  if (result != kNoAttempt && result != -EAGAIN && AllMoved(io, result)) {
    Section hold(this);
    Ended(io, result);
    return true;
  }
  EnsureRunning();
  wq::Workqueue* const calls = calls_.load(std::memory_order_acquire);  // pairs with Begin
  if (poller && calls != nullptr) wq::BringUp(calls, cpu);
  Section hold(this);
  if (result > 0) io->done_ += result;
  if ((io->bits_ & IoBit::kEnd) != 0) {
    Ended(io, -ECANCELED);
    return true;
  }
  if (request.timeout_ns != CMWQ_NO_TIMEOUT) {
    const uint64_t now = base::MonotonicNs();
    const uint64_t most = base::kNever - 1 - now;
    ArmTimeout(io, now + (request.timeout_ns < most ? request.timeout_ns : most));
  }
  Route(io);
  return true;
}

void IoLoop::ArmTimeout(Io* io, uint64_t deadline_ns) {
  io->timer_.deadline = deadline_ns;
  io->timer_.prev = nullptr;
  timeouts_.Insert(&io->timer_);
  if (deadline_ns < sleeping_until_) WantThread();
}

void IoLoop::List(Io* io) {
  Put(io, Place::kListed);
  listed_.Push(io);
  WantThread();
}

void IoLoop::Route(Io* io) {
  if (platform::IsStream(io)) return RouteStream(io);
  switch (mode_) {
    case Mode::kPoller:
      RouteToPoller(io);
      break;
    case Mode::kRing:
      if (!ring_.Supports(platform::KindOf(io))) return Call(io);
      [[fallthrough]];
    default:
      List(io);
  }
}

void IoLoop::RouteToPoller(Io* io) {
  const IoKind kind = platform::KindOf(io);
  if (!platform::Pollable(kind)) return Call(io);
  if (kind == IoKind::kAccept) {
    if (!Listens(io->fd_)) return Call(io);  // which says what is wrong
    DoNotBlock(io->fd_);
  }
  if (kind == IoKind::kConnect && io->phase_ == IoPhase::kCall) {
    const int64_t begun = BeginConnect(io);
    if (begun == -EAGAIN) return Call(io);  // a local socket's peer has no room, and that is no event
    if (begun != -EINPROGRESS) return Ended(io, begun);
    io->phase_ = IoPhase::kConnecting;
  }
  const int err = poller_.Add(io);
  if (err == -EPERM) return Call(io);
  if (err != 0) return Ended(io, err);
  Put(io, Place::kPolled);
}

// A worker makes the call and announces it. Locks: takes kPool.
void IoLoop::Call(Io* io) {
  wq::Workqueue* const calls = calls_.load(std::memory_order_acquire);  // pairs with Begin
  if (calls == nullptr) return Ended(io, -EAGAIN);
  Put(io, Place::kCalled);
  CMWQ_CHECK(wq::QueueAccepted(calls, io->cpu_, &io->call_));
}

// Context: worker.
void IoLoop::CallFn(struct cmwq_work* work) {
  Io* const io = reinterpret_cast<Io*>(reinterpret_cast<char*>(work) - offsetof(Io, call_));
  IoLoop& loop = Get();
  {
    Section hold(&loop);
    if ((io->bits_ & IoBit::kEnd) != 0) return loop.Ended(io, -ECANCELED);
  }
  int64_t result;
  {
    Announced announced;
    result = PlainOp(io);
  }
  Section hold(&loop);
  loop.Complete(io, result);
}

void IoLoop::Complete(Io* io, int64_t result) {
  const bool again = result == -EAGAIN || result == -EINTR || result == kNoAttempt;
  const bool stop = (io->bits_ & IoBit::kEnd) != 0;
  if (again) {
    if (stop) return Ended(io, -ECANCELED);
    if (PlaceOf(io) == Place::kCalled || result == kNoAttempt) return Call(io);
    if (PlaceOf(io) == Place::kRing && result == -EAGAIN) io->phase_ = IoPhase::kPoll;
    return Route(io);
  }
  if (result <= 0 || AllMoved(io, result)) return Ended(io, result);
  io->done_ += result;
  if (stop) return Ended(io, -ECANCELED);
  Route(io);
}

void IoLoop::Ended(Io* io, int64_t result) {
  const uint8_t bits = io->bits_;
  if (io->done_ > 0) {
    result = result > 0 ? io->done_ + result : io->done_;
  } else if (result == -ECANCELED && (bits & IoBit::kTimedOut) != 0) {
    result = -ETIMEDOUT;
  }
  if (platform::TimerHeap::Armed(&io->timer_)) timeouts_.Remove(&io->timer_);
  const bool stream = platform::IsStream(io);
  if (stream && platform::StreamOf(io)->group >= 0) ring_.DropGroup(platform::StreamOf(io));
  LeaveTables(io);
  base::ListUnlink(&io->entry_);
  wq::Workqueue* const wq = Impl(io->wq_);
  const int cpu = io->cpu_;
  io->result = result;
  io->bits_ = 0;
  Put(io, Place::kNowhere);
  --wq->nr_operations;
  nr_ended_.fetch_add(1, std::memory_order_release);  // pairs with EndAll
  // Release: pairs with WaitEnded. Whoever sees it takes the lock next, so the item is queued by then.
  StateOf(io).fetch_add(1, std::memory_order_release);
  CMWQ_TEST_POINT("io.ended");
  // From a successful queueing on the object may be gone; its address is good for a wake-up all the same.
  // A stream's item may be pending for results; it will find the end after them.
  if ((bits & IoBit::kCancel) == 0 && !wq::QueueAccepted(wq, cpu, &io->work) && !stream) {
    io->bits_ = IoBit::kDropped;
  }
  if ((bits & IoBit::kWaiters) != 0) base::FutexWake(&io->state_, INT32_MAX);
  if (nr_end_waiters_ > 0) base::FutexWake(&nr_ended_, INT32_MAX);
}

bool IoLoop::Stop(Io* io, uint8_t bits) {
  Section hold(this);
  if (UnderWay(io)) return StopLocked(io, bits);
  io->bits_ |= bits & IoBit::kEndNext;
  // One cancellation accounts for what was dropped; ending is none.
  if ((bits & IoBit::kCancel) == 0 || (io->bits_ & IoBit::kDropped) == 0) return false;
  io->bits_ &= static_cast<uint8_t>(~IoBit::kDropped);
  return true;
}

// The ring is to give it up.
void IoLoop::Ask(Io* io) {
  if ((io->bits_ & IoBit::kAsked) != 0) return;
  io->bits_ |= IoBit::kAsked;
  asked_.Push(io);
  WantThread();
}

bool IoLoop::StopLocked(Io* io, uint8_t bits) {
  const bool first = (io->bits_ & IoBit::kCancel) == 0;
  io->bits_ |= (bits & IoBit::kCancel) | IoBit::kEnd;
  switch (PlaceOf(io)) {
    case Place::kRing:
      Ask(io);
      break;
    case Place::kPaused:
      // The thread drops its buffers' group, which nobody else may.
      if (platform::StreamOf(io)->group >= 0) {
        List(io);
      } else {
        Ended(io, -ECANCELED);
      }
      break;
    case Place::kPolled:
      poller_.Remove(io);
      Ended(io, -ECANCELED);
      break;
    case Place::kCalled: {
      Runtime& r = Runtime::Get();
      if (wq::CancelWork(&io->call_, r.pools(), r.events())) Ended(io, -ECANCELED);
      break;
    }
    default:  // whoever has it looks at the mark
      break;
  }
  return first;
}

bool IoLoop::WaitEnded(Io* io) {
  uint32_t seen;
  {
    Section hold(this);
    if (!UnderWay(io)) return false;
    io->bits_ |= IoBit::kWaiters;
    seen = io->state_;
  }
  {
    Announced announced;
    // Acquire: pairs with Ended.
    while (StateOf(io).load(std::memory_order_acquire) == seen) base::FutexWait(&io->state_, seen);
  }
  Section hold(this);  // until the section that ended it is over
  return true;
}

void IoLoop::EndAll(wq::Workqueue* wq) {
  for (;;) {
    uint32_t seen;
    {
      Section hold(this);
      if (wq->nr_operations == 0) return;
      seen = nr_ended_.load(std::memory_order_relaxed);
      for (base::ListNode *n = ops_.front(), *next; n != nullptr; n = next) {
        next = ops_.next(n);
        Io* const io = base::ListOwner<Io>(n, offsetof(Io, entry_));
        if (Impl(io->wq_) == wq) StopLocked(io, 0);
      }
      ++nr_end_waiters_;
    }
    {
      Announced announced;
      base::FutexWait(&nr_ended_, seen);  // pairs with Ended; it may have moved on by now
    }
    Section hold(this);
    --nr_end_waiters_;
  }
}

bool IoLoop::Contains(const Io* io) {
  Section hold(this);
  for (base::ListNode* n = ops_.front(); n != nullptr; n = ops_.next(n)) {
    if (n == &io->entry_) return true;
  }
  return false;
}

bool IoLoop::UsesRing() {
  Section hold(this);
  return mode_ == Mode::kRing;
}

void IoLoop::Show(pool::LineWriter* out) {
  constexpr int kPlaces = static_cast<int>(Place::kPaused) + 1;
  int nr[kPlaces] = {};
  int all = 0, streams = 0;
  const char* way = "ring";
  {
    Section hold(this);
    if (mode_ == Mode::kNone) return;
    if (mode_ == Mode::kStarting) way = "starting";
    if (mode_ == Mode::kPoller) way = "polling";
    for (base::ListNode* n = ops_.front(); n != nullptr; n = ops_.next(n), ++all) {
      const Io* const io = base::ListOwner<Io>(n, offsetof(Io, entry_));
      ++nr[static_cast<int>(PlaceOf(io))];
      if (platform::IsStream(io)) ++streams;
    }
  }
  const auto at = [&nr](Place place) { return nr[static_cast<int>(place)]; };
  char line[200];
  base::RawFormat(line, sizeof(line),
                  "operations (%s): %d under way, %d of them streams; %d held, %d listed, %d in the ring, "
                  "%d polled, %d called, %d paused",
                  way, all, streams, at(Place::kHeld), at(Place::kListed), at(Place::kRing),
                  at(Place::kPolled), at(Place::kCalled), at(Place::kPaused));
  out->Line(line);
}

// Context: child of fork, single-threaded.
void IoLoop::ResetAfterFork() {
  mu.ResetAfterFork();
  while (base::ListNode* const n = ops_.PopFront()) {
    Io* const io = base::ListOwner<Io>(n, offsetof(Io, entry_));
    if (platform::TimerHeap::Armed(&io->timer_)) timeouts_.Remove(&io->timer_);
    Impl(io->wq_)->nr_operations = 0;
    Put(io, Place::kNowhere);
    io->bits_ = 0;
    ++io->state_;
    if (platform::IsStream(io)) platform::StreamOf(io)->ResetAfterFork();
  }
  listed_ = asked_ = turns_ = IoFifo();
  buffers_.ResetAfterFork();
  files_.ResetAfterFork();
  changes_ = nullptr;
  mode_ = Mode::kNone;
  sleeping_ = wake_ = false;
  nr_end_waiters_ = 0;
  ring_.ResetAfterFork();
  poller_.ResetAfterFork();
  waker_.Close();
}

}  // namespace cmwq::core
