// A folder that says of CPUs what /sys would.

#ifndef CMWQ_TESTS_UNIT_SCENARIOS_FAKE_SYSFS_H_
#define CMWQ_TESTS_UNIT_SCENARIOS_FAKE_SYSFS_H_

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace cmwq::test {

class FakeSysfs {
 public:
  // So many NUMA nodes of so many CPUs each, numbered one after the other.
  FakeSysfs(int nodes, int cpus_per_node) {
    char path[] = "/tmp/cmwq-sysfs-XXXXXX";
    if (mkdtemp(path) != nullptr) root_ = path;
    Write("devices/system/node/online", Range(0, nodes - 1));
    for (int node = 0; node < nodes; ++node) {
      Write("devices/system/node/node" + std::to_string(node) + "/cpulist",
            Range(node * cpus_per_node, (node + 1) * cpus_per_node - 1));
    }
  }
  ~FakeSysfs() {
    std::error_code ignored;
    if (!root_.empty()) std::filesystem::remove_all(root_, ignored);
  }
  FakeSysfs(const FakeSysfs&) = delete;
  FakeSysfs& operator=(const FakeSysfs&) = delete;

  const char* root() const { return root_.c_str(); }

 private:
  static std::string Range(int first, int last) {
    return first == last ? std::to_string(first)
                         : std::to_string(first) + "-" + std::to_string(last);
  }
  void Write(const std::string& name, const std::string& text) {
    const std::filesystem::path file = std::filesystem::path(root_) / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text << "\n";
  }

  std::string root_;
};

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_UNIT_SCENARIOS_FAKE_SYSFS_H_
