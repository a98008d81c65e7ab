#include "tools/demo/options.h"

#include <getopt.h>
#include <string.h>

#include <algorithm>

#include "tools/commands.h"
#include "tools/common/process.h"
#include "tools/common/text.h"

namespace cmwq::tools {
namespace {

// More than any server on one machine is asked to hold with a thread for each.
constexpr long kMaxConnections = 30000;

bool ParseConnections(const char* text, std::vector<Workload>* workloads) {
  workloads->clear();
  for (const std::string& piece : Split(text, ',')) {
    long connections;
    if (!ParseInt(piece, 1, kMaxConnections, &connections)) return false;
    workloads->push_back({"", static_cast<int>(connections)});
  }
  return !workloads->empty();
}

bool ParseWorkloads(const char* text, std::vector<Workload>* workloads) {
  workloads->clear();
  for (const std::string& piece : Split(text, ',')) {
    const size_t at = piece.find('@');
    long connections;
    if (at == 0 || at == std::string::npos ||
        !ParseInt(piece.substr(at + 1), 1, kMaxConnections, &connections)) {
      return false;
    }
    workloads->push_back({piece.substr(0, at), static_cast<int>(connections)});
  }
  return !workloads->empty();
}

// Fills in what depends on other options and refuses what does not fit together.
bool Complete(DemoOptions* options) {
  if (options->seconds == 0) options->seconds = options->mariadb ? 5 : 2;
  if (options->workloads.empty()) {
    if (options->mariadb) {
      options->workloads = {{"oltp_point_select", 16}, {"oltp_update_index", 256}};
    } else {
      options->workloads = {{"", 16}, {"", 400}};
    }
  }
  std::vector<std::string> known = {kVariantPlain, kVariantCmwq};
  if (options->mariadb) known.push_back(kVariantPool);
  if (options->variants.empty()) options->variants = known;
  for (const std::string& variant : options->variants) {
    if (std::find(known.begin(), known.end(), variant) == known.end()) {
      Complain("demo: there is no variant '%s'", variant.c_str());
      return false;
    }
  }
  for (const Workload& workload : options->workloads) {
    if (workload.name.empty() == options->mariadb) {
      Complain("demo: --workloads belongs to --mariadb, --connections to the small server");
      return false;
    }
  }
  if (options->split) {
    const std::vector<int> cpus = AllowedCpus();
    if (cpus.size() < 2) {
      Complain("demo: --split needs two CPUs");
      return false;
    }
    const auto middle = cpus.begin() + static_cast<long>(cpus.size() / 2);
    options->server_cpus.assign(cpus.begin(), middle);
    options->load_cpus.assign(middle, cpus.end());
  }
  return true;
}

enum LongOption {
  kConnections = 256,
  kJson,
  kKeep,
  kMariadb,
  kOut,
  kRounds,
  kSeconds,
  kSplit,
  kVariants,
  kWorkloads,
};

// False if the option's argument makes no sense.
bool TakeOption(int option, const char* argument, DemoOptions* options) {
  long number;
  switch (option) {
    case 'o':
      options->settings.emplace_back(argument);
      return argument[0] != '=' && strchr(argument, '=') != nullptr;
    case 'q':
      options->quiet = true;
      return true;
    case kConnections:
      return ParseConnections(argument, &options->workloads);
    case kJson:
      options->json = true;
      return true;
    case kKeep:
      options->keep = true;
      return true;
    case kMariadb:
      options->mariadb = true;
      return true;
    case kOut:
      options->out = argument;
      return !options->out.empty();
    case kRounds:
      if (!ParseInt(argument, 1, 1000, &number)) return false;
      options->rounds = static_cast<int>(number);
      return true;
    case kSeconds:
      return ParseDouble(argument, 0.2, 3600, &options->seconds);
    case kSplit:
      options->split = true;
      return true;
    case kVariants:
      options->variants = Split(argument, ',');
      return !options->variants.empty();
    default:
      return ParseWorkloads(argument, &options->workloads);
  }
}

}  // namespace

std::string Workload::Label() const {
  return (name.empty() ? "" : name + ", ") + std::to_string(connections) +
         (connections == 1 ? " connection" : " connections");
}

int ParseDemoOptions(int argc, char** argv, DemoOptions* options) {
  constexpr option kOptions[] = {{"connections", required_argument, nullptr, kConnections},
                                 {"help", no_argument, nullptr, 'h'},
                                 {"json", no_argument, nullptr, kJson},
                                 {"keep", no_argument, nullptr, kKeep},
                                 {"mariadb", no_argument, nullptr, kMariadb},
                                 {"option", required_argument, nullptr, 'o'},
                                 {"out", required_argument, nullptr, kOut},
                                 {"quiet", no_argument, nullptr, 'q'},
                                 {"rounds", required_argument, nullptr, kRounds},
                                 {"seconds", required_argument, nullptr, kSeconds},
                                 {"split", no_argument, nullptr, kSplit},
                                 {"variants", required_argument, nullptr, kVariants},
                                 {"workloads", required_argument, nullptr, kWorkloads},
                                 {}};
  for (int got; (got = getopt_long(argc, argv, "+ho:q", kOptions, nullptr)) != -1;) {
    if (got == 'h') {
      PrintCommandHelp(*FindCommand("demo"), stdout);
      return kExitOk;
    }
    if (got == '?') return UsageError("demo");
    if (!TakeOption(got, optarg, options)) {
      Complain("demo: an option cannot take '%s'", optarg);
      return UsageError("demo");
    }
  }
  if (optind != argc) {
    Complain("demo: takes no argument '%s'", argv[optind]);
    return UsageError("demo");
  }
  return Complete(options) ? -1 : UsageError("demo");
}

}  // namespace cmwq::tools
