// A server that can be started in several variants and measured under several workloads.

#ifndef CMWQ_TOOLS_DEMO_BENCH_H_
#define CMWQ_TOOLS_DEMO_BENCH_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "tools/common/process.h"
#include "tools/demo/comparison.h"
#include "tools/demo/options.h"

namespace cmwq::tools {

// Every function that can fail returns false with the reason in `error`, is bounded in time and
// ends early when interrupted.
class Bench {
 public:
  virtual ~Bench() = default;

  virtual std::string server() const = 0;  // for people: "MariaDB"
  virtual Noun noun() const = 0;

  // Once, before the first start. What is made lies in `dir`.
  virtual bool Prepare(const std::string& dir, std::string* error) = 0;
  virtual bool Start(const std::string& variant, std::string* error) = 0;
  virtual bool Measure(const Workload& workload, Metrics* metrics, std::string* error) = 0;
  // A server that does not end cleanly is an error.
  virtual bool Stop(std::string* error) = 0;
};

std::unique_ptr<Bench> MakeSmallServerBench(const DemoOptions& options);
// Null, with one line on stderr, if MariaDB or sysbench is not installed.
std::unique_ptr<Bench> MakeMariadbBench(const DemoOptions& options);

// `argv` as this variant starts it: under `cmwq run` for cmwq, else as it is.
std::vector<std::string> VariantArgv(const DemoOptions& options, const std::string& variant,
                                     std::vector<std::string> argv);

// Connects to a server's Unix socket; -1 with errno on failure.
int ConnectUnix(const std::string& path);

// Waits until the server answers a connect, or `seconds` at most. With `variant` cmwq, also sees to
// it that the preload really is in the process: a comparison of plain with plain would say nothing.
bool WaitUntilReady(Child* server, const std::string& variant, const std::string& socket,
                    double seconds, std::string* error);

// The end of a log, for an error message.
std::string LastLines(const std::string& path, int lines);

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_DEMO_BENCH_H_
