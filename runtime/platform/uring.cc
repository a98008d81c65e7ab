// The shared ring: hand-over from workers, submission, completion.
//
// Threads: workers push and park; everything else runs on the event thread, which owns the ring.
// Locks: none.
//
// No request is left behind, and the event thread sleeps only when there is none:
//
//   worker                                      event thread
//   1. head_: h -> request (CAS)                1. v := bell_, futex wait for it goes into the ring
//   2. if h had kAsleep: bell_ += 1,            2. head_: 0 -> kAsleep (CAS); if it was not 0: take
//      futex wake on bell_                         what is there and start again at 1
//   3. park                                     3. io_uring_enter: submit, wait for one completion
//                                               4. head_ -> 0 (exchange); put what was there in the ring
//
// Both sides change one word, so its order of changes decides. A push that comes before the event
// thread's step 2 makes that step fail: the request is taken. A push that comes after it sees kAsleep and
// goes on to the bell; nobody but the event thread removes kAsleep without doing so (Push and Wake). The
// bell in turn is not missed: the kernel compares bell_ with v when it arms the wait, so an increment
// before that ends the wait at once, and a wake after that finds it. An increment of an earlier sleep
// that comes late ends a wait too many, never one too few. Every request that was taken is put into the
// ring or stays on taken_, and while anything is on taken_ the event thread does not sleep.
//
// The other side: what the worker waits for cannot be lost either. A request leaves flying_, taken_ or
// head_ only through Finish, which gives the token; when the ring fails, Close finishes all three, and the
// exchange that sets kClosed is the last moment at which a push can succeed.

#include "runtime/platform/uring.h"

#include <cerrno>
#include <new>

#include "runtime/base/check.h"
#include "runtime/base/sys.h"
#include "runtime/base/test_point.h"

#if CMWQ_HAVE_URING
#include <liburing.h>
#endif

namespace cmwq::platform {

int Ring::Do(RingOp* op, sync::Parker* parker, EventThread* events) {
  op->parker = parker;
  if (!Push(op)) return kRefused;
  CMWQ_TEST_POINT("ring.pushed");
  // Relaxed: only one thread goes on; SetWaitPoint publishes what it wrote.
  if (!attached_.load(std::memory_order_relaxed) &&
      !attached_.exchange(true, std::memory_order_relaxed)) {
    events_ = events;
    events->SetWaitPoint(this);
  }
  parker->Park();
  return op->result;
}

// Context: any. Returns false when the ring is closed.
bool Ring::Push(RingOp* op) {
  uintptr_t seen = head_.load(std::memory_order_relaxed);
  do {
    if ((seen & kClosed) != 0) return false;
    op->next = reinterpret_cast<RingOp*>(seen & ~kBits);
    // Release: pairs with the acquire in Take, which reads the request.
  } while (!head_.compare_exchange_weak(seen, reinterpret_cast<uintptr_t>(op) | (seen & kPoked),
                                        std::memory_order_release, std::memory_order_relaxed));
  if ((seen & kAsleep) != 0) Bell();
  return true;
}

void Ring::Wake() {
  uintptr_t seen = head_.load(std::memory_order_relaxed);
  do {
    if ((seen & (kClosed | kPoked)) != 0) return;
    // Release: pairs with the acquire in Take; the timer that was armed before is seen after.
  } while (!head_.compare_exchange_weak(seen, (seen & ~kAsleep) | kPoked,
                                        std::memory_order_release, std::memory_order_relaxed));
  if ((seen & kAsleep) != 0) Bell();
}

void Ring::Bell() {
  // Release: pairs with the load in Prepare, though the kernel's own comparison is what counts.
  bell_.fetch_add(1, std::memory_order_release);
  base::FutexWake(&bell_, 1);
}

void Ring::ResetAfterFork() {
  head_.store(0, std::memory_order_relaxed);
  bell_.store(0, std::memory_order_relaxed);
  attached_.store(false, std::memory_order_relaxed);
  live_ = false;
  bell_armed_ = false;
  taken_ = taken_last_ = nullptr;
}

// The request is its thread's again the moment the token is given.
void Ring::Finish(RingOp* op, int result) {
  op->result = result;
  op->parker->Unpark();
}

// Moves what was pushed to the end of taken_, oldest first. Returns whether Wait is to return.
bool Ring::Take() {
  const uintptr_t seen = head_.exchange(0, std::memory_order_acquire);  // pairs with Push and Wake
  RingOp* const newest = reinterpret_cast<RingOp*>(seen & ~kBits);
  RingOp* oldest = nullptr;
  for (RingOp* op = newest; op != nullptr;) {
    RingOp* const before = op->next;
    op->next = oldest;
    oldest = op;
    op = before;
  }
  if (newest != nullptr) {
    (taken_ == nullptr ? taken_ : taken_last_->next) = oldest;
    taken_last_ = newest;
  }
  return (seen & kPoked) != 0;
}

#if CMWQ_HAVE_URING

namespace {

constexpr unsigned kEntries = 64;       // submitted at once; more go in rounds
constexpr unsigned kCompletions = 512;  // beyond it the kernel keeps them aside
constexpr uint64_t kIgnoreData = 0;     // user_data of a linked time-out
constexpr uint64_t kBellData = 1;

// IORING_OP_FUTEX_WAIT came with Linux 6.7; liburing 2.3 does not know it.
constexpr uint8_t kOpFutexWait = 51;
constexpr int kFutexU32Private = 0x02 | 0x80;

const char* Reason(int err) {
  switch (err) {
    case ENOSYS: return "the kernel or the container has none";
    case EPERM: return "sysctl kernel.io_uring_disabled or a seccomp filter forbids it";
    case EINVAL:
    case EOPNOTSUPP: return "the kernel is older than 6.7";
    case EMFILE:
    case ENFILE: return "no descriptor is free";
    case ENOMEM: return "no memory is free";
    default: return "unexpected error";
  }
}

bool HasFutexWait(struct io_uring* ring) {
  struct io_uring_probe* const probe = io_uring_get_probe_ring(ring);
  if (probe == nullptr) return false;
  const bool has = io_uring_opcode_supported(probe, kOpFutexWait) != 0;
  io_uring_free_probe(probe);
  return has;
}

}  // namespace

// Context: event thread, which becomes the only thread that may enter the ring. False: closed.
bool Ring::Create() {
  base::ListInit(&flying_);
  if (ring_ == nullptr) ring_ = new (std::nothrow) struct io_uring;
  if (ring_ == nullptr) return Close(ENOMEM, "create"), false;
  struct io_uring_params params = {};
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE;
  params.cq_entries = kCompletions;
  int err = io_uring_queue_init_params(kEntries, ring_, &params);
  if (err < 0) return Close(-err, "create"), false;
  if (!HasFutexWait(ring_)) {
    err = -EOPNOTSUPP;
  } else {
    err = io_uring_ring_dontfork(ring_);
    if (err >= 0) err = io_uring_register_ring_fd(ring_);
  }
  if (err < 0) {
    io_uring_queue_exit(ring_);
    return Close(-err, "prepare"), false;
  }
  // From here on the registration alone keeps the ring.
  base::SysClose(ring_->ring_fd);
  ring_->ring_fd = -1;
  live_ = true;
  return true;
}

// Context: event thread. Returns after Wake or at the deadline, or when the ring is closed; requests
// that were taken and not submitted are submitted by the next call.
void Ring::Wait(uint64_t deadline_ns) {
  if ((head_.load(std::memory_order_relaxed) & kClosed) != 0) return;
  if (!live_ && !Create()) return;
  for (bool poked = Take(); !poked;) {
    Prepare();
    uintptr_t none = 0;
    // acq_rel: step 2 of the event thread; pairs with Push and Wake.
    const bool sleep = taken_ == nullptr &&
                       head_.compare_exchange_strong(none, kAsleep, std::memory_order_acq_rel,
                                                     std::memory_order_relaxed);
    CMWQ_TEST_POINT("ring.before_enter");
    const int err = Enter(sleep, deadline_ns);
    poked = Take();
    Reap();
    if (err == -ETIME) return;
    if (err >= 0 || err == -EINTR) continue;
    if (err != -EBUSY && err != -EAGAIN) return Close(-err, "use");
    base::SchedYield();  // no memory in the kernel, or completions kept aside: both pass
  }
}

void Ring::Prepare() {
  // A request needs two entries at most; one more is for the bell.
  while (taken_ != nullptr && io_uring_sq_space_left(ring_) >= 3) {
    RingOp* const op = taken_;
    taken_ = op->next;
    base::ListInit(&op->entry);
    base::ListInsertBefore(&flying_, &op->entry);
    Fill(op, io_uring_get_sqe(ring_));
  }
  if (bell_armed_) return;
  struct io_uring_sqe* const sqe = io_uring_get_sqe(ring_);
  if (sqe == nullptr) return;  // taken_ is not empty either: no sleep
  io_uring_prep_rw(kOpFutexWait, sqe, kFutexU32Private, &bell_, 0,
                   bell_.load(std::memory_order_acquire));  // pairs with Bell
  sqe->addr3 = FUTEX_BITSET_MATCH_ANY;
  sqe->user_data = kBellData;
  bell_armed_ = true;
}

void Ring::Fill(RingOp* op, struct io_uring_sqe* sqe) {
  using Kind = RingOp::Kind;
  op->time = {static_cast<int64_t>(op->deadline_ns / base::kNsPerSec),
              static_cast<int64_t>(op->deadline_ns % base::kNsPerSec)};
  auto* const address = static_cast<struct sockaddr*>(op->buffer);
  switch (op->kind) {
    case Kind::kRead: io_uring_prep_read(sqe, op->fd, op->buffer, op->length, op->offset); break;
    case Kind::kWrite: io_uring_prep_write(sqe, op->fd, op->buffer, op->length, op->offset); break;
    case Kind::kRecv: io_uring_prep_recv(sqe, op->fd, op->buffer, op->length, op->flags); break;
    case Kind::kSend: io_uring_prep_send(sqe, op->fd, op->buffer, op->length, op->flags); break;
    case Kind::kAccept:
      io_uring_prep_accept(sqe, op->fd, address, op->addr_length, op->flags);
      break;
    case Kind::kConnect: io_uring_prep_connect(sqe, op->fd, address, op->length); break;
    case Kind::kPoll:
      io_uring_prep_poll_add(sqe, op->fd, static_cast<unsigned>(op->flags));
      break;
    case Kind::kSleep: io_uring_prep_timeout(sqe, &op->time, 0, IORING_TIMEOUT_ABS); break;
  }
  sqe->user_data = reinterpret_cast<uintptr_t>(op);
  if (op->kind != Kind::kPoll || op->deadline_ns == base::kNever) return;
  sqe->flags |= IOSQE_IO_LINK;
  struct io_uring_sqe* const timeout = io_uring_get_sqe(ring_);
  io_uring_prep_link_timeout(timeout, &op->time, IORING_TIMEOUT_ABS);
  timeout->user_data = kIgnoreData;
}

// Submits everything and, if `sleep`, waits for a completion. -ETIME: the deadline passed.
int Ring::Enter(bool sleep, uint64_t deadline_ns) {
  if (!sleep) return io_uring_submit_and_get_events(ring_);
  struct io_uring_cqe* cqe = nullptr;
  if (deadline_ns == base::kNever) {
    return io_uring_submit_and_wait_timeout(ring_, &cqe, 1, nullptr, nullptr);
  }
  const uint64_t now = base::MonotonicNs();
  const uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
  struct __kernel_timespec time = {static_cast<int64_t>(left / base::kNsPerSec),
                                   static_cast<int64_t>(left % base::kNsPerSec)};
  return io_uring_submit_and_wait_timeout(ring_, &cqe, 1, &time, nullptr);
}

void Ring::Reap() {
  struct io_uring_cqe* cqe;
  unsigned head, seen = 0;
  io_uring_for_each_cqe(ring_, head, cqe) {
    ++seen;
    if (cqe->user_data == kIgnoreData) continue;
    if (cqe->user_data == kBellData) {
      bell_armed_ = false;
      continue;
    }
    auto* const op = reinterpret_cast<RingOp*>(static_cast<uintptr_t>(cqe->user_data));
    base::ListUnlink(&op->entry);
    Finish(op, op->kind == RingOp::Kind::kSleep && cqe->res == -ETIME ? 0 : cqe->res);
  }
  io_uring_cq_advance(ring_, seen);
}

#else

namespace {

const char* Reason(int) { return "this library was built without liburing"; }

}  // namespace

bool Ring::Create() {
  base::ListInit(&flying_);
  Close(ENOSYS, "create");
  return false;
}

void Ring::Wait(uint64_t) {
  if ((head_.load(std::memory_order_relaxed) & kClosed) == 0) Create();
}

#endif  // CMWQ_HAVE_URING

// For good. A request that is in the ring then is one that waits for readiness (core/io.cc puts no
// other kind there); with DEFER_TASKRUN it goes on only inside io_uring_enter, so that its thread may do
// the same by a plain call. Context: event thread; it goes back to its parker.
void Ring::Close(int err, const char* what) {
  base::RawLog(base::LogLevel::kInfo,
               "cannot %s an io_uring (errno %d: %s); work functions wait in plain system calls", what,
               err, Reason(err));
  events_->SetWaitPoint(nullptr);
  Take();
  // Between the two a push may have come: acquire, pairs with Push.
  uintptr_t seen = head_.exchange(kClosed, std::memory_order_acq_rel);
  for (RingOp* op = reinterpret_cast<RingOp*>(seen & ~kBits); op != nullptr;) {
    RingOp* const next = op->next;
    Finish(op, kRefused);
    op = next;
  }
  while (taken_ != nullptr) {
    RingOp* const op = taken_;
    taken_ = op->next;
    Finish(op, kRefused);
  }
  while (base::ListLinked(&flying_)) {
    base::ListNode* const node = flying_.next;
    base::ListUnlink(node);
    Finish(base::ListOwner<RingOp>(node, offsetof(RingOp, entry)), kRefused);
  }
}

}  // namespace cmwq::platform
