// Page faults and the resolver: blocks that need a set-up of the machine around the process.

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "bench/detection_blocks.h"
#include "bench/harness.h"
#include "bench/user_fault.h"

namespace cmwq::bench {
namespace {

constexpr size_t kPage = 4096;

// A page of a file that is not in the page cache. How long it takes is up to the disk; nobody can
// end it, and a fast one may be through before anybody has noticed.
class DiskFaultBlock final : public Block {
 public:
  explicit DiskFaultBlock(int fd) : fd_(fd) {
    void* const at = mmap(nullptr, kScratchBytes, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) abort();
    map_ = static_cast<char*>(at);
    madvise(map_, kScratchBytes, MADV_RANDOM);  // no read-ahead, no fault-around
    posix_fadvise(fd_, 0, kScratchBytes, POSIX_FADV_DONTNEED);
    // Far apart, so that neither the disk's cache nor the last process's order helps.
    page_ = NowNs() / 1000 % kPages;
  }
  ~DiskFaultBlock() override { munmap(map_, kScratchBytes); }

  void Enter(uint64_t* left) override {
    const volatile char* const at = map_ + page_ * kPage;
    *left = NowNs();
    static_cast<void>(*at);
  }
  void Clear() override {
    madvise(map_ + page_ * kPage, kPage, MADV_DONTNEED);
    posix_fadvise(fd_, static_cast<off_t>(page_ * kPage), kPage, POSIX_FADV_DONTNEED);
  }

 protected:
  bool DoPrepare() override {
    page_ = (page_ + 4099) % kPages;
    unsigned char resident = 1;
    return mincore(map_ + page_ * kPage, kPage, &resident) == 0 && (resident & 1) == 0;
  }

 private:
  static constexpr size_t kPages = kScratchBytes / kPage;
  const int fd_;
  char* map_;
  size_t page_ = 0;
};

// A page that is missing until another thread supplies it: the page fault alone, without a disk.
class UserFaultBlock final : public Block {
 public:
  explicit UserFaultBlock(UserFault fault) : fault_(std::move(fault)) {}
  void Enter(uint64_t* left) override {
    const volatile char* const at = fault_.page();
    *left = NowNs();
    static_cast<void>(*at);
  }

 protected:
  bool DoPrepare() override { return fault_.Remove(); }
  bool DoRelease() override { return fault_.Supply(); }

 private:
  UserFault fault_;
};

// getaddrinfo whose question stays without an answer until another thread gives it: "no such name".
// The stamp is the kernel's of the question's arrival at the server's socket, which on loopback is
// inside the resolver's send; its next call is the poll that blocks. Before that lie some 50 us of
// reading its configuration, which are work, not block.
class ResolverBlock final : public Block {
 public:
  ResolverBlock() : server_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    const sockaddr_in address = {AF_INET, htons(53), {htonl(INADDR_LOOPBACK)}, {}};
    const int on = 1;
    if (bind(server_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
        setsockopt(server_, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) != 0) {
      perror("the resolver's server");
      abort();
    }
  }
  ~ResolverBlock() override { close(server_); }

  void Enter(uint64_t* left) override {
    addrinfo hints = {};
    hints.ai_family = AF_INET;  // one question
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    *left = NowNs();
    if (getaddrinfo("detection.cmwq.example", nullptr, &hints, &found) == 0) freeaddrinfo(found);
  }
  uint64_t Left(uint64_t left) const override { return asked_ != 0 ? asked_ : left; }

 protected:
  bool DoPrepare() override {
    char drop[512];
    while (recv(server_, drop, sizeof(drop), MSG_DONTWAIT) >= 0) {
    }
    asked_ = 0;
    return true;
  }
  bool DoRelease() override {
    unsigned char text[512];
    alignas(cmsghdr) char control[256];
    sockaddr_in from = {};
    iovec part = {text, sizeof(text)};
    msghdr message = {&from, sizeof(from), &part, 1, control, sizeof(control), 0};
    const ssize_t n = recvmsg(server_, &message, MSG_DONTWAIT);
    if (n < 12) return false;
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS) continue;
      timespec arrived, wall;
      memcpy(&arrived, CMSG_DATA(c), sizeof(arrived));
      clock_gettime(CLOCK_REALTIME, &wall);
      const int64_t ago =
          (wall.tv_sec - arrived.tv_sec) * 1'000'000'000 + (wall.tv_nsec - arrived.tv_nsec);
      asked_ = NowNs() - static_cast<uint64_t>(ago);
    }
    text[2] |= 0x80;                                             // an answer:
    text[3] = static_cast<unsigned char>((text[3] & 0xf0) | 3);  // no such name
    return sendto(server_, text, static_cast<size_t>(n), 0, reinterpret_cast<sockaddr*>(&from),
                  sizeof(from)) == n;
  }

 private:
  const int server_;
  uint64_t asked_ = 0;  // of whoever releases, then of the measuring thread
};

bool WriteFile(const char* path, const std::string& text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool good = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  close(fd);
  return good;
}

// `text` in place of the file `path`, for this mount namespace.
bool Cover(const char* path, const char* text) {
  char made[] = "/tmp/cmwq-bench-XXXXXX";
  const int fd = mkostemp(made, O_CLOEXEC);
  if (fd < 0) return false;
  const auto length = static_cast<ssize_t>(strlen(text));
  const bool good = write(fd, text, strlen(text)) == length && fchmod(fd, 0644) == 0 &&
                    mount(made, path, nullptr, MS_BIND, nullptr) == 0;
  close(fd);
  unlink(made);
  return good;
}

std::unique_ptr<Block> MakeDiskFault(const BlockSetup& setup, std::string* why) {
  if (setup.scratch_fd >= 0) return std::make_unique<DiskFaultBlock>(setup.scratch_fd);
  *why = "no scratch file on a disk: --scratch=FOLDER";
  return nullptr;
}
std::unique_ptr<Block> MakeUserFault(const BlockSetup&, std::string* why) {
  UserFault fault;
  if (fault.usable()) return std::make_unique<UserFaultBlock>(std::move(fault));
  *why = "userfaultfd is refused";
  return nullptr;
}
std::unique_ptr<Block> MakeResolver(const BlockSetup& setup, std::string* why) {
  if (setup.own_resolver) return std::make_unique<ResolverBlock>();
  *why = "no namespaces of its own for the resolver";
  return nullptr;
}

}  // namespace

bool OwnResolver() {
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  if (unshare(CLONE_NEWNS | CLONE_NEWNET) != 0) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET) != 0) return false;
    WriteFile("/proc/self/setgroups", "deny");
    WriteFile("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1");
    WriteFile("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1");
  }
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  if (!Cover("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n") ||
      !Cover("/etc/nsswitch.conf", "hosts: dns\n")) {
    return false;
  }
  ifreq request = {};
  strcpy(request.ifr_name, "lo");
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  bool up = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0;
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  up = up && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
  if (fd >= 0) close(fd);
  return up;
}

int MakeScratch(const std::string& folder) {
  struct statfs about;
  if (statfs(folder.c_str(), &about) != 0 || about.f_type == TMPFS_MAGIC ||
      about.f_type == RAMFS_MAGIC) {
    return -1;
  }
  std::string path = folder + "/cmwq-bench-XXXXXX";
  const int fd = mkostemp(path.data(), O_CLOEXEC);
  if (fd < 0) return -1;
  unlink(path.c_str());
  std::vector<char> part(size_t{1} << 20);
  uint32_t random = 1;
  for (size_t done = 0; done < kScratchBytes; done += part.size()) {
    for (char& c : part) c = static_cast<char>((random = random * 1664525 + 1013904223) >> 24);
    if (write(fd, part.data(), part.size()) != static_cast<ssize_t>(part.size())) {
      close(fd);
      return -1;
    }
  }
  fsync(fd);  // only clean pages can be dropped
  return fd;
}

const BlockKind kDiskFault = {"disk_fault", "page fault, disk", &MakeDiskFault};
const BlockKind kUserFault = {"user_fault", "page fault, userfaultfd", &MakeUserFault};
const BlockKind kResolver = {"resolver", "getaddrinfo", &MakeResolver};

}  // namespace cmwq::bench
