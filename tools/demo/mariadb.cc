// Debian's MariaDB under the load of sysbench: plain, under cmwq, and with MariaDB's own pool of
// threads.

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "tools/common/process.h"
#include "tools/common/text.h"
#include "tools/demo/bench.h"
#include "tools/demo/sysbench.h"

namespace cmwq::tools {
namespace {

constexpr double kInstallSeconds = 120;
constexpr double kStartSeconds = 60;
constexpr double kStopSeconds = 120;
constexpr double kWarmUpSeconds = 1;
constexpr int kWarmUpConnections = 8;
// Beyond one per connection: tables, logs and the server's own.
constexpr int kExtraFiles = 4000;

class MariadbBench final : public Bench {
 public:
  MariadbBench(const DemoOptions& options, std::string mariadbd, std::string installer,
               std::string sysbench)
      : options_(options), mariadbd_(std::move(mariadbd)), installer_(std::move(installer)) {
    sysbench_.program = std::move(sysbench);
    sysbench_.cpus = options.load_cpus;
  }

  std::string server() const override { return "MariaDB"; }
  Noun noun() const override { return {"query", "queries"}; }
  bool Prepare(const std::string& dir, std::string* error) override;
  bool Start(const std::string& variant, std::string* error) override;
  bool Measure(const Workload& workload, Metrics* metrics, std::string* error) override;
  bool Stop(std::string* error) override;

 private:
  bool InstallDatabase(std::string* error);
  std::vector<std::string> ServerArgv(const std::string& variant) const;
  std::string WithLog(const std::string& text) const;

  const DemoOptions& options_;
  const std::string mariadbd_;
  const std::string installer_;
  SysbenchSetup sysbench_;
  std::string dir_;
  std::string error_log_;
  long open_files_ = 0;
  int connections_ = 0;  // the most that any workload opens
  Child server_;
};

std::string MariadbBench::WithLog(const std::string& text) const {
  const std::string lines = LastLines(error_log_, 12);
  return lines.empty() ? text : text + "; the end of its log:\n" + lines;
}

bool MariadbBench::InstallDatabase(std::string* error) {
  SpawnOptions spawn;
  spawn.argv = {installer_,
                "--no-defaults",
                "--datadir=" + dir_ + "/data",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve"};
  // --rpm: with a user given, the script would else also change owners in the system's plugin
  // folder.
  if (geteuid() == 0) spawn.argv.insert(spawn.argv.end(), {"--user=root", "--rpm"});
  spawn.output_path = dir_ + "/install.log";
  Child child;
  if (!child.Spawn(spawn, error)) return false;
  if (child.Wait(kInstallSeconds) && child.status() == 0) return true;
  *error = "mariadb-install-db failed; its last words:\n" + LastLines(spawn.output_path, 12);
  return false;
}

bool MariadbBench::Prepare(const std::string& dir, std::string* error) {
  dir_ = dir;
  error_log_ = dir + "/error.log";
  sysbench_.socket = dir + "/socket";
  sysbench_.log = dir + "/sysbench.log";
  connections_ = kWarmUpConnections;
  for (const Workload& workload : options_.workloads) {
    connections_ = std::max(connections_, workload.connections);
  }
  open_files_ = RaiseOpenFiles(2 * connections_ + kExtraFiles);
  if (open_files_ < connections_ + 256) {
    *error = StrPrintf("%d connections need more than the %ld open files allowed (ulimit -n)",
                       connections_, open_files_);
    return false;
  }
  if (!WriteFile(dir + "/init.sql", "CREATE DATABASE IF NOT EXISTS sbtest;\n")) {
    *error = StrPrintf("%s: %s", dir.c_str(), strerror(errno));
    return false;
  }
  if (!InstallDatabase(error) || !Start(kVariantPlain, error)) return false;
  const bool filled = SysbenchPrepare(sysbench_, error);
  std::string stop_error;
  if (Stop(&stop_error)) return filled;
  if (filled) *error = stop_error;
  return false;
}

std::vector<std::string> MariadbBench::ServerArgv(const std::string& variant) const {
  std::vector<std::string> argv = {
      mariadbd_,
      "--no-defaults",
      "--datadir=" + dir_ + "/data",
      "--socket=" + sysbench_.socket,
      "--pid-file=" + dir_ + "/pid",
      "--log-error=" + error_log_,
      "--init-file=" + dir_ + "/init.sql",
      "--skip-networking",
      "--skip-name-resolve",
      "--skip-log-bin",
      "--innodb-buffer-pool-size=256M",
      "--table-open-cache=2000",
      StrPrintf("--open-files-limit=%ld", open_files_),
      StrPrintf("--max-connections=%d", std::max(2000, connections_ + 100)),
      StrPrintf("--back-log=%d", std::max(500, connections_)),
      // sysbench prepares its statements on every connection for every table.
      "--max-prepared-stmt-count=1048576",
      std::string("--thread-handling=") +
          (variant == kVariantPool ? "pool-of-threads" : "one-thread-per-connection"),
  };
  if (geteuid() == 0) argv.push_back("--user=root");
  return VariantArgv(options_, variant, std::move(argv));
}

bool MariadbBench::Start(const std::string& variant, std::string* error) {
  unlink(sysbench_.socket.c_str());
  SpawnOptions spawn;
  spawn.argv = ServerArgv(variant);
  spawn.cpus = options_.server_cpus;
  spawn.output_path = dir_ + "/server.log";
  if (!server_.Spawn(spawn, error)) return false;
  if (!WaitUntilReady(&server_, variant, sysbench_.socket, kStartSeconds, error)) {
    *error = WithLog(*error);
    server_.Kill();
    return false;
  }
  // Every server reads its tables into memory before it is measured. There are none in the first.
  if (access((dir_ + "/data/sbtest/sbtest1.ibd").c_str(), F_OK) != 0) return true;
  Metrics ignored;
  const Workload warm_up{"oltp_point_select", kWarmUpConnections};
  if (SysbenchRun(sysbench_, warm_up, kWarmUpSeconds, server_.pid(), &ignored, error)) return true;
  *error = WithLog(*error);
  std::string stop_error;
  Stop(&stop_error);
  return false;
}

bool MariadbBench::Measure(const Workload& workload, Metrics* metrics, std::string* error) {
  if (SysbenchRun(sysbench_, workload, options_.seconds, server_.pid(), metrics, error)) {
    return true;
  }
  *error = WithLog(*error);
  return false;
}

bool MariadbBench::Stop(std::string* error) {
  if (!server_.Terminate(kStopSeconds)) {
    server_.Kill();
    *error = WithLog(StrPrintf("did not shut down within %.0f s", kStopSeconds));
    return false;
  }
  if (server_.status() != 0) {
    *error = WithLog("ended with " + server_.DescribeStatus());
    return false;
  }
  for (const std::string& line : Split(ReadFile(error_log_), '\n')) {
    if (line.find("[ERROR]") == std::string::npos) continue;
    *error = "error in its log: " + line;
    return false;
  }
  return true;
}

}  // namespace

std::unique_ptr<Bench> MakeMariadbBench(const DemoOptions& options) {
  const std::string mariadbd = FindProgram({"mariadbd", "mysqld"});
  const std::string installer = FindProgram({"mariadb-install-db", "mysql_install_db"});
  const std::string sysbench = FindProgram({"sysbench"});
  std::string missing;
  if (mariadbd.empty() || installer.empty()) missing += " mariadb-server-core mariadb-client-core";
  if (sysbench.empty()) missing += " sysbench";
  if (!missing.empty()) {
    Complain("demo: not installed:%s; on Debian: apt-get install%s", missing.c_str(),
             missing.c_str());
    return nullptr;
  }
  return std::make_unique<MariadbBench>(options, mariadbd, installer, sysbench);
}

}  // namespace cmwq::tools
