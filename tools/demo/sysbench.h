// One run of sysbench against a MariaDB server.

#ifndef CMWQ_TOOLS_DEMO_SYSBENCH_H_
#define CMWQ_TOOLS_DEMO_SYSBENCH_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "tools/demo/comparison.h"
#include "tools/demo/options.h"

namespace cmwq::tools {

// Where and how sysbench runs. All its output also goes to the end of `log`.
struct SysbenchSetup {
  std::string program;
  std::string socket;
  std::string log;
  std::vector<int> cpus;
};

// Creates and fills the tables.
bool SysbenchPrepare(const SysbenchSetup& setup, std::string* error);

// Runs the workload for `seconds` and looks at the server's threads meanwhile, from the moment all
// connections are open.
bool SysbenchRun(const SysbenchSetup& setup, const Workload& workload, double seconds, pid_t server,
                 Metrics* metrics, std::string* error);

// Reads the report that sysbench prints at its end; false if it is not one.
bool ParseSysbenchReport(const std::string& report, Metrics* metrics);

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_DEMO_SYSBENCH_H_
