// A file whose pages are not there until somebody lets them come: mapped, a major page fault that
// lasts. A file system of one file, in this process (FUSE).

#ifndef CMWQ_TESTS_UNIT_DETECT_COLD_FILE_H_
#define CMWQ_TESTS_UNIT_DETECT_COLD_FILE_H_

#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "tests/support/child.h"
#include "tests/support/gate.h"

namespace cmwq::test {

// In a child of its own, whose end takes the mount with it.
class ColdFile {
 public:
  static constexpr size_t kBytes = 4096;

  // False: mounting is refused here. Before the process has threads.
  bool Mount() {
    device_ = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (device_ < 0 || unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      return false;
    }
    char path[] = "/tmp/cmwq_cold.XXXXXX";
    CHILD_CHECK(close(mkstemp(path)) == 0);
    char options[80];
    snprintf(options, sizeof(options), "fd=%d,rootmode=%o,user_id=%d,group_id=%d", device_,
             S_IFREG | 0400, static_cast<int>(getuid()), static_cast<int>(getgid()));
    // The root of the file system is the file.
    const bool mounted = mount("cmwq", path, "fuse", MS_NOSUID | MS_NODEV, options) == 0;
    if (mounted) {
      std::thread([this] { Serve(); }).detach();
      Map(path);
      umount2(path, MNT_DETACH);
    }
    unlink(path);
    return mounted;
  }
  // Lets the page come.
  void Supply() { supplied_.Open(); }

  const volatile char* data = nullptr;

 private:
  void Map(const char* path) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    // The kernel asks for the size only now.
    CHILD_CHECK(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == kBytes);
    void* const p = mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, fd, 0);
    CHILD_CHECK(p != MAP_FAILED);
    data = static_cast<const volatile char*>(p);
  }

  void Reply(uint64_t unique, int err, const void* body, size_t length) const {
    fuse_out_header head = {};
    head.unique = unique;
    head.error = -err;
    head.len = static_cast<uint32_t>(sizeof(head) + length);
    const iovec parts[] = {{&head, sizeof(head)}, {const_cast<void*>(body), length}};
    // ENOENT: whoever asked was interrupted.
    CHILD_CHECK(writev(device_, parts, length != 0 ? 2 : 1) == head.len || errno == ENOENT);
  }

  void Serve() {
    alignas(8) static char request[FUSE_MIN_READ_BUFFER + 4096];
    static const char page[kBytes] = "cold";
    for (;;) {
      const ssize_t n = read(device_, request, sizeof(request));
      if (n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN)) continue;
      if (n < static_cast<ssize_t>(sizeof(fuse_in_header))) return;
      const auto* const in = reinterpret_cast<const fuse_in_header*>(request);
      switch (in->opcode) {
        case FUSE_INIT: {
          const auto* const init = reinterpret_cast<const fuse_init_in*>(in + 1);
          fuse_init_out out = {};
          out.major = FUSE_KERNEL_VERSION;
          out.minor = std::min<uint32_t>(init->minor, FUSE_KERNEL_MINOR_VERSION);
          out.max_write = kBytes;
          Reply(in->unique, 0, &out, sizeof(out));
          break;
        }
        case FUSE_GETATTR: {
          fuse_attr_out out = {};
          out.attr_valid = 3600;
          out.attr.ino = FUSE_ROOT_ID;
          out.attr.size = kBytes;
          out.attr.mode = S_IFREG | 0400;
          out.attr.nlink = 1;
          out.attr.uid = getuid();
          out.attr.gid = getgid();
          Reply(in->unique, 0, &out, sizeof(out));
          break;
        }
        case FUSE_OPEN: {
          const fuse_open_out out = {};
          Reply(in->unique, 0, &out, sizeof(out));
          break;
        }
        case FUSE_READ:
          supplied_.Wait();
          Reply(in->unique, 0, page, kBytes);
          break;
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
        case FUSE_INTERRUPT:
          break;
        default:
          Reply(in->unique, ENOSYS, nullptr, 0);
          break;
      }
    }
  }

  int device_ = -1;
  Gate supplied_;
};

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_UNIT_DETECT_COLD_FILE_H_
