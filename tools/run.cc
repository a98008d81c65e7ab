// cmwq run: starts a program with the preload in its environment, in place of this process.

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tools/commands.h"
#include "tools/common/elf_inspect.h"
#include "tools/common/preload_path.h"
#include "tools/common/text.h"

namespace cmwq::tools {
namespace {

struct RunOptions {
  std::vector<std::string> settings;
  bool report = false;
  bool disable = false;
  bool quiet = false;
};

// Returns -1 to go on, else the exit code.
int ParseRunOptions(int argc, char** argv, RunOptions* options) {
  enum { kReport = 256, kDisable };
  constexpr option kOptions[] = {
      {"disable", no_argument, nullptr, kDisable}, {"help", no_argument, nullptr, 'h'},
      {"option", required_argument, nullptr, 'o'}, {"quiet", no_argument, nullptr, 'q'},
      {"report", no_argument, nullptr, kReport},   {}};
  for (int got; (got = getopt_long(argc, argv, "+ho:q", kOptions, nullptr)) != -1;) {
    switch (got) {
      case 'h':
        PrintCommandHelp(*FindCommand("run"), stdout);
        return kExitOk;
      case 'o':
        if (optarg[0] == '=' || strchr(optarg, '=') == nullptr) {
          Complain("-o takes KEY=VALUE, not '%s'", optarg);
          return UsageError("run");
        }
        options->settings.emplace_back(optarg);
        break;
      case 'q':
        options->quiet = true;
        break;
      case kReport:
        options->report = true;
        break;
      case kDisable:
        options->disable = true;
        break;
      default:
        return UsageError("run");
    }
  }
  if (optind == argc) {
    Complain("run: no program given");
    return UsageError("run");
  }
  return -1;
}

// An empty `preload` leaves LD_PRELOAD as it is.
void SetEnvironment(const RunOptions& options, const std::string& preload) {
  if (!preload.empty()) {
    const char* existing = getenv("LD_PRELOAD");
    setenv("LD_PRELOAD", PrependPreload(preload, existing != nullptr ? existing : "").c_str(), 1);
  }
  if (!options.settings.empty()) {
    const char* conf = getenv("CMWQ_CONF");
    std::string text = conf != nullptr ? conf : "";
    for (const std::string& setting : options.settings) {
      text += (text.empty() ? "" : ",") + setting;
    }
    setenv("CMWQ_CONF", text.c_str(), 1);
  }
  if (options.report) setenv("CMWQ_REPORT", "1", 1);
  if (options.disable) setenv("CMWQ_DISABLE", "1", 1);
}

}  // namespace

int RunMain(int argc, char** argv) {
  RunOptions options;
  const int code = ParseRunOptions(argc, argv, &options);
  if (code >= 0) return code;

  const std::string preload = FindPreload();
  if (preload.empty()) return kExitRunFailed;

  char** command = argv + optind;
  // A preload never kills its host: where it cannot work, the program just runs as it is. The
  // variables stay set for its children, unless the program itself would stumble over them.
  const PreloadVerdict verdict = JudgePreload(command[0], preload);
  if (!verdict.why_not.empty() && !options.quiet) {
    Complain("%s: %s; it will run without cmwq", command[0], verdict.why_not.c_str());
  }
  SetEnvironment(options, verdict.leave_out ? "" : preload);
  execvp(command[0], command);
  const int error = errno;
  Complain("%s: %s", command[0], strerror(error));
  return error == ENOENT ? kExitNotFound : kExitNotExecutable;
}

}  // namespace cmwq::tools
