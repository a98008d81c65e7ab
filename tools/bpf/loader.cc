#include "tools/bpf/loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf_program.h>  // made by embed.py
#include "hooks/detect/bpf_abi.h"
#include "tools/common/text.h"

namespace cmwq::tools {
namespace {

constexpr ino_t kFirstPidNamespace = 0xEFFFFFFC;  // PROC_PID_INIT_INO of the kernel
constexpr int kDoorbellBytes = 65536;             // a multiple of every page size that there is

std::string g_log;  // what libbpf said last

int KeepLog(enum libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN) return 0;
  char line[1024];
  const int n = vsnprintf(line, sizeof(line), format, arguments);
  if (n > 0) g_log.append(line, strnlen(line, sizeof(line)));
  return 0;
}

int Fail(int err, const char* what, const char* hint, std::string* error) {
  *error = StrPrintf("%s: %s%s%s", what, strerror(err), *hint != '\0' ? "; " : "", hint);
  // Of a refusal libbpf only guesses at the reasons.
  if (!g_log.empty() && err != EPERM) *error += "\n" + g_log;
  return err != 0 ? err : EINVAL;
}

const char* HintFor(int err) {
  switch (err) {
    case EPERM:
    case EACCES:
      return "CAP_BPF and CAP_PERFMON are needed, and a container must be given them";
    case ENOENT:
    case ESRCH:
    case EINVAL:
      return "Linux 5.18 or later with CONFIG_DEBUG_INFO_BTF is needed";
    default:
      return "";
  }
}

// The target's number is compared with the kernel's own.
bool InFirstPidNamespace() {
  struct stat st;
  return stat("/proc/self/ns/pid", &st) == 0 && st.st_ino == kFirstPidNamespace;
}

// The process's threads have numbers of their own in a namespace below the first.
bool InNestedPidNamespace(pid_t tgid) {
  const std::string status = ReadFile(StrPrintf("/proc/%d/status", tgid));
  const size_t at = status.find("\nNSpid:\t");
  if (at == std::string::npos) return false;
  const std::string line = status.substr(at + 8, status.find('\n', at + 1) - at - 8);
  return Split(line, '\t').size() > 1;
}

}  // namespace

BpfProgram::~BpfProgram() {
  for (const int fd : doorbells_) close(fd);
  bpf_link__destroy(link_);
  bpf_object__close(object_);
}

int BpfProgram::Load(pid_t tgid, std::string* error) {
  g_log.clear();
  libbpf_set_print(&KeepLog);
  if (!InFirstPidNamespace()) {
    *error = "this is not the first pid namespace: start it outside of the container";
    return EXDEV;
  }
  object_ = bpf_object__open_mem(kProgram, sizeof(kProgram), nullptr);
  if (object_ == nullptr) return Fail(errno, "the program cannot be read", "", error);
  struct bpf_map* const constants = bpf_object__find_map_by_name(object_, ".rodata");
  const int values[2] = {tgid, InNestedPidNamespace(tgid) ? 1 : 0};  // target_tgid, target_nested
  if (constants == nullptr || bpf_map__set_initial_value(constants, values, sizeof(values)) != 0) {
    return Fail(EINVAL, "the program has no place for the process", "", error);
  }
  if (const int err = bpf_object__load(object_)) {
    return Fail(-err, "the kernel refuses the program", HintFor(-err), error);
  }
  struct bpf_program* const program = bpf_object__find_program_by_name(object_, "on_sched_switch");
  link_ = program != nullptr ? bpf_program__attach(program) : nullptr;
  if (link_ == nullptr) {
    const int err = errno;
    return Fail(err, "the program cannot be attached", HintFor(err), error);
  }
  slots_ = bpf_object__find_map_fd_by_name(object_, "slots");
  controls_ = bpf_object__find_map_fd_by_name(object_, "controls");
  const int outer = bpf_object__find_map_fd_by_name(object_, "doorbells");
  const long cpus = sysconf(_SC_NPROCESSORS_CONF);
  for (int cpu = 0; cpu < cpus && cpu < CMWQ_BPF_MAX_CPUS; ++cpu) {
    const int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "doorbell", 0, 0, kDoorbellBytes, nullptr);
    if (fd < 0) return Fail(errno, "a ring buffer cannot be made", HintFor(errno), error);
    doorbells_.push_back(fd);
    if (bpf_map_update_elem(outer, &cpu, &fd, BPF_ANY) != 0) {
      return Fail(errno, "a ring buffer cannot be entered", "", error);
    }
  }
  return 0;
}

std::vector<int> BpfProgram::descriptors() const {
  std::vector<int> fds = {slots_, controls_, bpf_link__fd(link_)};
  fds.insert(fds.end(), doorbells_.begin(), doorbells_.end());
  return fds;
}

int SendHello(int socket, const BpfProgram& program, int error) {
  cmwq_bpf_hello hello = {CMWQ_BPF_VERSION, 0, CMWQ_BPF_SLOTS, static_cast<unsigned>(error)};
  std::vector<int> fds;
  if (error == 0) fds = program.descriptors();
  if (error == 0) hello.nr_doorbells = static_cast<unsigned>(fds.size()) - 3;
  struct iovec part = {&hello, sizeof(hello)};
  struct msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    struct cmsghdr* const c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    memcpy(CMSG_DATA(c), fds.data(), fds.size() * sizeof(int));
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL) == sizeof(hello) ? 0 : errno;
}

}  // namespace cmwq::tools
