// The C interface of streams: argument checks, then the loop.

#include <cmwq/io_stream.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "runtime/core/capi.h"
#include "runtime/core/io_loop.h"
#include "runtime/core/runtime.h"
#include "runtime/platform/io_stream.h"

namespace {

using cmwq::core::Io;
using cmwq::core::IoBit;
using cmwq::core::IoLoop;
using cmwq::core::Misuse;
using cmwq::core::Runtime;
using cmwq::platform::IoKind;
using cmwq::platform::IoStream;

static_assert(sizeof(struct cmwq_io_stream) == 320);

// Made by cmwq_io_stream_init, and not destroyed.
bool Made(const char* function, struct cmwq_io_stream* s) {
  if (!cmwq::core::Sound(function, s != nullptr ? &s->io_.work : nullptr)) return false;
  return s->state_ != nullptr || Misuse(function, "the stream has not been initialised, or is destroyed");
}

bool Start(const char* function, struct cmwq_workqueue* wq, struct cmwq_io_stream* s,
           const cmwq::core::IoRequest& request) {
  if (!cmwq::core::Usable(function, wq) || !Made(function, s)) return false;
  const bool buffers = static_cast<IoStream*>(s->state_)->has_buffers();
  if (buffers != (request.kind == IoKind::kRecvMany)) {
    return Misuse(function, buffers ? "the stream was made with buffers, to receive"
                                    : "the stream was made without buffers, to accept");
  }
  return IoLoop::Get().Submit(cmwq::core::Impl(wq), &s->io_, request);
}

bool FromItself(const struct cmwq_io_stream* s) { return cmwq_current_work() == &s->io_.work; }

bool CancelSync(struct cmwq_io_stream* s) {
  Runtime& r = Runtime::Get();
  Io* const io = &s->io_;
  bool pending = cmwq::wq::DisableWork(&io->work, r.pools(), r.events(), false);
  if (IoLoop::Get().Stop(io, IoBit::kCancel)) pending = true;
  IoLoop::Get().WaitEnded(io);
  if (!FromItself(s)) cmwq::wq::WaitForRunning(&io->work, r.pools());
  cmwq::wq::EnableWork(&io->work);
  return pending;
}

}  // namespace

extern "C" {

bool cmwq_io_stream_init(struct cmwq_io_stream* s, cmwq_work_fn fn, unsigned nr, size_t size) {
  constexpr const char* kName = "cmwq_io_stream_init";
  errno = EINVAL;
  if (s == nullptr || fn == nullptr) return Misuse(kName, "null argument");
  if (nr == 0 || nr > IoStream::kMaxResults || size > UINT32_MAX) {
    return Misuse(kName, "nr must be 1 to 32768, size at most 4 GB");
  }
  // The memory may hold anything: only the list tells.
  const bool odd = (std::atomic_ref<uint32_t>(s->io_.state_).load(std::memory_order_relaxed) & 1) != 0;
  if ((odd && IoLoop::Get().Contains(&s->io_)) || Runtime::Get().ReallyPending(&s->io_.work)) {
    errno = EBUSY;
    return Misuse(kName, "the stream is under way");
  }
  memset(s, 0, sizeof(*s));
  cmwq_io_work_init(&s->io_, fn);
  s->state_ = s->io_.aux_ = IoStream::Make(nr, size);
  errno = s->state_ != nullptr ? 0 : ENOMEM;
  return s->state_ != nullptr;
}

void cmwq_io_stream_destroy(struct cmwq_io_stream* s) {
  if (!cmwq::core::Sound("cmwq_io_stream_destroy", s != nullptr ? &s->io_.work : nullptr)) return;
  if (s->state_ == nullptr) return;
  if (Runtime::Get().started()) CancelSync(s);
  IoStream* const state = static_cast<IoStream*>(s->state_);
  IoStream::Result left;
  while (state->Pop(&left)) {
    if (!state->has_buffers()) close(static_cast<int>(left.value));
  }
  s->state_ = s->io_.aux_ = nullptr;
  state->Free();
}

bool cmwq_io_accept_stream(struct cmwq_workqueue* wq, struct cmwq_io_stream* s, int fd, int flags) {
  return Start("cmwq_io_accept_stream", wq, s,
               {IoKind::kAcceptMany, fd, flags, nullptr, 0, -1, s != nullptr ? s->state_ : nullptr});
}

bool cmwq_io_recv_stream(struct cmwq_workqueue* wq, struct cmwq_io_stream* s, int fd, int flags) {
  return Start("cmwq_io_recv_stream", wq, s,
               {IoKind::kRecvMany, fd, flags, nullptr, 0, -1, s != nullptr ? s->state_ : nullptr});
}

int cmwq_io_stream_next(struct cmwq_io_stream* s, struct cmwq_io_result* r) {
  constexpr const char* kName = "cmwq_io_stream_next";
  if (r == nullptr) return Misuse(kName, "null argument"), -1;
  *r = {-EINVAL, nullptr};
  return Made(kName, s) ? IoLoop::Get().Next(&s->io_, r) : -1;
}

void cmwq_io_stream_put(struct cmwq_io_stream* s, void* data) {
  constexpr const char* kName = "cmwq_io_stream_put";
  if (data == nullptr || !Made(kName, s)) return;
  if (!IoLoop::Get().PutBuffer(&s->io_, data)) {
    Misuse(kName, "not a buffer of this stream that was taken and not put back");
  }
}

bool cmwq_end_io_stream(struct cmwq_io_stream* s) {
  return Made("cmwq_end_io_stream", s) && IoLoop::Get().Stop(&s->io_, 0);
}

bool cmwq_cancel_io_stream(struct cmwq_io_stream* s) {
  if (!Made("cmwq_cancel_io_stream", s) || !Runtime::Get().started()) return false;
  Runtime& r = Runtime::Get();
  // In this order: results that come from here on queue nothing.
  const bool under_way = IoLoop::Get().Stop(&s->io_, IoBit::kCancel);
  return cmwq::wq::CancelWork(&s->io_.work, r.pools(), r.events()) || under_way;
}

bool cmwq_cancel_io_stream_sync(struct cmwq_io_stream* s) {
  return Made("cmwq_cancel_io_stream_sync", s) && Runtime::Get().started() && CancelSync(s);
}

bool cmwq_flush_io_stream(struct cmwq_io_stream* s) {
  constexpr const char* kName = "cmwq_flush_io_stream";
  if (!Made(kName, s) || !Runtime::Get().started()) return false;
  if (FromItself(s)) return Misuse(kName, "called from the item: it would wait for itself");
  const bool waited = IoLoop::Get().WaitIfEnding(&s->io_);
  return cmwq::wq::FlushWork(&s->io_.work, Runtime::Get().pools()) || waited;
}

}  // extern "C"
