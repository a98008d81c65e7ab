// PoolAttrs: what a pool is for.

#ifndef CMWQ_RUNTIME_POOL_POOL_ATTRS_H_
#define CMWQ_RUNTIME_POOL_POOL_ATTRS_H_

#include <cstdint>

#include "runtime/platform/cpu_set.h"

namespace cmwq::pool {

struct PoolAttrs {
  int cpu;                     // -1: unbound, workers are not counted
  int nice;
  uint16_t id;                 // index in the runtime's pool table; stays when a pool is reused
  // Unbound pools.
  bool strict = false;         // workers never leave the pod
  platform::CpuSet pod = {};   // CPUs whose items it takes
  platform::CpuSet mask = {};  // CPUs its workers may stray to unless strict
};

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_POOL_ATTRS_H_
