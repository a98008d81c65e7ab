// Takes facilities away from the calling process for good, as containers and security modules do: system
// calls by a seccomp filter, /proc by an empty file system over it.

#ifndef CMWQ_TESTS_SUPPORT_REFUSE_H_
#define CMWQ_TESTS_SUPPORT_REFUSE_H_

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

namespace cmwq::test {

#if defined(__x86_64__)
inline constexpr uint32_t kAuditArch = AUDIT_ARCH_X86_64;
#else
inline constexpr uint32_t kAuditArch = AUDIT_ARCH_AARCH64;
#endif

// From here on each of `calls` fails with `error`.
inline bool RefuseCalls(const std::vector<int>& calls, int error) {
  std::vector<struct sock_filter> code = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kAuditArch, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
  };
  for (const int nr : calls) {
    code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(nr), 0, 1));
    code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)));
  }
  code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const struct sock_fprog program = {static_cast<unsigned short>(code.size()), code.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// In a mount namespace of our own, made as root or in a user namespace.
inline bool HideProc() {
  if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  return mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("none", "/proc", "tmpfs", MS_NOSUID | MS_NODEV, nullptr) == 0;
}

// `list`: names of facilities, separated by commas. False with the reason: this cannot be done here.
// Context: before there are threads.
inline bool RefuseFacilities(const std::string& list, std::string* why) {
  const struct {
    const char* name;
    std::vector<int> calls;
  } kinds[] = {
      {"affinity", {SYS_sched_setaffinity}},
      {"bpf", {SYS_bpf}},
      {"io_uring", {SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register}},
      {"perf", {SYS_perf_event_open}},
      {"proc", {}},
      {"sched_idle", {SYS_sched_setattr, SYS_sched_setscheduler}},
  };
  std::vector<int> calls;
  std::istringstream names(list);
  for (std::string name; std::getline(names, name, ',');) {
    bool known = false;
    for (const auto& kind : kinds) {
      if (name != kind.name) continue;
      known = true;
      calls.insert(calls.end(), kind.calls.begin(), kind.calls.end());
    }
    if (!known) {
      *why = "no facility is called " + name;
      return false;
    }
    if (name == "proc" && !HideProc()) {
      *why = std::string("cannot mount over /proc: ") + strerror(errno);
      return false;
    }
  }
  if (!calls.empty() && !RefuseCalls(calls, EPERM)) {
    *why = std::string("no seccomp filter: ") + strerror(errno);
    return false;
  }
  return true;
}

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_SUPPORT_REFUSE_H_
