// CPUs: which ones, and how much of them.

#include <errno.h>
#include <string.h>

#include "runtime/platform/cpu_set.h"
#include "tools/common/text.h"
#include "tools/doctor/checks.h"

namespace cmwq::tools::doctor {
namespace {

using platform::CpuSet;

std::string ListOf(const CpuSet& cpus) {
  char text[256];
  cpus.Format(text, sizeof text);
  return text;
}

void CheckQuota(const Root& root, int cpus, Findings* findings) {
  const std::optional<CpuQuota> quota = FindCpuQuota(root, "self");
  if (!quota.has_value()) {
    findings->Ok("cpu quota", "none");
  } else if (quota->cpus >= cpus) {
    findings->Ok("cpu quota", StrPrintf("%.2f CPUs, as many as are usable", quota->cpus));
  } else {
    findings->Add(
        "cpu quota", Status::kWarn,
        StrPrintf("%.2f CPUs' time on %d CPUs: all threads stop when it is used up", quota->cpus,
                  cpus),
        StrPrintf("give whole CPUs instead: taskset, docker run --cpuset-cpus, or raise %s",
                  quota->where.c_str()));
  }
}

void CheckIdleGroup(const Root& root, Findings* findings) {
  for (const std::string& folder : FindCgroup(root, "self", "cpu").folders) {
    if (root.Number(folder + "/cpu.idle") != 1) continue;
    findings->Add("cpu.idle", Status::kWarn, "the whole group has idle priority",
                  "echo 0 > " + folder + "/cpu.idle");
    return;
  }
  findings->Ok("cpu.idle", "the group has its normal share");
}

// CPUs that the scheduler leaves alone (isolcpus=) or does not tick on (nohz_full=).
void CheckSpecial(const Root& root, const CpuSet& mine, const char* name, const char* file,
                  const char* meaning, Findings* findings) {
  CpuSet special;
  const std::string list = root.Line(std::string("/sys/devices/system/cpu/") + file).value_or("");
  // The kernel writes "(null)" for none.
  if (!special.Parse(list.c_str()) || (special & mine).Empty()) {
    findings->Ok(name, "none of the usable CPUs");
    return;
  }
  findings->Add(name, Status::kNote, "CPUs " + ListOf(special & mine) + ": " + meaning);
}

}  // namespace

void CheckCpus(const Root& root, Findings* findings) {
  CpuSet mine;
  const int err = mine.LoadAffinity(0);
  if (err != 0) {
    findings->Add("cpus", Status::kWarn,
                  StrPrintf("sched_getaffinity: %s; only the current CPU is used", strerror(-err)),
                  SeccompHint(root, "sched_getaffinity"));
    mine.Add(platform::CurrentCpu());
  } else {
    CpuSet online;
    const std::string all = root.Line("/sys/devices/system/cpu/online").value_or("");
    const int total = online.Parse(all.c_str()) ? online.Count() : mine.Count();
    findings->Ok("cpus", StrPrintf("%d of %d usable (affinity and cpuset): %s", mine.Count(), total,
                                   ListOf(mine).c_str()));
  }
  CheckQuota(root, mine.Count(), findings);
  CheckIdleGroup(root, findings);
  CheckSpecial(root, mine, "isolated cpus", "isolated",
               "threads are not moved there or away by the scheduler", findings);
  CheckSpecial(root, mine, "nohz cpus", "nohz_full",
               "more than one thread there brings the scheduler's tick back", findings);
}

}  // namespace cmwq::tools::doctor
