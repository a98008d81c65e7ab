// What the environment says, and whether libc and the preload fit.

#include <gnu/libc-version.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include <vector>

#include "runtime/base/conf.h"
#include "runtime/base/raw_log.h"
#include "tools/common/elf_inspect.h"
#include "tools/common/preload_path.h"
#include "tools/common/text.h"
#include "tools/doctor/attempt.h"
#include "tools/doctor/checks.h"

namespace cmwq::tools::doctor {
namespace {

// The preload's own requirement (hooks/preload/inert.cc).
constexpr long kOldestGlibcMinor = 31;

// What ParseConf complains about; one thread.
std::vector<std::string> g_complaints;

void KeepComplaint(const char* line, size_t length) {
  std::string text(line, length);
  constexpr std::string_view kPrefix = "cmwq: CMWQ_CONF: ";
  if (text.compare(0, kPrefix.size(), kPrefix) == 0) text.erase(0, kPrefix.size());
  if (!text.empty() && text.back() == '\n') text.pop_back();
  g_complaints.push_back(std::move(text));
}

void CheckConf(Findings* findings) {
  const char* const text = getenv("CMWQ_CONF");
  if (text == nullptr || *text == '\0') {
    findings->Ok("CMWQ_CONF", "not set: defaults");
    return;
  }
  base::Conf conf;
  g_complaints.clear();
  base::SetLogLevel(base::LogLevel::kWarn);
  base::SetLogSink(&KeepComplaint);
  base::ParseConf(text, &conf);
  base::SetLogSink(nullptr);
  base::SetLogLevel(base::LogLevel::kWarn);
  if (g_complaints.empty()) {
    findings->Ok("CMWQ_CONF", StrPrintf("valid: %s", text));
    return;
  }
  std::string all;
  for (const std::string& complaint : g_complaints) all += (all.empty() ? "" : "; ") + complaint;
  findings->Add("CMWQ_CONF", Status::kWarn, all, "'Settings' in the README lists the keys");
}

void CheckDisable(Findings* findings) {
  const char* const value = getenv("CMWQ_DISABLE");
  if (value == nullptr) {
    findings->Ok("CMWQ_DISABLE", "not set");
  } else if (strcmp(value, "1") == 0) {
    findings->Add("CMWQ_DISABLE", Status::kWarn, "1: the preload does nothing",
                  "unset CMWQ_DISABLE");
  } else {
    findings->Add("CMWQ_DISABLE", Status::kNote, StrPrintf("%s: only 1 has a meaning", value));
  }
}

void CheckLibc(Findings* findings) {
  const char* const version = gnu_get_libc_version();
  const std::vector<std::string> parts = Split(version, '.');
  long minor = 0;
  const bool known = parts.size() >= 2 && parts[0] == "2" && ParseInt(parts[1], 0, 1000, &minor);
  if (known && minor >= kOldestGlibcMinor) {
    findings->Ok("libc", StrPrintf("glibc %s", version));
  } else {
    findings->Add("libc", Status::kFail, StrPrintf("glibc %s: the preload stays inert", version),
                  StrPrintf("glibc 2.%ld or later", kOldestGlibcMinor));
  }
}

// Loads it in earnest, into this very program. Empty: it works; else the loader's or its own words.
std::string TryPreload(const std::string& preload) {
  const std::string said = OutputOf({SelfPath(), "--version"}, {{"LD_PRELOAD", preload},
                                                                {"CMWQ_CONF", ""},
                                                                {"CMWQ_DISABLE", ""},
                                                                {"CMWQ_QUIET", ""},
                                                                {"CMWQ_REPORT", ""}});
  bool started = false;
  for (const std::string& line : Split(said, '\n')) {
    if (line.compare(0, 5, "cmwq ") == 0) {
      started = true;
    } else if (!line.empty()) {
      return line;
    }
  }
  return started ? "" : "no program starts with it";
}

void CheckPreload(Findings* findings) {
  std::string error;
  const std::string preload = FindPreload(&error);
  if (preload.empty()) {
    findings->Add("preload", Status::kFail, error, "build it, or use the library only");
    return;
  }
  const ElfFacts self = ReadElfFacts(SelfPath()), facts = ReadElfFacts(preload);
  if (!facts.is_elf || !facts.has_segments) {
    findings->Add("preload", Status::kFail, preload + " is damaged", "install it anew");
    return;
  }
  if (self.is_elf && (self.machine != facts.machine || self.elf_class != facts.elf_class)) {
    findings->Add("preload", Status::kFail, preload + " is for another machine",
                  "build it for this one");
    return;
  }
  const std::string complaint = TryPreload(preload);
  if (complaint.empty()) {
    findings->Ok("preload", preload);
  } else {
    const bool inert = complaint.compare(0, 13, "cmwq: inert: ") == 0;
    findings->Add("preload", inert ? Status::kWarn : Status::kFail, preload + ": " + complaint);
  }
}

void CheckOtherPreloads(Findings* findings) {
  const char* const text = getenv("LD_PRELOAD");
  if (text == nullptr || *text == '\0') {
    findings->Ok("LD_PRELOAD", "not set; 'cmwq run' sets it");
    return;
  }
  std::string list = text;
  for (char& c : list) {
    if (c == ':') c = ' ';
  }
  bool first = true, ours_later = false;
  std::string others, sanitizer;
  for (const std::string& entry : Split(list, ' ')) {
    if (entry.empty()) continue;
    const std::string name = Basename(entry);
    if (name == "libcmwq-preload.so") {
      ours_later = !first;
    } else {
      others += (others.empty() ? "" : ", ") + name;
      for (const char* const word : {"asan", "tsan", "msan", "vgpreload"}) {
        if (name.find(word) != std::string::npos) sanitizer = name;
      }
    }
    first = false;
  }
  if (!sanitizer.empty()) {
    findings->Add("LD_PRELOAD", Status::kWarn, sanitizer + ": cmwq stays inert beside it");
  } else if (ours_later) {
    findings->Add("LD_PRELOAD", Status::kWarn,
                  others + ": loaded ahead of cmwq, and hides its waits",
                  "name libcmwq-preload.so first, or let 'cmwq run' do it");
  } else if (!others.empty()) {
    findings->Add("LD_PRELOAD", Status::kNote, others + ": 'cmwq run' puts cmwq in front");
  } else {
    findings->Ok("LD_PRELOAD", "cmwq only");
  }
}

void CheckSeccomp(const Root& root, Findings* findings) {
  std::string mode = "0";
  for (const std::string& line : Split(root.Text("/proc/self/status"), '\n')) {
    constexpr std::string_view kKey = "Seccomp:\t";
    if (line.compare(0, kKey.size(), kKey) == 0) mode = line.substr(kKey.size());
  }
  if (mode == "0" && !root.Exists("/proc/self/status")) {
    findings->Add("seccomp", Status::kNote, "unknown without /proc");
  } else if (mode == "0") {
    findings->Ok("seccomp", "no filter");
  } else {
    findings->Add("seccomp", Status::kNote, "a filter is active; what it refuses is said above");
  }
}

}  // namespace

base::Conf AskedFor() {
  base::Conf conf;
  base::SetLogSink([](const char*, size_t) {});
  base::ParseConf(getenv("CMWQ_CONF"), &conf);
  base::SetLogSink(nullptr);
  base::SetLogLevel(base::LogLevel::kWarn);
  return conf;
}

std::string ContainerName(const Root& root) {
  if (getenv("KUBERNETES_SERVICE_HOST") != nullptr) return "kubernetes";
  if (root.Exists("/.dockerenv")) return "docker";
  if (root.Exists("/run/.containerenv")) return "podman";
  const std::string cgroups = root.Text("/proc/self/cgroup");
  if (cgroups.find("kubepods") != std::string::npos) return "kubernetes";
  if (cgroups.find("docker") != std::string::npos) return "docker";
  if (cgroups.find("libpod") != std::string::npos) return "podman";
  if (cgroups.find("/lxc") != std::string::npos) return "lxc";
  // Set for the first process of systemd-nspawn, LXC and podman.
  return getenv("container") != nullptr ? "a container" : "";
}

std::string SeccompHint(const Root& root, const std::string& calls) {
  const std::string container = ContainerName(root);
  if (container == "docker" || container == "podman") {
    return container + " run --security-opt seccomp=PROFILE.json with " + calls +
           " allowed, or seccomp=unconfined";
  }
  if (container == "kubernetes") {
    return "securityContext.seccompProfile: type Localhost with " + calls +
           " allowed, or type Unconfined";
  }
  return "a seccomp filter or security module refuses it: allow " + calls +
         " (systemd: SystemCallFilter=)";
}

void CheckSettings(const Root& root, Findings* findings) {
  const std::string container = ContainerName(root);
  if (container.empty()) {
    findings->Ok("container", "none");
  } else {
    findings->Add("container", Status::kNote, container);
  }
  CheckSeccomp(root, findings);
  CheckConf(findings);
  CheckDisable(findings);
  CheckLibc(findings);
  CheckPreload(findings);
  CheckOtherPreloads(findings);
}

}  // namespace cmwq::tools::doctor
