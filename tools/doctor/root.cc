#include "tools/doctor/root.h"

#include <limits.h>
#include <unistd.h>

#include "tools/common/text.h"

namespace cmwq::tools::doctor {
namespace {

bool HasWord(const std::string& list, const std::string& word) {
  for (const std::string& entry : Split(list, ',')) {
    if (entry == word) return true;
  }
  return false;
}

// Where a hierarchy is mounted, and which of its folders is seen there.
struct Mount {
  std::string point;
  std::string root;
};

// mountinfo(5): "36 35 98:0 /root /point options ... - type source super_options"
std::optional<Mount> FindMount(const Root& root, const std::string& controller, bool v2) {
  for (const std::string& line : Split(root.Text("/proc/self/mountinfo"), '\n')) {
    const std::vector<std::string> words = Split(line, ' ');
    size_t dash = 0;
    while (dash < words.size() && words[dash] != "-") ++dash;
    if (words.size() < 5 || dash + 3 >= words.size()) continue;
    const std::string& type = words[dash + 1];
    if (v2 ? type == "cgroup2" : type == "cgroup" && HasWord(words[dash + 3], controller)) {
      return Mount{words[4], words[3]};
    }
  }
  return std::nullopt;
}

// The process's folder in a hierarchy: cgroups(7), "5:cpu,cpuacct:/path" or "0::/path".
std::optional<std::string> FindPath(const Root& root, const std::string& process,
                                    const std::string& controller, bool v2) {
  for (const std::string& line : Split(root.Text("/proc/" + process + "/cgroup"), '\n')) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (v2 ? controllers.empty() : HasWord(controllers, controller)) return line.substr(second + 1);
  }
  return std::nullopt;
}

}  // namespace

bool Root::Exists(const std::string& path) const { return access(PathOf(path).c_str(), F_OK) == 0; }

std::string Root::Text(const std::string& path) const { return ReadFile(PathOf(path)); }

std::optional<std::string> Root::Line(const std::string& path) const {
  if (access(PathOf(path).c_str(), R_OK) != 0) return std::nullopt;
  const std::string text = Text(path);
  return text.substr(0, text.find('\n'));
}

std::optional<long> Root::Number(const std::string& path) const {
  const std::optional<std::string> line = Line(path);
  if (!line.has_value()) return std::nullopt;
  if (*line == "max") return LONG_MAX;
  long value;
  if (!ParseInt(*line, LONG_MIN, LONG_MAX, &value)) return std::nullopt;
  return value;
}

CgroupFolders FindCgroup(const Root& root, const std::string& process,
                         const std::string& controller) {
  CgroupFolders found;
  // A machine may have both: a controller is in one of them.
  for (const bool v2 : {false, true}) {
    const std::optional<Mount> mount = FindMount(root, controller, v2);
    std::optional<std::string> path = FindPath(root, process, controller, v2);
    if (!mount.has_value() || !path.has_value()) continue;
    // A container sees a part of the tree; what it is told of the rest is not under the mount
    // point.
    if (mount->root != "/" && path->compare(0, mount->root.size(), mount->root) == 0) {
      path = path->substr(mount->root.size());
    }
    if (path->find("..") != std::string::npos) path = "";
    found.v2 = v2;
    for (std::string at = *path == "/" ? "" : *path;; at = at.substr(0, at.rfind('/'))) {
      const std::string folder = mount->point + at;
      if (root.Exists(folder)) found.folders.push_back(folder);
      if (at.empty()) break;
    }
    return found;
  }
  return found;
}

std::optional<CpuQuota> FindCpuQuota(const Root& root, const std::string& process) {
  const CgroupFolders cgroup = FindCgroup(root, process, "cpu");
  std::optional<CpuQuota> tightest;
  for (const std::string& folder : cgroup.folders) {
    double quota = 0, period = 0;
    std::string file;
    if (cgroup.v2) {
      file = folder + "/cpu.max";
      const std::vector<std::string> words = Split(root.Line(file).value_or("max 0"), ' ');
      if (words.size() != 2 || !ParseDouble(words[0], 0, 1e18, &quota)) continue;
      if (!ParseDouble(words[1], 1, 1e18, &period)) continue;
    } else {
      file = folder + "/cpu.cfs_quota_us";
      quota = static_cast<double>(root.Number(file).value_or(-1));
      period = static_cast<double>(root.Number(folder + "/cpu.cfs_period_us").value_or(0));
      if (quota <= 0 || period <= 0) continue;
    }
    if (!tightest.has_value() || quota / period < tightest->cpus) {
      tightest = CpuQuota{quota / period, file};
    }
  }
  return tightest;
}

}  // namespace cmwq::tools::doctor
