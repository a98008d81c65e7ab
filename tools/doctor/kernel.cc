// What the engine asks of the kernel: every facility is tried, in a child that is thrown away, by
// the functions that the engine itself uses.

#include <errno.h>
#include <linux/futex.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <thread>

#include "hooks/detect/rung.h"
#include "hooks/detect/task_state.h"
#include "runtime/base/conf.h"
#include "runtime/base/sys.h"
#include "runtime/platform/cpu_set.h"
#include "runtime/platform/facility.h"
#include "runtime/platform/uring.h"
#include "tools/common/text.h"
#include "tools/doctor/attempt.h"
#include "tools/doctor/checks.h"

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

namespace cmwq::tools::doctor {
namespace {

// What decides how a process will work.
struct Offers {
  bool placed = false;
  bool idle_class = false;
  bool task_stat = false;
  bool ring = false;
};

void CheckVersion(Findings* findings) {
  struct utsname name = {};
  uname(&name);
  findings->Ok("kernel", StrPrintf("%s %s, %s", name.sysname, name.release, name.machine));
}

void CheckSchedIdle(const Root& root, Offers* offers, Findings* findings) {
  const Attempt attempt = TryInChild([](int* slice) { return platform::EnterIdleClass(slice); });
  offers->idle_class = attempt.granted();
  if (!attempt.granted()) {
    const std::string refused = Describe(attempt);
    findings->Add("sched_idle", Status::kWarn,
                  refused + ": silent blocks are found by a tick, milliseconds later",
                  SeccompHint(root, "sched_setattr and sched_setscheduler"));
    findings->Add("slice", Status::kNote, "not asked for without SCHED_IDLE");
    return;
  }
  findings->Ok("sched_idle", "granted");
  if (attempt.detail == 0) {
    findings->Ok("slice", "0.1 ms granted");
  } else {
    findings->Add("slice", Status::kWarn,
                  StrPrintf("sched_setattr: %s: a canary may hold a process's end up for a second",
                            strerror(-attempt.detail)),
                  SeccompHint(root, "sched_setattr"));
  }
}

void CheckAffinity(const Root& root, Offers* offers, Findings* findings) {
  const Attempt attempt = TryInChild(
      [](int*) { return platform::CpuSet::Of(platform::CurrentCpu()).StoreAffinity(0); });
  offers->placed = attempt.granted();
  if (attempt.granted()) {
    findings->Ok("affinity", "threads may be placed on a CPU");
  } else {
    findings->Add("affinity", Status::kWarn,
                  Describe(attempt) + ": workers run anywhere, silent blocks are found by a tick",
                  SeccompHint(root, "sched_setaffinity"));
  }
}

// "hidepid=2" where /proc shows only the user's own processes, else empty.
std::string HidePid(const Root& root) {
  for (const std::string& line : Split(root.Text("/proc/self/mountinfo"), '\n')) {
    const std::vector<std::string> words = Split(line, ' ');
    if (words.size() < 6 || words[4] != "/proc") continue;
    for (const std::string& option : Split(words.back(), ',')) {
      const bool given = option.compare(0, 8, "hidepid=") == 0;
      if (given && option != "hidepid=0" && option != "hidepid=off") return option;
    }
  }
  return {};
}

// The state of a thread of this process, read as a detector reads it.
void CheckProc(const Root& root, Offers* offers, Findings* findings) {
  const Attempt attempt = TryInChild([](int* by_clock) {
    detect::TaskStateReader reader;
    // By its clock a thread must be looked at more than once.
    const detect::TaskState state = reader.Read(base::Tid());
    *by_clock = reader.by_clock() ? 1 : 0;
    return state == detect::TaskState::kRunnable ? 0 : -ENOENT;
  });
  offers->task_stat = attempt.granted() && attempt.detail == 0;
  if (offers->task_stat) {
    const std::string hidden = HidePid(root);
    findings->Ok("task state", hidden.empty() ? "/proc/self/task can be read"
                                              : "/proc/self/task can be read (" + hidden +
                                                    ": --pid sees only this user's processes)");
    return;
  }
  const bool mounted = root.Exists("/proc/self/status");
  findings->Add(
      "task state", Status::kWarn,
      std::string(mounted ? "/proc/self/task cannot be read" : "/proc is not mounted or hidden") +
          ": who sleeps is told by CPU clocks, later",
      mounted ? SeccompHint(root, "openat") : "mount -t proc proc /proc");
}

void CheckDescriptorTable(const Root& root, Findings* findings) {
  // By a thread, as detectors do it: the child's own table keeps the pipe for the answer.
  const Attempt attempt = TryInChild([](int*) {
    int result = -EAGAIN;
    std::thread([&result] { result = platform::UnshareDescriptors(); }).join();
    return result;
  });
  if (attempt.granted()) {
    findings->Ok("close_range", "detectors have a descriptor table of their own");
  } else {
    findings->Add("close_range", Status::kWarn,
                  Describe(attempt) + ": detectors keep no descriptor, each look takes 4 us longer",
                  attempt.error == ENOSYS ? "Linux 5.9 has it" : SeccompHint(root, "close_range"));
  }
}

std::string RingHint(const Root& root, int error) {
  const std::optional<long> disabled = root.Number("/proc/sys/kernel/io_uring_disabled");
  switch (error) {
    case EPERM:
    case EACCES:
      if (disabled == 1) {
        return "sysctl -w kernel.io_uring_disabled=0, or join the group of kernel.io_uring_group";
      }
      if (disabled.value_or(0) > 1) return "sysctl -w kernel.io_uring_disabled=0";
      return SeccompHint(root, "io_uring_setup, io_uring_enter and io_uring_register");
    case ENOSYS:
      return "build with liburing-dev, on a kernel with CONFIG_IO_URING and a filter that lets it "
             "by";
    case EINVAL:
      return "Linux 6.1 has what is needed";
    case ENOMEM:
      return "raise ulimit -l";
    case EMFILE:
    case ENFILE:
      return "raise ulimit -n";
    default:
      return {};
  }
}

// Makes a worker's ring, registers it with its thread, and waits in it.
void CheckRing(const Root& root, Offers* offers, Findings* findings) {
  const Attempt attempt = TryInChild([](int*) {
    platform::ThreadRing ring;
    const int result = ring.Do({.kind = platform::RingOp::Kind::kSleep, .deadline_ns = 1});
    return result == platform::ThreadRing::kRefused ? -platform::ThreadRing::Refusal() : result;
  });
  offers->ring = attempt.granted();
  if (attempt.granted()) {
    findings->Ok("io_uring", "a ring per worker, registered, waits");
  } else {
    findings->Add("io_uring", Status::kWarn,
                  Describe(attempt) + ": the io wrappers wait in plain system calls",
                  RingHint(root, attempt.error));
  }
}

void CheckFutexWaitv(const Root& root, Findings* findings) {
  const Attempt attempt = TryInChild([](int*) {
    struct Waiter {
      uint64_t value, address;
      uint32_t flags, reserved;
    };
    const uint32_t word = 0;
    Waiter waiter = {1, reinterpret_cast<uintptr_t>(&word), FUTEX_PRIVATE_FLAG | 2, 0};
    const long result = base::Sys(SYS_futex_waitv, &waiter, 1, 0, nullptr, CLOCK_MONOTONIC);
    return result == -EAGAIN ? 0 : static_cast<int>(result);  // the word has another value
  });
  if (attempt.granted()) {
    findings->Ok("futex_waitv", "works; the preload knows its waits");
  } else {
    findings->Add("futex_waitv", Status::kNote, Describe(attempt) + ": programs do without",
                  attempt.error == ENOSYS ? "Linux 5.16 has it" : SeccompHint(root, "futex_waitv"));
  }
}

void CheckUevents(Findings* findings) {
  const Attempt attempt = TryInChild([](int*) {
    const int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
    struct sockaddr_nl address = {};
    address.nl_family = AF_NETLINK;
    address.nl_groups = 1;
    const bool bound =
        fd >= 0 && bind(fd, reinterpret_cast<struct sockaddr*>(&address), sizeof address) == 0;
    return bound ? 0 : -errno;
  });
  if (attempt.granted()) {
    findings->Ok("uevents", "CPU hot-plug events can be received");
  } else {
    findings->Add("uevents", Status::kNote,
                  Describe(attempt) + ": CPU hot-plug sends no event here");
  }
}

void CheckScheduling(const Root& root, Findings* findings) {
  const int slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
  constexpr int kUsualNs = 50'000;
  if (slack >= 0 && slack <= kUsualNs) {
    findings->Ok("timer slack", StrPrintf("%d us", slack / 1000));
  } else {
    findings->Add("timer slack", Status::kNote,
                  slack < 0 ? std::string("cannot be read") : StrPrintf("%d us", slack / 1000),
                  "delayed work may be that late");
  }
  const bool autogroup = root.Number("/proc/sys/kernel/sched_autogroup_enabled") == 1;
  findings->Ok("autogroup", autogroup ? "on: SCHED_IDLE counts within the session only" : "off");
}

void SayUses(const Offers& offers, Findings* findings) {
  const base::Conf conf = AskedFor();
  const detect::Rung rung = detect::ChooseRung(offers.placed, offers.idle_class, offers.task_stat);
  std::string why = "SCHED_IDLE and affinity are granted";
  if (!offers.placed)
    why = "affinity is refused";
  else if (!offers.idle_class)
    why = "SCHED_IDLE is refused";
  if (!offers.task_stat) why += ", /proc cannot be read";
  if (conf.canary == 0) {
    findings->WillUse("detector", "none", "CMWQ_CONF has canary=0: only announced blocks are seen");
  } else {
    findings->WillUse("detector", detect::RungName(rung), why);
  }
  if (conf.io_uring == 0) {
    findings->WillUse("waits", "plain calls", "CMWQ_CONF has io_uring=0");
  } else {
    findings->WillUse("waits", offers.ring ? "io_uring" : "plain calls",
                      offers.ring ? "a ring was made" : "io_uring is refused");
  }
  findings->WillUse("workers", offers.placed ? "placed" : "anywhere",
                    offers.placed ? "affinity is granted" : "affinity is refused");
}

}  // namespace

void CheckKernel(const Root& root, Findings* findings) {
  Offers offers;
  CheckVersion(findings);
  CheckSchedIdle(root, &offers, findings);
  CheckAffinity(root, &offers, findings);
  CheckProc(root, &offers, findings);
  CheckDescriptorTable(root, findings);
  CheckRing(root, &offers, findings);
  CheckFutexWaitv(root, findings);
  CheckUevents(findings);
  CheckScheduling(root, findings);
  SayUses(offers, findings);
}

}  // namespace cmwq::tools::doctor
