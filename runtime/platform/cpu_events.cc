#include "runtime/platform/cpu_events.h"

#include <linux/netlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "runtime/base/sys.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

namespace cmwq::platform {
namespace {

constexpr unsigned kKernelGroup = 1;  // udev's own messages come in group 2

// `text` starts with `prefix`.
bool Starts(const char* text, const char* end, const char* prefix) {
  const size_t n = strlen(prefix);
  return static_cast<size_t>(end - text) >= n && memcmp(text, prefix, n) == 0;
}

}  // namespace

CpuEvent ParseUevent(const char* message, size_t size) {
  const char* const end = message + size;
  const auto* const at = static_cast<const char*>(memchr(message, '@', size));
  if (at == nullptr || memchr(message, '\0', static_cast<size_t>(at - message)) != nullptr) {
    return CpuEvent::kOther;
  }
  constexpr char kCpus[] = "@/devices/system/cpu/cpu";
  if (!Starts(at, end, kCpus)) return CpuEvent::kOther;
  const char* const number = at + sizeof(kCpus) - 1;
  if (number >= end || *number < '0' || *number > '9') return CpuEvent::kOther;  // cpufreq, cpuidle
  return CpuEvent::kCpus;
}

int Uevents::OpenHere(int buffer) {
  const long fd = base::Sys(SYS_socket, AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
  if (fd < 0) return static_cast<int>(fd);
  if (buffer != 0) base::Sys(SYS_setsockopt, fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
  struct sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = kKernelGroup;
  const long err = base::Sys(SYS_bind, fd, &address, sizeof(address));
  if (err < 0) {
    base::SysClose(static_cast<int>(fd));
    return static_cast<int>(err);
  }
  fd_ = static_cast<int>(fd);
  return 0;
}

void Uevents::Close() {
  base::SysClose(fd_);
  fd_ = -1;
}

bool Uevents::Open() {
  // Without a table of our own the number could be the program's at any moment.
  if (base::Sys(SYS_close_range, 0, ~0u, CLOSE_RANGE_UNSHARE) < 0) return false;
  return OpenHere(0) == 0;
}

// Who is no kernel may send to the group too, with the right capability; its port is not 0 then. More is
// not asked, for all that an event does is to make us look: nothing in it is believed.
CpuEvent Uevents::Wait() {
  char message[2048];  // of longer ones the start suffices
  struct sockaddr_nl sender = {};
  struct iovec part = {message, sizeof(message)};
  struct msghdr header = {};
  header.msg_name = &sender;
  header.msg_namelen = sizeof(sender);
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  const long n = base::Sys(SYS_recvmsg, fd_, &header, 0);
  if (n == -ENOBUFS) return CpuEvent::kLost;
  if (n == -EINTR || n == -EAGAIN || n == -ENOMEM) return CpuEvent::kOther;
  if (n < 0) return CpuEvent::kEnd;
  if (header.msg_namelen != sizeof(sender) || sender.nl_family != AF_NETLINK || sender.nl_pid != 0) {
    return CpuEvent::kOther;
  }
  return ParseUevent(message, static_cast<size_t>(n));
}

}  // namespace cmwq::platform
