// A file whose pages are not there until somebody lets them come: mapped, a major page fault that
// lasts. A file system of one file (FUSE), served by a process of its own.
//
// Nobody may hang on it. Who waits for a page cannot be killed before it is answered, so the server
// must not be part of what waits: it is another process without threads, it has the only descriptor of
// the device, and it ends with whoever started it, with the pipe by which it is told, or after
// kServerSeconds. With it goes the descriptor, and the kernel answers what is left with an error.

#ifndef CMWQ_TESTS_UNIT_DETECT_COLD_FILE_H_
#define CMWQ_TESTS_UNIT_DETECT_COLD_FILE_H_

#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime/base/sys.h"
#include "tests/support/child.h"

namespace cmwq::test {

// In a child of its own, whose end takes the mount with it.
class ColdFile {
 public:
  ColdFile() = default;
  // Where nobody waits for the page any more.
  ~ColdFile() {
    if (server_ <= 0) return;
    kill(server_, SIGKILL);
    waitpid(server_, nullptr, 0);
  }
  ColdFile(const ColdFile&) = delete;
  ColdFile& operator=(const ColdFile&) = delete;

  static constexpr size_t kBytes = 4096;
  static constexpr unsigned kServerSeconds = kChildSeconds / 2;

  // False: mounting is refused here. Before the process has threads.
  bool Mount() {
    const int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (device < 0 || unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      return false;
    }
    char path[] = "/tmp/cmwq_cold.XXXXXX";
    CHILD_CHECK(close(mkstemp(path)) == 0);
    char options[80];
    snprintf(options, sizeof(options), "fd=%d,rootmode=%o,user_id=%d,group_id=%d", device,
             S_IFREG | 0400, static_cast<int>(getuid()), static_cast<int>(getgid()));
    // The root of the file system is the file.
    const bool mounted = mount("cmwq", path, "fuse", MS_NOSUID | MS_NODEV, options) == 0;
    if (mounted) {
      StartServer(device);
      Map(path);
      umount2(path, MNT_DETACH);
    }
    unlink(path);
    return mounted;
  }
  // Lets the page come.
  void Supply() const { CHILD_CHECK(base::Sys(SYS_write, supply_[1], "x", 1) == 1); }

  const volatile char* data = nullptr;

 private:
  void StartServer(int device) {
    CHILD_CHECK(pipe2(supply_, O_CLOEXEC) == 0);
    const pid_t parent = getpid();
    server_ = fork();
    CHILD_CHECK(server_ >= 0);
    if (server_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(0);
      alarm(kServerSeconds);
      close(supply_[1]);
      Serve(device);
      _exit(0);
    }
    close(device);
    close(supply_[0]);
  }

  void Map(const char* path) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    // The kernel asks for the size only now.
    CHILD_CHECK(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == kBytes);
    void* const p = mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, fd, 0);
    CHILD_CHECK(p != MAP_FAILED);
    // A detector closes its copies of all descriptors when it starts, which would ask the server too.
    close(fd);
    data = static_cast<const volatile char*>(p);
  }

  static void Reply(int device, uint64_t unique, int err, const void* body, size_t length) {
    fuse_out_header head = {};
    head.unique = unique;
    head.error = -err;
    head.len = static_cast<uint32_t>(sizeof(head) + length);
    const iovec parts[] = {{&head, sizeof(head)}, {const_cast<void*>(body), length}};
    // ENOENT: whoever asked was interrupted.
    CHILD_CHECK(writev(device, parts, length != 0 ? 2 : 1) == head.len || errno == ENOENT);
  }

  static void ReplyInit(int device, const fuse_in_header* in) {
    const auto* const init = reinterpret_cast<const fuse_init_in*>(in + 1);
    fuse_init_out out = {};
    out.major = FUSE_KERNEL_VERSION;
    out.minor = std::min<uint32_t>(init->minor, FUSE_KERNEL_MINOR_VERSION);
    out.max_write = kBytes;
    Reply(device, in->unique, 0, &out, sizeof(out));
  }

  static void ReplyAttributes(int device, const fuse_in_header* in) {
    fuse_attr_out out = {};
    out.attr_valid = 3600;
    out.attr.ino = FUSE_ROOT_ID;
    out.attr.size = kBytes;
    out.attr.mode = S_IFREG | 0400;
    out.attr.nlink = 1;
    out.attr.uid = getuid();
    out.attr.gid = getgid();
    Reply(device, in->unique, 0, &out, sizeof(out));
  }

  // Until the file system is gone.
  void Serve(int device) const {
    alignas(8) static char request[FUSE_MIN_READ_BUFFER + 4096];
    static const char page[kBytes] = "cold";
    static const fuse_open_out opened = {};
    for (;;) {
      const ssize_t n = read(device, request, sizeof(request));
      if (n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN)) continue;
      if (n < static_cast<ssize_t>(sizeof(fuse_in_header))) return;
      const auto* const in = reinterpret_cast<const fuse_in_header*>(request);
      char byte;
      switch (in->opcode) {
        case FUSE_INIT:
          ReplyInit(device, in);
          break;
        case FUSE_GETATTR:
          ReplyAttributes(device, in);
          break;
        case FUSE_OPEN:
          Reply(device, in->unique, 0, &opened, sizeof(opened));
          break;
        case FUSE_READ:
          if (read(supply_[0], &byte, 1) != 1) return;
          Reply(device, in->unique, 0, page, kBytes);
          break;
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
        case FUSE_INTERRUPT:
          break;
        default:
          Reply(device, in->unique, ENOSYS, nullptr, 0);
          break;
      }
    }
  }

  pid_t server_ = -1;
  int supply_[2] = {-1, -1};
};

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_UNIT_DETECT_COLD_FILE_H_
