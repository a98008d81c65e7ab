// cmwq demo: the same server with and without cmwq, in turns, and a table of the difference.

#include <stdlib.h>
#include <string.h>

#include <memory>
#include <string>

#include "tools/commands.h"
#include "tools/common/preload_path.h"
#include "tools/common/process.h"
#include "tools/common/progress.h"
#include "tools/common/text.h"
#include "tools/demo/bench.h"
#include "tools/demo/comparison.h"
#include "tools/demo/options.h"

namespace cmwq::tools {
namespace {

// If this command itself runs under cmwq, the plain server must not.
void LeaveOwnPreload(const std::string& preload) {
  const char* existing = getenv("LD_PRELOAD");
  if (existing == nullptr) return;
  const std::string others = RemovePreload(preload, existing);
  if (others.empty()) {
    unsetenv("LD_PRELOAD");
  } else {
    setenv("LD_PRELOAD", others.c_str(), 1);
  }
}

// One server process: all workloads, one after the other.
bool RunServer(const DemoOptions& options, const std::string& variant, int round, Bench* bench,
               Progress* progress, Comparison* comparison, std::string* error) {
  if (!bench->Start(variant, error)) return false;
  bool measured = true;
  for (size_t i = 0; measured && i < options.workloads.size(); ++i) {
    const Workload& workload = options.workloads[i];
    progress->Doing(
        StrPrintf("round %d, %s, %s", round, workload.Label().c_str(), variant.c_str()));
    Round result{round, variant, i, {}};
    measured = bench->Measure(workload, &result.metrics, error);
    if (!measured) break;
    progress->Done(DescribeRound(result, workload, bench->noun()));
    comparison->Add(std::move(result));
  }
  std::string stop_error;
  const bool stopped = bench->Stop(&stop_error);
  if (!stopped && measured) *error = stop_error;
  return stopped && measured;
}

// Each round starts with another variant, so that none always comes first.
bool RunRounds(const DemoOptions& options, Bench* bench, Progress* progress, Comparison* comparison,
               std::string* error) {
  const size_t variants = options.variants.size();
  for (int round = 0; round < options.rounds; ++round) {
    for (size_t i = 0; i < variants; ++i) {
      const std::string& variant = options.variants[(static_cast<size_t>(round) + i) % variants];
      if (!RunServer(options, variant, round + 1, bench, progress, comparison, error)) {
        *error = StrPrintf("%s, %s, round %d: %s", bench->server().c_str(), variant.c_str(),
                           round + 1, error->c_str());
        return false;
      }
    }
  }
  return true;
}

// Prepares and runs everything; the temporary folder lives only here.
bool RunAll(const DemoOptions& options, Bench* bench, Comparison* comparison) {
  std::string error;
  TempDir dir;
  bool good = dir.Create(&error);
  if (good && options.keep) {
    dir.Keep();
    Complain("the temporary folder is %s", dir.path().c_str());
  }
  const int steps = options.rounds * static_cast<int>(options.variants.size()) *
                    static_cast<int>(options.workloads.size());
  Progress progress(steps, options.quiet);
  if (good) progress.Doing("preparing " + bench->server());
  good = good && bench->Prepare(dir.path(), &error);
  good = good && RunRounds(options, bench, &progress, comparison, &error);
  progress.Clear();
  if (!good && !Interrupted()) Complain("demo: %s", error.c_str());
  return good;
}

}  // namespace

int DemoMain(int argc, char** argv) {
  DemoOptions options;
  const int code = ParseDemoOptions(argc, argv, &options);
  if (code >= 0) return code;
  const std::string preload = FindPreload();
  if (preload.empty()) return kExitFailed;
  LeaveOwnPreload(preload);
  const std::unique_ptr<Bench> bench =
      options.mariadb ? MakeMariadbBench(options) : MakeSmallServerBench(options);
  if (bench == nullptr) return kExitFailed;

  CatchInterrupts();
  const Noun noun = bench->noun();
  Comparison comparison(options, noun);
  bool good = RunAll(options, bench.get(), &comparison);
  if (!comparison.empty()) {
    const std::string json = comparison.RenderJson(bench->server());
    fputs(options.json ? json.c_str() : comparison.RenderText().c_str(), stdout);
    if (!options.out.empty() && !WriteFile(options.out, json)) {
      Complain("%s: %s", options.out.c_str(), strerror(errno));
      good = false;
    }
  }
  if (Interrupted()) return kExitInterrupted;
  return good && comparison.errors() == 0 ? kExitOk : kExitFailed;
}

}  // namespace cmwq::tools
