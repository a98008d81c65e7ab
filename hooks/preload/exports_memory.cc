// Exported wrappers: calls on memory that read pages in or write them out, and the terminal, file
// system and disk requests that are known to wait.
//
// Hook rules: no allocation; no C++ exceptions, RTTI or static constructors; no libc wrapper that
// we also export; errno preserved; works before init, after exit handlers, in the child of fork and
// in signal handlers; re-entry returns to the original call. Never noexcept: cancellation unwinds
// here.
//
// Not munmap(), mremap(), mprotect() and the mmap() that only maps: they wait only for the kernel's own
// lock, rarely, and an announcement each time would let a second request in for nothing. The detector
// finds those that do.

#include <linux/fs.h>
#include <scsi/sg.h>
#include <stdarg.h>
#include <sys/ioctl.h>

#include "hooks/preload/hook.h"

// Newer than the headers of some supported systems.
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

namespace cmwq::preload {
namespace {

bool AdviceWaits(int advice) {
  switch (advice) {
    case MADV_WILLNEED:
    case MADV_REMOVE:
    case MADV_PAGEOUT:
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
    case MADV_COLLAPSE:
      return true;
    default:
      return false;
  }
}

bool RequestWaits(unsigned long request) {
  switch (request) {
    case TCSBRK:
    case TCSBRKP:
    case TCSETSW:
    case TCSETSF:
    case FICLONE:
    case FICLONERANGE:
    case FIDEDUPERANGE:
    case FIFREEZE:
    case FITHAW:
    case FITRIM:
    case BLKFLSBUF:
    case BLKDISCARD:
    case BLKSECDISCARD:
    case BLKZEROOUT:
    case SG_IO:
      return true;
    default:
      return false;
  }
}

}  // namespace
}  // namespace cmwq::preload

using namespace cmwq::preload;  // NOLINT: the wrappers cannot live in a namespace

CMWQ_EXPORT(void*, mmap,
            (void* address, size_t length, int protection, int flags, int fd, off_t offset)) {
  const auto original = CMWQ_REAL(mmap);
  if ((flags & (MAP_POPULATE | MAP_LOCKED)) == 0 || (flags & MAP_NONBLOCK) != 0) {
    return original(address, length, protection, flags, fd, offset);
  }
  return Bracketed(Hook::kMmap, original, address, length, protection, flags, fd, offset);
}
CMWQ_ALIAS(mmap64, mmap)

CMWQ_EXPORT(int, madvise, (void* address, size_t length, int advice)) {
  const auto original = CMWQ_REAL(madvise);
  if (!AdviceWaits(advice)) return original(address, length, advice);
  return Bracketed(Hook::kMmap, original, address, length, advice);
}

CMWQ_EXPORT(int, mlock, (const void* address, size_t length)) {
  return Bracketed(Hook::kMmap, CMWQ_REAL(mlock), address, length);
}

CMWQ_EXPORT(int, mlock2, (const void* address, size_t length, unsigned flags)) {
  return Bracketed(Hook::kMmap, CMWQ_REAL(mlock2), address, length, flags);
}

CMWQ_EXPORT(int, mlockall, (int flags)) {
  return Bracketed(Hook::kMmap, CMWQ_REAL(mlockall), flags);
}

// The argument is a pointer, a number or missing; it is handed on unread.
CMWQ_EXPORT(int, ioctl, (int fd, unsigned long request, ...)) {
  va_list args;
  va_start(args, request);
  void* const argument = va_arg(args, void*);
  va_end(args);
  const auto original = CMWQ_REAL(ioctl);
  if (!RequestWaits(request)) return original(fd, request, argument);
  cmwq::gate::Bracket bracket(Hook::kFile);
  return original(fd, request, argument);
}

CMWQ_EXPORT(int, tcsetattr, (int fd, int actions, const struct termios* settings)) {
  const auto original = CMWQ_REAL(tcsetattr);
  if (actions == TCSANOW) return original(fd, actions, settings);
  return Bracketed(Hook::kFile, original, fd, actions, settings);
}
