// FakeSysfs: a folder that looks like the CPU part of /sys, for machines that are not at hand.

#ifndef CMWQ_TESTS_SUPPORT_FAKE_SYSFS_H_
#define CMWQ_TESTS_SUPPORT_FAKE_SYSFS_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "runtime/platform/cpu_set.h"

namespace cmwq::test {

class FakeSysfs {
 public:
  FakeSysfs() {
    char name[] = "/tmp/cmwq-sysfs-XXXXXX";
    root_ = ::mkdtemp(name);
  }
  ~FakeSysfs() { std::filesystem::remove_all(root_); }
  FakeSysfs(const FakeSysfs&) = delete;
  FakeSysfs& operator=(const FakeSysfs&) = delete;

  const char* root() const { return root_.c_str(); }

  // `path` below devices/system.
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = std::filesystem::path(root_) / "devices/system" / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text << "\n";
  }
  void Siblings(int cpu, const std::string& list) {
    Write(Cpu(cpu) + "topology/core_cpus_list", list);
  }
  void Cache(int cpu, int index, int level, const std::string& type, const std::string& list) {
    const std::string folder = Cpu(cpu) + "cache/index" + std::to_string(index) + "/";
    Write(folder + "level", std::to_string(level));
    Write(folder + "type", type);
    Write(folder + "shared_cpu_list", list);
  }
  void Nodes(const std::string& list) { Write("node/online", list); }
  void Node(int node, const std::string& list) {
    Write("node/node" + std::to_string(node) + "/cpulist", list);
  }

  // `nodes` sockets of `cores` cores with `threads` threads, numbered as on usual servers: first one
  // thread of each core, socket by socket, then the second threads. One last-level cache per socket.
  void Server(int nodes, int cores, int threads) {
    const int all = nodes * cores;
    Nodes(nodes == 1 ? "0" : "0-" + std::to_string(nodes - 1));
    for (int node = 0; node < nodes; ++node) {
      std::string members;
      for (int t = 0; t < threads; ++t) {
        if (t > 0) members += ",";
        members += std::to_string(t * all + node * cores) + "-" +
                   std::to_string(t * all + node * cores + cores - 1);
      }
      Node(node, members);
      for (int core = node * cores; core < (node + 1) * cores; ++core) {
        std::string siblings;
        for (int t = 0; t < threads; ++t) {
          siblings += (t > 0 ? "," : "") + std::to_string(t * all + core);
        }
        for (int t = 0; t < threads; ++t) {
          const int cpu = t * all + core;
          Siblings(cpu, siblings);
          Cache(cpu, 0, 1, "Data", siblings);
          Cache(cpu, 1, 1, "Instruction", siblings);
          Cache(cpu, 2, 2, "Unified", siblings);
          Cache(cpu, 3, 3, "Unified", members);
        }
      }
    }
  }

 private:
  static std::string Cpu(int cpu) { return "cpu/cpu" + std::to_string(cpu) + "/"; }
  std::string root_;
};

inline platform::CpuSet Cpus(const char* list) {
  platform::CpuSet set;
  EXPECT_TRUE(set.Parse(list)) << list;
  return set;
}

inline std::string ListOf(const platform::CpuSet& set) {
  char text[32768];
  set.Format(text, sizeof(text));
  return text;
}

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_SUPPORT_FAKE_SYSFS_H_
