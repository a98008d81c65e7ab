// Exported wrappers: stdio input. Its waits are inside libc; only the outer call can be seen.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.
//
// A line that is longer than what is buffered is not announced: whether it is would need a look into
// the buffer. Wide characters are not wrapped; the detector finds their waits.

#include <stdarg.h>

#include "hooks/preload/stdio_wait.h"

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace

CMWQ_EXPORT(size_t, fread, (void* buf, size_t size, size_t n, FILE* stream)) {
  return StreamCall(WaitsForInput(stream, size * n), CMWQ_REAL(fread), buf, size, n, stream);
}
CMWQ_ALIAS(_IO_fread, fread)

CMWQ_EXPORT(size_t, fread_unlocked, (void* buf, size_t size, size_t n, FILE* stream)) {
  return StreamCall(WaitsForInput(stream, size * n), CMWQ_REAL(fread_unlocked), buf, size, n, stream);
}

CMWQ_EXPORT(size_t, __fread_chk, (void* buf, size_t room, size_t size, size_t n, FILE* stream)) {
  return StreamCall(WaitsForInput(stream, size * n), CMWQ_REAL(__fread_chk), buf, room, size, n, stream);
}

CMWQ_EXPORT(size_t, __fread_unlocked_chk, (void* buf, size_t room, size_t size, size_t n, FILE* stream)) {
  return StreamCall(WaitsForInput(stream, size * n), CMWQ_REAL(__fread_unlocked_chk), buf, room, size, n, stream);
}

CMWQ_EXPORT(char*, fgets, (char* buf, int n, FILE* stream)) {
  return StreamCall(WaitsForInput(stream, 1), CMWQ_REAL(fgets), buf, n, stream);
}
CMWQ_ALIAS(_IO_fgets, fgets)

CMWQ_EXPORT(char*, fgets_unlocked, (char* buf, int n, FILE* stream)) {
  return StreamCall(WaitsForInput(stream, 1), CMWQ_REAL(fgets_unlocked), buf, n, stream);
}

CMWQ_EXPORT(char*, __fgets_chk, (char* buf, size_t room, int n, FILE* stream)) {
  return StreamCall(WaitsForInput(stream, 1), CMWQ_REAL(__fgets_chk), buf, room, n, stream);
}

CMWQ_EXPORT(char*, __fgets_unlocked_chk, (char* buf, size_t room, int n, FILE* stream)) {
  return StreamCall(WaitsForInput(stream, 1), CMWQ_REAL(__fgets_unlocked_chk), buf, room, n, stream);
}

CMWQ_EXPORT(int, fgetc, (FILE * stream)) {
  return StreamCall(WaitsForInput(stream, 1), CMWQ_REAL(fgetc), stream);
}
CMWQ_ALIAS(getc, fgetc)
CMWQ_ALIAS(_IO_getc, fgetc)

CMWQ_EXPORT(int, fgetc_unlocked, (FILE * stream)) {
  return StreamCall(WaitsForInput(stream, 1), CMWQ_REAL(fgetc_unlocked), stream);
}
CMWQ_ALIAS(getc_unlocked, fgetc_unlocked)

CMWQ_EXPORT(int, getchar, ()) {
  return StreamCall(WaitsForInput(stdin, 1), CMWQ_REAL(getchar));
}

CMWQ_EXPORT(int, getchar_unlocked, ()) {
  return StreamCall(WaitsForInput(stdin, 1), CMWQ_REAL(getchar_unlocked));
}

// Where inlined getc_unlocked() goes when nothing is buffered.
CMWQ_EXPORT(int, __uflow, (FILE * stream)) {
  return StreamCall(MayWait(stream), CMWQ_REAL(__uflow), stream);
}

CMWQ_EXPORT(int, __underflow, (FILE * stream)) {
  return StreamCall(MayWait(stream), CMWQ_REAL(__underflow), stream);
}

CMWQ_EXPORT(ssize_t, getline, (char** line, size_t* size, FILE* stream)) {
  return StreamCall(WaitsForInput(stream, 1), CMWQ_REAL(getline), line, size, stream);
}

CMWQ_EXPORT(ssize_t, getdelim, (char** line, size_t* size, int delimiter, FILE* stream)) {
  return StreamCall(WaitsForInput(stream, 1), CMWQ_REAL(getdelim), line, size, delimiter, stream);
}
CMWQ_ALIAS(__getdelim, getdelim)

CMWQ_EXPORT(int, vfscanf, (FILE * stream, const char* format, va_list args)) {
  return StreamCall(WaitsForInput(stream, 1), CMWQ_REAL(vfscanf), stream, format, args);
}
CMWQ_ALIAS(__vfscanf, vfscanf)

CMWQ_EXPORT(int, vscanf, (const char* format, va_list args)) {
  return StreamCall(WaitsForInput(stdin, 1), CMWQ_REAL(vfscanf), stdin, format, args);
}

CMWQ_EXPORT(int, fscanf, (FILE * stream, const char* format, ...)) {
  va_list args;
  va_start(args, format);
  const int n = StreamCall(WaitsForInput(stream, 1), CMWQ_REAL(vfscanf), stream, format, args);
  va_end(args);
  return n;
}

CMWQ_EXPORT(int, scanf, (const char* format, ...)) {
  va_list args;
  va_start(args, format);
  const int n = StreamCall(WaitsForInput(stdin, 1), CMWQ_REAL(vfscanf), stdin, format, args);
  va_end(args);
  return n;
}

CMWQ_EXPORT(int, __isoc99_vfscanf, (FILE * stream, const char* format, va_list args)) {
  return StreamCall(WaitsForInput(stream, 1), CMWQ_REAL(__isoc99_vfscanf), stream, format, args);
}

CMWQ_EXPORT(int, __isoc99_vscanf, (const char* format, va_list args)) {
  return StreamCall(WaitsForInput(stdin, 1), CMWQ_REAL(__isoc99_vfscanf), stdin, format, args);
}

CMWQ_EXPORT(int, __isoc99_fscanf, (FILE * stream, const char* format, ...)) {
  va_list args;
  va_start(args, format);
  const int n = StreamCall(WaitsForInput(stream, 1), CMWQ_REAL(__isoc99_vfscanf), stream, format, args);
  va_end(args);
  return n;
}

CMWQ_EXPORT(int, __isoc99_scanf, (const char* format, ...)) {
  va_list args;
  va_start(args, format);
  const int n = StreamCall(WaitsForInput(stdin, 1), CMWQ_REAL(__isoc99_vfscanf), stdin, format, args);
  va_end(args);
  return n;
}
