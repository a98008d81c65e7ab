#include "runtime/platform/completion_ring.h"

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>

#include "runtime/base/check.h"
#include "runtime/platform/io_table.h"

// 0: built without liburing.
#ifndef CMWQ_HAVE_URING
#define CMWQ_HAVE_URING 0
#endif
#if CMWQ_HAVE_URING
#include <liburing.h>
#endif

namespace cmwq::platform {

int Waker::CreateEventFd() {
  fd_ = static_cast<int>(base::Sys(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK));
  return fd_ < 0 ? fd_ : 0;
}

void Waker::Wake() {
  // Release: what the caller asks of the sleeper is visible when it sees the value.
  word_.fetch_add(1, std::memory_order_release);
  if (fd_ < 0) {
    base::FutexWake(&word_, 1);
    return;
  }
  const uint64_t one = 1;
  base::Sys(SYS_write, fd_, &one, sizeof(one));
}

void Waker::Close() {
  if (fd_ >= 0) base::SysClose(fd_);
  fd_ = -1;
}

void CompletionRing::ResetAfterFork() {
  // The mapping is not in the child (DONTFORK); the small object is leaked.
  ring_ = nullptr;
  live_ = waker_armed_ = has_buffers_ = has_files_ = false;
}

#if CMWQ_HAVE_URING

namespace {

constexpr unsigned kEntries = 256;
constexpr unsigned kCompletions = 4096;

// user_data of what is no operation; operations have the address of their object.
constexpr uint64_t kIgnoreData = 1;
constexpr uint64_t kWakeData = 2;

// Newer than the headers of Debian 12.
constexpr int kOpFutexWait = 51;
constexpr int kFutexPrivateU32 = 128 | 2;
constexpr unsigned kFeatRegRegRing = 1u << 13;
constexpr unsigned kUseRegisteredRing = 1u << 31;

struct KindOp {
  IoKind kind;
  int op;
};
constexpr KindOp kOps[] = {
    {IoKind::kRead, IORING_OP_READ},           {IoKind::kWrite, IORING_OP_WRITE},
    {IoKind::kReadv, IORING_OP_READV},         {IoKind::kWritev, IORING_OP_WRITEV},
    {IoKind::kRecv, IORING_OP_RECV},           {IoKind::kSend, IORING_OP_SEND},
    {IoKind::kRecvmsg, IORING_OP_RECVMSG},     {IoKind::kSendmsg, IORING_OP_SENDMSG},
    {IoKind::kAccept, IORING_OP_ACCEPT},       {IoKind::kConnect, IORING_OP_CONNECT},
    {IoKind::kPoll, IORING_OP_POLL_ADD},       {IoKind::kFsync, IORING_OP_FSYNC},
    {IoKind::kFallocate, IORING_OP_FALLOCATE}, {IoKind::kOpenat, IORING_OP_OPENAT},
    {IoKind::kClose, IORING_OP_CLOSE},         {IoKind::kStatx, IORING_OP_STATX},
    {IoKind::kUnlinkat, IORING_OP_UNLINKAT},   {IoKind::kRenameat, IORING_OP_RENAMEAT},
    {IoKind::kMkdirat, IORING_OP_MKDIRAT},
    // Nothing tells of multishot requests but an operation that came with them (5.19, 6.0). A kernel
    // that has one and not the other answers EINVAL, and the stream is polled.
    {IoKind::kAcceptMany, IORING_OP_SOCKET},   {IoKind::kRecvMany, IORING_OP_SEND_ZC},
};

}  // namespace

// The best ring that this kernel makes.
int CompletionRing::Setup() {
  constexpr unsigned kFlags[] = {
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
      IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
      0,
  };
  int err = -EINVAL;
  for (const unsigned flags : kFlags) {
    struct io_uring_params params = {};
    params.flags = flags | IORING_SETUP_CQSIZE;
    params.cq_entries = kCompletions;
    err = io_uring_queue_init_params(kEntries, ring_, &params);
    if (err != -EINVAL) break;
  }
  return err;
}

void CompletionRing::Probe() {
  struct io_uring_probe* const probe = io_uring_get_probe_ring(ring_);
  if (probe == nullptr) return;
  for (const KindOp& k : kOps) {
    if (io_uring_opcode_supported(probe, k.op)) kinds_ |= uint64_t{1} << static_cast<int>(k.kind);
  }
  futex_ = io_uring_opcode_supported(probe, kOpFutexWait) != 0;
  io_uring_free_probe(probe);
}

int CompletionRing::Create(Waker* waker) {
  waker_ = waker;
  kinds_ = 0;
  if (ring_ == nullptr) ring_ = new (std::nothrow) struct io_uring;
  if (ring_ == nullptr) return -ENOMEM;
  int err = Setup();
  if (err < 0) return err;
  Probe();
  err = io_uring_ring_dontfork(ring_);
  // Without operations there is nothing to gain, without ordinary waits nothing would end.
  if (err >= 0 && (!Supports(IoKind::kRead) || (ring_->features & IORING_FEAT_NODROP) == 0)) {
    err = -ENOSYS;
  }
  if (err >= 0 && !futex_) err = waker->CreateEventFd();
  if (err < 0) {
    io_uring_queue_exit(ring_);
    return err;
  }
  if ((ring_->features & kFeatRegRegRing) != 0 && io_uring_register_ring_fd(ring_) >= 0) {
    // From here on the registration alone keeps the ring.
    base::SysClose(ring_->ring_fd);
    ring_->ring_fd = -1;
  }
  live_ = true;
  return 0;
}

int CompletionRing::Register(unsigned op, void* arg, unsigned nr) {
  const bool closed = ring_->ring_fd < 0;
  return static_cast<int>(base::Sys(SYS_io_uring_register,
                                    closed ? ring_->enter_ring_fd : ring_->ring_fd,
                                    closed ? op | kUseRegisteredRing : op, arg, nr));
}

// A table of empty slots, once.
int CompletionRing::MakeTable(unsigned op, unsigned nr, bool* made) {
  if (*made) return 0;
  struct io_uring_rsrc_register table = {};
  table.nr = nr;
  table.flags = IORING_RSRC_REGISTER_SPARSE;
  const int err = Register(op, &table, sizeof(table));
  *made = err == 0;
  return err;
}

// Sets `nr` slots; `entries`: so many of `size` bytes, or null and one empty entry at `none`.
int CompletionRing::Update(unsigned op, unsigned first, const void* entries, size_t size,
                           const void* none, unsigned nr) {
  for (unsigned done = 0; done < nr;) {
    struct io_uring_rsrc_update2 update = {};
    update.offset = first + done;
    update.data = entries == nullptr ? reinterpret_cast<uint64_t>(none)
                                     : reinterpret_cast<uint64_t>(entries) + done * size;
    update.nr = entries == nullptr ? 1 : nr - done;
    // Stops at the first entry that it refuses, and says why only if that is the first of all.
    const int n = Register(op, &update, sizeof(update));
    if (n <= 0) {
      if (entries != nullptr) Update(op, first, nullptr, size, none, done);
      return n < 0 ? n : -EINVAL;
    }
    done += static_cast<unsigned>(n);
  }
  return 0;
}

int CompletionRing::SetBuffers(unsigned first, const struct iovec* buffers, unsigned nr) {
  constexpr struct iovec kNone = {};
  const int err = MakeTable(IORING_REGISTER_BUFFERS2, IoTable::kSlots, &has_buffers_);
  if (err < 0) return err;
  return Update(IORING_REGISTER_BUFFERS_UPDATE, first, buffers, sizeof(kNone), &kNone, nr);
}

int CompletionRing::SetFiles(unsigned first, const int* fds, unsigned nr) {
  constexpr int kNone = -1;
  // The kernel takes no table above the limit of descriptors.
  struct rlimit limit = {};
  base::Sys(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit);
  const auto slots = static_cast<unsigned>(std::min<rlim_t>(limit.rlim_cur, IoTable::kSlots));
  const int err = MakeTable(IORING_REGISTER_FILES2, slots, &has_files_);
  if (err < 0) return err;
  return Update(IORING_REGISTER_FILES_UPDATE2, first, fds, sizeof(kNone), &kNone, nr);
}

int CompletionRing::AddGroup(IoStream* s) {
  auto* const buffers = static_cast<struct io_uring_buf_ring*>(s->ring_memory());
  struct io_uring_buf_reg reg = {};
  reg.ring_addr = reinterpret_cast<uint64_t>(buffers);
  reg.ring_entries = s->ring_entries();
  int err = -EEXIST;
  for (int tries = 0; err == -EEXIST && tries <= UINT16_MAX; ++tries) {
    reg.bgid = next_group_++;
    err = Register(IORING_REGISTER_PBUF_RING, &reg, 1);
  }
  if (err < 0) return err;
  io_uring_buf_ring_init(buffers);
  s->group = reg.bgid;
  for (unsigned i = 0; i < s->nr_buffers(); ++i) {
    if (s->IsFree(static_cast<int32_t>(i))) GiveBuffer(s, static_cast<int32_t>(i));
  }
  return 0;
}

void CompletionRing::DropGroup(IoStream* s) {
  struct io_uring_buf_reg reg = {};
  reg.bgid = static_cast<uint16_t>(s->group);
  s->group = -1;
  Register(IORING_UNREGISTER_PBUF_RING, &reg, 1);
}

void CompletionRing::GiveBuffer(IoStream* s, int32_t buffer) {
  auto* const buffers = static_cast<struct io_uring_buf_ring*>(s->ring_memory());
  io_uring_buf_ring_add(buffers, s->Data(buffer), static_cast<unsigned>(s->size()),
                        static_cast<unsigned short>(buffer),
                        io_uring_buf_ring_mask(s->ring_entries()), 0);
  io_uring_buf_ring_advance(buffers, 1);
}

void CompletionRing::ArmWaker() {
  if (waker_armed_) return;
  struct io_uring_sqe* const sqe = io_uring_get_sqe(ring_);
  if (sqe == nullptr) return;  // the ring is full: Enter does not sleep long
  if (futex_) {
    io_uring_prep_rw(kOpFutexWait, sqe, kFutexPrivateU32, waker_->word(), 0, seen_);
    sqe->addr3 = ~uint32_t{0};
  } else {
    io_uring_prep_read(sqe, waker_->fd(), &wake_count_, sizeof(wake_count_), 0);
  }
  sqe->user_data = kWakeData;
  waker_armed_ = true;
}

void CompletionRing::FillFile(struct io_uring_sqe* sqe, Io* io) {
  const char* const path = static_cast<const char*>(io->buf_);
  const auto mode = static_cast<mode_t>(io->len_);
  switch (KindOf(io)) {
    case IoKind::kFsync:
      io_uring_prep_fsync(sqe, io->fd_, io->flags_ != 0 ? IORING_FSYNC_DATASYNC : 0);
      break;
    case IoKind::kFallocate:
      io_uring_prep_fallocate(sqe, io->fd_, io->flags_, io->offset_, static_cast<off_t>(io->len_));
      break;
    case IoKind::kOpenat:
      io_uring_prep_openat(sqe, io->fd_, path, io->flags_, mode);
      break;
    case IoKind::kClose:
      io_uring_prep_close(sqe, io->fd_);
      break;
    case IoKind::kStatx:
      io_uring_prep_statx(sqe, io->fd_, path, io->flags_, static_cast<unsigned>(io->len_),
                          static_cast<struct statx*>(io->aux_));
      break;
    case IoKind::kUnlinkat:
      io_uring_prep_unlinkat(sqe, io->fd_, path, io->flags_);
      break;
    case IoKind::kRenameat:
      io_uring_prep_renameat(sqe, io->fd_, path, static_cast<int>(io->offset_),
                             static_cast<const char*>(io->aux_), static_cast<unsigned>(io->flags_));
      break;
    default:
      io_uring_prep_mkdirat(sqe, io->fd_, path, mode);
      break;
  }
}

void CompletionRing::Fill(struct io_uring_sqe* sqe, Io* io) {
  const auto length = static_cast<unsigned>(RestLength(io));
  const auto offset = static_cast<uint64_t>(RestOffset(io));
  auto* const vector = static_cast<const struct iovec*>(io->buf_);
  auto* const message = static_cast<struct msghdr*>(io->buf_);
  auto* const address = static_cast<struct sockaddr*>(io->buf_);
  const auto parts = static_cast<unsigned>(io->len_);
  const auto flags = static_cast<unsigned>(io->flags_);
  switch (KindOf(io)) {
    case IoKind::kRead:
      io_uring_prep_read(sqe, io->fd_, RestOf(io), length, offset);
      break;
    case IoKind::kWrite:
      io_uring_prep_write(sqe, io->fd_, RestOf(io), length, offset);
      break;
    case IoKind::kReadv:
      io_uring_prep_readv(sqe, io->fd_, vector, parts, static_cast<uint64_t>(io->offset_));
      break;
    case IoKind::kWritev:
      io_uring_prep_writev(sqe, io->fd_, vector, parts, static_cast<uint64_t>(io->offset_));
      break;
    case IoKind::kRecv:
      io_uring_prep_recv(sqe, io->fd_, RestOf(io), length, MessageFlags(io));
      break;
    case IoKind::kSend:
      io_uring_prep_send(sqe, io->fd_, RestOf(io), length, MessageFlags(io));
      break;
    case IoKind::kRecvmsg:
      io_uring_prep_recvmsg(sqe, io->fd_, message, static_cast<unsigned>(MessageFlags(io)));
      break;
    case IoKind::kSendmsg:
      io_uring_prep_sendmsg(sqe, io->fd_, message, static_cast<unsigned>(MessageFlags(io)));
      break;
    case IoKind::kAccept:
      io_uring_prep_accept(sqe, io->fd_, address, static_cast<socklen_t*>(io->aux_), io->flags_);
      break;
    case IoKind::kAcceptMany:
      io_uring_prep_multishot_accept(sqe, io->fd_, nullptr, nullptr, io->flags_);
      break;
    case IoKind::kRecvMany:
      io_uring_prep_recv_multishot(sqe, io->fd_, nullptr, 0, MessageFlags(io));
      sqe->flags |= IOSQE_BUFFER_SELECT;
      sqe->buf_group = static_cast<uint16_t>(StreamOf(io)->group);
      break;
    case IoKind::kConnect:
      io_uring_prep_connect(sqe, io->fd_, address, static_cast<socklen_t>(io->len_));
      break;
    case IoKind::kPoll:
      io_uring_prep_poll_add(sqe, io->fd_, flags);
      break;
    default:
      FillFile(sqe, io);
      break;
  }
}

bool CompletionRing::HasSpace() const { return io_uring_sq_space_left(ring_) > 0; }

void CompletionRing::Prepare(Io* io, bool poll, int file, int buffer) {
  struct io_uring_sqe* const sqe = io_uring_get_sqe(ring_);
  CMWQ_CHECK(sqe != nullptr);
  if (poll) {
    io_uring_prep_poll_add(sqe, io->fd_, static_cast<unsigned short>(ReadyEvents(io)));
  } else {
    Fill(sqe, io);
  }
  if (!poll && buffer >= 0) {
    sqe->opcode = KindOf(io) == IoKind::kRead ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
    sqe->buf_index = static_cast<uint16_t>(buffer);
  }
  if (file >= 0) {
    sqe->fd = file;
    sqe->flags |= IOSQE_FIXED_FILE;
  }
  sqe->user_data = reinterpret_cast<uint64_t>(io);
}

bool CompletionRing::PrepareCancel(Io* io) {
  struct io_uring_sqe* const sqe = io_uring_get_sqe(ring_);
  if (sqe == nullptr) return false;
  io_uring_prep_cancel64(sqe, reinterpret_cast<uint64_t>(io), 0);
  sqe->user_data = kIgnoreData;
  return true;
}

int CompletionRing::Enter(uint64_t until_ns) {
  ArmWaker();
  const uint64_t now = until_ns == 0 || until_ns == base::kNever ? 0 : base::MonotonicNs();
  int err;
  if (until_ns <= now) {
    err = io_uring_submit_and_get_events(ring_);
  } else if (until_ns == base::kNever) {
    err = io_uring_submit_and_wait(ring_, 1);
  } else {
    struct __kernel_timespec left = {static_cast<int64_t>((until_ns - now) / base::kNsPerSec),
                                     static_cast<int64_t>((until_ns - now) % base::kNsPerSec)};
    struct io_uring_cqe* cqe;
    err = io_uring_submit_and_wait_timeout(ring_, &cqe, 1, &left, nullptr);
  }
  // Shortages, and completions that must be reaped first: the caller comes again.
  const bool again = err == -EINTR || err == -EAGAIN || err == -EBUSY || err == -ENOMEM;
  return err >= 0 || err == -ETIME || again ? 0 : err;
}

// The next completion of an operation.
bool CompletionRing::Next(Completion* c) {
  for (;;) {
    struct io_uring_cqe* cqe = nullptr;
    if (io_uring_peek_cqe(ring_, &cqe) != 0) return false;
    const uint64_t data = cqe->user_data;
    const bool buffer = (cqe->flags & IORING_CQE_F_BUFFER) != 0;
    *c = {reinterpret_cast<Io*>(data), cqe->res, (cqe->flags & IORING_CQE_F_MORE) != 0,
          buffer ? static_cast<int32_t>(cqe->flags >> IORING_CQE_BUFFER_SHIFT) : IoStream::kNoBuffer};
    io_uring_cqe_seen(ring_, cqe);
    if (data == kWakeData) {
      waker_armed_ = false;
    } else if (data != kIgnoreData && data != LIBURING_UDATA_TIMEOUT) {
      return true;
    }
  }
}

#else

int CompletionRing::Create(Waker*) { return -ENOSYS; }
bool CompletionRing::HasSpace() const { return false; }
int CompletionRing::SetBuffers(unsigned, const struct iovec*, unsigned) { return -ENOSYS; }
int CompletionRing::SetFiles(unsigned, const int*, unsigned) { return -ENOSYS; }
void CompletionRing::Prepare(Io*, bool, int, int) {}
bool CompletionRing::PrepareCancel(Io*) { return false; }
int CompletionRing::AddGroup(IoStream*) { return -ENOSYS; }
void CompletionRing::DropGroup(IoStream*) {}
void CompletionRing::GiveBuffer(IoStream*, int32_t) {}
int CompletionRing::Enter(uint64_t) { return -ENOSYS; }
bool CompletionRing::Next(Completion*) { return false; }

#endif  // CMWQ_HAVE_URING

}  // namespace cmwq::platform
