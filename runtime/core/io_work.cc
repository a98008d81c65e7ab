// The C interface of operations: argument checks, then the loop.

#include <cmwq/io_work.h>

#include <cstring>

#include "runtime/core/capi.h"
#include "runtime/core/io_loop.h"
#include "runtime/core/runtime.h"
#include "runtime/wq/work_word.h"

namespace {

using cmwq::core::IoBit;
using cmwq::core::IoLoop;
using cmwq::core::IoRequest;
using cmwq::core::Misuse;
using cmwq::core::Runtime;
using cmwq::platform::IoKind;

static_assert(sizeof(struct cmwq_io_work) == 256);

bool Submit(const char* function, struct cmwq_workqueue* wq, struct cmwq_io_work* io,
            const IoRequest& request) {
  if (!cmwq::core::Usable(function, wq)) return false;
  if (!cmwq::core::Usable(function, io != nullptr ? &io->work : nullptr)) return false;
  return IoLoop::Get().Submit(cmwq::core::Impl(wq), io, request);
}

bool Sound(const char* function, struct cmwq_io_work* io) {
  return cmwq::core::Sound(function, io != nullptr ? &io->work : nullptr) && Runtime::Get().started();
}

bool FromItself(const struct cmwq_io_work* io) { return cmwq_current_work() == &io->work; }

// Takes everything back: first what is queued, and no more is from here on, then the operation.
bool Disable(struct cmwq_io_work* io, bool sync) {
  Runtime& r = Runtime::Get();
  bool pending = cmwq::wq::DisableWork(&io->work, r.pools(), r.events(), false);
  if (IoLoop::Get().Stop(io, IoBit::kCancel)) pending = true;
  if (sync) {
    IoLoop::Get().WaitEnded(io);
    if (!FromItself(io)) cmwq::wq::WaitForRunning(&io->work, r.pools());
  }
  return pending;
}

template <class T>
void* Bare(const T* pointer) {
  return const_cast<T*>(pointer);
}

}  // namespace

extern "C" {

void cmwq_io_work_init(struct cmwq_io_work* io, cmwq_work_fn fn) {
  constexpr const char* kName = "cmwq_io_work_init";
  if (io == nullptr || fn == nullptr) {
    Misuse(kName, "null argument");
    return;
  }
  // The memory may hold anything: only the list tells.
  const bool odd = (std::atomic_ref<uint32_t>(io->state_).load(std::memory_order_relaxed) & 1) != 0;
  if ((odd && IoLoop::Get().Contains(io)) || Runtime::Get().ReallyPending(&io->work)) {
    Misuse(kName, "the work is pending");
    return;
  }
  memset(io, 0, sizeof(*io));
  cmwq_work_init(&io->work, fn);
  cmwq_work_init(&io->call_, &IoLoop::CallFn);
}

bool cmwq_io_read_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int fd, void* buf,
                       size_t len, int64_t offset, uint64_t timeout_ns) {
  return Submit("cmwq_io_read_work", wq, io,
                {IoKind::kRead, fd, 0, buf, len, offset, nullptr, timeout_ns});
}

bool cmwq_io_write_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int fd, const void* buf,
                        size_t len, int64_t offset, uint64_t timeout_ns) {
  return Submit("cmwq_io_write_work", wq, io,
                {IoKind::kWrite, fd, 0, const_cast<void*>(buf), len, offset, nullptr, timeout_ns});
}

bool cmwq_io_readv_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int fd,
                        const struct iovec* iov, int iovcnt, int64_t offset, uint64_t timeout_ns) {
  return Submit("cmwq_io_readv_work", wq, io,
                {IoKind::kReadv, fd, 0, Bare(iov), static_cast<unsigned>(iovcnt), offset, nullptr,
                 timeout_ns});
}

bool cmwq_io_writev_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int fd,
                         const struct iovec* iov, int iovcnt, int64_t offset, uint64_t timeout_ns) {
  return Submit("cmwq_io_writev_work", wq, io,
                {IoKind::kWritev, fd, 0, Bare(iov), static_cast<unsigned>(iovcnt), offset, nullptr,
                 timeout_ns});
}

bool cmwq_io_recv_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int fd, void* buf,
                       size_t len, int flags, uint64_t timeout_ns) {
  return Submit("cmwq_io_recv_work", wq, io,
                {IoKind::kRecv, fd, flags, buf, len, -1, nullptr, timeout_ns});
}

bool cmwq_io_send_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int fd, const void* buf,
                       size_t len, int flags, uint64_t timeout_ns) {
  return Submit("cmwq_io_send_work", wq, io,
                {IoKind::kSend, fd, flags, const_cast<void*>(buf), len, -1, nullptr, timeout_ns});
}

bool cmwq_io_recvmsg_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int fd,
                          struct msghdr* msg, int flags, uint64_t timeout_ns) {
  return Submit("cmwq_io_recvmsg_work", wq, io,
                {IoKind::kRecvmsg, fd, flags, msg, 0, -1, nullptr, timeout_ns});
}

bool cmwq_io_sendmsg_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int fd,
                          const struct msghdr* msg, int flags, uint64_t timeout_ns) {
  return Submit("cmwq_io_sendmsg_work", wq, io,
                {IoKind::kSendmsg, fd, flags, Bare(msg), 0, -1, nullptr, timeout_ns});
}

bool cmwq_io_accept_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int fd,
                         struct sockaddr* addr, socklen_t* addrlen, int flags, uint64_t timeout_ns) {
  return Submit("cmwq_io_accept_work", wq, io,
                {IoKind::kAccept, fd, flags, addr, 0, -1, addrlen, timeout_ns});
}

bool cmwq_io_connect_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int fd,
                          const struct sockaddr* addr, socklen_t len, uint64_t timeout_ns) {
  return Submit("cmwq_io_connect_work", wq, io,
                {IoKind::kConnect, fd, 0, Bare(addr), len, -1, nullptr, timeout_ns});
}

bool cmwq_io_poll_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int fd, short events,
                       uint64_t timeout_ns) {
  return Submit("cmwq_io_poll_work", wq, io,
                {IoKind::kPoll, fd, static_cast<unsigned short>(events), nullptr, 0, -1, nullptr,
                 timeout_ns});
}

bool cmwq_io_fsync_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int fd, bool datasync) {
  return Submit("cmwq_io_fsync_work", wq, io, {IoKind::kFsync, fd, datasync ? 1 : 0});
}

bool cmwq_io_fallocate_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int fd, int mode,
                            int64_t offset, int64_t len) {
  return Submit("cmwq_io_fallocate_work", wq, io,
                {IoKind::kFallocate, fd, mode, nullptr, static_cast<uint64_t>(len), offset});
}

bool cmwq_io_openat_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int dirfd,
                         const char* path, int flags, mode_t mode) {
  return Submit("cmwq_io_openat_work", wq, io, {IoKind::kOpenat, dirfd, flags, Bare(path), mode});
}

bool cmwq_io_close_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int fd) {
  return Submit("cmwq_io_close_work", wq, io, {IoKind::kClose, fd});
}

bool cmwq_io_statx_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int dirfd,
                        const char* path, int flags, unsigned mask, struct statx* buf) {
  return Submit("cmwq_io_statx_work", wq, io,
                {IoKind::kStatx, dirfd, flags, Bare(path), mask, -1, buf});
}

bool cmwq_io_unlinkat_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int dirfd,
                           const char* path, int flags) {
  return Submit("cmwq_io_unlinkat_work", wq, io, {IoKind::kUnlinkat, dirfd, flags, Bare(path)});
}

bool cmwq_io_renameat_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int olddirfd,
                           const char* oldpath, int newdirfd, const char* newpath, unsigned flags) {
  return Submit("cmwq_io_renameat_work", wq, io,
                {IoKind::kRenameat, olddirfd, static_cast<int>(flags), Bare(oldpath), 0, newdirfd,
                 Bare(newpath)});
}

bool cmwq_io_mkdirat_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int dirfd,
                          const char* path, mode_t mode) {
  return Submit("cmwq_io_mkdirat_work", wq, io, {IoKind::kMkdirat, dirfd, 0, Bare(path), mode});
}

bool cmwq_cancel_io_work(struct cmwq_io_work* io) {
  if (!Sound("cmwq_cancel_io_work", io)) return false;
  Runtime& r = Runtime::Get();
  return IoLoop::Get().Stop(io, IoBit::kCancel) ||
         cmwq::wq::CancelWork(&io->work, r.pools(), r.events());
}

bool cmwq_cancel_io_work_sync(struct cmwq_io_work* io) {
  if (!Sound("cmwq_cancel_io_work_sync", io)) return false;
  const bool pending = Disable(io, true);
  cmwq::wq::EnableWork(&io->work);
  return pending;
}

bool cmwq_end_io_work(struct cmwq_io_work* io, bool next) {
  return Sound("cmwq_end_io_work", io) && IoLoop::Get().Stop(io, next ? IoBit::kEndNext : 0);
}

bool cmwq_flush_io_work(struct cmwq_io_work* io) {
  if (!Sound("cmwq_flush_io_work", io)) return false;
  if (FromItself(io)) return Misuse("cmwq_flush_io_work", "called from the item: it would wait for itself");
  const bool waited = IoLoop::Get().WaitEnded(io);
  return cmwq::wq::FlushWork(&io->work, Runtime::Get().pools()) || waited;
}

bool cmwq_disable_io_work(struct cmwq_io_work* io) {
  return Sound("cmwq_disable_io_work", io) && Disable(io, false);
}

bool cmwq_disable_io_work_sync(struct cmwq_io_work* io) {
  return Sound("cmwq_disable_io_work_sync", io) && Disable(io, true);
}

bool cmwq_enable_io_work(struct cmwq_io_work* io) {
  return Sound("cmwq_enable_io_work", io) && cmwq::wq::EnableWork(&io->work);
}

}  // extern "C"
