// Quotas and folders of cgroups, v1, v2 and both, inside and outside of containers.

#include "tools/doctor/root.h"

#include <gtest/gtest.h>
#include <limits.h>

#include "tests/support/fake_root.h"
#include "tools/doctor/checks.h"

namespace cmwq::test {
namespace {

using tools::doctor::CgroupFolders;
using tools::doctor::FindCgroup;
using tools::doctor::FindCpuQuota;
using tools::doctor::Root;

constexpr char kV2[] = "30 20 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr char kV1[] =
    "31 20 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "32 20 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";

class DoctorRoot : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) { files_.Write(path, text); }
  Root root() const { return Root(files_.folder()); }
  FakeRoot files_;
};

TEST_F(DoctorRoot, Numbers) {
  Write("/a", "12\nmore");
  Write("/b", "max\n");
  Write("/c", "word\n");
  EXPECT_EQ(root().Number("/a"), 12);
  EXPECT_EQ(root().Number("/b"), LONG_MAX);
  EXPECT_FALSE(root().Number("/c").has_value());
  EXPECT_FALSE(root().Number("/none").has_value());
}

TEST_F(DoctorRoot, NoCgroupsNoQuota) { EXPECT_FALSE(FindCpuQuota(root(), "self").has_value()); }

TEST_F(DoctorRoot, TightestOfTheUnifiedHierarchy) {
  Write("/proc/self/mountinfo", kV2);
  Write("/proc/self/cgroup", "0::/slice/service\n");
  Write("/sys/fs/cgroup/slice/cpu.max", "50000 100000\n");
  Write("/sys/fs/cgroup/slice/service/cpu.max", "max 100000\n");
  const auto quota = FindCpuQuota(root(), "self");
  ASSERT_TRUE(quota.has_value());
  EXPECT_DOUBLE_EQ(quota->cpus, 0.5);
  EXPECT_EQ(quota->where, "/sys/fs/cgroup/slice/cpu.max");
}

TEST_F(DoctorRoot, FirstVersion) {
  Write("/proc/self/mountinfo", std::string("30 20 0:26 / /sys/fs/cgroup/unified rw - cgroup2 x rw\n") + kV1);
  Write("/proc/self/cgroup", "3:pids:/\n2:cpu,cpuacct:/jobs\n0::/\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "-1\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us", "100000\n");
  EXPECT_FALSE(FindCpuQuota(root(), "self").has_value());
  Write("/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "150000\n");
  const auto quota = FindCpuQuota(root(), "self");
  ASSERT_TRUE(quota.has_value());
  EXPECT_DOUBLE_EQ(quota->cpus, 1.5);
}

TEST_F(DoctorRoot, ContainerSeesAPartOfTheTree) {
  // The host's path in /proc, the container's own folder mounted as the root.
  Write("/proc/7/cgroup", "0::/docker/abc\n");
  Write("/proc/self/mountinfo", "30 20 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
  Write("/sys/fs/cgroup/cpu.max", "200000 100000\n");
  const auto quota = FindCpuQuota(root(), "7");
  ASSERT_TRUE(quota.has_value());
  EXPECT_DOUBLE_EQ(quota->cpus, 2);
  // A path outside of the namespace.
  Write("/proc/7/cgroup", "0::/../other\n");
  const CgroupFolders outside = FindCgroup(root(), "7", "cpu");
  EXPECT_EQ(outside.folders, std::vector<std::string>{"/sys/fs/cgroup"});
}

TEST_F(DoctorRoot, NonsenseIsNoQuota) {
  Write("/proc/self/mountinfo", std::string("\n-\n30 - x\n") + kV2);
  Write("/proc/self/cgroup", "garbage\n0:\n0::/a\n");
  Write("/sys/fs/cgroup/a/cpu.max", "100000 0\n");
  Write("/sys/fs/cgroup/cpu.max", "x y z\n");
  EXPECT_FALSE(FindCpuQuota(root(), "self").has_value());
}

TEST_F(DoctorRoot, Containers) {
  unsetenv("KUBERNETES_SERVICE_HOST");
  unsetenv("container");
  EXPECT_EQ(tools::doctor::ContainerName(root()), "");
  Write("/proc/self/cgroup", "0::/kubepods.slice/x\n");
  EXPECT_EQ(tools::doctor::ContainerName(root()), "kubernetes");
  Write("/run/.containerenv", "");
  EXPECT_EQ(tools::doctor::ContainerName(root()), "podman");
  EXPECT_NE(tools::doctor::SeccompHint(root(), "bpf").find("podman run --security-opt"), std::string::npos);
  Write("/.dockerenv", "");
  EXPECT_EQ(tools::doctor::ContainerName(root()), "docker");
}

}  // namespace
}  // namespace cmwq::test
