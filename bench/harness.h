// What every benchmark needs: rounds, quantiles, burnt CPU time, pinned threads, children, one
// table.
//
// A program measures its variants in interleaved rounds, so that a noisy second hits all of them,
// and prints medians and spread. It names the bars that it is judged by; a missed bar is an exit
// code only with --strict, for a shared machine misses bars that the code does not.

#ifndef CMWQ_BENCH_HARNESS_H_
#define CMWQ_BENCH_HARNESS_H_

#include <sys/types.h>

#include <cstdint>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

namespace cmwq::bench {

inline constexpr double kNsPerUs = 1e3;
inline constexpr double kNsPerMs = 1e6;
inline constexpr double kNsPerSec = 1e9;

// How much CPU everything else on the machine used since the construction: tells a reader what the
// numbers are worth. Time that a hypervisor took away counts as used.
class NoiseMeter {
 public:
  NoiseMeter();
  // CPUs, counting neither this process nor its children that have ended.
  double OtherCpus() const;

 private:
  static double BusySeconds();
  static double OwnSeconds();

  uint64_t start_ns_;
  double busy_;
  double own_;
};

// Command line: the options that all programs share, and numbers, texts and flags of its own.
class Options {
 public:
  Options(const char* about, int default_rounds) : about_(about), rounds_(default_rounds) {}

  void Number(const char* name, long* value, const char* help);
  void Text(const char* name, std::string* value, const char* help);
  void Flag(const char* name, bool* value, const char* help);
  // Returns -1 to go on, else the exit code.
  int Parse(int argc, char** argv);

  int rounds() const { return static_cast<int>(rounds_); }
  void set_rounds(int rounds) { rounds_ = rounds; }
  bool json() const { return json_; }
  bool strict() const { return strict_; }
  const NoiseMeter& noise() const { return noise_; }

 private:
  struct Own {
    const char* name;
    long* number;  // two of the three are null
    std::string* text;
    bool* flag;
    const char* help;
  };
  bool Take(const Own& own, const char* value);
  void PrintHelp(const char* program) const;

  const char* about_;
  std::vector<Own> own_;
  long rounds_;
  bool json_ = false;
  bool strict_ = false;
  NoiseMeter noise_;
};

// Measured values of one kind.
class Samples {
 public:
  void Add(double value) { values_.push_back(value); }
  void Add(const std::vector<double>& values) {
    values_.insert(values_.end(), values.begin(), values.end());
  }
  bool empty() const { return values_.empty(); }
  size_t size() const { return values_.size(); }
  const std::vector<double>& values() const { return values_; }
  // Nearest rank; 0 without samples.
  double Quantile(double q) const;
  double Median() const { return Quantile(0.5); }
  // "lowest-highest".
  std::string Spread(int decimals) const;

 private:
  std::vector<double> values_;
};

std::string Fixed(double value, int decimals);

// The one table of a program, its notes and its bars.
class Report {
 public:
  Report(std::string title, std::vector<std::string> columns);

  void Row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  void Note(std::string text) { notes_.push_back(std::move(text)); }
  // The program is judged by value <= limit.
  void Bar(std::string what, double value, double limit);
  // Prints everything; returns the exit code.
  int Finish(const Options& options);

 private:
  struct BarLine {
    std::string what;
    double value;
    double limit;
    bool pass() const { return value <= limit; }
  };
  void PrintTable() const;
  void PrintJson(double others) const;

  const std::string title_;
  const std::vector<std::string> columns_;
  std::vector<std::vector<std::string>> rows_;
  std::vector<std::string> notes_;
  std::vector<BarLine> bars_;
};

uint64_t NowNs();
uint64_t ThreadCpuNs();
// Uses CPU time, not time: preemption does not shorten the work.
void BurnNs(uint64_t cpu_ns);
void SleepNs(uint64_t ns);

std::vector<int> AllowedCpus();
void PinSelf(int cpu);
// For programs that pin their main thread, before the first use of the library, which takes that thread's
// CPUs for the process's while it watches them. A configuration that is given is left as it is.
void DoNotWatchCpus();

// Context switches of this process so far, all threads, voluntary or not.
struct Switches {
  long voluntary;
  long involuntary;
};
Switches SwitchesOfSelf();

// A stack-only thread: joined by its destructor.
class Thread {
 public:
  // cpu -1: not pinned.
  Thread(int cpu, std::function<void()> body);
  ~Thread();
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

 private:
  static void* Main(void* self);

  const int cpu_;
  const std::function<void()> body_;
  unsigned long handle_ = 0;
};

// Futex of one word: Wait returns once the word differs from `seen`.
void FutexWaitWhile(const int* word, int seen);
void FutexWakeAll(const int* word);

// Runs `body` in a forked child and hands its bytes over. False: the child crashed, or was killed
// because it took longer than `seconds`; that was said on stderr.
bool RunInChild(const std::function<void(void*)>& body, void* result, size_t size, int seconds);

template <class R>
std::optional<R> InChild(const std::function<void(R*)>& body, int seconds = 60) {
  static_assert(std::is_trivially_copyable_v<R>);
  R result{};
  const bool ok = RunInChild([&body](void* to) { body(static_cast<R*>(to)); }, &result,
                             sizeof(result), seconds);
  return ok ? std::optional<R>(result) : std::nullopt;
}

// A file of this build, by its path from the build folder; found through the program's own place.
std::string BuildFile(const char* path);

}  // namespace cmwq::bench

#endif  // CMWQ_BENCH_HARNESS_H_
