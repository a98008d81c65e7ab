// Root: the folder below which /proc and /sys are read. "" in the product; tests have folders of
// their own.

#ifndef CMWQ_TOOLS_DOCTOR_ROOT_H_
#define CMWQ_TOOLS_DOCTOR_ROOT_H_

#include <optional>
#include <string>
#include <vector>

namespace cmwq::tools::doctor {

class Root {
 public:
  explicit Root(std::string folder = {}) : folder_(std::move(folder)) {}

  std::string PathOf(const std::string& path) const { return folder_ + path; }
  bool Exists(const std::string& path) const;
  // The first line without the end of line; none: the file cannot be read.
  std::optional<std::string> Line(const std::string& path) const;
  // The first line as a number; "max" is LONG_MAX.
  std::optional<long> Number(const std::string& path) const;
  // The whole file; empty if it cannot be read.
  std::string Text(const std::string& path) const;

 private:
  std::string folder_;
};

// One folder of the process's cgroups for `controller` and all above it, the closest first, as far
// as they are mounted here. `v2`: the unified hierarchy, which carries all controllers.
struct CgroupFolders {
  std::vector<std::string> folders;
  bool v2 = false;
};
// `process`: "self" or a pid. Empty if the controller is not mounted.
CgroupFolders FindCgroup(const Root& root, const std::string& process,
                         const std::string& controller);

// Tightest CPU quota in CPUs over the process's cgroups, v1 or v2; none: no quota.
struct CpuQuota {
  double cpus = 0;
  std::string where;  // the file that says so
};
std::optional<CpuQuota> FindCpuQuota(const Root& root, const std::string& process);

}  // namespace cmwq::tools::doctor

#endif  // CMWQ_TOOLS_DOCTOR_ROOT_H_
