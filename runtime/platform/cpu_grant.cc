#include "runtime/platform/cpu_grant.h"

#include <fcntl.h>

#include <cstring>

#include "runtime/base/raw_log.h"
#include "runtime/base/sys.h"
#include "runtime/platform/text_file.h"

namespace cmwq::platform {
namespace {

// Cuts the next word off *at; null at the end.
char* Word(char** at) {
  char* p = *at;
  while (*p == ' ') ++p;
  if (*p == '\0') return nullptr;
  char* const word = p;
  while (*p != '\0' && *p != ' ') ++p;
  if (*p != '\0') *p++ = '\0';
  *at = p;
  return word;
}

// `name` is one of those in `list`, which commas separate.
bool Listed(const char* list, const char* name) {
  const size_t n = strlen(name);
  for (const char* at = list; at != nullptr; at = strchr(at, ',')) {
    if (*at == ',') ++at;
    if (strncmp(at, name, n) == 0 && (at[n] == ',' || at[n] == '\0')) return true;
  }
  return false;
}

// Copies what fits whole; otherwise *to is empty.
void Copy(char* to, size_t size, const char* from) {
  const size_t n = strlen(from);
  if (n >= size) {
    to[0] = '\0';
    return;
  }
  memcpy(to, from, n + 1);
}

// A number and what ends it. False: none, or one that no quota has.
bool Number(const char** at, uint64_t* value) {
  const char* p = *at;
  while (*p == ' ') ++p;
  if (*p < '0' || *p > '9') return false;
  uint64_t v = 0;
  for (; *p >= '0' && *p <= '9'; ++p) {
    if (v > UINT64_MAX / 10000) return false;
    v = v * 10 + static_cast<uint64_t>(*p - '0');
  }
  *at = p;
  *value = v;
  return true;
}

uint32_t Milli(uint64_t quota, uint64_t period) {
  if (period == 0) return 0;
  const uint64_t milli = (quota * 1000 + period - 1) / period;
  if (milli == 0) return 1;
  return milli > UINT32_MAX ? 0 : static_cast<uint32_t>(milli);
}

// Up one level; false at the top.
bool Parent(char* own) {
  char* const slash = strrchr(own, '/');
  if (slash == nullptr) return false;
  *slash = '\0';
  return true;
}

}  // namespace

int ProcessAffinity(CpuSet* set) { return set->LoadAffinity(base::Pid()); }

// A line of mountinfo, proc(5): "36 35 98:0 ROOT POINT options [fields] - TYPE source OPTIONS".
void CpuGrantReader::TakeMount(char* line) {
  char* const split = strstr(line, " - ");
  if (split == nullptr) return;
  char* rest = split + 3;
  *split = '\0';
  const char* const type = Word(&rest);
  Word(&rest);
  const char* const options = Word(&rest);
  for (int i = 0; i < 3; ++i) Word(&line);
  const char* const root = Word(&line);
  const char* const point = Word(&line);
  if (type == nullptr || options == nullptr || root == nullptr || point == nullptr) return;
  int which;
  bool also_cpuset = false;
  if (strcmp(type, "cgroup2") == 0) {
    which = kUnified;
  } else if (strcmp(type, "cgroup") == 0 && Listed(options, "cpu")) {
    which = kCpu;
    also_cpuset = Listed(options, "cpuset");
  } else if (strcmp(type, "cgroup") == 0 && Listed(options, "cpuset")) {
    which = kCpuset;
  } else {
    return;
  }
  for (;;) {
    Mount& m = mounts_[which];
    // The first one: later mounts of a hierarchy show the same, or a part of it.
    if (m.path[0] == '\0') {
      Copy(m.path, sizeof(m.path), point);
      Copy(m.root, sizeof(m.root), strcmp(root, "/") == 0 ? "" : root);
    }
    if (!also_cpuset) return;
    also_cpuset = false;
    which = kCpuset;
  }
}

void CpuGrantReader::FindMounts() {
  for (Mount& m : mounts_) m.path[0] = m.root[0] = m.own[0] = '\0';
  char path[kPath], text[4096];
  base::RawFormat(path, sizeof(path), "%s/proc/self/mountinfo", root_);
  const long fd = base::Sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return;
  size_t used = 0;
  bool skip = false;  // the rest of a line that is longer than the buffer, as those of overlays may be
  for (;;) {
    const long n = base::Sys(SYS_read, fd, text + used, sizeof(text) - 1 - used);
    if (n <= 0) break;
    used += static_cast<size_t>(n);
    text[used] = '\0';
    char* line = text;
    while (char* const end = strchr(line, '\n')) {
      *end = '\0';
      if (!skip) TakeMount(line);
      skip = false;
      line = end + 1;
    }
    used = static_cast<size_t>(text + used - line);
    memmove(text, line, used);
    if (used == sizeof(text) - 1) {
      skip = true;
      used = 0;
    }
  }
  base::SysClose(static_cast<int>(fd));
}

// A line of /proc/self/cgroup, cgroups(7): "0::PATH", or "3:cpu,cpuacct:PATH".
void CpuGrantReader::TakeCgroup(char* line) {
  char* const list = strchr(line, ':');
  char* const path = list != nullptr ? strchr(list + 1, ':') : nullptr;
  if (path == nullptr) return;
  *path = '\0';
  for (int h = 0; h < kHierarchies; ++h) {
    const bool ours = h == kUnified ? strncmp(line, "0:", 2) == 0 && list[1] == '\0'
                      : h == kCpuset ? Listed(list + 1, "cpuset") : Listed(list + 1, "cpu");
    if (!ours) continue;
    Mount& m = mounts_[h];
    const char* own = path + 1;
    const size_t n = strlen(m.root);
    // Below what is mounted, as containers without a cgroup namespace have it.
    if (n > 0 && strncmp(own, m.root, n) == 0 && (own[n] == '/' || own[n] == '\0')) own += n;
    // Outside of what we can see: the nearest is the top of that.
    const bool outside = strncmp(own, "/..", 3) == 0 || (own[0] != '/' && own[0] != '\0');
    Copy(m.own, sizeof(m.own), outside || strcmp(own, "/") == 0 ? "" : own);
  }
}

// Where we are now; the mounts are looked for again when that has changed.
bool CpuGrantReader::FindPlace() {
  char path[kPath], text[sizeof(known_)];
  base::RawFormat(path, sizeof(path), "%s/proc/self/cgroup", root_);
  if (ReadText(path, text, sizeof(text)) <= 0) return false;
  if (strcmp(text, known_) == 0) return true;
  memcpy(known_, text, sizeof(text));
  FindMounts();
  for (char* line = text; line != nullptr && *line != '\0';) {
    char* const end = strchr(line, '\n');
    if (end != nullptr) *end = '\0';
    TakeCgroup(line);
    line = end != nullptr ? end + 1 : nullptr;
  }
  return true;
}

bool CpuGrantReader::ReadAt(const Mount& mount, const char* own, const char* file, char* text,
                            size_t size) const {
  char path[3 * kPath];
  base::RawFormat(path, sizeof(path), "%s%s%s/%s", root_, mount.path, own, file);
  return ReadText(path, text, size) > 0;
}

// The nearest cgroup that has the controller says it for those below.
bool CpuGrantReader::ReadCpuset(CpuSet* set) const {
  static constexpr struct {
    Hierarchy hierarchy;
    const char* file;
  } kFiles[] = {{kUnified, "cpuset.cpus.effective"}, {kCpuset, "cpuset.effective_cpus"}};
  for (const auto& f : kFiles) {
    const Mount& m = mounts_[f.hierarchy];
    if (m.path[0] == '\0') continue;
    char own[kPath];
    memcpy(own, m.own, sizeof(own));
    do {
      char path[3 * kPath];
      base::RawFormat(path, sizeof(path), "%s%s%s/%s", root_, m.path, own, f.file);
      if (ReadCpuList(path, set)) return true;
    } while (Parent(own));
  }
  return false;
}

// The tightest quota from our cgroup up to the top of what we see.
uint32_t CpuGrantReader::ReadQuota() const {
  uint32_t least = 0;
  for (const Hierarchy h : {kUnified, kCpu}) {
    const Mount& m = mounts_[h];
    if (m.path[0] == '\0') continue;
    char own[kPath];
    memcpy(own, m.own, sizeof(own));
    do {
      char text[64];
      uint64_t quota = 0, period = 0;
      if (h == kUnified) {
        if (!ReadAt(m, own, "cpu.max", text, sizeof(text))) continue;
        const char* at = text;
        if (!Number(&at, &quota) || !Number(&at, &period)) continue;  // "max 100000"
      } else {
        if (!ReadAt(m, own, "cpu.cfs_quota_us", text, sizeof(text))) continue;
        const char* at = text;
        if (!Number(&at, &quota)) continue;  // "-1"
        at = text;
        if (!ReadAt(m, own, "cpu.cfs_period_us", text, sizeof(text)) || !Number(&at, &period)) continue;
      }
      const uint32_t milli = Milli(quota, period);
      if (milli != 0 && (least == 0 || milli < least)) least = milli;
    } while (Parent(own));
  }
  return least;
}

bool CpuGrantReader::Read(CpuGrant* grant) {
  char path[kPath];
  CpuSet all, set;
  bool known = false;
  const auto narrow = [&all, &known](const CpuSet& by) {
    const CpuSet both = known ? all & by : by;
    if (both.Empty()) return;
    all = both;
    known = true;
  };
  // The most reliable first: the kernel keeps tasks off CPUs that are offline, and inside their cpuset.
  if (affinity_(&set) == 0) narrow(set);
  base::RawFormat(path, sizeof(path), "%s/sys/devices/system/cpu/online", root_);
  if (ReadCpuList(path, &set)) narrow(set);
  uint32_t quota = 0;
  if (FindPlace()) {
    if (ReadCpuset(&set)) narrow(set);
    quota = ReadQuota();
  }
  if (!known) return false;
  grant->cpus = all;
  grant->quota_milli = quota;
  return true;
}

}  // namespace cmwq::platform
