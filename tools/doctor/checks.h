// The groups of checks. Each adds one finding per facility; none changes anything that outlives
// doctor.

#ifndef CMWQ_TOOLS_DOCTOR_CHECKS_H_
#define CMWQ_TOOLS_DOCTOR_CHECKS_H_

#include <sys/types.h>

#include <string>

#include "runtime/base/conf.h"
#include "tools/doctor/finding.h"
#include "tools/doctor/root.h"

namespace cmwq::tools::doctor {

// The settings that a process started here will have; what is wrong in CMWQ_CONF is passed over.
base::Conf AskedFor();
// Who confines this process: "docker", "podman", "kubernetes", "lxc", "a container", or empty.
std::string ContainerName(const Root& root);
// How to let `calls` through the container's filter.
std::string SeccompHint(const Root& root, const std::string& calls);

// CPUs, and what takes part of them away.
void CheckCpus(const Root& root, Findings* findings);
// What the engine asks of the kernel, and from it what a process will use.
void CheckKernel(const Root& root, Findings* findings);
// Sources of ground truth for measuring; nothing depends on them.
void CheckTracing(const Root& root, Findings* findings);
// Threads, descriptors, memory.
void CheckLimits(const Root& root, Findings* findings);
// CMWQ_*, LD_PRELOAD, libc, the preload library.
void CheckSettings(const Root& root, Findings* findings);

// Whether the preload will work in the program that `command` starts.
void CheckTarget(const std::string& command, Findings* findings);
// What a running process has loaded and uses.
void CheckProcess(const Root& root, pid_t pid, Findings* findings);

}  // namespace cmwq::tools::doctor

#endif  // CMWQ_TOOLS_DOCTOR_CHECKS_H_
