// Ground truth: who really blocked. For those who ask for it by switches= in CMWQ_CONF.

#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hooks/detect/perf_ring.h"
#include "runtime/base/conf.h"
#include "tools/common/text.h"
#include "tools/doctor/attempt.h"
#include "tools/doctor/checks.h"
#include "tools/doctor/umcg.h"

namespace cmwq::tools::doctor {
namespace {

constexpr int kStageMap = 1;

// A worker's own ring.
int TrySwitchRecords(int* stage) {
  detect::PerfRing ring;
  const char* what = "";
  const int error = ring.Open(&what);
  if (error != 0 && what[0] == 'm') *stage = kStageMap;
  return -error;
}

// Who will count switches, and why.
void SayCounter(const base::Conf& conf, bool perf, Findings* findings) {
  if (conf.switches == base::kSwitchesOff) {
    findings->WillUse("switches", "not counted", "CMWQ_CONF does not ask for it");
  } else if (conf.switches == base::kSwitchesRusage) {
    findings->WillUse("switches", "getrusage", "as CMWQ_CONF asks");
  } else if (conf.switches == base::kSwitchesPerf) {
    findings->WillUse("switches", perf ? "perf" : "getrusage",
                      perf ? "switch records are granted" : "perf_event_open is refused");
  } else if (getenv("CMWQ_BPF") == nullptr) {
    findings->WillUse("switches", "getrusage", "CMWQ_BPF names no program: cmwq-bpf run or serve does");
  } else {
    findings->WillUse("switches", "bpf", "if the program that CMWQ_BPF names answers");
  }
}

void CheckPerf(const Root& root, Findings* findings) {
  const Attempt attempt = TryInChild(&TrySwitchRecords);
  const base::Conf conf = AskedFor();
  SayCounter(conf, attempt.granted(), findings);
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
  const bool asked = conf.switches == base::kSwitchesPerf;
  findings->Add("perf", asked ? Status::kWarn : Status::kNote,
                Describe(attempt) + ": switches can be counted by getrusage only", hint);
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
    findings->Ok("bpf", StrPrintf("tracing programs load, %s; cmwq-bpf run -- COMMAND uses them",
                                  btf ? "BTF is there" : "no BTF"));
    return;
  }
  const std::string container = ContainerName(root);
  std::string hint = "have cmwq-bpf serve run by root, or with CAP_BPF and CAP_PERFMON";
  if (container == "docker" || container == "podman") {
    hint = container + " run --cap-add BPF --cap-add PERFMON, or cmwq-bpf serve outside";
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
