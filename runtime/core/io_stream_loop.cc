// Streams in the IoLoop: one request that brings many results.
//
// A stream is under way from its start to Ended, as an operation is, but meanwhile its item is queued
// for every result (Deliver): the result is in the stream before the queueing is tried, under `mu`, so
// whoever is told "pending already" knows that the execution to come will find it.
//
// Ways: a multishot request (Place::kRing); where the kernel refuses that, one that waits for the
// descriptor, and a turn of plain calls when it is ready; the same from the poller. A ring that has
// dropped the request (completion queue full, no buffer, asked to because of the limit) gets the next
// one as soon as there is room. Buffers' groups are made and dropped by the loop's thread alone, which
// is what SINGLE_ISSUER asks for.

#include <cmwq/io_stream.h>

#include <cerrno>

#include "runtime/base/test_point.h"
#include "runtime/core/capi.h"
#include "runtime/core/io_loop.h"
#include "runtime/core/io_op.h"
#include "runtime/core/runtime.h"

namespace cmwq::core {
namespace {

using platform::IoStream;
using platform::StreamOf;

constexpr unsigned kTurn = 16;  // results of one turn of plain calls

void Put(Io* io, Place place) { io->where_ = static_cast<uint8_t>(place); }
bool Accepts(const Io* io) { return platform::KindOf(io) == IoKind::kAcceptMany; }

// The next request, or the next call, may well succeed.
bool Passing(const Io* io, int64_t result) {
  return result == -EAGAIN || result == -EINTR || (Accepts(io) && result == -ECONNABORTED);
}

}  // namespace

void IoLoop::RouteStream(Io* io) {
  if (!StreamOf(io)->HasRoom()) return Put(io, Place::kPaused);
  if (mode_ != Mode::kPoller) return List(io);
  if (Accepts(io)) DoNotBlock(io->fd_);
  const int err = poller_.Add(io);
  if (err != 0) return Ended(io, err);
  Put(io, Place::kPolled);
}

// Context: the thread. The ring has space.
void IoLoop::PrepareStream(Io* io) {
  IoStream* const s = StreamOf(io);
  if (!ring_.Supports(platform::KindOf(io))) s->plain = true;
  if (!s->plain && s->has_buffers() && s->group < 0 && ring_.AddGroup(s) != 0) s->plain = true;
  if (s->plain && Accepts(io)) DoNotBlock(io->fd_);
  io->phase_ = s->plain ? IoPhase::kPoll : IoPhase::kCall;
  PrepareInRing(io, s->plain);
  Put(io, Place::kRing);
}

void IoLoop::Deliver(Io* io, int64_t value, int32_t buffer) {
  IoStream* const s = StreamOf(io);
  if (!s->Push({value, buffer})) {
    // Above the limit there are connections and empty datagrams only.
    CMWQ_WARN_ONCE("no memory for what a stream has received above its limit: it is dropped");
    if (Accepts(io)) base::SysClose(static_cast<int>(value));
    return;
  }
  CMWQ_TEST_POINT("io.delivered");
  // Refused: pending already, or disabled by a cancel that is on its way to end the stream.
  if ((io->bits_ & IoBit::kCancel) == 0) wq::QueueAccepted(Impl(io->wq_), io->cpu_, &io->work);
}

void IoLoop::StreamFromRing(const platform::CompletionRing::Completion& c) {
  Io* const io = c.io;
  IoStream* const s = StreamOf(io);
  const int64_t result = c.result;
  if (io->phase_ == IoPhase::kPoll) {
    io->phase_ = IoPhase::kCall;
    if (result < 0) return StreamStopped(io, result);
    Put(io, Place::kHeld);
    turns_.Push(io);
    return;
  }
  if (c.buffer != IoStream::kNoBuffer) s->TakeOut(c.buffer);
  const bool delivers = result > 0 || (result == 0 && (Accepts(io) || s->datagrams));
  if (delivers) {
    Deliver(io, result, c.buffer);
  } else if (c.buffer != IoStream::kNoBuffer) {
    s->Put(c.buffer);
    platform::CompletionRing::GiveBuffer(s, c.buffer);
  }
  if (!c.more) return StreamStopped(io, delivers ? -EAGAIN : result);
  // The kernel knows no limit but buffers.
  if (!s->HasRoom()) Ask(io);
}

void IoLoop::StreamStopped(Io* io, int64_t result) {
  IoStream* const s = StreamOf(io);
  Put(io, Place::kHeld);
  if ((io->bits_ & IoBit::kEnd) != 0) return Ended(io, -ECANCELED);
  const bool in_ring = mode_ == Mode::kRing && !s->plain;
  // A kernel without such requests, or one that does not wait for an O_NONBLOCK descriptor: plain calls
  // go on, and say what is wrong otherwise.
  const bool refused = in_ring && (result == -EINVAL ||
                                   (result == -EAGAIN && Accepts(io) && DoesNotBlock(io->fd_)));
  if (refused) {
    s->plain = true;
    if (s->group >= 0) ring_.DropGroup(s);
  }
  const bool starved = in_ring && s->has_buffers() && result == -ENOBUFS;
  const bool paused = in_ring && result == -ECANCELED;
  if (refused || starved || paused || Passing(io, result)) return RouteStream(io);
  Ended(io, result);
}

void IoLoop::TakeTurn(Io* io) {
  IoStream* const s = StreamOf(io);
  int32_t buffers[kTurn];
  int64_t results[kTurn];
  unsigned room;
  {
    Section hold(this);
    room = (io->bits_ & IoBit::kEnd) != 0 ? 0 : s->Room();
    if (room > kTurn) room = kTurn;
    for (unsigned i = 0; i < room; ++i) buffers[i] = s->has_buffers() ? s->Reserve() : IoStream::kNoBuffer;
  }
  CMWQ_TEST_POINT("io.turn");
  unsigned taken = 0;
  int64_t last = -EAGAIN;
  while (taken < room) {
    char* const data = s->has_buffers() ? s->Data(buffers[taken]) : nullptr;
    last = TakeOne(io, data, s->size());
    if (last < 0 || (last == 0 && !Accepts(io) && !s->datagrams)) break;
    results[taken++] = last;
  }
  Section hold(this);
  for (unsigned i = taken; i < room; ++i) {
    if (s->has_buffers()) s->Put(buffers[i]);
  }
  for (unsigned i = 0; i < taken; ++i) {
    if (s->has_buffers()) s->TakeOut(buffers[i]);
    Deliver(io, results[i], buffers[i]);
  }
  StreamStopped(io, taken == room ? -EAGAIN : last);
}

void IoLoop::TakeTurns() {
  for (;;) {
    Io* io;
    {
      Section hold(this);
      io = turns_.Pop();
    }
    if (io == nullptr) return;
    TakeTurn(io);
  }
}

int IoLoop::Next(Io* io, struct cmwq_io_result* r) {
  Section hold(this);
  IoStream* const s = StreamOf(io);
  const bool under_way = (io->state_ & 1) != 0;
  IoStream::Result result;
  if (s->Pop(&result)) {
    *r = {result.value, result.buffer != IoStream::kNoBuffer ? s->Data(result.buffer) : nullptr};
    const bool paused = under_way && static_cast<Place>(io->where_) == Place::kPaused;
    if (paused && s->MayResume()) RouteStream(io);
    return 1;
  }
  *r = {io->result, nullptr};
  if (under_way) return 0;
  // Queued for the end, which the caller has been told: it may free the stream.
  Runtime& runtime = Runtime::Get();
  wq::CancelWork(&io->work, runtime.pools(), runtime.events());
  return -1;
}

bool IoLoop::PutBuffer(Io* io, void* data) {
  Section hold(this);
  IoStream* const s = StreamOf(io);
  const int32_t buffer = s->BufferAt(data);
  if (buffer == IoStream::kNoBuffer || !s->IsOut(buffer)) return false;
  s->Put(buffer);
  if (s->group >= 0) platform::CompletionRing::GiveBuffer(s, buffer);
  const bool paused = (io->state_ & 1) != 0 && static_cast<Place>(io->where_) == Place::kPaused;
  if (paused && s->HasRoom()) RouteStream(io);
  return true;
}

bool IoLoop::WaitIfEnding(Io* io) {
  {
    Section hold(this);
    if ((io->state_ & 1) == 0 || (io->bits_ & IoBit::kEnd) == 0) return false;
  }
  return WaitEnded(io);
}

}  // namespace cmwq::core
