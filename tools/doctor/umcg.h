// UMCG: kernels patched to tell user space when a thread blocks. Never merged, and the system call
// numbers of its patches belong to other calls by now: it is looked for in what the kernel says of
// itself, and no call is made.

#ifndef CMWQ_TOOLS_DOCTOR_UMCG_H_
#define CMWQ_TOOLS_DOCTOR_UMCG_H_

#include <string>

#include "tools/doctor/root.h"

namespace cmwq::tools::doctor {

enum class Umcg { kAbsent, kPresent, kUnknown };

struct UmcgProbe {
  Umcg state = Umcg::kUnknown;
  // The source that decided, or why none could: "struct umcg_task in /sys/kernel/btf/vmlinux".
  std::string evidence;
};

// Reads, in this order, until one of them answers: BTF (struct umcg_task, or task_struct's member
// umcg_worker_id), /proc/kallsyms (sys_umcg_ctl), /proc/config.gz (CONFIG_UMCG). A source that can
// be read and does not name it counts as a no only if none of the others says yes.
UmcgProbe ProbeUmcg(const Root& root);

// Whether BTF describes a kernel with UMCG. kUnknown: damaged, or of a kind that is not known here.
Umcg SearchBtf(const std::string& btf);

}  // namespace cmwq::tools::doctor

#endif  // CMWQ_TOOLS_DOCTOR_UMCG_H_
