// The load on the demo's server: one thread, many connections, each with one request on its way.

#ifndef CMWQ_TOOLS_DEMO_LOAD_H_
#define CMWQ_TOOLS_DEMO_LOAD_H_

#include <cstdint>
#include <string>

#include "tools/common/histogram.h"

namespace cmwq::tools {

struct LoadPlan {
  std::string socket;
  int connections = 0;
  double warm_up_seconds = 0;
  double seconds = 0;
};

// Plain data: goes over a pipe as it is.
struct LoadResult {
  uint64_t answered = 0;  // within the measured window
  uint64_t errors = 0;    // wrong, missing or impossible answers, over the whole run
  double seconds = 0;     // length of the window
  // In nanoseconds. Of every request answered after the window began, also those whose answers came
  // after its end: a request that had to wait long would otherwise not count at all.
  Histogram latency;
};

// Runs in the load's process: connects, warms up, writes one byte to `control`, measures, lets the
// outstanding requests end, writes the LoadResult and returns the exit code.
int RunLoad(const LoadPlan& plan, int control);

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_DEMO_LOAD_H_
