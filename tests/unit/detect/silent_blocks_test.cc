// Every kind of block that nobody announces is found by the canary: the item queued behind the
// blocked one runs, and ends the block.

#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <resolv.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cstring>
#include <string>
#include <thread>

#include "tests/unit/detect/cold_file.h"
#include "tests/unit/detect/silent.h"

#if __has_include(<liburing.h>)
#include <liburing.h>
#endif

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

namespace cmwq::test {
namespace {

constexpr const char* kNoCanary = "SCHED_IDLE is refused here";

// A page that is there only when somebody says so; until then whoever touches it is in a page
// fault.
class LatePage {
 public:
  // kernel: faults inside system calls as well; needs privilege. Leaves the child if refused.
  explicit LatePage(bool kernel) {
    fd_ =
        static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | (kernel ? 0 : UFFD_USER_MODE_ONLY)));
    if (fd_ < 0) _exit(kSkipped);
    struct uffdio_api api = {};
    api.api = UFFD_API;
    CHILD_CHECK(ioctl(fd_, UFFDIO_API, &api) == 0);
    void* const p =
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHILD_CHECK(p != MAP_FAILED);
    data = static_cast<volatile char*>(p);
    struct uffdio_register range = {};
    range.range = {reinterpret_cast<uintptr_t>(p), kBytes};
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    CHILD_CHECK(ioctl(fd_, UFFDIO_REGISTER, &range) == 0);
  }
  // Until somebody is in the fault.
  void AwaitFault() const {
    struct uffd_msg message;
    CHILD_CHECK(read(fd_, &message, sizeof(message)) == static_cast<ssize_t>(sizeof(message)));
  }
  void Supply() const {
    struct uffdio_zeropage zero = {};
    zero.range = {reinterpret_cast<uintptr_t>(data), kBytes};
    CHILD_CHECK(ioctl(fd_, UFFDIO_ZEROPAGE, &zero) == 0);
  }
  static constexpr size_t kBytes = 4096;
  volatile char* data;

 private:
  int fd_;
};

TEST(SilentBlock, SystemCallWithoutLibc) {
  EXPECT_IN_CHILD(kNoCanary, [] {
    Pipe pipe;
    for (int i = 0; i < 20; ++i) {
      RunBehindCanary(
          AllowedCpu(0), [&] { pipe.Wait(); }, [&] { pipe.Put(); });
    }
  });
}

TEST(SilentBlock, PipeRead) {
  EXPECT_IN_CHILD(kNoCanary, [] {
    Pipe pipe;
    RunBehindCanary(
        AllowedCpu(0),
        [&] {
          char byte;
          CHILD_CHECK(read(pipe.in(), &byte, 1) == 1);
        },
        [&] { pipe.Put(); });
  });
}

TEST(SilentBlock, PageFault) {
  EXPECT_IN_CHILD("userfaultfd or SCHED_IDLE is refused here", [] {
    LatePage page(false);
    RunBehindCanary(
        AllowedCpu(0), [&] { (void)page.data[0]; }, [&] { page.Supply(); });
  });
}

// A mapped file whose page is not in the page cache.
TEST(SilentBlock, ColdFileMapping) {
  EXPECT_IN_CHILD("no FUSE, mounting is refused, or SCHED_IDLE is", [] {
    ColdFile file;
    if (!file.Mount()) _exit(kSkipped);
    long faults = 0;
    RunBehindCanary(
        AllowedCpu(0),
        [&] {
          struct rusage before, after;
          getrusage(RUSAGE_THREAD, &before);
          CHILD_CHECK(file.data[0] == 'c');
          getrusage(RUSAGE_THREAD, &after);
          faults = after.ru_majflt - before.ru_majflt;
        },
        [&] { file.Supply(); });
    CHILD_CHECK(faults > 0);
  });
}

// A name server that answers only once the item behind runs.
TEST(SilentBlock, GetAddrInfo) {
  EXPECT_IN_CHILD("SCHED_IDLE is refused here, or names are not looked up by DNS", [] {
    const int server = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    CHILD_CHECK(bind(server, reinterpret_cast<sockaddr*>(&address), size) == 0);
    CHILD_CHECK(getsockname(server, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    RunBehindCanary(
        AllowedCpu(0),
        [&] {
          CHILD_CHECK(res_init() == 0);  // of this thread
          _res.nscount = 1;
          _res.nsaddr_list[0] = address;
          _res.retrans = 30;
          _res.retry = 1;
          addrinfo hints = {};
          hints.ai_family = AF_INET;
          addrinfo* list = nullptr;
          if (getaddrinfo("cmwq-test.invalid.", nullptr, &hints, &list) != EAI_NONAME)
            _exit(kSkipped);
        },
        [&] {
          // "No such name" to its question, whatever it is.
          unsigned char question[512];
          sockaddr_in from = {};
          socklen_t length = sizeof(from);
          struct pollfd wait = {server, POLLIN, 0};
          if (poll(&wait, 1, 20'000) != 1) _exit(kSkipped);
          const ssize_t n = recvfrom(server, question, sizeof(question), 0,
                                     reinterpret_cast<sockaddr*>(&from), &length);
          CHILD_CHECK(n > 12);
          question[2] |= 0x80;
          question[3] = static_cast<unsigned char>((question[3] & 0xf0) | 3);
          question[10] = question[11] = 0;  // no additional records
          CHILD_CHECK(sendto(server, question, static_cast<size_t>(n), 0,
                             reinterpret_cast<sockaddr*>(&from), length) == n);
        });
  });
}

TEST(SilentBlock, StdioRead) {
  EXPECT_IN_CHILD(kNoCanary, [] {
    Pipe pipe;
    FILE* const file = fdopen(dup(pipe.in()), "r");
    RunBehindCanary(
        AllowedCpu(0),
        [&] {
          char byte;
          CHILD_CHECK(fread(&byte, 1, 1, file) == 1);
        },
        [&] { pipe.Put(); });
  });
}

// A lock inside libc.
TEST(SilentBlock, StdioLock) {
  EXPECT_IN_CHILD(kNoCanary, [] {
    FILE* const file = fopen("/dev/null", "w");
    CHILD_CHECK(file != nullptr);
    Gate locked, unlock;
    std::thread holder([&] {
      flockfile(file);
      locked.Open();
      unlock.Wait();
      funlockfile(file);
    });
    locked.Wait();
    RunBehindCanary(
        AllowedCpu(0), [&] { fputc('x', file); }, [&] { unlock.Open(); });
    holder.join();
  });
}

// Another thread loads a library, whose constructor takes its time.
TEST(SilentBlock, LoaderLock) {
  EXPECT_IN_CHILD(kNoCanary, [] {
    Pipe entered, release;
    setenv("CMWQ_TEST_ENTERED_FD", std::to_string(entered.out()).c_str(), 1);
    setenv("CMWQ_TEST_RELEASE_FD", std::to_string(release.in()).c_str(), 1);
    cmwq_destroy_workqueue(cmwq_alloc_workqueue("start", 0, 0));  // looks for a symbol, once
    std::thread loader([] { CHILD_CHECK(dlopen(CMWQ_TEST_SLOW_LIBRARY, RTLD_NOW) != nullptr); });
    entered.Wait();
    RunBehindCanary(
        AllowedCpu(0), [] { CHILD_CHECK(dlopen("libc.so.6", RTLD_NOW) != nullptr); },
        [&] { release.Put(); });
    loader.join();
  });
}

// Another thread writes to the same file from memory that is not there yet: it holds the lock of
// the file's inode, and who waits for that is in state D.
TEST(SilentBlock, KernelMutex) {
  EXPECT_IN_CHILD("userfaultfd needs privilege here, or SCHED_IDLE is refused", [] {
    LatePage page(true);
    const int file = memfd_create("cmwq-test", MFD_CLOEXEC);
    CHILD_CHECK(file >= 0);
    std::thread holder([&] { CHILD_CHECK(write(file, const_cast<char*>(page.data), 1) == 1); });
    page.AwaitFault();
    RunBehindCanary(
        AllowedCpu(0), [&] { CHILD_CHECK(write(file, "x", 1) == 1); }, [&] { page.Supply(); });
    holder.join();
  });
}

TEST(SilentBlock, FileLock) {
  EXPECT_IN_CHILD(kNoCanary, [] {
    const int holder = memfd_create("cmwq-test", MFD_CLOEXEC);
    CHILD_CHECK(holder >= 0);
    const int waiter =
        open(("/proc/self/fd/" + std::to_string(holder)).c_str(), O_RDWR | O_CLOEXEC);
    CHILD_CHECK(waiter >= 0 && flock(holder, LOCK_EX) == 0);
    RunBehindCanary(
        AllowedCpu(0), [&] { CHILD_CHECK(flock(waiter, LOCK_EX) == 0); },
        [&] { CHILD_CHECK(flock(holder, LOCK_UN) == 0); });
  });
}

TEST(SilentBlock, RingOfTheProgram) {
#if __has_include(<liburing.h>)
  EXPECT_IN_CHILD("io_uring or SCHED_IDLE is refused here", [] {
    struct io_uring ring;
    if (io_uring_queue_init(4, &ring, 0) != 0) _exit(kSkipped);
    Pipe pipe;
    char byte;
    RunBehindCanary(
        AllowedCpu(0),
        [&] {
          io_uring_prep_read(io_uring_get_sqe(&ring), pipe.in(), &byte, 1, 0);
          CHILD_CHECK(io_uring_submit_and_wait(&ring, 1) == 1);
        },
        [&] { pipe.Put(); });
  });
#else
  GTEST_SKIP() << "no liburing here";
#endif
}

}  // namespace
}  // namespace cmwq::test
