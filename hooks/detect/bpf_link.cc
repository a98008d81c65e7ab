#include "hooks/detect/bpf_link.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "hooks/detect/bpf_source.h"
#include "runtime/base/conf.h"
#include "runtime/base/raw_log.h"
#include "runtime/base/sys.h"

namespace cmwq::detect {
namespace {

constexpr size_t kSlotBytes = sizeof(cmwq_bpf_slot) * CMWQ_BPF_SLOTS;
constexpr size_t kControlBytes = sizeof(cmwq_bpf_control) * CMWQ_BPF_MAX_CPUS;
constexpr int kFixed = 3;           // slots, controls, link
constexpr int kReplySeconds = 10;   // to load a program; arbitrary

// A number that is the whole text, or -1.
int Number(const char* text) {
  int n = 0;
  if (*text == '\0') return -1;
  for (; *text != '\0'; ++text) {
    if (*text < '0' || *text > '9' || n > 1'000'000) return -1;
    n = n * 10 + (*text - '0');
  }
  return n;
}

long Connect(const char* path) {
  struct sockaddr_un to = {};
  to.sun_family = AF_UNIX;
  if (strlen(path) >= sizeof(to.sun_path)) return -ENAMETOOLONG;
  strcpy(to.sun_path, path);
  const long fd = base::Sys(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return fd;
  const long err = base::Sys(SYS_connect, fd, &to, sizeof(to));
  if (err == 0) return fd;
  base::SysClose(static_cast<int>(fd));
  return err;
}

// Spreads the descriptors of one message; false if they are not as announced.
bool TakeHandles(const struct msghdr& message, const cmwq_bpf_hello& hello, BpfHandles* handles) {
  int fds[kFixed + CMWQ_BPF_MAX_CPUS];
  size_t n = 0;
  for (struct cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr;
       c = CMSG_NXTHDR(const_cast<struct msghdr*>(&message), c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    if (n > sizeof(fds) / sizeof(fds[0])) n = sizeof(fds) / sizeof(fds[0]);
    memcpy(fds, CMSG_DATA(c), n * sizeof(int));
  }
  if (n >= kFixed) {
    handles->slots = fds[0];
    handles->controls = fds[1];
    handles->link = fds[2];
    handles->nr_doorbells = static_cast<int>(n) - kFixed;
    memcpy(handles->doorbell, fds + kFixed, handles->nr_doorbells * sizeof(int));
  } else {
    for (size_t i = 0; i < n; ++i) base::SysClose(fds[i]);
  }
  return n == kFixed + hello.nr_doorbells;
}

int Receive(int socket, BpfHandles* handles, const char** what) {
  const struct timeval limit = {kReplySeconds, 0};
  base::Sys(SYS_setsockopt, socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  cmwq_bpf_hello hello = {};
  alignas(struct cmsghdr) char control[CMSG_SPACE((kFixed + CMWQ_BPF_MAX_CPUS) * sizeof(int))];
  struct iovec part = {&hello, sizeof(hello)};
  struct msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  long n;
  do {
    n = base::Sys(SYS_recvmsg, socket, &message, MSG_CMSG_CLOEXEC);
  } while (n == -EINTR);
  *what = "no answer from the loader";
  if (n < 0) return static_cast<int>(-n);
  if (n == 0) return ECONNRESET;
  const bool whole = TakeHandles(message, hello, handles);
  *what = "the loader speaks another version";
  if (n != sizeof(hello) || hello.version != CMWQ_BPF_VERSION) return EPROTO;
  *what = "the loader was refused the program";
  if (hello.error != 0) return static_cast<int>(hello.error);
  *what = "the loader's message came without its descriptors (limit of open files?)";
  return whole && hello.slots == CMWQ_BPF_SLOTS && (message.msg_flags & MSG_CTRUNC) == 0 ? 0
                                                                                         : EPROTO;
}

void* MapShared(int fd, size_t bytes) {
  const long p = base::Sys(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return p > 0 ? reinterpret_cast<void*>(p) : nullptr;
}

}  // namespace

int ReceiveBpf(const char* where, BpfHandles* handles, const char** what) {
  *handles = BpfHandles();
  const bool inherited = strncmp(where, "fd:", 3) == 0;
  *what = "CMWQ_BPF names no socket";
  const long socket = inherited ? Number(where + 3) : Connect(where);
  if (socket < 0) return inherited ? EINVAL : static_cast<int>(-socket);
  const int err = Receive(static_cast<int>(socket), handles, what);
  if (err != 0) CloseBpf(handles);
  // A number that is no socket is not ours to close.
  if (err != ENOTSOCK && err != EBADF) base::SysClose(static_cast<int>(socket));
  return err;
}

void CloseBpf(BpfHandles* handles) {
  for (int i = 0; i < handles->nr_doorbells; ++i) base::SysClose(handles->doorbell[i]);
  for (const int fd : {handles->slots, handles->controls, handles->link}) {
    if (fd >= 0) base::SysClose(fd);
  }
  *handles = BpfHandles();
}

bool MapBpf(const BpfHandles& handles, BpfMemory* memory) {
  memory->slots = static_cast<cmwq_bpf_slot*>(MapShared(handles.slots, kSlotBytes));
  memory->controls = static_cast<cmwq_bpf_control*>(MapShared(handles.controls, kControlBytes));
  if (memory->slots != nullptr && memory->controls != nullptr) return true;
  UnmapBpf(memory);
  return false;
}

void UnmapBpf(BpfMemory* memory) {
  if (memory->slots != nullptr) base::Sys(SYS_munmap, memory->slots, kSlotBytes);
  if (memory->controls != nullptr) base::Sys(SYS_munmap, memory->controls, kControlBytes);
  *memory = BpfMemory();
}

cmwq_bpf_slot* ClaimSlot(const BpfMemory& memory, int tid, int cpu) {
  // Its number may have been a thread's that ended without a word.
  cmwq_bpf_slot* slot = FindSlot(memory, tid);
  for (int i = 0; slot == nullptr && i < CMWQ_BPF_PROBES; ++i) {
    cmwq_bpf_slot* const at = &memory.slots[(tid + i) & (CMWQ_BPF_SLOTS - 1)];
    unsigned seen = __atomic_load_n(&at->tid, __ATOMIC_RELAXED);
    if (seen != 0 && seen != CMWQ_BPF_GONE) continue;
    // The program may find the slot from here on, with what the thread before left in it: the
    // caller takes the difference.
    if (__atomic_compare_exchange_n(&at->tid, &seen, static_cast<unsigned>(tid), false,
                                    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
      slot = at;
    }
  }
  if (slot == nullptr) return nullptr;
  __atomic_store_n(&slot->phase, 0u, __ATOMIC_RELAXED);
  __atomic_store_n(&slot->cpu, static_cast<unsigned>(cpu), __ATOMIC_RELAXED);
  __atomic_store_n(&slot->blocked, 0u, __ATOMIC_RELAXED);
  return slot;
}

void ReleaseSlot(cmwq_bpf_slot* slot) {
  // Release: pairs with the exchange in ClaimSlot.
  __atomic_store_n(&slot->tid, CMWQ_BPF_GONE, __ATOMIC_RELEASE);
}

cmwq_bpf_slot* FindSlot(const BpfMemory& memory, int tid) {
  for (int i = 0; i < CMWQ_BPF_PROBES; ++i) {
    cmwq_bpf_slot* const at = &memory.slots[(tid + i) & (CMWQ_BPF_SLOTS - 1)];
    const unsigned seen = __atomic_load_n(&at->tid, __ATOMIC_ACQUIRE);
    if (seen == static_cast<unsigned>(tid)) return at;
    if (seen == 0) return nullptr;
  }
  return nullptr;
}

namespace {

enum State : int32_t { kUntried, kTrying, kConnected, kRefused };
constinit std::atomic<int32_t> g_state{kUntried};  // AT(ConnectBpf, ConnectBpf); futex
constinit BpfMemory g_memory;                      // I: while g_state is kConnected
constinit bool g_inherited_used = false;           // S: who is in kTrying; "fd:" works once

// Null, or why there is no connection.
const char* TryToConnect(int* err) {
  const char* const where = secure_getenv("CMWQ_BPF");
  *err = 0;
  if (where == nullptr || *where == '\0') return "CMWQ_BPF is not set; start it with cmwq-bpf run";
  if (strncmp(where, "fd:", 3) == 0) {
    if (g_inherited_used)
      return "the socket was the parent's; use cmwq-bpf serve for programs that fork";
    g_inherited_used = true;
  }
  BpfHandles handles;
  const char* what = nullptr;
  *err = ReceiveBpf(where, &handles, &what);
  if (*err != 0) return what;
  BpfMemory memory;
  if (!MapBpf(handles, &memory)) {
    what = "the maps cannot be mapped";
  } else if (!StartBpfHolder(handles)) {
    what = "no thread, or no table of its own, to hold the descriptors";
  } else {
    what = nullptr;
  }
  CloseBpf(&handles);
  if (what == nullptr) {
    g_memory = memory;
  } else {
    UnmapBpf(&memory);
  }
  return what;
}

}  // namespace

const BpfMemory* ConnectBpf() {
  for (;;) {
    int32_t state = g_state.load(std::memory_order_acquire);  // pairs with the store below
    if (state == kConnected) return &g_memory;
    if (state == kRefused) return nullptr;
    if (state == kTrying) {
      base::FutexWait(&g_state, kTrying);
      continue;
    }
    if (!g_state.compare_exchange_strong(state, kTrying, std::memory_order_acquire)) continue;
    int err;
    const char* const why = TryToConnect(&err);
    if (why != nullptr) {
      base::RawLog(base::LogLevel::kWarn,
                   "switches=%s: no BPF program (%s, errno %d); switches are counted by getrusage",
                   base::g_conf.switches == base::kSwitchesExact ? "exact" : "bpf", why, err);
    }
    g_state.store(why == nullptr ? kConnected : kRefused, std::memory_order_release);
    base::FutexWake(&g_state, INT32_MAX);
  }
}

const BpfMemory* ConnectedBpf() {
  // Acquire: pairs with the store in ConnectBpf.
  return g_state.load(std::memory_order_acquire) == kConnected ? &g_memory : nullptr;
}

void ForgetBpf() {
  if (g_state.load(std::memory_order_relaxed) == kConnected) UnmapBpf(&g_memory);
  ForgetBpfSources();
  g_state.store(kUntried, std::memory_order_relaxed);
}

}  // namespace cmwq::detect
