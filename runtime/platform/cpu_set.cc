#include "runtime/platform/cpu_set.h"

#include <sched.h>

namespace cmwq::platform {

int CurrentCpu() {
  const int cpu = ::sched_getcpu();
  return cpu >= 0 ? cpu : 0;
}

}  // namespace cmwq::platform
