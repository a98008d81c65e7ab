// cmwq doctor: what this machine, container and user offer, and what cmwq makes of it.

#include <getopt.h>
#include <stdio.h>

#include <string>

#include "tools/commands.h"
#include "tools/common/text.h"
#include "tools/doctor/checks.h"

namespace cmwq::tools {
namespace {

struct DoctorOptions {
  std::string target;
  long pid = 0;
  bool json = false;
  bool quiet = false;
};

// Returns -1 to go on, else the exit code.
int ParseDoctorOptions(int argc, char** argv, DoctorOptions* options) {
  enum { kJson = 256, kPid, kTarget };
  constexpr option kOptions[] = {{"help", no_argument, nullptr, 'h'},
                                 {"json", no_argument, nullptr, kJson},
                                 {"pid", required_argument, nullptr, kPid},
                                 {"quiet", no_argument, nullptr, 'q'},
                                 {"target", required_argument, nullptr, kTarget},
                                 {}};
  for (int got; (got = getopt_long(argc, argv, "+hq", kOptions, nullptr)) != -1;) {
    switch (got) {
      case 'h':
        PrintCommandHelp(*FindCommand("doctor"), stdout);
        return kExitOk;
      case 'q':
        options->quiet = true;
        break;
      case kJson:
        options->json = true;
        break;
      case kPid:
        if (!ParseInt(optarg, 1, 1L << 30, &options->pid)) {
          Complain("--pid takes the number of a process, not '%s'", optarg);
          return UsageError("doctor");
        }
        break;
      case kTarget:
        options->target = optarg;
        if (options->target.empty()) {
          Complain("--target takes the path of a program");
          return UsageError("doctor");
        }
        break;
      default:
        return UsageError("doctor");
    }
  }
  if (optind < argc) {
    if (!options->target.empty()) {
      Complain("doctor: one program at a time: %s or %s", options->target.c_str(), argv[optind]);
      return UsageError("doctor");
    }
    // What follows are the program's own arguments.
    options->target = argv[optind];
  }
  return -1;
}

}  // namespace

int DoctorMain(int argc, char** argv) {
  DoctorOptions options;
  const int code = ParseDoctorOptions(argc, argv, &options);
  if (code >= 0) return code;
  doctor::Findings findings;
  const doctor::Root root;
  doctor::CheckKernel(root, &findings);
  doctor::CheckCpus(root, &findings);
  doctor::CheckLimits(root, &findings);
  doctor::CheckTracing(root, &findings);
  doctor::CheckSettings(root, &findings);
  if (!options.target.empty()) doctor::CheckTarget(options.target, &findings);
  if (options.pid != 0) doctor::CheckProcess(root, static_cast<pid_t>(options.pid), &findings);
  const std::string text = options.json ? findings.Json() : findings.Text(options.quiet);
  if (fwrite(text.data(), 1, text.size(), stdout) != text.size() || fflush(stdout) != 0) {
    Complain("doctor: cannot write the result: %m");
    return kExitUsage;
  }
  return findings.ExitCode();
}

}  // namespace cmwq::tools
