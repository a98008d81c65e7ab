// cmwq top: what the pools of all processes do, live.

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <cmath>

#include "runtime/base/sys.h"
#include "tools/commands.h"
#include "tools/common/json.h"
#include "tools/common/process.h"
#include "tools/common/table.h"
#include "tools/common/text.h"
#include "tools/stats/rates.h"

namespace cmwq::tools {
namespace {

using namespace stats;

constexpr double kSampleSeconds = 0.02;

struct TopOptions {
  double interval = 1;
  long count = 0;  // 0: until it is ended
  long pid = 0;
  bool batch = false, json = false;
  SortKey sort = SortKey::kItems;
  std::string filter;
};

// A pattern for the names of processes and pools; an empty one lets everything through.
class Filter {
 public:
  ~Filter() { Clear(); }
  bool Set(const std::string& text, std::string* error) {
    regex_t next;
    const int rc = regcomp(&next, text.c_str(), REG_EXTENDED | REG_NOSUB | REG_ICASE);
    if (rc != 0) {
      char why[128];
      regerror(rc, &next, why, sizeof(why));
      *error = why;
      return false;
    }
    Clear();
    regex_ = next;
    text_ = text;
    set_ = true;
    return true;
  }
  bool Matches(const TopRow& row) const {
    if (!set_ || text_.empty()) return true;
    return regexec(&regex_, (row.command + " " + row.pool).c_str(), 0, nullptr, 0) == 0;
  }

 private:
  void Clear() {
    if (set_) regfree(&regex_);
    set_ = false;
  }
  regex_t regex_{};
  std::string text_;
  bool set_ = false;
};

// Keys are read as they are pressed; at the end the terminal is as it was.
class Terminal {
 public:
  explicit Terminal(bool use) {
    if (!use || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &saved_) != 0) {
      return;
    }
    struct termios raw = saved_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    live_ = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
    if (live_) fputs("\033[?25l", stdout);
  }
  ~Terminal() {
    if (!live_) return;
    fputs("\033[?25h", stdout);
    fflush(stdout);
    tcsetattr(STDIN_FILENO, TCSANOW, &saved_);
  }
  bool live() const { return live_; }
  // The key that was pressed; 0: none within the time.
  int Key(double seconds) const {
    if (!live_) {
      SleepUnlessInterrupted(seconds);
      return 0;
    }
    struct pollfd p = {STDIN_FILENO, POLLIN, 0};
    char c = 0;
    if (poll(&p, 1, static_cast<int>(seconds * 1000)) <= 0) return 0;
    return read(STDIN_FILENO, &c, 1) == 1 ? c : 'q';
  }
  // A line, shown while it is typed.
  std::string Line(const char* prompt) const {
    printf("\033[H\033[K%s", prompt);
    fflush(stdout);
    std::string text;
    while (!Interrupted()) {
      const int c = Key(0.2);
      if (c == '\n' || c == '\r') break;
      if (c == 127 || c == 8) {
        if (!text.empty()) text.pop_back();
      } else if (c >= ' ' && c < 127) {
        text += static_cast<char>(c);
      }
      printf("\033[H\033[K%s%s", prompt, text.c_str());
      fflush(stdout);
    }
    return text;
  }
  static int Rows() {
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 4 ? size.ws_row : 24;
  }

 private:
  struct termios saved_{};
  bool live_ = false;
};

std::string Percent(double share) { return std::isnan(share) ? "-" : StrPrintf("%.0f%%", share * 100); }
std::string Delay(uint64_t ns) { return ns == 0 ? "-" : HumanDuration(static_cast<double>(ns)); }
std::string Mean(double n) { return StrPrintf(n > 0 && n < 9.95 ? "%.1f" : "%.0f", n); }

std::string RenderTable(const std::vector<TopRow>& rows) {
  Table table({"COMMAND", "PID", "POOL", "WORKERS", "RUN", "BLOCK", "FOUND", "IDLE", "ITEMS/s", "BLOCKED",
               "p50", "p99", "PENDING", "HELD", "COVER"});
  for (const TopRow& row : rows) {
    const auto state = [&row](WorkerState s) { return Mean(row.state[static_cast<int>(s)]); };
    table.AddRow({row.command, StrPrintf("%d", row.pid), row.pool, StrPrintf("%d", row.workers),
                  state(WorkerState::kRunning), state(WorkerState::kBlocked), state(WorkerState::kFound),
                  state(WorkerState::kIdle), StrPrintf("%.0f", row.per_second), Percent(row.blocked),
                  Delay(row.p50_ns), Delay(row.p99_ns),
                  row.is_gate ? "-" : StrPrintf("%llu", static_cast<unsigned long long>(row.pending)),
                  row.is_gate ? StrPrintf("%llu", static_cast<unsigned long long>(row.held)) : "-",
                  Percent(row.coverage)});
  }
  return table.Render();
}

void PrintJson(const std::vector<TopRow>& rows, double seconds) {
  JsonWriter json;
  json.BeginObject();
  json.Number("seconds", seconds);
  json.BeginArray("pools");
  for (const TopRow& row : rows) {
    json.BeginObject();
    json.Integer("pid", row.pid);
    json.String("command", row.command);
    json.String("pool", row.pool);
    json.String("kind", row.is_gate ? "gate" : "pool");
    json.Integer("workers", row.workers);
    json.Number("running", row.state[static_cast<int>(WorkerState::kRunning)]);
    json.Number("blocked", row.state[static_cast<int>(WorkerState::kBlocked)]);
    json.Number("found", row.state[static_cast<int>(WorkerState::kFound)]);
    json.Number("idle", row.state[static_cast<int>(WorkerState::kIdle)]);
    json.Number("items_per_second", row.per_second);
    json.Number("blocked_share", row.blocked);
    json.Integer("delay_p50_ns", static_cast<int64_t>(row.p50_ns));
    json.Integer("delay_p99_ns", static_cast<int64_t>(row.p99_ns));
    json.Integer("pending", static_cast<int64_t>(row.pending));
    json.Integer("held", static_cast<int64_t>(row.held));
    json.Number("coverage", row.coverage);
    json.End();
  }
  json.End();
  json.End();
  fputs(json.Finish().c_str(), stdout);
}

// The first lines of `text` that fit; the rest of the screen is cleared.
void Draw(const std::string& title, const std::string& text) {
  int left = Terminal::Rows() - 1;
  std::string screen = "\033[H";
  for (const std::string& line : Split(title + "\n" + text, '\n')) {
    if (left-- <= 0) break;
    screen += line + "\033[K\n";
  }
  fputs((screen + "\033[J").c_str(), stdout);
}

// Returns -1 to go on, else the exit code.
int ParseTopOptions(int argc, char** argv, TopOptions* options) {
  enum { kJson = 256 };
  constexpr option kOptions[] = {
      {"batch", no_argument, nullptr, 'b'},       {"count", required_argument, nullptr, 'n'},
      {"help", no_argument, nullptr, 'h'},        {"interval", required_argument, nullptr, 'i'},
      {"json", no_argument, nullptr, kJson},      {"pid", required_argument, nullptr, 'p'},
      {"sort", required_argument, nullptr, 's'},  {}};
  for (int got; (got = getopt_long(argc, argv, "bhi:n:p:s:", kOptions, nullptr)) != -1;) {
    bool fine = true;
    switch (got) {
      case 'h':
        PrintCommandHelp(*FindCommand("top"), stdout);
        return kExitOk;
      case 'b': options->batch = true; break;
      case kJson: options->json = options->batch = true; break;
      case 'i': fine = ParseDouble(optarg, 0.05, 3600, &options->interval); break;
      case 'n': fine = ParseInt(optarg, 1, 1L << 30, &options->count); break;
      case 'p': fine = ParseInt(optarg, 1, 1L << 30, &options->pid); break;
      case 's': fine = ParseSortKey(optarg, &options->sort); break;
      default:
        return UsageError("top");
    }
    if (!fine) {
      Complain("top: '%s' is no value for -%c", optarg, got);
      return UsageError("top");
    }
  }
  if (optind < argc) options->filter = argv[optind++];
  if (optind < argc) {
    Complain("top takes one pattern; '%s' is too much", argv[optind]);
    return UsageError("top");
  }
  return -1;
}

// False: the user wants to end it.
bool TakeKey(int key, const Terminal& terminal, TopOptions* options, Filter* filter) {
  constexpr struct { char key; SortKey sort; } kKeys[] = {
      {'i', SortKey::kItems}, {'p', SortKey::kPending}, {'b', SortKey::kBlocked}, {'d', SortKey::kDelay},
      {'h', SortKey::kHeld},  {'w', SortKey::kWorkers}, {'n', SortKey::kPid}};
  if (key == 'q') return false;
  if (key == '/') {
    std::string error;
    const std::string text = terminal.Line("show only (pattern): ");
    if (filter->Set(text, &error)) options->filter = text;
  }
  for (const auto& entry : kKeys) {
    if (entry.key == key) options->sort = entry.sort;
  }
  return true;
}

void Show(std::vector<TopRow> rows, double seconds, const TopOptions& options, const Filter& filter,
          const Terminal& terminal) {
  std::erase_if(rows, [&filter](const TopRow& row) { return !filter.Matches(row); });
  Sort(&rows, options.sort);
  if (options.json) {
    PrintJson(rows, seconds);
  } else if (terminal.live()) {
    Draw(StrPrintf("cmwq top  sorted by %s%s%s   keys: items pending blocked delay held workers n:pid "
                   "/:filter quit", NameOf(options.sort), options.filter.empty() ? "" : ", only ",
                   options.filter.c_str()), RenderTable(rows));
  } else {
    fputs(RenderTable(rows).c_str(), stdout);
  }
  fflush(stdout);
}

int Watch(TopOptions options, Filter* filter) {
  const auto pid = static_cast<pid_t>(options.pid);
  Pages pages;
  pages.Refresh(pid);
  const int code = NothingToShow(pages, pages.Take(), pid);
  if (code >= 0) return code;
  Terminal terminal(!options.batch);
  Rates rates;
  rates.Sample(pages.Take());
  for (long shown = 0; !Interrupted() && (options.count == 0 || shown < options.count); ++shown) {
    const uint64_t begin = base::MonotonicNs();
    double seconds = 0;
    while (seconds < options.interval && !Interrupted()) {
      if (!TakeKey(terminal.Key(std::min(kSampleSeconds, options.interval - seconds)), terminal, &options,
                   filter)) {
        return kExitOk;
      }
      seconds = static_cast<double>(base::MonotonicNs() - begin) / 1e9;
      rates.Sample(pages.Take());
    }
    if (Interrupted()) break;
    pages.Refresh(pid);
    rates.Sample(pages.Take());
    Show(rates.Finish(seconds), seconds, options, *filter, terminal);
  }
  return kExitOk;
}

}  // namespace

int TopMain(int argc, char** argv) {
  TopOptions options;
  const int code = ParseTopOptions(argc, argv, &options);
  if (code >= 0) return code;
  Filter filter;
  std::string error;
  if (!filter.Set(options.filter, &error)) {
    Complain("top: '%s' is no pattern: %s", options.filter.c_str(), error.c_str());
    return UsageError("top");
  }
  CatchInterrupts();
  return Watch(options, &filter);
}

}  // namespace cmwq::tools
