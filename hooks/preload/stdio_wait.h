// Whether a call on a stdio stream is likely to make a system call.
//
// The stream's fields are read without its lock, and only compared: a wrong guess announces a sleep
// that does not come, or leaves one to the detector. Buffers are never looked into: another thread
// may be replacing them.

#ifndef CMWQ_HOOKS_PRELOAD_STDIO_WAIT_H_
#define CMWQ_HOOKS_PRELOAD_STDIO_WAIT_H_

#include "hooks/preload/hook.h"

namespace cmwq::preload {

// glibc's values of FILE::_flags, which its headers do not name; part of its binary interface.
constexpr int kStreamUnbuffered = 0x0002;
constexpr int kStreamLineBuffered = 0x0200;

// A call by a worker on a stream that has a descriptor. Others (memory, the program's own functions)
// run code of the program, which may itself wait for a request.
inline bool MayWait(const FILE* stream) {
  return Adopted() && stream != nullptr && __atomic_load_n(&stream->_fileno, __ATOMIC_RELAXED) >= 0;
}

// Reading n bytes needs the kernel.
inline bool WaitsForInput(const FILE* stream, size_t n) {
  if (!MayWait(stream)) return false;
  const char* const end = __atomic_load_n(&stream->_IO_read_end, __ATOMIC_RELAXED);
  const char* const at = __atomic_load_n(&stream->_IO_read_ptr, __ATOMIC_RELAXED);
  return end <= at || static_cast<size_t>(end - at) < n;
}

// Writing n bytes does.
inline bool WaitsForOutput(const FILE* stream, size_t n) {
  if (!MayWait(stream)) return false;
  const int flags = __atomic_load_n(&stream->_flags, __ATOMIC_RELAXED);
  if ((flags & (kStreamUnbuffered | kStreamLineBuffered)) != 0) return true;
  const char* const end = __atomic_load_n(&stream->_IO_buf_end, __ATOMIC_RELAXED);
  const char* const at = __atomic_load_n(&stream->_IO_write_ptr, __ATOMIC_RELAXED);
  return end <= at || static_cast<size_t>(end - at) < n;
}

// The call, announced as a sleep if `waits`.
template <typename R, typename... P, typename... A>
inline R StreamCall(bool waits, R (*fn)(P...), A... args) {
  if (!waits) return fn(args...);
  return Bracketed(Hook::kStdio, fn, args...);
}

}  // namespace cmwq::preload

#endif  // CMWQ_HOOKS_PRELOAD_STDIO_WAIT_H_
