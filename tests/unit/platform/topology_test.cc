// Pods of machines that are not at hand.

#include "runtime/platform/topology.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/fake_sysfs.h"

namespace cmwq::test {
namespace {

using platform::Scope;

class TopologyTest : public ::testing::Test {
 protected:
  void Load(const char* cpus, int shard_cores = 8) {
    ASSERT_TRUE(topology.Load(sys.root(), Cpus(cpus), shard_cores));
    // Every CPU has a pod in each scope, and narrower pods lie within wider ones.
    for (int cpu = topology.cpus().Next(0); cpu >= 0; cpu = topology.cpus().Next(cpu + 1)) {
      for (int s = 1; s < platform::kScopes; ++s) {
        const auto scope = static_cast<Scope>(s);
        ASSERT_GE(topology.Pod(scope, cpu), 0) << ScopeName(scope) << " " << cpu;
        ASSERT_TRUE(topology.PodOf(scope, cpu).Has(cpu));
        if (s == 1) continue;
        ASSERT_TRUE(topology.PodOf(static_cast<Scope>(s - 1), cpu).SubsetOf(topology.PodOf(scope, cpu)))
            << ScopeName(scope) << " " << cpu;
      }
    }
  }
  std::string Pod(Scope scope, int cpu) { return ListOf(topology.PodOf(scope, cpu)); }

  FakeSysfs sys;
  platform::Topology topology;
};

TEST_F(TopologyTest, OneCpu) {
  sys.Server(1, 1, 1);
  Load("0");
  for (int s = 1; s < platform::kScopes; ++s) EXPECT_EQ(Pod(static_cast<Scope>(s), 0), "0");
}

TEST_F(TopologyTest, TwoCpus) {
  sys.Server(1, 2, 1);
  Load("0-1");
  EXPECT_EQ(Pod(Scope::kCpu, 1), "1");
  EXPECT_EQ(Pod(Scope::kSmt, 1), "1");
  EXPECT_EQ(Pod(Scope::kCacheShard, 1), "0-1");
  EXPECT_EQ(Pod(Scope::kNuma, 1), "0-1");
}

TEST_F(TopologyTest, EightCpusWithSiblings) {
  sys.Server(1, 4, 2);
  Load("0-7");
  EXPECT_EQ(topology.nr_pods(Scope::kSmt), 4);
  EXPECT_EQ(Pod(Scope::kSmt, 1), "1,5");
  EXPECT_EQ(Pod(Scope::kSmt, 5), "1,5");
  EXPECT_EQ(Pod(Scope::kCacheShard, 0), "0-7");
  Load("0-7", 2);
  EXPECT_EQ(topology.nr_pods(Scope::kCacheShard), 2);
  EXPECT_EQ(Pod(Scope::kCacheShard, 0), "0-1,4-5");
  EXPECT_EQ(Pod(Scope::kCacheShard, 6), "2-3,6-7");
}

// 2 nodes, 28 cores each, 2 threads: 112 CPUs; 28 cores per cache make 4 shards of 7.
TEST_F(TopologyTest, TwoNodesOf56) {
  sys.Server(2, 28, 2);
  Load("0-111");
  EXPECT_EQ(topology.nr_pods(Scope::kNuma), 2);
  EXPECT_EQ(Pod(Scope::kNuma, 0), "0-27,56-83");
  EXPECT_EQ(Pod(Scope::kNuma, 111), "28-55,84-111");
  EXPECT_EQ(topology.nr_pods(Scope::kCache), 2);
  EXPECT_EQ(topology.nr_pods(Scope::kCacheShard), 8);
  EXPECT_EQ(Pod(Scope::kCacheShard, 0), "0-6,56-62");
  EXPECT_EQ(Pod(Scope::kCacheShard, 55), "49-55,105-111");
  EXPECT_EQ(topology.PodOfNode(1), 1);
  EXPECT_EQ(topology.PodOfNode(2), -1);
  EXPECT_EQ(topology.PodOfNode(-1), -1);
  Load("0-111", 9);  // 28 cores: 4 shards of 7
  EXPECT_EQ(topology.nr_pods(Scope::kCacheShard), 8);
  Load("0-111", 12);  // 3 shards: 10, 9, 9
  EXPECT_EQ(topology.nr_pods(Scope::kCacheShard), 6);
  EXPECT_EQ(topology.PodOf(Scope::kCacheShard, 0).Count(), 20);
  EXPECT_EQ(topology.PodOf(Scope::kCacheShard, 10).Count(), 18);
  EXPECT_EQ(topology.PodOf(Scope::kCacheShard, 27).Count(), 18);
}

// Six small cores in two clusters of their own caches, two big ones with a bigger cache.
TEST_F(TopologyTest, Asymmetric) {
  sys.Nodes("0");
  sys.Node(0, "0-7");
  for (int cpu = 0; cpu < 8; ++cpu) {
    const std::string cluster = cpu < 3 ? "0-2" : cpu < 6 ? "3-5" : "6-7";
    sys.Siblings(cpu, std::to_string(cpu));
    sys.Cache(cpu, 0, 1, "Data", std::to_string(cpu));
    sys.Cache(cpu, 1, 2, "Unified", cluster);
  }
  sys.Cache(6, 2, 3, "Unified", "6-7");
  sys.Cache(7, 2, 3, "Unified", "6-7");
  Load("0-7");
  EXPECT_EQ(topology.nr_pods(Scope::kCache), 3);
  EXPECT_EQ(Pod(Scope::kCache, 1), "0-2");
  EXPECT_EQ(Pod(Scope::kCache, 6), "6-7");
  EXPECT_EQ(topology.nr_pods(Scope::kNuma), 1);
}

// CPUs 1 and 4 are off-line and have no folder; the process may not use CPU 6; node 1 has a hole before
// it and node 2 no CPU.
TEST_F(TopologyTest, Holes) {
  sys.Nodes("0,3,5");
  sys.Node(0, "0,2-3");
  sys.Node(3, "5-7");
  sys.Node(5, "");
  for (int cpu : {0, 2, 3, 5, 6, 7}) {
    sys.Siblings(cpu, std::to_string(cpu));
    sys.Cache(cpu, 0, 2, "Unified", cpu < 4 ? "0,2-3" : "5-7");
  }
  Load("0,2-3,5,7");
  EXPECT_EQ(topology.Pod(Scope::kCpu, 1), -1);
  EXPECT_EQ(topology.Pod(Scope::kCpu, 6), -1);
  EXPECT_EQ(Pod(Scope::kCache, 0), "0,2-3");
  EXPECT_EQ(Pod(Scope::kNuma, 5), "5,7");
  EXPECT_EQ(topology.PodOfNode(3), 1);
  EXPECT_EQ(topology.PodOfNode(5), -1);
  // A CPU that is not listed anywhere: alone in its core and cache, with the others no node claims.
  Load("0,1,2-3,4,5,7");
  EXPECT_EQ(Pod(Scope::kSmt, 4), "4");
  EXPECT_EQ(Pod(Scope::kNuma, 4), "1,4");
  EXPECT_EQ(Pod(Scope::kCache, 4), "1,4");
}

TEST_F(TopologyTest, WithoutSysfs) {
  ASSERT_TRUE(topology.Load("/nonexistent", Cpus("0-19"), 8));
  EXPECT_EQ(Pod(Scope::kSmt, 7), "7");
  EXPECT_EQ(Pod(Scope::kCache, 7), "0-19");
  EXPECT_EQ(topology.nr_pods(Scope::kCacheShard), 3);  // 7, 7, 6
  EXPECT_EQ(Pod(Scope::kCacheShard, 19), "14-19");
  EXPECT_EQ(topology.nr_pods(Scope::kNuma), 1);
}

// Files that lie: siblings in another node and cache, a cache without end, rubbish.
TEST_F(TopologyTest, ContradictionsKeepPodsNested) {
  sys.Nodes("0-1");
  sys.Node(0, "0-1");
  sys.Node(1, "1-3");  // 1 twice
  sys.Siblings(0, "0,2");
  sys.Siblings(1, "rubbish");
  sys.Siblings(2, "2-99999");
  sys.Cache(0, 0, 3, "Unified", "0-3");
  sys.Cache(2, 0, 3, "Unified", "x");
  Load("0-3", 1);
  EXPECT_EQ(Pod(Scope::kNuma, 1), "0-1");
  EXPECT_EQ(Pod(Scope::kSmt, 0), "0");
  EXPECT_EQ(Pod(Scope::kCache, 0), "0-1");
}

TEST_F(TopologyTest, NamesOfScopes) {
  for (int s = 0; s < platform::kScopes; ++s) {
    Scope scope;
    ASSERT_TRUE(platform::ScopeFromName(ScopeName(static_cast<Scope>(s)), &scope));
    EXPECT_EQ(static_cast<int>(scope), s);
  }
  Scope scope;
  EXPECT_FALSE(platform::ScopeFromName("cluster", &scope));
}

}  // namespace
}  // namespace cmwq::test
