// What the preload costs a program that gains nothing from it: calls that do not block, on a thread
// that serves no connection, and the start of a process.
//
// This program measures itself: run with --inside it makes the calls and prints their prices;
// without, it starts itself so with and without the preload. It must not link cmwq.

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <vector>

#include "bench/harness.h"

extern char** environ;

namespace cmwq::bench {
namespace {

constexpr size_t kCalls = 4;
struct CallKind {
  const char* name;
  int wrapped;  // wrapped calls in one measured unit
};
constexpr std::array<CallKind, kCalls> kCallKinds = {{{"mutex lock and unlock", 2},
                                                      {"read /dev/zero, 1 byte", 1},
                                                      {"send and recv, socketpair", 2},
                                                      {"poll, no time-out", 1}}};
constexpr double kBarPerCallNs = 10;
constexpr double kBarExecUs = 300;

double TimePer(long n, const std::function<void()>& once) {
  const uint64_t start = NowNs();
  for (long i = 0; i < n; ++i) once();
  return static_cast<double>(NowNs() - start) / static_cast<double>(n);
}

// Best of several, so that an interruption does not count.
double Best(long n, const std::function<void()>& once) {
  Samples samples;
  for (int i = 0; i < 10; ++i) samples.Add(TimePer(n / 10, once));
  return samples.Quantile(0);
}

int Inside(long calls) {
  PinSelf(AllowedCpus().back());
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  const int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  int pair[2];
  if (zero < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return 1;
  char byte = 0;
  long bad = 0;
  const double mutex_ns = Best(calls * 5, [] {
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
  });
  const double read_ns = Best(calls, [&] { bad += read(zero, &byte, 1) != 1; });
  const double send_ns = Best(calls, [&] {
    bad += send(pair[0], &byte, 1, 0) != 1;
    bad += recv(pair[1], &byte, 1, 0) != 1;
  });
  pollfd wait = {pair[0], POLLIN, 0};
  const double poll_ns = Best(calls, [&] { bad += poll(&wait, 1, 0) != 0; });
  printf("%.2f %.2f %.2f %.2f\n", mutex_ns, read_ns, send_ns, poll_ns);
  return bad == 0 ? 0 : 1;
}

// The environment of a variant.
std::vector<std::string> Environment(const std::string& preload, bool disable) {
  std::vector<std::string> env;
  for (char** at = environ; *at != nullptr; ++at) {
    const bool ours = strncmp(*at, "LD_PRELOAD=", 11) == 0 || strncmp(*at, "CMWQ_", 5) == 0;
    if (!ours) env.emplace_back(*at);
  }
  if (!preload.empty()) env.push_back("LD_PRELOAD=" + preload);
  if (disable) env.push_back("CMWQ_DISABLE=1");
  return env;
}

// Starts a program with its output into `out` (-1: ours) and waits for it.
bool RunProgram(const std::vector<std::string>& arguments, const std::vector<std::string>& env,
                int out) {
  std::vector<char*> argv, envp;
  for (const std::string& text : arguments) argv.push_back(const_cast<char*>(text.c_str()));
  for (const std::string& text : env) envp.push_back(const_cast<char*>(text.c_str()));
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (out >= 0) posix_spawn_file_actions_adddup2(&actions, out, 1);
  pid_t pid = -1;
  const int err = posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  int status = -1;
  return err == 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

struct Variant {
  const char* name;
  std::vector<std::string> env;
  std::array<Samples, kCalls> calls = {};
  Samples exec_us = {};
};

bool MeasureCalls(long calls, Variant* variant) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  const bool ok =
      RunProgram({"/proc/self/exe", "--inside=" + std::to_string(calls)}, variant->env, ends[1]);
  close(ends[1]);
  std::array<double, kCalls> ns;
  FILE* const file = fdopen(ends[0], "r");
  const bool read = fscanf(file, "%lf %lf %lf %lf", &ns[0], &ns[1], &ns[2], &ns[3]) == kCalls;
  fclose(file);
  for (size_t i = 0; i < kCalls && read; ++i) variant->calls[i].Add(ns[i]);
  return ok && read;
}

bool MeasureExec(long execs, Variant* variant) {
  Samples samples;
  bool ok = true;
  for (long i = 0; i < execs; ++i) {
    const uint64_t start = NowNs();
    ok = RunProgram({"/bin/true"}, variant->env, -1) && ok;
    samples.Add(static_cast<double>(NowNs() - start) / kNsPerUs);
  }
  // The quick ones: a start that had to wait for a CPU says nothing about the preload.
  variant->exec_us.Add(samples.Quantile(0.1));
  return ok;
}

void AddRow(const std::string& name, const std::vector<Variant>& variants, int decimals,
            const std::function<const Samples&(const Variant&)>& of, double bar, Report* report) {
  std::vector<std::string> cells = {name};
  for (const Variant& v : variants) {
    cells.push_back(Fixed(of(v).Median(), decimals));
    cells.push_back(of(v).Spread(decimals));
  }
  const double added = of(variants[1]).Median() - of(variants[0]).Median();
  cells.push_back(Fixed(added, decimals));
  report->Row(cells);
  report->Bar(name + ", added by the preload", added, bar);
}

int Main(int argc, char** argv) {
  long inside = 0, calls = 200'000, execs = 100;
  std::string preload = BuildFile("hooks/libcmwq-preload.so");
  Options options("Calls that do not block and starts of processes, with and without the preload.",
                  7);
  options.Number("calls", &calls, "calls of each kind and round");
  options.Number("execs", &execs, "starts of /bin/true per round");
  options.Number("inside", &inside, "only make that many calls and print their prices");
  options.Text("preload", &preload, "the preload, else from this build");
  if (const int code = options.Parse(argc, argv); code >= 0) return code;
  if (inside > 0) return Inside(inside);

  std::vector<Variant> variants;
  variants.push_back({"plain", Environment("", false)});
  variants.push_back({"preload", Environment(preload, false)});
  variants.push_back({"CMWQ_DISABLE=1", Environment(preload, true)});
  for (int round = 0; round < options.rounds(); ++round) {
    for (Variant& variant : variants) {
      if (!MeasureCalls(calls, &variant) || !MeasureExec(execs, &variant)) {
        fprintf(stderr, "%s: a measurement failed\n", variant.name);
        return 3;
      }
    }
  }
  std::vector<std::string> columns = {"what"};
  for (const Variant& v : variants) {
    columns.push_back(v.name);
    columns.push_back("spread");
  }
  columns.push_back("added");
  Report report("cost of the preload for calls that do not block", columns);
  for (size_t i = 0; i < kCalls; ++i) {
    AddRow(
        std::string(kCallKinds[i].name) + ", ns", variants, 1,
        [i](const Variant& v) -> const Samples& { return v.calls[i]; },
        kBarPerCallNs* kCallKinds[i].wrapped, &report);
  }
  AddRow(
      "exec of /bin/true, us", variants, 0,
      [](const Variant& v) -> const Samples& { return v.exec_us; }, kBarExecUs, &report);
  return report.Finish(options);
}

}  // namespace
}  // namespace cmwq::bench

int main(int argc, char** argv) { return cmwq::bench::Main(argc, argv); }
