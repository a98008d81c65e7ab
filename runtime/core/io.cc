// Input, output and waiting for work functions: try, then announce, then wait.
//
// Which way a wait goes. A single wait for a descriptor is dearer in a ring than in the call
// itself, by 1 us of preparing, asking and arming between the announcement and the sleep: calls are
// plain unless io_uring=2 asks for the ring. Polls and times go to the worker's ring, whose timer
// has no slack. The ring gets only what becomes ready: sockets, pipes and the like, and times.
// Regular files and fsync are plain calls: for most of them the ring would have to keep a kernel
// thread that makes the same call (4.6-5 us for the hand-over, measured), and such a request runs
// on when the ring is given up. Descriptors with time-outs of their own are plain calls too: the
// ring knows neither SO_RCVTIMEO nor O_NONBLOCK. What an answer of the ring leaves open (refused,
// cancelled, a signal to be raised in this thread) is settled by the plain call.
//
// Plain calls are libc's: on a thread that is no worker they are cancellation points and are seen
// by interposers, as the caller expects. Locks: none, but for kPool inside the hooks.

#include "runtime/core/io.h"

#include <cmwq/io.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/base/conf.h"
#include "runtime/core/io_op.h"
#include "runtime/platform/uring.h"
#include "runtime/pool/sched_hooks.h"
#include "runtime/pool/worker.h"

namespace {

using cmwq::platform::RingOp;
using cmwq::platform::ThreadRing;
using Kind = cmwq::platform::RingOp::Kind;

thread_local constinit ThreadRing t_ring;

constexpr size_t kMaxTransfer = 0x7ffff000;  // what the kernel moves in one call (read(2), NOTES)

bool InWorker() { return cmwq::pool::CurrentWorker() != nullptr; }
bool RingWanted() { return cmwq::base::g_conf.io_uring != 0 && ThreadRing::Usable(); }
// For what a plain call waits for just as well.
bool RingInsteadOfCall() { return cmwq::base::g_conf.io_uring == 2 && ThreadRing::Usable(); }

// The worker does not count as running while this exists. Keeps errno.
class Announced {
 public:
  Announced() { cmwq::pool::WorkerSleeping(); }
  ~Announced() { cmwq::pool::WorkerRunning(); }
  Announced(const Announced&) = delete;
  Announced& operator=(const Announced&) = delete;
};

// Context: worker. The completion's result; kRefused: make the plain call.
int Await(const RingOp& op) {
  Announced announced;
  const int result = t_ring.Do(op);
  switch (result) {
    case -ECANCELED:  // the ring gave it up, not the caller
    case -EAGAIN:     // O_NONBLOCK was set meanwhile
    case -EINTR:
      return ThreadRing::kRefused;
    default:
      return result;
  }
}

// A result of the ring as a system call would give it.
int Returned(int result) {
  if (result >= 0) return result;
  errno = -result;
  return -1;
}

enum class Way {
  kFinal,  // the attempt's answer stands: the descriptor does not block
  kPlain,  // wait in the system call
  kRing,
};

// SO_RCVTIMEO or SO_SNDTIMEO is set, or nobody knows.
bool HasTimeout(int fd, int option) {
  struct timeval limit = {};
  socklen_t size = sizeof(limit);
  return getsockopt(fd, SOL_SOCKET, option, &limit, &size) != 0 || limit.tv_sec != 0 ||
         limit.tv_usec != 0;
}

// How to wait for `fd` after an attempt that failed with `err`. timeout: SO_RCVTIMEO or
// SO_SNDTIMEO. About 0.5 us, before a wait that costs 2 us at least.
Way WayToWait(int fd, int timeout, int err, bool is_socket) {
  if (err != EAGAIN) return Way::kPlain;  // the file knows no attempts
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return Way::kPlain;  // the call says what is wrong
  const bool blocks = (flags & O_NONBLOCK) == 0;
  if (blocks && !RingInsteadOfCall()) return Way::kPlain;
  if (!is_socket) {
    struct stat st;
    // O_NONBLOCK means nothing to a file.
    if (fstat(fd, &st) != 0 || S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) return Way::kPlain;
    is_socket = S_ISSOCK(st.st_mode);
  }
  if (!blocks) return Way::kFinal;
  return is_socket && HasTimeout(fd, timeout) ? Way::kPlain : Way::kRing;
}

// The parts in which reading, writing, receiving and sending differ.
struct Transfer {
  Kind kind;
  int fd;
  char* data;
  size_t length;
  int64_t offset;  // kRead, kWrite
  int flags;       // kRecv, kSend

  bool is_socket() const { return kind == Kind::kRecv || kind == Kind::kSend; }
  bool writes() const { return kind == Kind::kWrite || kind == Kind::kSend; }
  int timeout_option() const { return writes() ? SO_SNDTIMEO : SO_RCVTIMEO; }
};

ssize_t PlainCall(const Transfer& t) {
  switch (t.kind) {
    case Kind::kRead:
      return t.offset == -1 ? read(t.fd, t.data, t.length)
                            : pread(t.fd, t.data, t.length, t.offset);
    case Kind::kWrite:
      return t.offset == -1 ? write(t.fd, t.data, t.length)
                            : pwrite(t.fd, t.data, t.length, t.offset);
    case Kind::kRecv:
      return recv(t.fd, t.data, t.length, t.flags);
    default:
      return send(t.fd, t.data, t.length, t.flags);
  }
}

ssize_t TryCall(const Transfer& t) {
  const struct iovec part = {t.data, t.length};
  switch (t.kind) {
    case Kind::kRead:
      return preadv2(t.fd, &part, 1, t.offset, RWF_NOWAIT);
    case Kind::kWrite:
      return pwritev2(t.fd, &part, 1, t.offset, RWF_NOWAIT);
    case Kind::kRecv:
      return recv(t.fd, t.data, t.length, t.flags | MSG_DONTWAIT);
    default:
      return send(t.fd, t.data, t.length, t.flags | MSG_DONTWAIT);
  }
}

// The attempt failed only because it may not wait, or because the file knows no such attempts.
bool MayWait(int err) { return err == EAGAIN || err == EOPNOTSUPP || err == ENOSYS; }

// One wait. Result as of the system call.
ssize_t RingCall(const Transfer& t) {
  RingOp op;
  op.kind = t.kind;
  op.fd = t.fd;
  op.buffer = t.data;
  op.length = static_cast<uint32_t>(t.length);
  op.offset = static_cast<uint64_t>(t.offset);
  op.flags = t.flags;
  const int result = Await(op);
  // The call that fails with EPIPE also raises SIGPIPE, which a ring may leave out.
  if (result != ThreadRing::kRefused && !(result == -EPIPE && t.writes())) return Returned(result);
  Announced announced;
  return PlainCall(t);
}

bool RegularFile(int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
}

// Whether `moved` bytes in one call are all that the system call would move.
bool Complete(const Transfer& t, ssize_t moved) {
  if (moved == 0 || static_cast<size_t>(moved) == t.length) return true;
  // Reading ends with what is there, but the attempt on a file also ends where the page cache does.
  return !t.writes() && (t.kind == Kind::kRecv || !RegularFile(t.fd));
}

// Context: worker. The caller has checked that flags, if any, mean the same in an attempt.
ssize_t Move(Transfer t) {
  if (t.length > kMaxTransfer) t.length = kMaxTransfer;
  if (!t.is_socket() && cmwq::core::IsDirect(t.fd, t.data, t.length, t.offset)) {
    Announced announced;
    return PlainCall(t);
  }
  ssize_t done = TryCall(t);
  if (done >= 0 && Complete(t, done)) return done;
  int err = done < 0 ? errno : EAGAIN;
  if (done < 0) {
    if (!MayWait(err)) return -1;
    done = 0;
  }
  const Way way = WayToWait(t.fd, t.timeout_option(), err, t.is_socket());
  if (way == Way::kFinal) {
    if (done > 0) return done;
    errno = err;
    return -1;
  }
  for (bool more = true; more;) {
    Transfer rest = t;
    rest.data += done;
    rest.length -= static_cast<size_t>(done);
    if (t.offset != -1) rest.offset += done;
    ssize_t moved;
    if (way == Way::kRing) {
      moved = RingCall(rest);
      more = moved >= 0 && !Complete(rest, moved);
    } else {
      Announced announced;
      moved = PlainCall(rest);
      more = false;  // the kernel has seen to it that it is complete
    }
    // As the system call: an error after some bytes is the next call's.
    if (moved < 0) return done > 0 ? done : -1;
    done += moved;
  }
  return done;
}

// Flags under which an attempt, a ring and the plain call mean the same; with others the plain call
// decides. MSG_WAITALL: an attempt would take a part.
constexpr int kRecvFlags = MSG_PEEK | MSG_TRUNC | MSG_NOSIGNAL;
constexpr int kSendFlags = MSG_NOSIGNAL | MSG_MORE | MSG_EOR | MSG_DONTROUTE;

ssize_t Message(const Transfer& t, int known_flags) {
  if (!InWorker() || (t.flags & MSG_DONTWAIT) != 0) return PlainCall(t);
  if ((t.flags & ~known_flags) == 0 && t.length != 0) return Move(t);
  Announced announced;
  return PlainCall(t);
}

uint64_t DeadlineAfter(uint64_t ns) {
  const uint64_t now = cmwq::base::MonotonicNs();
  return ns < cmwq::base::kNever - now ? now + ns : cmwq::base::kNever;
}

// poll(2) until the deadline. Revents, 0 or -1.
int PlainPoll(struct pollfd* p, uint64_t deadline_ns) {
  struct timespec left;
  if (deadline_ns != cmwq::base::kNever) {
    const uint64_t now = cmwq::base::MonotonicNs();
    left = cmwq::base::ToTimespec(deadline_ns > now ? deadline_ns - now : 0);
  }
  const int n = ppoll(p, 1, deadline_ns == cmwq::base::kNever ? nullptr : &left, nullptr);
  return n <= 0 ? n : p->revents;
}

int PlainSleep(uint64_t deadline_ns) {
  const struct timespec until = cmwq::base::ToTimespec(deadline_ns);
  const int err = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
  return err == 0 ? 0 : Returned(-err);
}

// A ring connects where connecting means waiting for the peer's answer. Local sockets wait for room
// instead, which it would have to ask for again and again.
bool RingConnects(int fd) {
  int domain = 0;
  socklen_t size = sizeof(domain);
  return RingInsteadOfCall() && getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 &&
         (domain == AF_INET || domain == AF_INET6) && !HasTimeout(fd, SO_SNDTIMEO);
}

}  // namespace

namespace cmwq::core {

void ResetIoAfterFork() { t_ring.ResetAfterFork(); }

}  // namespace cmwq::core

extern "C" {

ssize_t cmwq_io_read(int fd, void* buf, size_t len, int64_t offset) {
  const Transfer t = {Kind::kRead, fd, static_cast<char*>(buf), len, offset, 0};
  return InWorker() ? Move(t) : PlainCall(t);
}

ssize_t cmwq_io_write(int fd, const void* buf, size_t len, int64_t offset) {
  const Transfer t = {Kind::kWrite, fd, static_cast<char*>(const_cast<void*>(buf)), len, offset, 0};
  return InWorker() ? Move(t) : PlainCall(t);
}

ssize_t cmwq_io_recv(int fd, void* buf, size_t len, int flags) {
  return Message({Kind::kRecv, fd, static_cast<char*>(buf), len, -1, flags}, kRecvFlags);
}

ssize_t cmwq_io_send(int fd, const void* buf, size_t len, int flags) {
  return Message({Kind::kSend, fd, static_cast<char*>(const_cast<void*>(buf)), len, -1, flags},
                 kSendFlags);
}

int cmwq_io_accept(int fd, struct sockaddr* addr, socklen_t* addrlen, int flags) {
  if (!InWorker()) return accept4(fd, addr, addrlen, flags);
  struct pollfd p = {fd, POLLIN, 0};
  // Something is there, or wrong: the call returns at once, unless another thread is faster;
  // therefore it is announced as well.
  const bool ready = poll(&p, 1, 0) != 0;
  const Way way = ready ? Way::kPlain : WayToWait(fd, SO_RCVTIMEO, EAGAIN, true);
  if (way == Way::kFinal) return accept4(fd, addr, addrlen, flags);
  if (way == Way::kRing) {
    RingOp op;
    op.kind = Kind::kAccept;
    op.fd = fd;
    op.buffer = addr;
    op.addr_length = addrlen;
    op.flags = flags;
    const int result = Await(op);
    if (result != ThreadRing::kRefused) return Returned(result);
  }
  Announced announced;
  return accept4(fd, addr, addrlen, flags);
}

int cmwq_io_connect(int fd, const struct sockaddr* addr, socklen_t len) {
  if (!InWorker()) return connect(fd, addr, len);
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || (flags & O_NONBLOCK) != 0) return connect(fd, addr, len);
  if (RingConnects(fd)) {
    RingOp op;
    op.kind = Kind::kConnect;
    op.fd = fd;
    op.buffer = const_cast<struct sockaddr*>(addr);
    op.length = len;
    const int result = Await(op);
    if (result != ThreadRing::kRefused) return Returned(result);
  }
  Announced announced;
  return connect(fd, addr, len);
}

int cmwq_io_fsync(int fd, bool datasync) {
  Announced announced;
  return datasync ? fdatasync(fd) : fsync(fd);
}

int cmwq_io_poll(int fd, short events, uint64_t timeout_ns) {
  struct pollfd p = {fd, events, 0};
  const int ready = PlainPoll(&p, 0);
  if (ready != 0 || timeout_ns == 0) return ready;
  const uint64_t deadline = DeadlineAfter(timeout_ns);
  if (InWorker() && fd >= 0 && RingWanted()) {
    RingOp op;
    op.kind = Kind::kPoll;
    op.fd = fd;
    op.flags = static_cast<unsigned short>(events);
    op.deadline_ns = deadline;
    const int result = Await(op);
    if (result == -EBADF) return POLLNVAL;
    if (result >= 0) return result & (static_cast<unsigned short>(events) | POLLERR | POLLHUP);
    // Cancelled by its time-out, most likely: asking once more tells.
  }
  Announced announced;
  return PlainPoll(&p, deadline);
}

int cmwq_io_sleep(uint64_t ns) {
  if (ns == 0) return 0;
  const uint64_t deadline = DeadlineAfter(ns);
  if (InWorker() && RingWanted()) {
    RingOp op;
    op.kind = Kind::kSleep;
    op.deadline_ns = deadline;
    if (Await(op) == 0) return 0;
  }
  Announced announced;
  return PlainSleep(deadline);
}

}  // extern "C"
