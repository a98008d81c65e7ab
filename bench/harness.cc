#include "bench/harness.h"

#include <errno.h>
#include <getopt.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

namespace cmwq::bench {
namespace {

uint64_t ClockNs(clockid_t clock) {
  struct timespec ts;
  clock_gettime(clock, &ts);
  return static_cast<uint64_t>(ts.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(ts.tv_nsec);
}

double Seconds(const struct timeval& tv) {
  return static_cast<double>(tv.tv_sec) + static_cast<double>(tv.tv_usec) / 1e6;
}

bool IsNumber(const std::string& text) {
  char* end = nullptr;
  strtod(text.c_str(), &end);
  // JSON knows neither "1." nor "nan" nor "0x1".
  return !text.empty() && *end == '\0' && text.find_first_not_of("-0123456789.") == text.npos;
}

std::string Quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

std::string QuotedList(const std::vector<std::string>& texts) {
  std::string out = "[";
  for (size_t i = 0; i < texts.size(); ++i) {
    if (i > 0) out += ", ";
    out += IsNumber(texts[i]) ? texts[i] : Quoted(texts[i]);
  }
  return out + "]";
}

}  // namespace

void Options::Number(const char* name, long* value, const char* help) {
  own_.push_back({name, value, nullptr, nullptr, help});
}

void Options::Text(const char* name, std::string* value, const char* help) {
  own_.push_back({name, nullptr, value, nullptr, help});
}

void Options::Flag(const char* name, bool* value, const char* help) {
  own_.push_back({name, nullptr, nullptr, value, help});
}

void Options::PrintHelp(const char* program) const {
  const char* const slash = strrchr(program, '/');
  printf("usage: %s [options]\n\n%s\n\n", slash != nullptr ? slash + 1 : program, about_);
  printf("  --rounds=N         interleaved rounds (%ld)\n", rounds_);
  printf("  --json             print JSON instead of the table\n");
  printf("  --strict           exit code 1 if a bar is missed\n");
  for (const Own& own : own_) {
    const std::string left =
        "--" + std::string(own.name) +
        (own.number != nullptr ? "=N" : (own.text != nullptr ? "=TEXT" : ""));
    printf("  %-18s %s", left.c_str(), own.help);
    if (own.number != nullptr) printf(" (%ld)", *own.number);
    putchar('\n');
  }
}

bool Options::Take(const Own& own, const char* value) {
  if (own.flag != nullptr) {
    *own.flag = true;
    return true;
  }
  if (own.text != nullptr) {
    *own.text = value;
    return true;
  }
  char* end = nullptr;
  *own.number = strtol(value, &end, 10);
  return *value != '\0' && *end == '\0' && *own.number >= 0;
}

int Options::Parse(int argc, char** argv) {
  constexpr int kFirstOwn = 256;
  std::vector<option> known = {{"help", no_argument, nullptr, 'h'},
                               {"json", no_argument, nullptr, 'j'},
                               {"rounds", required_argument, nullptr, 'r'},
                               {"strict", no_argument, nullptr, 's'}};
  for (size_t i = 0; i < own_.size(); ++i) {
    const int argument = own_[i].flag != nullptr ? no_argument : required_argument;
    known.push_back({own_[i].name, argument, nullptr, kFirstOwn + static_cast<int>(i)});
  }
  known.push_back({});
  for (int got; (got = getopt_long(argc, argv, "h", known.data(), nullptr)) != -1;) {
    bool good = true;
    if (got == 'h') {
      PrintHelp(argv[0]);
      return 0;
    } else if (got == 'j') {
      json_ = true;
    } else if (got == 's') {
      strict_ = true;
    } else if (got == 'r') {
      good = Take({"rounds", &rounds_, nullptr, nullptr, ""}, optarg) && rounds_ > 0;
    } else if (got >= kFirstOwn) {
      good = Take(own_[static_cast<size_t>(got - kFirstOwn)], optarg);
    } else {
      return 2;
    }
    if (!good) {
      fprintf(stderr, "%s: an option cannot take '%s'\n", argv[0], optarg);
      return 2;
    }
  }
  if (optind == argc) return -1;
  fprintf(stderr, "%s: takes no argument '%s'\n", argv[0], argv[optind]);
  return 2;
}

double Samples::Quantile(double q) const {
  if (values_.empty()) return 0;
  std::vector<double> sorted = values_;
  const auto rank = static_cast<size_t>(q * static_cast<double>(sorted.size() - 1) + 0.5);
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<long>(rank), sorted.end());
  return sorted[rank];
}

std::string Samples::Spread(int decimals) const {
  return Fixed(Quantile(0), decimals) + "-" + Fixed(Quantile(1), decimals);
}

std::string Fixed(double value, int decimals) {
  char text[64];
  snprintf(text, sizeof(text), "%.*f", decimals, value);
  return text;
}

NoiseMeter::NoiseMeter() : start_ns_(NowNs()), busy_(BusySeconds()), own_(OwnSeconds()) {}

double NoiseMeter::BusySeconds() {
  FILE* const file = fopen("/proc/stat", "re");
  if (file == nullptr) return 0;
  unsigned long user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0,
                steal = 0;
  const int got = fscanf(file, "cpu %lu %lu %lu %lu %lu %lu %lu %lu", &user, &nice, &system, &idle,
                         &iowait, &irq, &softirq, &steal);
  fclose(file);
  if (got != 8) return 0;
  return static_cast<double>(user + nice + system + irq + softirq + steal) /
         static_cast<double>(sysconf(_SC_CLK_TCK));
}

double NoiseMeter::OwnSeconds() {
  double sum = 0;
  for (const int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    struct rusage usage;
    getrusage(who, &usage);
    sum += Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
  }
  return sum;
}

double NoiseMeter::OtherCpus() const {
  const double elapsed = static_cast<double>(NowNs() - start_ns_) / kNsPerSec;
  const double others = (BusySeconds() - busy_) - (OwnSeconds() - own_);
  return elapsed > 0 ? std::max(0.0, others / elapsed) : 0;
}

Report::Report(std::string title, std::vector<std::string> columns)
    : title_(std::move(title)), columns_(std::move(columns)) {}

void Report::Bar(std::string what, double value, double limit) {
  bars_.push_back({std::move(what), value, limit});
}

void Report::PrintTable() const {
  std::vector<size_t> width(columns_.size());
  auto widen = [&width](const std::vector<std::string>& cells) {
    for (size_t i = 0; i < cells.size() && i < width.size(); ++i) {
      width[i] = std::max(width[i], cells[i].size());
    }
  };
  auto print = [&width](const std::vector<std::string>& cells) {
    for (size_t i = 0; i < cells.size() && i < width.size(); ++i) {
      const int w = static_cast<int>(width[i]);
      // The first column names the row.
      printf(i == 0 ? "%-*s" : "  %*s", w, cells[i].c_str());
    }
    putchar('\n');
  };
  widen(columns_);
  for (const auto& row : rows_) widen(row);
  printf("%s\n\n", title_.c_str());
  print(columns_);
  for (const auto& row : rows_) print(row);
  putchar('\n');
  for (const std::string& note : notes_) printf("%s\n", note.c_str());
  for (const BarLine& bar : bars_) {
    printf("bar: %s: %.4g, at most %.4g: %s\n", bar.what.c_str(), bar.value, bar.limit,
           bar.pass() ? "PASS" : "FAIL");
  }
}

void Report::PrintJson(double others) const {
  printf("{\"title\": %s,\n \"columns\": %s,\n \"rows\": [", Quoted(title_).c_str(),
         QuotedList(columns_).c_str());
  for (size_t i = 0; i < rows_.size(); ++i) {
    printf("%s\n  %s", i > 0 ? "," : "", QuotedList(rows_[i]).c_str());
  }
  printf("],\n \"notes\": %s,\n \"bars\": [", QuotedList(notes_).c_str());
  for (size_t i = 0; i < bars_.size(); ++i) {
    printf("%s\n  {\"what\": %s, \"value\": %.6g, \"limit\": %.6g, \"pass\": %s}", i > 0 ? "," : "",
           Quoted(bars_[i].what).c_str(), bars_[i].value, bars_[i].limit,
           bars_[i].pass() ? "true" : "false");
  }
  printf("],\n \"other_cpus\": %.3f}\n", others);
}

int Report::Finish(const Options& options) {
  const double others = options.noise().OtherCpus();
  if (options.json()) {
    PrintJson(others);
  } else {
    PrintTable();
    printf("(the rest of the machine used %.2f of %ld CPUs meanwhile)\n", others,
           sysconf(_SC_NPROCESSORS_ONLN));
  }
  fflush(stdout);
  const bool missed =
      std::any_of(bars_.begin(), bars_.end(), [](const BarLine& bar) { return !bar.pass(); });
  return options.strict() && missed ? 1 : 0;
}

uint64_t NowNs() { return ClockNs(CLOCK_MONOTONIC); }
uint64_t ThreadCpuNs() { return ClockNs(CLOCK_THREAD_CPUTIME_ID); }

void BurnNs(uint64_t cpu_ns) {
  const uint64_t end = ThreadCpuNs() + cpu_ns;
  while (ThreadCpuNs() < end) {
  }
}

void SleepNs(uint64_t ns) {
  struct timespec ts = {static_cast<time_t>(ns / 1'000'000'000),
                        static_cast<long>(ns % 1'000'000'000)};
  while (nanosleep(&ts, &ts) != 0 && errno == EINTR) {
  }
}

std::vector<int> AllowedCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof(set), &set);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

void PinSelf(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof(set), &set);
}

void DoNotWatchCpus() { setenv("CMWQ_CONF", "cpu_watch_ms=0", 0); }

Switches SwitchesOfSelf() {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return {usage.ru_nvcsw, usage.ru_nivcsw};
}

Thread::Thread(int cpu, std::function<void()> body) : cpu_(cpu), body_(std::move(body)) {
  const int err = pthread_create(&handle_, nullptr, &Main, this);
  if (err != 0) {
    fprintf(stderr, "cannot create a thread: %s\n", strerror(err));
    abort();
  }
}

Thread::~Thread() { pthread_join(handle_, nullptr); }

void* Thread::Main(void* self) {
  const Thread* const thread = static_cast<Thread*>(self);
  if (thread->cpu_ >= 0) PinSelf(thread->cpu_);
  thread->body_();
  return nullptr;
}

void FutexWaitWhile(const int* word, int seen) {
  while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == seen) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, nullptr);
  }
}

void FutexWakeAll(const int* word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1 << 30); }

bool RunInChild(const std::function<void(void*)>& body, void* result, size_t size, int seconds) {
  void* const shared =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return false;
  fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(static_cast<unsigned>(seconds));
    body(shared);
    _exit(0);
  }
  int status = -1;
  while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (status == 0) {
    memcpy(result, shared, size);
  } else if (WIFSIGNALED(status)) {
    fprintf(stderr, "a measuring child died: %s\n", strsignal(WTERMSIG(status)));
  }
  munmap(shared, size);
  return status == 0;
}

std::string BuildFile(const char* path) {
  char self[4096];
  const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
  std::string folder(self, n > 0 ? static_cast<size_t>(n) : 0);
  for (int up = 0; up < 2; ++up)
    folder.resize(folder.rfind('/') == folder.npos ? 0 : folder.rfind('/'));
  return folder + "/" + path;
}

}  // namespace cmwq::bench
