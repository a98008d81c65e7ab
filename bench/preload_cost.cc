// What the preload costs: calls that do not block, on a thread that serves no connection and on one
// that does, the start of a process, and the memory of a thread that serves.
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
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <optional>
#include <thread>
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

// A connection of this process with itself, of which one request was served: under the preload the
// calling thread is a worker from then on.
bool ServeOneRequest() {
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  // Bound to its family alone it gets a name from the kernel.
  socklen_t size = sizeof(address.sun_family);
  const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool ok = bind(listener, raw, size) == 0 && listen(listener, 1) == 0;
  size = sizeof(address);
  ok = ok && getsockname(listener, raw, &size) == 0 && connect(client, raw, size) == 0;
  const int server = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  char byte = 0;
  ok = ok && send(client, &byte, 1, 0) == 1;
  pollfd wait = {server, POLLIN, 0};
  ok = ok && poll(&wait, 1, -1) == 1 && recv(server, &byte, 1, 0) == 1;
  for (const int fd : {listener, client, server}) close(fd);
  return ok;
}

// Resident memory of the process in KiB.
long ResidentKib() {
  FILE* const file = fopen("/proc/self/statm", "re");
  long pages = 0;
  if (file == nullptr || fscanf(file, "%*d %ld", &pages) != 1) pages = 0;
  if (file != nullptr) fclose(file);
  return pages * sysconf(_SC_PAGESIZE) / 1024;
}

// Resident memory that each of `n` threads adds which have served a request and sleep now.
int InsideMemory(long n) {
  if (!ServeOneRequest()) return 1;
  pthread_barrier_t served, end;
  pthread_barrier_init(&served, nullptr, static_cast<unsigned>(n) + 1);
  pthread_barrier_init(&end, nullptr, static_cast<unsigned>(n) + 1);
  const long before = ResidentKib();
  std::vector<std::thread> threads;
  for (long i = 0; i < n; ++i) {
    threads.emplace_back([&] {
      ServeOneRequest();
      pthread_barrier_wait(&served);
      pthread_barrier_wait(&end);
    });
  }
  pthread_barrier_wait(&served);
  const long after = ResidentKib();
  pthread_barrier_wait(&end);
  for (std::thread& thread : threads) thread.join();
  printf("%.3f\n", static_cast<double>(after - before) / static_cast<double>(n));
  return 0;
}

int Inside(long calls) {
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
  std::array<Samples, kCalls> worker_calls = {};
  Samples thread_kib = {};
  Samples exec_us = {};
};

// What this program prints when it is run with `arguments`: `n` numbers.
bool RunInside(std::vector<std::string> arguments, const Variant& variant, double* to, size_t n) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  arguments.insert(arguments.begin(), "/proc/self/exe");
  const bool ok = RunProgram(arguments, variant.env, ends[1]);
  close(ends[1]);
  FILE* const file = fdopen(ends[0], "r");
  bool read = true;
  for (size_t i = 0; i < n; ++i) read = fscanf(file, "%lf", &to[i]) == 1 && read;
  fclose(file);
  return ok && read;
}

bool MeasureCalls(long calls, Variant* variant) {
  std::array<double, kCalls> ns, worker_ns;
  double kib;
  const std::string inside = "--inside=" + std::to_string(calls);
  if (!RunInside({inside}, *variant, ns.data(), kCalls) ||
      !RunInside({inside, "--worker=1"}, *variant, worker_ns.data(), kCalls) ||
      !RunInside({"--memory=200"}, *variant, &kib, 1)) {
    return false;
  }
  for (size_t i = 0; i < kCalls; ++i) {
    variant->calls[i].Add(ns[i]);
    variant->worker_calls[i].Add(worker_ns[i]);
  }
  variant->thread_kib.Add(kib);
  return true;
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
            const std::function<const Samples&(const Variant&)>& of, std::optional<double> bar,
            Report* report) {
  std::vector<std::string> cells = {name};
  for (const Variant& v : variants) {
    cells.push_back(Fixed(of(v).Median(), decimals));
    cells.push_back(of(v).Spread(decimals));
  }
  const double added = of(variants[1]).Median() - of(variants[0]).Median();
  cells.push_back(Fixed(added, decimals));
  report->Row(cells);
  if (bar) report->Bar(name + ", added by the preload", added, *bar);
}

int Print(const std::vector<Variant>& variants, const Options& options) {
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
  // The prices of announcing a sleep that does not come, and of the lock that is tried first.
  for (size_t i = 0; i < kCalls; ++i) {
    AddRow(
        std::string(kCallKinds[i].name) + ", serving thread, ns", variants, 1,
        [i](const Variant& v) -> const Samples& { return v.worker_calls[i]; }, std::nullopt, &report);
  }
  AddRow(
      "resident memory of a serving thread, KiB", variants, 1,
      [](const Variant& v) -> const Samples& { return v.thread_kib; }, std::nullopt, &report);
  AddRow(
      "exec of /bin/true, us", variants, 0,
      [](const Variant& v) -> const Samples& { return v.exec_us; }, kBarExecUs, &report);
  return report.Finish(options);
}

int Main(int argc, char** argv) {
  long inside = 0, worker = 0, memory = 0, calls = 200'000, execs = 100;
  std::string preload = BuildFile("hooks/libcmwq-preload.so");
  Options options("Calls that do not block and starts of processes, with and without the preload.",
                  7);
  options.Number("calls", &calls, "calls of each kind and round");
  options.Number("execs", &execs, "starts of /bin/true per round");
  options.Number("inside", &inside, "only make that many calls and print their prices");
  options.Number("worker", &worker, "make them in a thread that serves connections");
  options.Number("memory", &memory, "only print what so many serving threads take, KiB each");
  options.Text("preload", &preload, "the preload, else from this build");
  if (const int code = options.Parse(argc, argv); code >= 0) return code;
  if (memory > 0) return InsideMemory(memory);
  if (inside > 0) {
    PinSelf(AllowedCpus().back());
    if (worker == 0) return Inside(inside);
    int code = 1;
    std::thread([&] {
      if (ServeOneRequest()) code = Inside(inside);
    }).join();
    return code;
  }

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
  return Print(variants, options);
}

}  // namespace
}  // namespace cmwq::bench

int main(int argc, char** argv) { return cmwq::bench::Main(argc, argv); }
