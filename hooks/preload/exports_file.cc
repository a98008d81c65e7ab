// Exported wrappers: making data durable, space, locks on files, moving data between descriptors.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.

#include <stdarg.h>

#include "hooks/preload/fd_notes.h"
#include "hooks/preload/hook.h"

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace

CMWQ_EXPORT(int, fsync, (int fd)) { return Bracketed(Hook::kSync, CMWQ_REAL(fsync), fd); }

CMWQ_EXPORT(int, fdatasync, (int fd)) { return Bracketed(Hook::kSync, CMWQ_REAL(fdatasync), fd); }

CMWQ_EXPORT(void, sync, ()) { return Bracketed(Hook::kSync, CMWQ_REAL(sync)); }

CMWQ_EXPORT(int, syncfs, (int fd)) { return Bracketed(Hook::kSync, CMWQ_REAL(syncfs), fd); }

CMWQ_EXPORT(int, msync, (void* address, size_t length, int flags)) {
  if ((flags & MS_SYNC) == 0) return CMWQ_REAL(msync)(address, length, flags);
  return Bracketed(Hook::kSync, CMWQ_REAL(msync), address, length, flags);
}

CMWQ_EXPORT(int, sync_file_range, (int fd, off_t offset, off_t count, unsigned flags)) {
  return Bracketed(Hook::kSync, CMWQ_REAL(sync_file_range), fd, offset, count, flags);
}

CMWQ_EXPORT(int, fallocate, (int fd, int mode, off_t offset, off_t length)) {
  return Bracketed(Hook::kFile, CMWQ_REAL(fallocate), fd, mode, offset, length);
}
CMWQ_ALIAS(fallocate64, fallocate)

CMWQ_EXPORT(int, posix_fallocate, (int fd, off_t offset, off_t length)) {
  return Bracketed(Hook::kFile, CMWQ_REAL(posix_fallocate), fd, offset, length);
}
CMWQ_ALIAS(posix_fallocate64, posix_fallocate)

CMWQ_EXPORT(int, ftruncate, (int fd, off_t length)) {
  return Bracketed(Hook::kFile, CMWQ_REAL(ftruncate), fd, length);
}
CMWQ_ALIAS(ftruncate64, ftruncate)

CMWQ_EXPORT(int, truncate, (const char* path, off_t length)) {
  return Bracketed(Hook::kFile, CMWQ_REAL(truncate), path, length);
}
CMWQ_ALIAS(truncate64, truncate)

CMWQ_EXPORT(ssize_t, readahead, (int fd, off_t offset, size_t count)) {
  return Bracketed(Hook::kFile, CMWQ_REAL(readahead), fd, offset, count);
}

CMWQ_EXPORT(int, posix_fadvise, (int fd, off_t offset, off_t length, int advice)) {
  return Bracketed(Hook::kFile, CMWQ_REAL(posix_fadvise), fd, offset, length, advice);
}
CMWQ_ALIAS(posix_fadvise64, posix_fadvise)

CMWQ_EXPORT(ssize_t, copy_file_range,
            (int in, off_t* in_offset, int out, off_t* out_offset, size_t n, unsigned flags)) {
  return Bracketed(Hook::kFile, CMWQ_REAL(copy_file_range), in, in_offset, out, out_offset, n,
                   flags);
}

CMWQ_EXPORT(ssize_t, sendfile, (int out, int in, off_t* offset, size_t n)) {
  return BracketedOn(out, Hook::kSend, CMWQ_REAL(sendfile), out, in, offset, n);
}
CMWQ_ALIAS(sendfile64, sendfile)

CMWQ_EXPORT(ssize_t, splice,
            (int in, off_t* in_offset, int out, off_t* out_offset, size_t n, unsigned flags)) {
  const auto original = CMWQ_REAL(splice);
  if ((flags & SPLICE_F_NONBLOCK) != 0) return original(in, in_offset, out, out_offset, n, flags);
  return Bracketed(Hook::kFile, original, in, in_offset, out, out_offset, n, flags);
}

CMWQ_EXPORT(ssize_t, tee, (int in, int out, size_t n, unsigned flags)) {
  if ((flags & SPLICE_F_NONBLOCK) != 0) return CMWQ_REAL(tee)(in, out, n, flags);
  return Bracketed(Hook::kFile, CMWQ_REAL(tee), in, out, n, flags);
}

CMWQ_EXPORT(ssize_t, vmsplice, (int fd, const struct iovec* iov, size_t count, unsigned flags)) {
  if ((flags & SPLICE_F_NONBLOCK) != 0) return CMWQ_REAL(vmsplice)(fd, iov, count, flags);
  return Bracketed(Hook::kFile, CMWQ_REAL(vmsplice), fd, iov, count, flags);
}

// Not tried first: a conversion that fails because it may not wait has already given up the old
// lock.
CMWQ_EXPORT(int, flock, (int fd, int operation)) {
  if ((operation & (LOCK_NB | LOCK_UN)) != 0) return CMWQ_REAL(flock)(fd, operation);
  return Bracketed(Hook::kFlock, CMWQ_REAL(flock), fd, operation);
}

CMWQ_EXPORT(int, lockf, (int fd, int command, off_t length)) {
  if (command != F_LOCK) return CMWQ_REAL(lockf)(fd, command, length);
  return Bracketed(Hook::kFlock, CMWQ_REAL(lockf), fd, command, length);
}
CMWQ_ALIAS(lockf64, lockf)

// The optional argument is a pointer or a number; either fits and is handed on unread.
CMWQ_EXPORT(int, fcntl, (int fd, int command, ...)) {
  va_list args;
  va_start(args, command);
  void* const argument = va_arg(args, void*);
  va_end(args);
  const auto original = CMWQ_REAL(fcntl);
  switch (command) {
    case F_SETLKW:
    case F_OFD_SETLKW: {
      cmwq::gate::Bracket bracket(Hook::kFlock);
      return original(fd, command, argument);
    }
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
      return NoteCopy(fd, original(fd, command, argument));
    default:
      return original(fd, command, argument);
  }
}
CMWQ_ALIAS(fcntl64, fcntl)
CMWQ_ALIAS(__fcntl, fcntl)

CMWQ_EXPORT(int, tcdrain, (int fd)) { return Bracketed(Hook::kFile, CMWQ_REAL(tcdrain), fd); }

// Directory entries that are changed wait for the file system's journal. Looking things up does not
// as a rule, and is left to the detector.
CMWQ_EXPORT(int, unlink, (const char* path)) {
  return Bracketed(Hook::kFile, CMWQ_REAL(unlink), path);
}

CMWQ_EXPORT(int, unlinkat, (int dir, const char* path, int flags)) {
  return Bracketed(Hook::kFile, CMWQ_REAL(unlinkat), dir, path, flags);
}

CMWQ_EXPORT(int, rename, (const char* from, const char* to)) {
  return Bracketed(Hook::kFile, CMWQ_REAL(rename), from, to);
}

CMWQ_EXPORT(int, renameat, (int from_dir, const char* from, int to_dir, const char* to)) {
  return Bracketed(Hook::kFile, CMWQ_REAL(renameat), from_dir, from, to_dir, to);
}

CMWQ_EXPORT(int, renameat2,
            (int from_dir, const char* from, int to_dir, const char* to, unsigned flags)) {
  return Bracketed(Hook::kFile, CMWQ_REAL(renameat2), from_dir, from, to_dir, to, flags);
}
