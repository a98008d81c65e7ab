// The C interface of registered buffers and files: argument checks, then the loop.

#include <cmwq/io_fixed.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "runtime/base/check.h"
#include "runtime/core/capi.h"
#include "runtime/core/io_loop.h"
#include "runtime/core/runtime.h"

namespace {

using cmwq::core::Fail;
using cmwq::core::IoLoop;
using cmwq::core::IoRequest;
using cmwq::core::Misuse;
using cmwq::core::Runtime;
using cmwq::platform::IoKind;
using cmwq::platform::IoTable;
using cmwq::platform::kFirstFile;

constexpr size_t kMaxBuffer = size_t{1} << 30;  // the kernel's limit

// Newer than the headers of some systems; Linux 5.14.
constexpr int kPopulateWrite = 23;

// The pages are there and can be written to: 0 or -EFAULT. The caller makes them, so that the thread of
// the operations need not. Before Linux 5.14 it is only seen whether something is mapped.
int MakePages(const struct iovec& buffer) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(buffer.iov_base);
  const uintptr_t start = address & ~(page - 1);
  const size_t length = address - start + buffer.iov_len;
  auto* const at = reinterpret_cast<char*>(start);
  if (madvise(at, 0, kPopulateWrite) == 0) {
    return madvise(at, length, kPopulateWrite) == 0 ? 0 : -EFAULT;
  }
  for (size_t i = 0; i < length; i += page) {
    unsigned char resident;
    if (mincore(at + i, 1, &resident) != 0) return -EFAULT;
  }
  return 0;
}

int CheckBuffers(const char* function, const struct iovec* buffers, unsigned nr) {
  for (unsigned i = 0; i < nr; ++i) {
    const struct iovec& b = buffers[i];
    const auto end = reinterpret_cast<uintptr_t>(b.iov_base) + b.iov_len;
    if (b.iov_base == nullptr || b.iov_len == 0 || b.iov_len > kMaxBuffer ||
        end < reinterpret_cast<uintptr_t>(b.iov_base)) {
      Misuse(function, "a buffer is null, empty, or larger than 1 GB");
      return -EINVAL;
    }
  }
  cmwq_block_begin();
  int err = 0;
  for (unsigned i = 0; i < nr && err == 0; ++i) err = MakePages(buffers[i]);
  cmwq_block_end();
  if (err != 0) Misuse(function, "a buffer is not mapped, or cannot be written to");
  return err;
}

bool CountIsGood(const char* function, const void* entries, unsigned nr) {
  if (entries != nullptr && nr > 0 && nr <= IoTable::kSlots) return true;
  return Misuse(function, "no entries, or more than 4096");
}

int Taken(bool files, int first) {
  const int err = IoLoop::Get().Unregister(files, first);
  if (err == -EINVAL) {
    Misuse(files ? "cmwq_io_unregister_files" : "cmwq_io_unregister_buffers",
           "no registration begins with this number: taken back already?");
  }
  return err;
}

// A number that no buffer has for those that are none.
int BufferFlag(int buffer) { return buffer >= 0 && buffer < INT_MAX ? buffer + 1 : INT_MAX; }

bool Submit(const char* function, struct cmwq_workqueue* wq, struct cmwq_io_work* io,
            const IoRequest& request) {
  if (!cmwq::core::Usable(function, wq)) return false;
  if (!cmwq::core::Usable(function, io != nullptr ? &io->work : nullptr)) return false;
  return IoLoop::Get().Submit(cmwq::core::Impl(wq), io, request);
}

}  // namespace

extern "C" {

int cmwq_io_register_buffers(const struct iovec* buffers, unsigned nr) {
  constexpr const char* kName = "cmwq_io_register_buffers";
  if (!CountIsGood(kName, buffers, nr)) return Fail(EINVAL);
  int result = CheckBuffers(kName, buffers, nr);
  if (result == 0) result = -Runtime::Get().Start();
  if (result == 0) result = IoLoop::Get().Register(false, buffers, nr);
  if (result == -ENOMEM) {
    struct rlimit limit = {};
    getrlimit(RLIMIT_MEMLOCK, &limit);
    CMWQ_WARN_ONCE("cmwq_io_register_buffers: no memory, or more than RLIMIT_MEMLOCK allows to lock "
                   "(%llu kB for all rings of the user): raise it (ulimit -l, LimitMEMLOCK=) or "
                   "register less",
                   static_cast<unsigned long long>(limit.rlim_cur / 1024));
  }
  return result < 0 ? Fail(-result) : result;
}

bool cmwq_io_unregister_buffers(int first) {
  const int err = Taken(false, first);
  return err == 0 || Fail(-err) == 0;
}

int cmwq_io_register_files(const int* fds, unsigned nr) {
  constexpr const char* kName = "cmwq_io_register_files";
  if (!CountIsGood(kName, fds, nr)) return Fail(EINVAL);
  for (unsigned i = 0; i < nr; ++i) {
    if (fcntl(fds[i], F_GETFD) < 0) return Fail(EBADF);
  }
  int result = -Runtime::Get().Start();
  if (result == 0) result = IoLoop::Get().Register(true, fds, nr);
  return result < 0 ? Fail(-result) : kFirstFile + result;
}

bool cmwq_io_unregister_files(int first) {
  const int err = Taken(true, first < kFirstFile ? -1 : first - kFirstFile);
  return err == 0 || Fail(-err) == 0;
}

bool cmwq_io_read_fixed_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int fd, void* buf,
                             size_t len, int64_t offset, int buffer, uint64_t timeout_ns) {
  return Submit("cmwq_io_read_fixed_work", wq, io,
                {IoKind::kRead, fd, BufferFlag(buffer), buf, len, offset, nullptr, timeout_ns});
}

bool cmwq_io_write_fixed_work(struct cmwq_workqueue* wq, struct cmwq_io_work* io, int fd,
                              const void* buf, size_t len, int64_t offset, int buffer,
                              uint64_t timeout_ns) {
  return Submit("cmwq_io_write_fixed_work", wq, io,
                {IoKind::kWrite, fd, BufferFlag(buffer), const_cast<void*>(buf), len, offset, nullptr,
                 timeout_ns});
}

}  // extern "C"
