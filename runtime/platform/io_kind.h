// IoKind: the operations of cmwq/io_work.h, and which field of struct cmwq_io_work each keeps what in.

#ifndef CMWQ_RUNTIME_PLATFORM_IO_KIND_H_
#define CMWQ_RUNTIME_PLATFORM_IO_KIND_H_

#include <cmwq/io_work.h>
#include <poll.h>

#include <cstdint>

namespace cmwq::platform {

using Io = struct cmwq_io_work;

enum class IoKind : uint8_t {
  kRead,        // fd_, buf_, len_, offset_, flags_: registered buffer + 1
  kWrite,       // the same
  kReadv,       // fd_, buf_: vector, len_: parts, offset_
  kWritev,      // the same
  kRecv,        // fd_, buf_, len_, flags_
  kSend,        // the same
  kRecvmsg,     // fd_, buf_: message, flags_
  kSendmsg,     // the same
  kAccept,      // fd_, buf_: address, aux_: its length, flags_
  kConnect,     // fd_, buf_: address, len_
  kAcceptMany,  // fd_, flags_, aux_: IoStream
  kRecvMany,    // the same
  kPoll,        // fd_, flags_: events
  kFsync,       // fd_, flags_: only the data
  kFallocate,   // fd_, flags_: mode, offset_, len_
  kOpenat,      // fd_: directory, buf_: path, flags_, len_: mode
  kClose,       // fd_
  kStatx,       // fd_: directory, buf_: path, flags_, len_: mask, aux_
  kUnlinkat,    // fd_: directory, buf_: path, flags_
  kRenameat,    // fd_, buf_: old; offset_, aux_: new; flags_
  kMkdirat,     // fd_: directory, buf_: path, len_: mode
};

inline IoKind KindOf(const Io* io) { return static_cast<IoKind>(io->kind_); }

// A descriptor that is waited for becomes ready; all others are files' business.
inline bool Pollable(IoKind kind) { return kind <= IoKind::kPoll; }
// A stream of cmwq/io_stream.h.
inline bool IsStream(const Io* io) {
  return KindOf(io) == IoKind::kAcceptMany || KindOf(io) == IoKind::kRecvMany;
}
// One buffer that is moved until nothing is left.
inline bool MovesAll(const Io* io) {
  constexpr int kWhole = MSG_WAITALL | MSG_PEEK;
  const IoKind kind = KindOf(io);
  return kind == IoKind::kWrite || kind == IoKind::kSend ||
         (kind == IoKind::kRecv && (io->flags_ & kWhole) == MSG_WAITALL);
}
// The flags of a message's call. An attempt that waits for all would take a part and lose it.
inline int MessageFlags(const Io* io) { return (io->flags_ & ~MSG_WAITALL) | MSG_NOSIGNAL; }

// Numbers of registered files begin here, far above any descriptor.
inline constexpr int kFirstFile = 1 << 30;
// Of the others the kernel knows no registered file: they find that the number is no descriptor.
inline bool MayUseFile(IoKind kind) { return kind <= IoKind::kFallocate; }
// The registered buffer, or -1.
inline int BufferOf(const Io* io) { return KindOf(io) <= IoKind::kWrite ? io->flags_ - 1 : -1; }
// The number of a registered file, or -1.
inline int FileOf(const Io* io) { return static_cast<int>(io->file_) - 1; }

// What must hold before the operation can go on (poll(2)).
inline short ReadyEvents(const Io* io) {
  switch (KindOf(io)) {
    case IoKind::kWrite:
    case IoKind::kWritev:
    case IoKind::kSend:
    case IoKind::kSendmsg:
    case IoKind::kConnect:
      return POLLOUT;
    case IoKind::kPoll:
      return static_cast<short>(io->flags_);
    default:
      return POLLIN;
  }
}

// What is left of the buffer of kRead, kWrite, kRecv, kSend.
inline char* RestOf(const Io* io) { return static_cast<char*>(io->buf_) + io->done_; }
inline size_t RestLength(const Io* io) {
  constexpr uint64_t kMaxTransfer = 0x7ffff000;  // what the kernel moves in one call (read(2), NOTES)
  if (io->len_ <= static_cast<uint64_t>(io->done_)) return 0;
  const uint64_t rest = io->len_ - static_cast<uint64_t>(io->done_);
  return rest < kMaxTransfer ? rest : kMaxTransfer;
}
// -1: at the current position.
inline int64_t RestOffset(const Io* io) { return io->offset_ < 0 ? -1 : io->offset_ + io->done_; }

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_IO_KIND_H_
