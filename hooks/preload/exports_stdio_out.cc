// Exported wrappers: stdio output, the life of streams, and their locks.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.
//
// flockfile() is a lock of the program: it counts as held. The lock that every stdio call takes inside
// libc is neither seen nor held across a boundary.

#include <stdarg.h>

#include "hooks/preload/fd_notes.h"
#include "hooks/preload/stdio_wait.h"

namespace cmwq::preload {
namespace {

// How much a formatted text may need; arbitrary, a guess too low costs an unannounced write.
constexpr size_t kFormatted = 256;

// fputs() is told no length.
constexpr size_t kText = 256;

FILE* NoteStream(FILE* stream) {
  if (stream != nullptr) NoteNew(stream->_fileno);
  return stream;
}

}  // namespace
}  // namespace cmwq::preload

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace

namespace gate = cmwq::gate;

CMWQ_EXPORT(size_t, fwrite, (const void* buf, size_t size, size_t n, FILE* stream)) {
  return StreamCall(WaitsForOutput(stream, size * n), CMWQ_REAL(fwrite), buf, size, n, stream);
}
CMWQ_ALIAS(_IO_fwrite, fwrite)

CMWQ_EXPORT(size_t, fwrite_unlocked, (const void* buf, size_t size, size_t n, FILE* stream)) {
  return StreamCall(WaitsForOutput(stream, size * n), CMWQ_REAL(fwrite_unlocked), buf, size, n, stream);
}

CMWQ_EXPORT(int, fputs, (const char* text, FILE* stream)) {
  return StreamCall(WaitsForOutput(stream, kText), CMWQ_REAL(fputs), text, stream);
}
CMWQ_ALIAS(_IO_fputs, fputs)

CMWQ_EXPORT(int, fputs_unlocked, (const char* text, FILE* stream)) {
  return StreamCall(WaitsForOutput(stream, kText), CMWQ_REAL(fputs_unlocked), text, stream);
}

CMWQ_EXPORT(int, fputc, (int byte, FILE* stream)) {
  return StreamCall(WaitsForOutput(stream, 1), CMWQ_REAL(fputc), byte, stream);
}

CMWQ_EXPORT(int, putc, (int byte, FILE* stream)) {
  return StreamCall(WaitsForOutput(stream, 1), CMWQ_REAL(putc), byte, stream);
}
CMWQ_ALIAS(_IO_putc, putc)

CMWQ_EXPORT(int, fputc_unlocked, (int byte, FILE* stream)) {
  return StreamCall(WaitsForOutput(stream, 1), CMWQ_REAL(fputc_unlocked), byte, stream);
}

CMWQ_EXPORT(int, putc_unlocked, (int byte, FILE* stream)) {
  return StreamCall(WaitsForOutput(stream, 1), CMWQ_REAL(putc_unlocked), byte, stream);
}

CMWQ_EXPORT(int, putchar, (int byte)) {
  return StreamCall(WaitsForOutput(stdout, 1), CMWQ_REAL(putchar), byte);
}

CMWQ_EXPORT(int, putchar_unlocked, (int byte)) {
  return StreamCall(WaitsForOutput(stdout, 1), CMWQ_REAL(putchar_unlocked), byte);
}

CMWQ_EXPORT(int, puts, (const char* text)) {
  return StreamCall(WaitsForOutput(stdout, kText), CMWQ_REAL(puts), text);
}
CMWQ_ALIAS(_IO_puts, puts)

// Where inlined putc_unlocked() goes when the buffer is full.
CMWQ_EXPORT(int, __overflow, (FILE * stream, int byte)) {
  return StreamCall(MayWait(stream), CMWQ_REAL(__overflow), stream, byte);
}

CMWQ_EXPORT(int, vfprintf, (FILE * stream, const char* format, va_list args)) {
  return StreamCall(WaitsForOutput(stream, kFormatted), CMWQ_REAL(vfprintf), stream, format, args);
}
CMWQ_ALIAS(_IO_vfprintf, vfprintf)

CMWQ_EXPORT(int, vprintf, (const char* format, va_list args)) {
  return StreamCall(WaitsForOutput(stdout, kFormatted), CMWQ_REAL(vfprintf), stdout, format, args);
}

CMWQ_EXPORT(int, fprintf, (FILE * stream, const char* format, ...)) {
  va_list args;
  va_start(args, format);
  const int n =
      StreamCall(WaitsForOutput(stream, kFormatted), CMWQ_REAL(vfprintf), stream, format, args);
  va_end(args);
  return n;
}
CMWQ_ALIAS(_IO_fprintf, fprintf)

CMWQ_EXPORT(int, printf, (const char* format, ...)) {
  va_list args;
  va_start(args, format);
  const int n =
      StreamCall(WaitsForOutput(stdout, kFormatted), CMWQ_REAL(vfprintf), stdout, format, args);
  va_end(args);
  return n;
}
CMWQ_ALIAS(_IO_printf, printf)

CMWQ_EXPORT(int, vdprintf, (int fd, const char* format, va_list args)) {
  return BracketedOn(fd, Hook::kStdio, CMWQ_REAL(vdprintf), fd, format, args);
}

CMWQ_EXPORT(int, dprintf, (int fd, const char* format, ...)) {
  va_list args;
  va_start(args, format);
  const int n = BracketedOn(fd, Hook::kStdio, CMWQ_REAL(vdprintf), fd, format, args);
  va_end(args);
  return n;
}

CMWQ_EXPORT(int, __vfprintf_chk, (FILE * stream, int flag, const char* format, va_list args)) {
  return StreamCall(WaitsForOutput(stream, kFormatted), CMWQ_REAL(__vfprintf_chk), stream, flag, format, args);
}

CMWQ_EXPORT(int, __vprintf_chk, (int flag, const char* format, va_list args)) {
  return StreamCall(WaitsForOutput(stdout, kFormatted), CMWQ_REAL(__vfprintf_chk), stdout, flag, format, args);
}

CMWQ_EXPORT(int, __fprintf_chk, (FILE * stream, int flag, const char* format, ...)) {
  va_list args;
  va_start(args, format);
  const int n =
      StreamCall(WaitsForOutput(stream, kFormatted), CMWQ_REAL(__vfprintf_chk), stream, flag, format, args);
  va_end(args);
  return n;
}

CMWQ_EXPORT(int, __printf_chk, (int flag, const char* format, ...)) {
  va_list args;
  va_start(args, format);
  const int n =
      StreamCall(WaitsForOutput(stdout, kFormatted), CMWQ_REAL(__vfprintf_chk), stdout, flag, format, args);
  va_end(args);
  return n;
}

CMWQ_EXPORT(int, __vdprintf_chk, (int fd, int flag, const char* format, va_list args)) {
  return BracketedOn(fd, Hook::kStdio, CMWQ_REAL(__vdprintf_chk), fd, flag, format, args);
}

CMWQ_EXPORT(int, __dprintf_chk, (int fd, int flag, const char* format, ...)) {
  va_list args;
  va_start(args, format);
  const int n = BracketedOn(fd, Hook::kStdio, CMWQ_REAL(__vdprintf_chk), fd, flag, format, args);
  va_end(args);
  return n;
}

// Null: every stream. Nothing pending: no write, but reading streams give up what they have read ahead.
CMWQ_EXPORT(int, fflush, (FILE * stream)) {
  const bool waits = stream == nullptr ? Adopted()
                                       : MayWait(stream) && stream->_IO_write_ptr > stream->_IO_write_base;
  return StreamCall(waits, CMWQ_REAL(fflush), stream);
}
CMWQ_ALIAS(_IO_fflush, fflush)

CMWQ_EXPORT(int, fflush_unlocked, (FILE * stream)) {
  const bool waits = stream == nullptr ? Adopted()
                                       : MayWait(stream) && stream->_IO_write_ptr > stream->_IO_write_base;
  return StreamCall(waits, CMWQ_REAL(fflush_unlocked), stream);
}

CMWQ_EXPORT(int, fclose, (FILE * stream)) {
  if (stream != nullptr) NoteClose(stream->_fileno);
  return StreamCall(MayWait(stream), CMWQ_REAL(fclose), stream);
}
CMWQ_ALIAS(_IO_fclose, fclose)

CMWQ_EXPORT(FILE*, fopen, (const char* path, const char* mode)) {
  return NoteStream(Bracketed(Hook::kOpen, CMWQ_REAL(fopen), path, mode));
}
CMWQ_ALIAS(fopen64, fopen)
CMWQ_ALIAS(_IO_fopen, fopen)

CMWQ_EXPORT(FILE*, freopen, (const char* path, const char* mode, FILE* stream)) {
  if (stream != nullptr) NoteClose(stream->_fileno);
  return NoteStream(Bracketed(Hook::kOpen, CMWQ_REAL(freopen), path, mode, stream));
}

CMWQ_EXPORT(FILE*, freopen64, (const char* path, const char* mode, FILE* stream)) {
  if (stream != nullptr) NoteClose(stream->_fileno);
  return NoteStream(Bracketed(Hook::kOpen, CMWQ_REAL(freopen64), path, mode, stream));
}

CMWQ_EXPORT(void, flockfile, (FILE * stream)) {
  if (!Adopted()) {
    CMWQ_REAL(flockfile)(stream);
  } else if (CMWQ_REAL(ftrylockfile)(stream) != 0) {
    Bracketed(Hook::kStdio, CMWQ_REAL(flockfile), stream);
  }
  gate::LockAcquired();
}
CMWQ_ALIAS(_IO_flockfile, flockfile)

CMWQ_EXPORT(int, ftrylockfile, (FILE * stream)) {
  const int rc = CMWQ_REAL(ftrylockfile)(stream);
  if (rc == 0) gate::LockAcquired();
  return rc;
}
CMWQ_ALIAS(_IO_ftrylockfile, ftrylockfile)

CMWQ_EXPORT(void, funlockfile, (FILE * stream)) {
  CMWQ_REAL(funlockfile)(stream);
  gate::LockReleased();
}
CMWQ_ALIAS(_IO_funlockfile, funlockfile)
