// Ground truth: who really blocked. For measuring; the engine does without.

#include <errno.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools/common/text.h"
#include "tools/doctor/attempt.h"
#include "tools/doctor/checks.h"
#include "tools/doctor/umcg.h"

namespace cmwq::tools::doctor {
namespace {

constexpr int kStageMap = 1;

// Records of context switches of the calling thread, in a small ring.
int TrySwitchRecords(int* stage) {
  struct perf_event_attr attr = {};
  attr.size = sizeof attr;
  attr.type = PERF_TYPE_SOFTWARE;
  attr.config = PERF_COUNT_SW_DUMMY;
  attr.exclude_kernel = 1;
  attr.exclude_hv = 1;
  attr.context_switch = 1;
  const long fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
  if (fd < 0) return -errno;
  *stage = kStageMap;
  const size_t size = static_cast<size_t>(1 + 8) * static_cast<size_t>(getpagesize());
  void* const ring =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, static_cast<int>(fd), 0);
  return ring == MAP_FAILED ? -errno : 0;
}

void CheckPerf(const Root& root, Findings* findings) {
  const Attempt attempt = TryInChild(&TrySwitchRecords);
  const long paranoid = root.Number("/proc/sys/kernel/perf_event_paranoid").value_or(2);
  const long mlock_kb = root.Number("/proc/sys/kernel/perf_event_mlock_kb").value_or(516);
  if (attempt.granted()) {
    findings->Ok("perf",
                 StrPrintf("switch records (paranoid %ld, rings of %ld kB)", paranoid, mlock_kb));
    return;
  }
  std::string hint;
  if (attempt.detail == kStageMap) {
    hint = "sysctl -w kernel.perf_event_mlock_kb=516, or raise ulimit -l";
  } else if (attempt.error == ENOSYS || paranoid <= 2) {
    hint = SeccompHint(root, "perf_event_open");
    if (!ContainerName(root).empty()) hint += " or --cap-add PERFMON";
  } else {
    hint = "sysctl -w kernel.perf_event_paranoid=2, or CAP_PERFMON";
  }
  findings->Add(
      "perf", Status::kNote,
      Describe(attempt) + ": silent blocks cannot be counted against the kernel's records", hint);
}

// The smallest program of the kind that may look at the scheduler.
int TryTracingProgram(int*) {
  const struct bpf_insn code[] = {
      {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0},
      {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
  };
  constexpr char kLicense[] = "MIT";
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT;
  attr.insns = reinterpret_cast<uintptr_t>(code);
  attr.insn_cnt = sizeof code / sizeof code[0];
  attr.license = reinterpret_cast<uintptr_t>(kLicense);
  return syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr) >= 0 ? 0 : -errno;
}

void CheckBpf(const Root& root, Findings* findings) {
  const Attempt attempt = TryInChild(&TryTracingProgram);
  const bool btf = access(root.PathOf("/sys/kernel/btf/vmlinux").c_str(), R_OK) == 0;
  if (attempt.granted()) {
    findings->Ok("bpf",
                 btf ? "tracing programs load, BTF is there" : "tracing programs load, no BTF");
    return;
  }
  const std::string container = ContainerName(root);
  std::string hint = "CAP_BPF and CAP_PERFMON, or root";
  if (container == "docker" || container == "podman") {
    hint = container + " run --cap-add BPF --cap-add PERFMON";
  }
  const long disabled = root.Number("/proc/sys/kernel/unprivileged_bpf_disabled").value_or(0);
  findings->Add("bpf", Status::kNote,
                StrPrintf("%s, unprivileged_bpf_disabled=%ld: no exact counts of switches",
                          Describe(attempt).c_str(), disabled),
                hint);
}

void CheckUmcg(const Root& root, Findings* findings) {
  const UmcgProbe probe = ProbeUmcg(root);
  if (probe.state == Umcg::kPresent) {
    findings->Add("umcg", Status::kNote,
                  probe.evidence + ": this kernel tells of blocks itself; cmwq does not use it");
  } else if (probe.state == Umcg::kAbsent) {
    findings->Ok("umcg", "absent, as in every released kernel (" + probe.evidence + ")");
  } else {
    findings->Add("umcg", Status::kNote, "unknown: " + probe.evidence);
  }
}

}  // namespace

void CheckTracing(const Root& root, Findings* findings) {
  CheckPerf(root, findings);
  CheckBpf(root, findings);
  CheckUmcg(root, findings);
}

}  // namespace cmwq::tools::doctor
