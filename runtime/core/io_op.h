// The system calls behind the operations of cmwq/io_work.h.
//
// Raw system calls: they are made by workers and by the thread of the loop, which no interposer should
// take for threads of the application's.

#ifndef CMWQ_RUNTIME_CORE_IO_OP_H_
#define CMWQ_RUNTIME_CORE_IO_OP_H_

#include "runtime/platform/io_kind.h"
#include "runtime/platform/io_stream.h"

namespace cmwq::core {

// No error number: the attempt has not been made, because it might have to wait.
inline constexpr int64_t kNoAttempt = -4096;

// Makes what is left of the operation's call without waiting. Result, -errno (-EAGAIN: it would have to
// wait), or kNoAttempt.
int64_t TryOp(platform::Io* io, bool signals_blocked);
// Makes what is left of it, waiting if need be. Result or -errno.
int64_t PlainOp(platform::Io* io);
// What `moved` bytes more make of the operation: true, it is through.
bool AllMoved(const platform::Io* io, int64_t moved);
// Whether a descriptor is a file, whose attempts stop at the edge of the page cache.
bool IsFile(int fd);
// Whether a transfer goes past the page cache (O_DIRECT): an attempt "without waiting" would wait for
// the disk all the same. One system call, only for what is aligned as such transfers must be.
bool IsDirect(int fd, const void* data, uint64_t length, int64_t offset);

// Before a stream begins: kNoAttempt, or what is wrong with its descriptor or flags as -errno.
int64_t CheckStream(platform::Io* io);
// One connection or one piece of data, without waiting: descriptor, bytes, or -errno. data: of the
// stream's size; null: accepts.
int64_t TakeOne(const platform::Io* io, char* data, size_t size);

// The first step of a connect without waiting; 0, -EINPROGRESS or -errno. Later steps ask TryOp.
int64_t BeginConnect(platform::Io* io);
bool Listens(int fd);
bool DoesNotBlock(int fd);
// Makes a listening socket O_NONBLOCK: see cmwq_io_accept_work.
void DoNotBlock(int fd);

}  // namespace cmwq::core

#endif  // CMWQ_RUNTIME_CORE_IO_OP_H_
