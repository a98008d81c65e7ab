// The canary in a cgroup that as a whole runs at idle priority (cpu.idle): its workers still go
// first.

#include <fcntl.h>
#include <sys/stat.h>

#include <string>

#include "tests/unit/detect/silent.h"

namespace cmwq::test {
namespace {

bool Write(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const bool written =
      fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (fd >= 0) close(fd);
  return written;
}

// A cgroup of our own below the first hierarchy that has the CPU controller.
class IdleGroup {
 public:
  IdleGroup() {
    for (const char* const root :
         {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"}) {
      path_ = std::string(root) + "/cmwq-test." + std::to_string(getpid());
      if (mkdir(path_.c_str(), 0755) != 0) continue;
      if (Write(path_ + "/cpu.idle", "1")) return;
      rmdir(path_.c_str());
    }
    path_.clear();
  }
  ~IdleGroup() {
    if (made()) rmdir(path_.c_str());
  }
  IdleGroup(const IdleGroup&) = delete;
  IdleGroup& operator=(const IdleGroup&) = delete;
  bool made() const { return !path_.empty(); }
  // The calling process.
  bool Join() const { return Write(path_ + "/cgroup.procs", "0"); }

 private:
  std::string path_;
};

TEST(CpuIdle, TheCanaryFindsBlocks) {
  const IdleGroup group;
  if (!group.made()) GTEST_SKIP() << "no cgroup with cpu.idle can be made here";
  EXPECT_IN_CHILD("the cgroup cannot be joined, or SCHED_IDLE is refused here", [&group] {
    alarm(280);  // beside a busy process it gets a three-hundredth of the CPU
    if (!group.Join()) _exit(kSkipped);
    Pipe pipe;
    for (int i = 0; i < 5; ++i) {
      RunBehindCanary(
          AllowedCpu(0), [&] { pipe.Wait(); }, [&] { pipe.Put(); });
    }
  });
}

}  // namespace
}  // namespace cmwq::test
