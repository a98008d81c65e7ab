// What the system grants, read from a folder that stands for "/"; the kernel's events; and the watch that
// puts both together, with events that the test makes.

#include "runtime/platform/cpu_watch.h"

#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "tests/support/fake_root.h"
#include "tests/support/fake_sysfs.h"
#include "tests/support/gate.h"

namespace cmwq::test {
namespace {

using platform::CpuEvent;
using platform::CpuGrant;
using platform::CpuGrantReader;
using platform::CpuSet;
using platform::CpuWatch;
using platform::ParseUevent;

// The affinity that the readers of this file are told. Null: it cannot be read.
const char* g_affinity = nullptr;
int FakeAffinity(CpuSet* set) {
  if (g_affinity == nullptr) return -EPERM;
  *set = Cpus(g_affinity);
  return 0;
}

class CpuGrantTest : public testing::Test {
 protected:
  void SetUp() override {
    g_affinity = "0-7";
    root_.Write("/sys/devices/system/cpu/online", "0-7\n");
  }
  void Unified(const std::string& own, const std::string& mounted = "/") {
    root_.Write("/proc/self/cgroup", "0::" + own + "\n");
    root_.Write("/proc/self/mountinfo",
                "22 1 0:20 / / rw - overlay overlay rw,lowerdir=" + std::string(9000, 'x') + "\n"
                "24 22 0:21 " + mounted + " /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
  }
  CpuGrant Read() {
    CpuGrant grant;
    EXPECT_TRUE(reader_.Read(&grant));
    return grant;
  }
  std::string ReadCpus() { return ListOf(Read().cpus); }

  FakeRoot root_;
  CpuGrantReader reader_{root_.folder().c_str(), &FakeAffinity};
};

TEST_F(CpuGrantTest, NarrowsByEveryFact) {
  EXPECT_EQ(ReadCpus(), "0-7");
  EXPECT_EQ(Read().quota_milli, 0u);
  root_.Write("/sys/devices/system/cpu/online", "0-5\n");
  EXPECT_EQ(ReadCpus(), "0-5");
  g_affinity = "1-7";
  EXPECT_EQ(ReadCpus(), "1-5");
  Unified("/a/b");
  root_.Write("/sys/fs/cgroup/a/b/cpuset.cpus.effective", "3-7\n");
  EXPECT_EQ(ReadCpus(), "3-5");
}

TEST_F(CpuGrantTest, FactsThatAreMissingOrContradictDoNotCount) {
  g_affinity = nullptr;
  EXPECT_EQ(ReadCpus(), "0-7");
  g_affinity = "9";
  EXPECT_EQ(ReadCpus(), "9");
  g_affinity = nullptr;
  root_.Write("/sys/devices/system/cpu/online", "nonsense\n");
  CpuGrant grant;
  EXPECT_FALSE(reader_.Read(&grant));
}

TEST_F(CpuGrantTest, NearestCpusetCounts) {
  Unified("/a/b");
  root_.Write("/sys/fs/cgroup/cpuset.cpus.effective", "0-7\n");
  root_.Write("/sys/fs/cgroup/a/cpuset.cpus.effective", "2\n");
  EXPECT_EQ(ReadCpus(), "2");
  // Moved to another cgroup.
  root_.Write("/sys/fs/cgroup/c/cpuset.cpus.effective", "4\n");
  Unified("/c");
  EXPECT_EQ(ReadCpus(), "4");
}

TEST_F(CpuGrantTest, TightestQuotaCounts) {
  Unified("/a/b");
  root_.Write("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(Read().quota_milli, 0u);
  root_.Write("/sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  EXPECT_EQ(Read().quota_milli, 1500u);
  root_.Write("/sys/fs/cgroup/a/b/cpu.max", "300000 100000\n");
  EXPECT_EQ(Read().quota_milli, 1500u);
  root_.Write("/sys/fs/cgroup/cpu.max", "1 3000\n");  // rounded up
  EXPECT_EQ(Read().quota_milli, 1u);
  root_.Write("/sys/fs/cgroup/cpu.max", "rubbish\n");
  root_.Write("/sys/fs/cgroup/a/cpu.max", "5 0\n");
  EXPECT_EQ(Read().quota_milli, 3000u);
}

TEST_F(CpuGrantTest, PartOfTheHierarchyIsMounted) {
  Unified("/docker/x/inner", "/docker/x");
  root_.Write("/sys/fs/cgroup/inner/cpu.max", "50000 100000\n");
  EXPECT_EQ(Read().quota_milli, 500u);
  // Our cgroup is outside of what the namespace shows.
  Unified("/../y");
  root_.Write("/sys/fs/cgroup/cpu.max", "25000 100000\n");
  EXPECT_EQ(Read().quota_milli, 250u);
}

TEST_F(CpuGrantTest, FirstVersionOfCgroups) {
  root_.Write("/proc/self/cgroup", "4:cpuset:/job\n3:cpu,cpuacct:/job/step\n0::/\n");
  root_.Write("/proc/self/mountinfo",
              "30 22 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
              "31 22 0:32 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n");
  root_.Write("/sys/fs/cgroup/cpuset/job/cpuset.effective_cpus", "1,3\n");
  root_.Write("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "20000\n");
  root_.Write("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "10000\n");
  root_.Write("/sys/fs/cgroup/cpu,cpuacct/job/step/cpu.cfs_quota_us", "-1\n");
  root_.Write("/sys/fs/cgroup/cpu,cpuacct/job/step/cpu.cfs_period_us", "10000\n");
  const CpuGrant grant = Read();
  EXPECT_EQ(ListOf(grant.cpus), "1,3");
  EXPECT_EQ(grant.quota_milli, 2000u);
}

TEST(CpuGrant, OfThisProcess) {
  CpuGrantReader reader("", &platform::ProcessAffinity);
  CpuGrant grant;
  ASSERT_TRUE(reader.Read(&grant));
  CpuSet own;
  ASSERT_EQ(own.LoadAffinity(getpid()), 0);
  EXPECT_TRUE(grant.cpus.SubsetOf(own));
}

CpuEvent Parse(const std::string& message) { return ParseUevent(message.data(), message.size()); }

TEST(Uevents, TellsCpusFromTheRest) {
  using namespace std::string_literals;
  EXPECT_EQ(Parse("offline@/devices/system/cpu/cpu3\0ACTION=offline\0"s), CpuEvent::kCpus);
  EXPECT_EQ(Parse("online@/devices/system/cpu/cpu12\0SUBSYSTEM=cpu\0"s), CpuEvent::kCpus);
  EXPECT_EQ(Parse("add@/devices/system/cpu/cpufreq/policy0\0"s), CpuEvent::kOther);
  EXPECT_EQ(Parse("change@/devices/virtual/block/dm-0\0X=@/devices/system/cpu/cpu1\0"s), CpuEvent::kOther);
  EXPECT_EQ(Parse("libudev\0@/devices/system/cpu/cpu1"s), CpuEvent::kOther);
  EXPECT_EQ(Parse("online@/devices/system/cpu/cpu"s), CpuEvent::kOther);
  EXPECT_EQ(Parse(""s), CpuEvent::kOther);
}

// Sends to the kernel's group, as only privileged programs can. Negative: refused.
class Forger {
 public:
  Forger() : fd_(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT)) {}
  ~Forger() { close(fd_); }
  bool Send() const {
    constexpr char kText[] = "offline@/devices/system/cpu/cpu1\0ACTION=offline";
    sockaddr_nl to = {};
    to.nl_family = AF_NETLINK;
    to.nl_groups = 1;
    return sendto(fd_, kText, sizeof(kText), 0, reinterpret_cast<sockaddr*>(&to), sizeof(to)) > 0;
  }

 private:
  const int fd_;
};

TEST(Uevents, ForgedOnesAreNoneAndLostOnesAreNoticed) {
  platform::Uevents events;
  const int err = events.OpenHere(1);  // the smallest buffer that there is
  if (err != 0) GTEST_SKIP() << "no netlink socket for uevents here: errno " << -err;
  const Forger forger;
  if (!forger.Send()) GTEST_SKIP() << "sending to the kernel's uevent group is refused here";
  EXPECT_EQ(events.Wait(), CpuEvent::kOther);
  for (int i = 0; i < 1000; ++i) forger.Send();
  bool lost = false;
  for (int i = 0; i < 1000 && !lost; ++i) {
    const CpuEvent event = events.Wait();
    lost = event == CpuEvent::kLost;
    // The machine's own CPUs may change meanwhile.
    EXPECT_NE(event, CpuEvent::kEnd);
  }
  EXPECT_TRUE(lost);
  events.Close();
}

// Events as the test says them.
class ScriptedEvents final : public platform::CpuEvents {
 public:
  bool Open() override { return usable; }
  CpuEvent Wait() override {
    waits.fetch_add(1);
    Eventually([this] {
      std::lock_guard<std::mutex> hold(mu_);
      return !script_.empty();
    });
    std::lock_guard<std::mutex> hold(mu_);
    const CpuEvent event = script_.front();
    script_.pop_front();
    return event;
  }
  void Say(CpuEvent event) {
    std::lock_guard<std::mutex> hold(mu_);
    script_.push_back(event);
  }

  bool usable = true;
  std::atomic<int> waits{0};  // once it waits for event n + 1, what n asked for is done

 private:
  std::mutex mu_;
  std::deque<CpuEvent> script_;
};

class CpuWatchTest : public testing::Test {
 public:
  void SetUp() override {
    g_affinity = nullptr;
    Online("0-7");
  }
  void TearDown() override {
    if (!thread_.joinable()) return;
    events_.Say(CpuEvent::kEnd);
    thread_.join();
  }
  void Online(const std::string& list) { root_.Write("/sys/devices/system/cpu/online", list + "\n"); }
  void Start() {
    thread_ = std::thread([this] {
      tid_ = base::Tid();
      watch_.Run();
    });
    WaitFor(1);
  }
  void WaitFor(int waits) {
    Eventually([&] { return events_.waits.load() >= waits; });
  }
  static bool Changed(const CpuGrant& grant, void* self) {
    auto* const test = static_cast<CpuWatchTest*>(self);
    test->said_ += ListOf(grant.cpus) + ";";
    return !test->refuse_;
  }

  // As the product has another thread do; the test does nothing meanwhile.
  static void Wanted(void* self) { static_cast<CpuWatchTest*>(self)->watch_.Look(); }

  FakeRoot root_;
  ScriptedEvents events_;
  CpuGrantReader reader_{root_.folder().c_str(), &FakeAffinity};
  CpuWatch watch_{&reader_, &events_, &Changed, &Wanted, this};
  std::thread thread_;
  std::atomic<int> tid_{0};
  bool refuse_ = false;  // written while nobody looks
  std::string said_;     // as refuse_
};

TEST_F(CpuWatchTest, SaysWhatHasChangedOnce) {
  watch_.Look();
  watch_.Look();
  EXPECT_EQ(said_, "0-7;");
  Online("0-3");
  watch_.Look();
  watch_.Look();
  EXPECT_EQ(said_, "0-7;0-3;");
}

TEST_F(CpuWatchTest, SaysItAgainUntilItIsDone) {
  refuse_ = true;
  watch_.Look();
  watch_.Look();
  refuse_ = false;
  watch_.Look();
  watch_.Look();
  EXPECT_EQ(said_, "0-7;0-7;0-7;");
}

TEST_F(CpuWatchTest, LooksAtEventsAndAfterLostOnes) {
  Start();
  EXPECT_EQ(said_, "0-7;");
  Online("0-6");
  events_.Say(CpuEvent::kOther);
  WaitFor(2);
  EXPECT_EQ(said_, "0-7;");
  events_.Say(CpuEvent::kCpus);
  WaitFor(3);
  EXPECT_EQ(said_, "0-7;0-6;");
  Online("0-5");
  events_.Say(CpuEvent::kLost);
  WaitFor(4);
  EXPECT_EQ(said_, "0-7;0-6;0-5;");
}

TEST_F(CpuWatchTest, WithoutEventsThereIsNoThread) {
  events_.usable = false;
  watch_.Run();  // returns
  watch_.Look();
  EXPECT_EQ(said_, "0-7;");
}

// Somebody moves every thread of the process, and the grant is the same as before.
TEST_F(CpuWatchTest, NoticesThatThreadsWereMoved) {
  CpuSet own;
  ASSERT_EQ(own.LoadAffinity(0), 0);
  if (own.Count() < 2) GTEST_SKIP() << "one CPU: nowhere to move to";
  Online(ListOf(own));
  Start();
  CpuSet placed;
  ASSERT_EQ(placed.LoadAffinity(tid_), 0);
  ASSERT_EQ(ListOf(placed), ListOf(CpuSet::Of(own.Next(0)))) << "affinity is refused here";
  watch_.Look();
  EXPECT_EQ(said_, ListOf(own) + ";");
  ASSERT_EQ(own.StoreAffinity(tid_), 0);
  watch_.Look();
  EXPECT_EQ(said_, ListOf(own) + ";" + ListOf(own) + ";");
  ASSERT_EQ(placed.LoadAffinity(tid_), 0);
  EXPECT_EQ(placed.Count(), 1) << "the specimen is back in its place";
}

// Who comes while another thread looks does not wait, and is not forgotten.
TEST_F(CpuWatchTest, LooksOnceMoreForThoseWhoCameMeanwhile) {
  struct Meanwhile {
    static bool Changed(const CpuGrant& grant, void* arg) {
      auto* const self = static_cast<Meanwhile*>(arg);
      self->said += ListOf(grant.cpus) + ";";
      if (self->said.size() > 4) return true;
      self->test->Online("1");
      std::thread([self] { self->watch->Look(); }).join();  // returns at once
      return true;
    }
    CpuWatchTest* test;
    CpuWatch* watch = nullptr;
    std::string said;
  } meanwhile{this};
  CpuWatch watch(&reader_, &events_, &Meanwhile::Changed, nullptr, &meanwhile);
  meanwhile.watch = &watch;
  watch.Look();
  EXPECT_EQ(meanwhile.said, "0-7;1;");
}

TEST_F(CpuWatchTest, ReadsEverythingAnewInAChildOfFork) {
  watch_.Look();
  watch_.ResetAfterFork();
  watch_.Look();
  EXPECT_EQ(said_, "0-7;0-7;");
}

}  // namespace
}  // namespace cmwq::test
