// The io functions with a ring, in plain announced calls, and what bare threads do with the bare
// calls. Prints one table; each way of waiting runs in a process of its own, because the settings
// are read once.
//
// Usage: io_wrappers [rounds]

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmwq/io.hpp>
#include <cmwq/workqueue.hpp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

namespace {

uint64_t NowNs() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<uint64_t>(ts.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(ts.tv_nsec);
}

struct Usage {
  Usage() { getrusage(RUSAGE_SELF, &r); }
  static double Us(timeval t) {
    return 1e6 * static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec);
  }
  double cpu_us() const { return Us(r.ru_utime) + Us(r.ru_stime); }
  rusage r;
};

struct Sample {
  std::vector<uint64_t> ns;
  Usage before, after;

  void Print(const char* way, const char* what) {
    after = Usage();
    std::sort(ns.begin(), ns.end());
    const double n = static_cast<double>(ns.size());
    printf("%-8s %-26s %9.2f %9.2f %9.2f %9.2f %8.2f\n", way, what,
           static_cast<double>(ns[ns.size() / 2]) / 1e3,
           static_cast<double>(ns[ns.size() * 99 / 100]) / 1e3,
           static_cast<double>(ns.back()) / 1e3, (after.cpu_us() - before.cpu_us()) / n,
           static_cast<double>(after.r.ru_nvcsw - before.r.ru_nvcsw) / n);
    fflush(stdout);
  }
};

using ReadFn = ssize_t (*)(int fd, void* buf, size_t len);
ssize_t BareRead(int fd, void* buf, size_t len) { return read(fd, buf, len); }
ssize_t WrappedRead(int fd, void* buf, size_t len) { return cmwq_io_read(fd, buf, len, -1); }

struct Pipes {
  std::array<int, 2> there, back;
  Pipes() {
    if (pipe(there.data()) != 0 || pipe(back.data()) != 0) abort();
  }
};

void Put(int fd) {
  if (write(fd, "x", 1) != 1) abort();
}

void Ping(const Pipes& p, int rounds, ReadFn read_fn, Sample* out) {
  char c;
  for (int i = 0; i < rounds; ++i) {
    const uint64_t start = NowNs();
    Put(p.there[1]);
    if (read_fn(p.back[0], &c, 1) != 1) abort();
    out->ns.push_back(NowNs() - start);
  }
}

void Pong(const Pipes& p, int rounds, ReadFn read_fn) {
  char c;
  for (int i = 0; i < rounds; ++i) {
    if (read_fn(p.there[0], &c, 1) != 1) abort();
    Put(p.back[1]);
  }
}

void CachedRead(int rounds, bool wrapped, Sample* out) {
  char name[] = "/tmp/cmwq_bench.XXXXXX";
  const int fd = mkstemp(name);
  unlink(name);
  std::vector<char> page(4096);
  if (pwrite(fd, page.data(), page.size(), 0) != 4096) abort();
  for (int i = 0; i < rounds; ++i) {
    const uint64_t start = NowNs();
    const ssize_t n =
        wrapped ? cmwq::io::read(fd, page, 0) : pread(fd, page.data(), page.size(), 0);
    out->ns.push_back(NowNs() - start);
    if (n != 4096) abort();
  }
  close(fd);
}

// How much later than asked a sleep of 1 ms ends.
void Oversleep(int rounds, bool wrapped, Sample* out) {
  constexpr uint64_t kNs = 1'000'000;
  const timespec ts = {0, kNs};
  for (int i = 0; i < rounds; ++i) {
    const uint64_t start = NowNs();
    if (wrapped) {
      cmwq_io_sleep(kNs);
    } else {
      nanosleep(&ts, nullptr);
    }
    out->ns.push_back(NowNs() - start - kNs);
  }
}

void Pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof(set), &set);
}

void Bare(int rounds) {
  for (const int other : {0, 1}) {
    Pipes p;
    Sample s;
    std::thread pong([&] {
      Pin(other);
      Pong(p, rounds, &BareRead);
    });
    std::thread ping([&] {
      Pin(0);
      Ping(p, rounds, &BareRead, &s);
    });
    ping.join();
    pong.join();
    s.Print("bare", other == 0 ? "pipe ping-pong, one CPU" : "pipe ping-pong, two CPUs");
  }
  Sample cached, late;
  CachedRead(rounds, false, &cached);
  cached.Print("bare", "cached 4 KiB read");
  Oversleep(rounds / 50, false, &late);
  late.Print("bare", "1 ms sleep, lateness");
}

// 2000 x (50 us of work, 1 ms sleep, 50 us of work): 101 ms on two CPUs if none is ever idle.
void Burn(uint64_t ns) {
  timespec ts;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  const long long start = ts.tv_sec * 1'000'000'000LL + ts.tv_nsec;
  long long now = start;
  while (now - start < static_cast<long long>(ns)) {
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    now = ts.tv_sec * 1'000'000'000LL + ts.tv_nsec;
  }
}

void Wrapped(const char* way, int rounds) {
  cmwq::Workqueue queue("bench");
  if (!queue) abort();
  for (const int other : {0, 1}) {
    Pipes p;
    Sample s;
    cmwq::Work pong([&] { Pong(p, rounds, &WrappedRead); });
    cmwq::Work ping([&] { Ping(p, rounds, &WrappedRead, &s); });
    queue.queue_on(other, pong);
    queue.queue_on(0, ping);
    ping.flush();
    pong.flush();
    s.Print(way, other == 0 ? "pipe ping-pong, one CPU" : "pipe ping-pong, two CPUs");
  }
  Sample cached, late, all;
  cmwq::Work cached_read([&] { CachedRead(rounds, true, &cached); });
  queue.queue_on(0, cached_read);
  cached_read.flush();
  cached.Print(way, "cached 4 KiB read");
  cmwq::Work sleeper([&] { Oversleep(rounds / 50, true, &late); });
  queue.queue_on(0, sleeper);
  sleeper.flush();
  late.Print(way, "1 ms sleep, lateness");
  const int nr_cpus = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  for (int run = 0; run < 3; ++run) {
    auto item = [] {
      Burn(50'000);
      cmwq_io_sleep(1'000'000);
      Burn(50'000);
    };
    std::vector<std::unique_ptr<cmwq::Work<decltype(item)>>> items;
    for (int i = 0; i < 2000; ++i)
      items.push_back(std::make_unique<cmwq::Work<decltype(item)>>(item));
    const uint64_t start = NowNs();
    for (int i = 0; i < 2000; ++i) queue.queue_on(i % nr_cpus, *items[i]);
    queue.flush();
    all.ns.push_back(NowNs() - start);
  }
  all.Print(way, "2000 x (50us,1ms,50us)");
}

template <class F>
void InChild(F fn) {
  fflush(stdout);
  const pid_t pid = fork();
  if (pid == 0) {
    fn();
    fflush(stdout);
    _exit(0);
  }
  waitpid(pid, nullptr, 0);
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? atoi(argv[1]) : 20000;
  if (rounds < 100) return 1;
  printf("%-8s %-26s %9s %9s %9s %9s %8s\n", "way", "what", "p50 us", "p99 us", "max us", "cpu us",
         "switches");
  InChild([&] { Bare(rounds); });
  for (const char* const conf : {"io_uring=0,cpu_watch_ms=0", "io_uring=2,cpu_watch_ms=0"}) {
    InChild([&] {
      setenv("CMWQ_CONF", conf, 1);
      Wrapped(conf[9] == '0' ? "plain" : "ring", rounds);
    });
  }
}
