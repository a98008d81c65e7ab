// How much of everything there may be.

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

#include "tools/common/text.h"
#include "tools/doctor/attempt.h"
#include "tools/doctor/checks.h"

namespace cmwq::tools::doctor {
namespace {

// Made in earnest; few blocked requests need more at once.
constexpr int kThreadsTried = 64;
// The event thread, a worker and a detector.
constexpr int kThreadsNeeded = 3;

long SoftLimit(int resource) {
  struct rlimit limit;
  if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return LONG_MAX;
  return limit.rlim_cur > LONG_MAX ? LONG_MAX : static_cast<long>(limit.rlim_cur);
}

std::string LimitText(long limit) {
  return limit == LONG_MAX ? "unlimited" : StrPrintf("%ld", limit);
}

int MakeThreads(int* made) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 * 1024);
  for (int i = 0; i < kThreadsTried; ++i) {
    pthread_t thread;
    const auto sleep = [](void*) -> void* {
      for (;;) pause();
    };
    if (const int error = pthread_create(&thread, &attributes, sleep, nullptr)) return -error;
    ++*made;
  }
  return 0;
}

// Room in the tightest of the process's pids cgroups.
std::string PidsText(const Root& root) {
  long room = LONG_MAX, tightest = LONG_MAX;
  for (const std::string& folder : FindCgroup(root, "self", "pids").folders) {
    const long max = root.Number(folder + "/pids.max").value_or(LONG_MAX);
    if (max == LONG_MAX) continue;
    const long left = max - root.Number(folder + "/pids.current").value_or(0);
    if (left < room) room = left, tightest = max;
  }
  if (tightest == LONG_MAX) return "no pids.max";
  return StrPrintf("pids.max %ld with room for %ld", tightest, room);
}

void CheckThreads(const Root& root, Findings* findings) {
  const Attempt attempt = TryInChild(&MakeThreads);
  const std::string limits =
      StrPrintf("ulimit -u %s, %s, threads-max %s", LimitText(SoftLimit(RLIMIT_NPROC)).c_str(),
                PidsText(root).c_str(),
                LimitText(root.Number("/proc/sys/kernel/threads-max").value_or(LONG_MAX)).c_str());
  if (attempt.granted()) {
    findings->Ok("threads", StrPrintf("%d made at once; %s", kThreadsTried, limits.c_str()));
    return;
  }
  const bool enough = attempt.detail >= kThreadsNeeded;
  findings->Add(
      "threads", enough ? Status::kWarn : Status::kFail,
      StrPrintf("only %d more (%s); %s", attempt.detail, Describe(attempt).c_str(), limits.c_str()),
      "raise ulimit -u, pids.max (docker run --pids-limit, systemd TasksMax=) or "
      "kernel.threads-max");
}

void CheckFiles(Findings* findings) {
  const Attempt attempt = TryInChild([](int* opened) {
    // An epoll set and a little more for each of the first CPUs.
    constexpr int kWanted = 64;
    for (; *opened < kWanted; ++*opened) {
      if (open("/", O_PATH | O_CLOEXEC) < 0) return -errno;
    }
    return 0;
  });
  const std::string limit = "ulimit -n " + LimitText(SoftLimit(RLIMIT_NOFILE));
  if (attempt.granted()) {
    findings->Ok("descriptors", limit);
  } else {
    findings->Add("descriptors", Status::kWarn,
                  StrPrintf("only %d more; %s: the preload's gate may give up", attempt.detail,
                            limit.c_str()),
                  "raise ulimit -n");
  }
}

void CheckSharedMemory(Findings* findings) {
  const Attempt attempt = TryInChild([](int*) {
    const int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) return -errno;
    if (ftruncate(fd, 4096) != 0) return -errno;
    char* const page =
        static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    if (page == MAP_FAILED) return -errno;
    page[0] = 1;  // SIGBUS if the file system is full
    return 0;
  });
  if (attempt.granted()) {
    findings->Ok("/dev/shm", "writable");
  } else {
    findings->Add("/dev/shm", Status::kNote, Describe(attempt) + ": statistics cannot be shared",
                  "mount -t tmpfs tmpfs /dev/shm, docker run --shm-size");
  }
}

}  // namespace

void CheckLimits(const Root& root, Findings* findings) {
  CheckThreads(root, findings);
  CheckFiles(findings);
  const long lock = SoftLimit(RLIMIT_MEMLOCK);
  constexpr long kUsual = 64 * 1024;
  findings->Add(
      "locked memory", lock >= kUsual ? Status::kOk : Status::kNote,
      lock == LONG_MAX ? "ulimit -l unlimited" : StrPrintf("ulimit -l %ld kB", lock / 1024),
      lock >= kUsual ? "" : "perf's rings, and io_uring before Linux 5.12, need some");
  CheckSharedMemory(findings);
}

}  // namespace cmwq::tools::doctor
