// One page that is missing until somebody supplies it, for user code and for system calls that read
// it.

#ifndef CMWQ_BENCH_USER_FAULT_H_
#define CMWQ_BENCH_USER_FAULT_H_

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

namespace cmwq::bench {

class UserFault {
 public:
  static constexpr size_t kPage = 4096;

  // Not usable() where the kernel refuses it: no CAP_SYS_PTRACE and vm.unprivileged_userfaultfd=0.
  UserFault() {
    fd_ = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
    if (fd_ < 0) return;
    page_ = static_cast<char*>(
        mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    uffdio_api api = {};
    api.api = UFFD_API;
    uffdio_register area = {};
    area.range = Range();
    area.mode = UFFDIO_REGISTER_MODE_MISSING;
    if (page_ != MAP_FAILED && ioctl(fd_, UFFDIO_API, &api) == 0 &&
        ioctl(fd_, UFFDIO_REGISTER, &area) == 0) {
      return;
    }
    close(fd_);
    fd_ = -1;
  }
  UserFault(UserFault&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), page_(std::exchange(other.page_, nullptr)) {}
  UserFault& operator=(UserFault&&) = delete;
  ~UserFault() {
    if (fd_ >= 0) close(fd_);
    if (page_ != nullptr && page_ != MAP_FAILED) munmap(page_, kPage);
  }

  bool usable() const { return fd_ >= 0; }
  char* page() const { return page_; }

  bool Remove() {
    uffd_msg stale;
    while (read(fd_, &stale, sizeof(stale)) > 0) {
    }
    return madvise(page_, kPage, MADV_DONTNEED) == 0;
  }
  // Waits until somebody stands before the missing page.
  bool WaitForFault(int ms) const {
    pollfd one = {fd_, POLLIN, 0};
    return poll(&one, 1, ms) == 1;
  }
  // Lets whoever waits go on. Fails if the page is there already.
  bool Supply() {
    uffdio_zeropage zero = {};
    zero.range = Range();
    return ioctl(fd_, UFFDIO_ZEROPAGE, &zero) == 0;
  }

 private:
  uffdio_range Range() const { return {reinterpret_cast<uintptr_t>(page_), kPage}; }

  int fd_ = -1;
  char* page_ = nullptr;
};

}  // namespace cmwq::bench

#endif  // CMWQ_BENCH_USER_FAULT_H_
