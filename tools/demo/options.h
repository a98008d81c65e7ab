// What `cmwq demo` was asked to do.

#ifndef CMWQ_TOOLS_DEMO_OPTIONS_H_
#define CMWQ_TOOLS_DEMO_OPTIONS_H_

#include <string>
#include <vector>

namespace cmwq::tools {

struct Workload {
  std::string name;  // of a sysbench script; empty for the small server, which has one workload
  int connections = 0;

  std::string Label() const;
};

inline constexpr char kVariantPlain[] = "plain";
inline constexpr char kVariantCmwq[] = "cmwq";
inline constexpr char kVariantPool[] = "pool-of-threads";

struct DemoOptions {
  bool mariadb = false;
  int rounds = 3;
  double seconds = 0;
  std::vector<Workload> workloads;
  std::vector<std::string> variants;
  std::vector<std::string> settings;  // KEY=VALUE for CMWQ_CONF
  bool split = false;
  bool json = false;
  std::string out;
  bool keep = false;
  bool quiet = false;

  // Where the server and the load run: empty means wherever the kernel puts them.
  std::vector<int> server_cpus;
  std::vector<int> load_cpus;
};

// Returns -1 to go on, else the exit code.
int ParseDemoOptions(int argc, char** argv, DemoOptions* options);

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_DEMO_OPTIONS_H_
