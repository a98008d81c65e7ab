// A running process: is cmwq in it, and what does it use?

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <string.h>

#include <vector>

#include "tools/common/text.h"
#include "tools/doctor/checks.h"

namespace cmwq::tools::doctor {
namespace {

struct Threads {
  int workers = 0;         // wq/0:1, wq/u5:0
  int canaries = 0;        // wq/C0 at idle priority
  int away = 0;            // wq/C0-away: another CPU is all it could have
  int unknown = 0;         // wq/C0 whose class cannot be asked for
  bool event = false;      // wq/event
  bool gate_tick = false;  // wq/tick
  int others = 0;
};

std::vector<std::string> ListFolder(const std::string& path) {
  std::vector<std::string> names;
  DIR* const folder = opendir(path.c_str());
  if (folder == nullptr) return names;
  while (const dirent* entry = readdir(folder)) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  closedir(folder);
  return names;
}

// The engine names its threads: runtime/pool/worker.cc, hooks/detect/canary.cc, hooks/gate/tick.cc.
void CountThread(const std::string& name, pid_t tid, Threads* threads) {
  if (name.compare(0, 3, "wq/") != 0) {
    ++threads->others;
  } else if (name == "wq/event") {
    threads->event = true;
  } else if (name == "wq/tick") {
    threads->gate_tick = true;
  } else if (name.compare(0, 4, "wq/C") == 0) {
    const bool away = name.size() > 5 && name.compare(name.size() - 5, 5, "-away") == 0;
    const int policy = sched_getscheduler(tid);
    // At any other priority it is about to ask for the class, or to end because it was refused.
    if (away) {
      ++threads->away;
    } else if (policy < 0) {
      ++threads->unknown;
    } else if (policy == SCHED_IDLE) {
      ++threads->canaries;
    }
  } else {
    ++threads->workers;
  }
}

Threads CountThreads(const Root& root, const std::string& proc) {
  Threads threads;
  for (const std::string& tid : ListFolder(root.PathOf(proc + "/task"))) {
    long number = 0;
    if (!ParseInt(tid, 1, 1L << 30, &number)) continue;
    const std::string name = root.Line(proc + "/task/" + tid + "/comm").value_or("");
    CountThread(name, static_cast<pid_t>(number), &threads);
  }
  return threads;
}

std::string StatusField(const std::string& status, const std::string& key) {
  for (const std::string& line : Split(status, '\n')) {
    if (line.compare(0, key.size() + 2, key + ":\t") == 0) return line.substr(key.size() + 2);
  }
  return {};
}

void CheckLoaded(const Root& root, const std::string& proc, Findings* findings) {
  const std::optional<std::string> readable = root.Line(proc + "/maps");
  if (!readable.has_value()) {
    findings->Add("pid libraries", Status::kWarn, "its memory map cannot be read",
                  "ask as its user or as root");
    return;
  }
  const std::string maps = root.Text(proc + "/maps");
  const bool preload = maps.find("libcmwq-preload.so") != std::string::npos;
  const bool library = maps.find("libcmwq.so") != std::string::npos;
  if (!preload && !library) {
    findings->Add("pid libraries", Status::kWarn, "neither the preload nor libcmwq is loaded",
                  "start it with 'cmwq run'; 'cmwq doctor --target' says what is against it");
    return;
  }
  findings->Ok("pid libraries", preload && library ? "the preload and libcmwq"
                                : preload          ? "the preload"
                                                   : "libcmwq");
  std::string environment = root.Text(proc + "/environ");
  for (const std::string& entry : Split(environment, '\0')) {
    if (entry != "CMWQ_DISABLE=1") continue;
    findings->Add("pid CMWQ_DISABLE", Status::kWarn, "it was started with cmwq switched off",
                  "start it without CMWQ_DISABLE");
  }
}

void CheckRungs(const Root& root, const std::string& proc, Findings* findings) {
  const Threads threads = CountThreads(root, proc);
  std::string text = StrPrintf("%d of the program", threads.others);
  if (threads.workers > 0) text += StrPrintf(", %d workers", threads.workers);
  if (threads.event) text += ", the event thread";
  if (threads.gate_tick) text += ", the gate's tick";
  findings->Ok("pid threads", text);
  if (threads.away > 0) {
    findings->Add("pid detector", Status::kWarn,
                  StrPrintf("%d away from its CPU: tick", threads.away),
                  "'cmwq doctor' in the same container says what is refused");
  } else if (threads.canaries > 0) {
    findings->Ok("pid detector", StrPrintf("%d at idle priority: canary", threads.canaries));
  } else if (threads.unknown > 0) {
    findings->Add("pid detector", Status::kNote, "its scheduling class cannot be asked for");
  } else {
    findings->Add("pid detector", Status::kNote,
                  "no canary; nothing was managed so far, or canary=0 or 2, or the tick looks because "
                  "SCHED_IDLE is refused");
  }
}

}  // namespace

void CheckProcess(const Root& root, pid_t pid, Findings* findings) {
  const std::string proc = StrPrintf("/proc/%d", pid);
  const std::string status = root.Text(proc + "/status");
  if (status.empty()) {
    findings->Add("pid", Status::kFail,
                  root.Exists("/proc/self/status")
                      ? StrPrintf("there is no process %d to be seen", pid)
                      : "/proc is not mounted or hidden");
    return;
  }
  findings->Ok("pid", StrPrintf("%d, %s, CPUs %s", pid, StatusField(status, "Name").c_str(),
                                StatusField(status, "Cpus_allowed_list").c_str()));
  CheckLoaded(root, proc, findings);
  CheckRungs(root, proc, findings);
  const std::string seccomp = StatusField(status, "Seccomp");
  if (seccomp == "0" || seccomp.empty()) {
    findings->Ok("pid seccomp", "no filter");
  } else {
    findings->Add("pid seccomp", Status::kNote, "mode " + seccomp + ": calls may be refused to it");
  }
  const std::optional<CpuQuota> quota = FindCpuQuota(root, StrPrintf("%d", pid));
  if (quota.has_value()) {
    findings->Add("pid cpu quota", Status::kNote,
                  StrPrintf("%.2f CPUs (%s)", quota->cpus, quota->where.c_str()));
  } else {
    findings->Ok("pid cpu quota", "none");
  }
}

}  // namespace cmwq::tools::doctor
