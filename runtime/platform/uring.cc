// One request at a time: submit, wait, reap. Threads: the ring's own. Locks: none.

#include "runtime/platform/uring.h"

#include <linux/time_types.h>

#include <atomic>
#include <cerrno>
#include <new>

#include "runtime/base/check.h"
#include "runtime/base/test_point.h"

// 0: built without liburing.
#ifndef CMWQ_HAVE_URING
#define CMWQ_HAVE_URING 0
#endif
#if CMWQ_HAVE_URING
#include <liburing.h>
#endif

namespace cmwq::platform {
namespace {

// Relaxed, both: a thread that sees the old value is refused by the kernel itself; a count is a
// count.
constinit std::atomic<int> g_refusal{CMWQ_HAVE_URING ? 0 : ENOSYS};  // AT(GiveUp, Refusal)
constinit std::atomic<int> g_created{0};                             // AT(Create, NrCreated)

}  // namespace

int ThreadRing::Refusal() { return g_refusal.load(std::memory_order_relaxed); }
int ThreadRing::NrCreated() { return g_created.load(std::memory_order_relaxed); }

void ThreadRing::ResetAfterFork() {
  live_ = false;
  g_created.store(0, std::memory_order_relaxed);
}

#if CMWQ_HAVE_URING

namespace {

// A request and its time-out, and as many that were withdrawn.
constexpr unsigned kEntries = 4;
constexpr uint64_t kIgnoreData = 0;  // user_data of what nobody waits for
constexpr uint64_t kRequestData = 1;

const char* Reason(int err) {
  switch (err) {
    case ENOSYS:
      return "the kernel or the container has none";
    case EPERM:
    case EACCES:
      return "sysctl kernel.io_uring_disabled or a seccomp filter forbids it";
    case EINVAL:
      return "the kernel is older than 6.1";
    case EMFILE:
    case ENFILE:
      return "no descriptor is free";
    case ENOMEM:
      return "no memory is free";
    default:
      return "unexpected";
  }
}

void GiveUp(int err, const char* what) {
  int none = 0;
  if (!g_refusal.compare_exchange_strong(none, err, std::memory_order_relaxed)) return;
  base::RawLog(base::LogLevel::kInfo,
               "cannot %s an io_uring (errno %d: %s); work functions wait in plain system calls",
               what, err, Reason(err));
}

}  // namespace

ThreadRing::~ThreadRing() {
  if (live_) io_uring_queue_exit(ring_);
  delete ring_;
}

bool ThreadRing::Create() {
  if (ring_ == nullptr) ring_ = new (std::nothrow) struct io_uring;
  if (ring_ == nullptr) return false;
  int err = io_uring_queue_init(
      kEntries, ring_,
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL);
  if (err < 0) return GiveUp(-err, "create"), false;
  err = io_uring_ring_dontfork(ring_);
  if (err >= 0) err = io_uring_register_ring_fd(ring_);
  if (err < 0) {
    io_uring_queue_exit(ring_);
    return GiveUp(-err, "register"), false;
  }
  // From here on the registration alone keeps the ring.
  base::SysClose(ring_->ring_fd);
  ring_->ring_fd = -1;
  live_ = true;
  g_created.fetch_add(1, std::memory_order_relaxed);
  return true;
}

// `until` must live until the request is submitted.
void ThreadRing::Fill(const RingOp& op, struct __kernel_timespec* until) {
  using Kind = RingOp::Kind;
  struct io_uring_sqe* const sqe = io_uring_get_sqe(ring_);
  auto* const address = static_cast<struct sockaddr*>(op.buffer);
  switch (op.kind) {
    case Kind::kRead:
      io_uring_prep_read(sqe, op.fd, op.buffer, op.length, op.offset);
      break;
    case Kind::kWrite:
      io_uring_prep_write(sqe, op.fd, op.buffer, op.length, op.offset);
      break;
    case Kind::kRecv:
      io_uring_prep_recv(sqe, op.fd, op.buffer, op.length, op.flags);
      break;
    case Kind::kSend:
      io_uring_prep_send(sqe, op.fd, op.buffer, op.length, op.flags);
      break;
    case Kind::kAccept:
      io_uring_prep_accept(sqe, op.fd, address, op.addr_length, op.flags);
      break;
    case Kind::kConnect:
      io_uring_prep_connect(sqe, op.fd, address, op.length);
      break;
    case Kind::kPoll:
      io_uring_prep_poll_add(sqe, op.fd, static_cast<unsigned>(op.flags));
      break;
    case Kind::kSleep:
      io_uring_prep_timeout(sqe, until, 0, IORING_TIMEOUT_ABS);
      break;
  }
  sqe->user_data = kRequestData;
  if (op.kind != Kind::kPoll || op.deadline_ns == base::kNever) return;
  sqe->flags |= IOSQE_IO_LINK;
  struct io_uring_sqe* const timeout = io_uring_get_sqe(ring_);
  io_uring_prep_link_timeout(timeout, until, IORING_TIMEOUT_ABS);
  timeout->user_data = kIgnoreData;
}

int ThreadRing::Do(const RingOp& op) {
  if (!Usable() || (!live_ && !Create())) return kRefused;
  if (io_uring_sq_space_left(ring_) < 2) return kRefused;  // see Withdraw
  struct __kernel_timespec until = {static_cast<int64_t>(op.deadline_ns / base::kNsPerSec),
                                    static_cast<int64_t>(op.deadline_ns % base::kNsPerSec)};
  Fill(op, &until);
  CMWQ_TEST_POINT("ring.before_enter");
  for (;;) {
    const int err = io_uring_submit_and_wait(ring_, 1);
    int result;
    if (Reap(&result)) {
      return op.kind == RingOp::Kind::kSleep && result == -ETIME ? 0 : result;
    }
    // Only the completion of an old time-out was there, or a signal handler ran.
    if (err >= 0 || err == -EINTR) continue;
    const bool shortage = err == -EAGAIN || err == -EBUSY || err == -ENOMEM;
    if (io_uring_sq_ready(ring_) == 0 && shortage) continue;
    // A request that was submitted stays in the ring for good. It does nothing there: it waits for
    // readiness, and goes on only inside io_uring_enter (DEFER_TASKRUN), which is not called again.
    if (!shortage) GiveUp(-err, "use");
    Withdraw();
    return kRefused;
  }
}

// Takes what was asked for. False: it is not there yet.
bool ThreadRing::Reap(int* result) {
  bool found = false;
  struct io_uring_cqe* cqe;
  unsigned head, seen = 0;
  io_uring_for_each_cqe(ring_, head, cqe) {
    ++seen;
    if (cqe->user_data != kRequestData) continue;
    *result = cqe->res;
    found = true;
  }
  io_uring_cq_advance(ring_, seen);
  return found;
}

// The kernel has not looked at the request: it becomes one that does nothing, to be submitted with
// the next. Its buffer is not ours to use any more.
void ThreadRing::Withdraw() {
  struct io_uring_sq& sq = ring_->sq;
  for (unsigned i = 0; i < kEntries; ++i) {
    io_uring_prep_nop(&sq.sqes[i]);
    sq.sqes[i].user_data = kIgnoreData;
  }
}

#else

ThreadRing::~ThreadRing() = default;
int ThreadRing::Do(const RingOp&) { return kRefused; }

#endif  // CMWQ_HAVE_URING

}  // namespace cmwq::platform
