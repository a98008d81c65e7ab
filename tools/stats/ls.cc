// cmwq ls: the processes that have a statistics page. Removes the pages of those that are gone.

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/sys.h"
#include "tools/commands.h"
#include "tools/common/json.h"
#include "tools/common/table.h"
#include "tools/common/text.h"
#include "tools/stats/page.h"

namespace cmwq::tools {
namespace {

using namespace stats;

struct Line {
  PageName name;
  const char* state;
  std::string command, release;
  double seconds = 0;
};

enum class Removal { kDone, kLeft, kFailed };

// Another user's is left to that user.
Removal Remove(const PageName& name, bool keep) {
  struct stat st;
  if (lstat(name.path.c_str(), &st) == 0 && geteuid() != 0 && st.st_uid != geteuid()) keep = true;
  if (keep) return Removal::kLeft;
  if (unlink(name.path.c_str()) == 0 || errno == ENOENT) return Removal::kDone;
  Complain("cannot remove %s: %s", name.path.c_str(), strerror(errno));
  return Removal::kFailed;
}

Line Describe(const PageName& name, const char* state) {
  Line line{name, state, "", ""};
  Page page;
  std::string error;
  if (page.Open(name, &error)) {
    line.command = page.command();
    line.release = page.release();
    line.seconds = static_cast<double>(base::MonotonicNs() - page.created_ns()) / 1e9;
  } else {
    line.state = "unreadable";
    Complain("%s: %s", name.path.c_str(), error.c_str());
  }
  return line;
}

void PrintTable(const std::vector<Line>& lines) {
  Table table({"command", "pid", "edition", "release", "up", "state"});
  for (const Line& line : lines) {
    table.AddRow({line.command.empty() ? "?" : line.command, StrPrintf("%d", line.name.pid), line.name.edition,
                  line.release, StrPrintf("%.0f s", line.seconds), line.state});
  }
  fputs(table.Render().c_str(), stdout);
}

void PrintJson(const std::vector<Line>& lines, int removed) {
  JsonWriter json;
  json.BeginObject();
  json.Integer("removed", removed);
  json.BeginArray("pages");
  for (const Line& line : lines) {
    json.BeginObject();
    json.Integer("pid", line.name.pid);
    json.String("command", line.command);
    json.String("edition", line.name.edition);
    json.String("release", line.release);
    json.Number("seconds", line.seconds);
    json.String("state", line.state);
    json.String("path", line.name.path);
    json.End();
  }
  json.End();
  json.End();
  fputs(json.Finish().c_str(), stdout);
}

}  // namespace

int LsMain(int argc, char** argv) {
  enum { kJson = 256, kKeep };
  constexpr option kOptions[] = {{"help", no_argument, nullptr, 'h'},
                                 {"json", no_argument, nullptr, kJson},
                                 {"keep", no_argument, nullptr, kKeep},
                                 {}};
  bool as_json = false, keep = false;
  for (int got; (got = getopt_long(argc, argv, "h", kOptions, nullptr)) != -1;) {
    if (got == 'h') {
      PrintCommandHelp(*FindCommand("ls"), stdout);
      return kExitOk;
    }
    if (got != kJson && got != kKeep) return UsageError("ls");
    (got == kJson ? as_json : keep) = true;
  }
  if (optind < argc) {
    Complain("ls takes no '%s'", argv[optind]);
    return UsageError("ls");
  }
  std::vector<Line> lines;
  int removed = 0;
  bool failed = false;
  for (const PageName& name : ListPages(platform::kStatsFolder)) {
    switch (Judge(name)) {
      case Liveness::kAlive:
        lines.push_back(Describe(name, "running"));
        break;
      case Liveness::kForeign:
        lines.push_back(Describe(name, "elsewhere"));
        break;
      case Liveness::kStale: {
        const Removal removal = Remove(name, keep);
        failed |= removal == Removal::kFailed;
        if (removal == Removal::kDone) {
          Complain("removed the page of process %d, which has ended", name.pid);
          ++removed;
        } else {
          lines.push_back(Describe(name, "gone"));
        }
        break;
      }
    }
  }
  as_json ? PrintJson(lines, removed) : PrintTable(lines);
  return failed ? kExitFailed : kExitOk;
}

}  // namespace cmwq::tools
