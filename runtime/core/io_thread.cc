// The thread of the IoLoop: with a ring, or with the poller.

#include <sys/prctl.h>

#include <cerrno>

#include "runtime/base/conf.h"
#include "runtime/base/test_point.h"
#include "runtime/core/capi.h"
#include "runtime/core/io_loop.h"
#include "runtime/core/io_op.h"
#include "runtime/core/runtime.h"

namespace cmwq::core {
namespace {

constexpr int kBatch = 64;  // completions per section of the lock

void Put(Io* io, Place place) { io->where_ = static_cast<uint8_t>(place); }

Io* OwnerOfTimer(platform::Timer* t) {
  return reinterpret_cast<Io*>(reinterpret_cast<char*>(t) - offsetof(Io, timer_));
}

// The queue of calls that are made for operations: one for the process, for ever.
constinit std::atomic<wq::Workqueue*> g_calls{nullptr};  // AT(Begin, AddQueue)

}  // namespace

// Makes the thread if there is none. Without one, all that is listed ends with the error.
void IoLoop::EnsureRunning() {
  {
    Section hold(this);
    if (mode_ != Mode::kNone) return;
    mode_ = Mode::kStarting;
  }
  const int err = Runtime::Get().env()->CreateThread(&Main, this, 0, &thread_);
  if (err == 0) return;
  CMWQ_WARN_ONCE("cannot create the thread for operations (errno %d); raise the limit of threads", err);
  Section hold(this);
  mode_ = Mode::kNone;
  while (Io* const io = listed_.Pop()) Ended(io, -err);
  while (TableChange* const change = changes_) {
    changes_ = change->next;
    Changed(change, -err, false);
  }
}

void* IoLoop::Main(void* self) {
  platform::NameSelf("wq/io");
  base::Sys(SYS_prctl, PR_SET_TIMERSLACK, 1);  // as the event thread
  IoLoop* const loop = static_cast<IoLoop*>(self);
  loop->Begin();
  return nullptr;
}

void IoLoop::Begin() {
  wq::Workqueue* const calls = AllocQueue("io_calls", 0, 0, false, &g_calls);
  calls_.store(calls, std::memory_order_release);  // pairs with Submit, Call
  const int err = base::g_conf.io_uring != 0 ? ring_.Create(&waker_) : -ENOSYS;
  if (err == 0) {
    {
      Section hold(this);
      FillTables();
      mode_ = Mode::kRing;
    }
    RingMain();
    return;
  }
  if (base::g_conf.io_uring != 0) {
    base::RawLog(base::LogLevel::kInfo,
                 "cannot create an io_uring (errno %d); operations are polled for, or made by workers",
                 -err);
  }
  const int failed = poller_.Create(&waker_);
  if (failed != 0) {
    CMWQ_WARN_ONCE("cannot create an epoll set (errno %d): operations wait until that is possible",
                   -failed);
  }
  {
    Section hold(this);
    mode_ = Mode::kPoller;
  }
  PollerMain();
}

void IoLoop::FireTimeouts() {
  platform::Timer* t = timeouts_.first();
  if (t == nullptr) return;
  const uint64_t now = base::MonotonicNs();
  for (; t != nullptr && t->deadline <= now; t = timeouts_.first()) {
    timeouts_.Remove(t);
    Io* const io = OwnerOfTimer(t);
    io->bits_ |= IoBit::kTimedOut;
    StopLocked(io, 0);
  }
}

// Until when the thread may sleep: there is nothing else to do. 0: it may not.
uint64_t IoLoop::BeforeSleep() {
  const platform::Timer* const t = timeouts_.first();
  sleeping_until_ = t != nullptr ? t->deadline : base::kNever;
  sleeping_ = true;
  if (mode_ == Mode::kRing) ring_.BeforeSleep();
  return sleeping_until_;
}

// False: the ring is full.
bool IoLoop::GiveListed() {
  while (Io* const io = listed_.Pop()) {
    Put(io, Place::kHeld);
    if ((io->bits_ & IoBit::kEnd) != 0) {
      Ended(io, -ECANCELED);
    } else if (!ring_.HasSpace()) {
      Put(io, Place::kListed);
      listed_.PushFront(io);
      return false;
    } else if (platform::IsStream(io)) {
      PrepareStream(io);
    } else if (!ring_.Supports(platform::KindOf(io))) {
      Call(io);
    } else {
      PrepareInRing(io, io->phase_ == IoPhase::kPoll);
      Put(io, Place::kRing);
    }
  }
  while (Io* const io = asked_.Pop()) {
    if (ring_.PrepareCancel(io)) continue;
    asked_.PushFront(io);
    return false;
  }
  return true;
}

void IoLoop::FromRing(const platform::CompletionRing::Completion& c) {
  Io* const io = c.io;
  const int64_t result = c.result;
  if (c.more) return StreamFromRing(c);
  // Its cancellation may not have been submitted yet.
  if ((io->bits_ & IoBit::kAsked) != 0) {
    asked_.Remove(io);
    io->bits_ &= static_cast<uint8_t>(~IoBit::kAsked);
  }
  if (platform::IsStream(io)) return StreamFromRing(c);
  if (io->phase_ == IoPhase::kPoll) {
    io->phase_ = IoPhase::kCall;
    if (result < 0 || (io->bits_ & IoBit::kEnd) != 0) return Complete(io, result < 0 ? result : -EAGAIN);
    // A file is always ready and may still not be: no way to wait but the call.
    return IsFile(io->fd_) ? Call(io) : Route(io);
  }
  Complete(io, result);
}

void IoLoop::RingMain() {
  for (;;) {
    uint64_t until = 0;
    bool changes;
    {
      Section hold(this);
      FireTimeouts();
      changes = changes_ != nullptr;
      if (GiveListed() && !changes) until = BeforeSleep();
    }
    if (changes) MakeChanges();
    CMWQ_TEST_POINT("io.before_enter");
    const int err = ring_.Enter(until);
    if (err != 0) {
      CMWQ_WARN_ONCE("the io_uring for operations does not work any more (errno %d); was its "
                     "descriptor closed?", -err);
      std::atomic<int32_t> never{0};
      sync::RealSync::FutexWait(&never, 0, base::MonotonicNs() + 100 * base::kNsPerMs);
    }
    for (bool more = true; more;) {
      Section hold(this);
      sleeping_ = false;
      more = ring_.Reap(kBatch, [this](const platform::CompletionRing::Completion& c) {
        mu.AssertHeld();
        FromRing(c);
      });
    }
    TakeTurns();
  }
}

void IoLoop::FromPoller(const platform::Poller::Ready& ready) {
  Io* io;
  {
    Section hold(this);
    io = poller_.Take(ready);
    for (Io* at = io; at != nullptr; at = at->next_) Put(at, Place::kHeld);
  }
  while (io != nullptr) {
    Io* const next = io->next_;
    if (platform::IsStream(io)) {
      TakeTurn(io);
    } else {
      const int64_t result = TryOp(io, true);
      Section hold(this);
      Complete(io, result);
    }
    io = next;
  }
}

void IoLoop::PollerMain() {
  platform::Poller::Ready ready[platform::Poller::kBatch];
  for (;;) {
    uint64_t until = 0;
    bool changes;
    {
      Section hold(this);
      FireTimeouts();
      // Listed before the mode was known.
      while (Io* const io = listed_.Pop()) {
        Put(io, Place::kHeld);
        if ((io->bits_ & IoBit::kEnd) != 0) {
          Ended(io, -ECANCELED);
        } else {
          Route(io);
        }
      }
      changes = changes_ != nullptr;
      if (!changes) until = BeforeSleep();
    }
    if (changes) MakeChanges();
    const int n = poller_.Wait(until, ready);
    {
      Section hold(this);
      sleeping_ = false;
    }
    for (int i = 0; i < n; ++i) FromPoller(ready[i]);
  }
}

}  // namespace cmwq::core
