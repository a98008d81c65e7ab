// Operations that nobody waits for, against workers that wait (announced plain calls) and a plain epoll
// loop: cost and rate of a byte to and fro over pipes and sockets, and of cached reads. Then operations
// on registered buffers and files against the same on memory and descriptors: over pipes, and reads past
// the page cache, many at once. Each way runs in a process of its own, because the settings are read once;
// rounds are interleaved, medians are printed.
//
// Usage: io_work [rounds] [repeats] [folder on a disk]

#include <cmwq/io_fixed.h>
#include <cmwq/io_work.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "runtime/base/sys.h"

namespace {

double CpuUs() {
  rusage r;
  getrusage(RUSAGE_SELF, &r);
  const auto us = [](timeval t) {
    return 1e6 * static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec);
  };
  return us(r.ru_utime) + us(r.ru_stime);
}

// The answering side of each pair: reads a byte, writes it back.
struct Echo {
  struct cmwq_io_work io;  // first
  struct cmwq_work work;
  struct cmwq_workqueue* wq;
  int in, out, left;
  int buffer = -1;  // registered: `in` is a registered file
  char c;
  std::atomic<int>* running;

  void Done() {
    if (running->fetch_sub(1) == 1) cmwq_futex_wake(reinterpret_cast<uint32_t*>(running), 1);
  }
};

void Put(int fd) {
  if (write(fd, "x", 1) != 1) abort();
}

void Await(Echo* e) {
  const bool begun =
      e->buffer < 0
          ? cmwq_io_read_work(e->wq, &e->io, e->in, &e->c, 1, -1, CMWQ_NO_TIMEOUT)
          : cmwq_io_read_fixed_work(e->wq, &e->io, e->in, &e->c, 1, -1, e->buffer, CMWQ_NO_TIMEOUT);
  if (!begun) abort();
}

void Completed(struct cmwq_work* work) {
  Echo* const e = reinterpret_cast<Echo*>(cmwq_io_work_of(work));
  if (e->io.result != 1) abort();
  Put(e->out);
  if (--e->left == 0) return e->Done();
  Await(e);
}

void Waits(struct cmwq_work* work) {
  Echo* const e =
      reinterpret_cast<Echo*>(reinterpret_cast<char*>(work) - offsetof(Echo, work));
  while (e->left-- > 0) {
    if (cmwq_io_read(e->in, &e->c, 1, -1) != 1) abort();
    Put(e->out);
  }
  e->Done();
}

struct Pairs {
  Pairs(int pairs, bool sockets, int rounds, std::atomic<int>* running) {
    for (int i = 0; i < 2 * pairs; i += 2) {
      std::array<int, 2> a, b;
      if (sockets) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, a.data()) != 0) abort();
        Add(a[0], a[0], rounds, running);
        Add(a[1], a[1], rounds, running);
      } else {
        if (pipe(a.data()) != 0 || pipe(b.data()) != 0) abort();
        Add(a[0], b[1], rounds, running);
        Add(b[0], a[1], rounds, running);
      }
    }
  }
  void Add(int in, int out, int rounds, std::atomic<int>* running) {
    sides.push_back(std::make_unique<Echo>());
    Echo* const e = sides.back().get();
    e->in = in;
    e->out = out;
    e->left = rounds;
    e->running = running;
  }
  std::vector<std::unique_ptr<Echo>> sides;
};

void EpollLoop(const Pairs& pairs) {
  const int set = epoll_create1(0);
  for (const auto& e : pairs.sides) {
    fcntl(e->in, F_SETFL, fcntl(e->in, F_GETFL) | O_NONBLOCK);
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.ptr = e.get();
    epoll_ctl(set, EPOLL_CTL_ADD, e->in, &event);
  }
  for (size_t left = pairs.sides.size(); left > 0;) {
    epoll_event events[64];
    const int n = epoll_wait(set, events, 64, -1);
    for (int i = 0; i < n; ++i) {
      Echo* const e = static_cast<Echo*>(events[i].data.ptr);
      if (read(e->in, &e->c, 1) != 1) continue;
      if (e->left > 0) Put(e->out);
      if (--e->left == 0) --left;
    }
  }
}

// From here on the pairs read by number. Unregistered by the end of the process.
void RegisterAll(const Pairs& pairs) {
  std::vector<iovec> memory;
  std::vector<int> fds;
  for (const auto& e : pairs.sides) {
    memory.push_back({&e->c, 1});
    fds.push_back(e->in);
  }
  const auto nr = static_cast<unsigned>(fds.size());
  const int buffer = cmwq_io_register_buffers(memory.data(), nr);
  const int file = cmwq_io_register_files(fds.data(), nr);
  if (buffer < 0 || file < 0) abort();
  for (size_t i = 0; i < fds.size(); ++i) {
    pairs.sides[i]->buffer = buffer + static_cast<int>(i);
    pairs.sides[i]->in = file + static_cast<int>(i);
  }
}

enum class Way { kRing, kFixed, kPoller, kWorker, kWorkerRing, kEpoll };

bool Completes(Way way) {
  return way == Way::kRing || way == Way::kFixed || way == Way::kPoller;
}

void PingPong(Way way, int nr_pairs, bool sockets, int rounds, double* wall_us, double* cpu_us) {
  std::atomic<int> running{2 * nr_pairs};
  Pairs pairs(nr_pairs, sockets, rounds, &running);
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("bench", 0, 2048);
  if (way == Way::kFixed) RegisterAll(pairs);
  const double cpu = CpuUs();
  const uint64_t start = cmwq::base::MonotonicNs();
  for (size_t i = 0; i < pairs.sides.size(); i += 2) Put(pairs.sides[i]->out);
  if (way == Way::kEpoll) {
    EpollLoop(pairs);
  } else {
    for (size_t i = 0; i < pairs.sides.size(); ++i) {
      Echo* const e = pairs.sides[i].get();
      e->wq = wq;
      if (Completes(way)) {
        cmwq_io_work_init(&e->io, &Completed);
        Await(e);
      } else {
        cmwq_work_init(&e->work, &Waits);
        cmwq_queue_work_on(static_cast<int>(i / 2 % 2), wq, &e->work);
      }
    }
    for (int n; (n = running.load()) > 0;) {
      cmwq_futex_wait(reinterpret_cast<uint32_t*>(&running), static_cast<uint32_t>(n),
                      CMWQ_NO_TIMEOUT);
    }
  }
  const double ops = 2.0 * nr_pairs * rounds;
  *wall_us = static_cast<double>(cmwq::base::MonotonicNs() - start) / 1e3 / ops;
  *cpu_us = (CpuUs() - cpu) / ops;
}

struct Reads {
  struct cmwq_io_work io;  // first
  struct cmwq_work work;
  struct cmwq_workqueue* wq;
  int fd, left;
  std::atomic<int> running{1};
  char page[4096];
  void Done() {
    running = 0;
    cmwq_futex_wake(reinterpret_cast<uint32_t*>(&running), 1);
  }
};

void CachedReads(Way way, int rounds, double* wall_us, double* cpu_us) {
  char name[] = "/tmp/cmwq_bench.XXXXXX";
  Reads r;
  r.fd = mkstemp(name);
  unlink(name);
  r.left = rounds;
  if (pwrite(r.fd, r.page, sizeof(r.page), 0) != 4096) abort();
  r.wq = cmwq_alloc_workqueue("bench", 0, 0);
  const double cpu = CpuUs();
  const uint64_t start = cmwq::base::MonotonicNs();
  if (way == Way::kEpoll) {
    while (r.left-- > 0) {
      if (pread(r.fd, r.page, sizeof(r.page), 0) != 4096) abort();
    }
  } else if (Completes(way)) {
    cmwq_io_work_init(&r.io, [](struct cmwq_work* work) {
      Reads* const self = reinterpret_cast<Reads*>(work);
      if (self->io.result != 4096) abort();
      if (--self->left == 0) return self->Done();
      cmwq_io_read_work(self->wq, &self->io, self->fd, self->page, 4096, 0, CMWQ_NO_TIMEOUT);
    });
    cmwq_io_read_work(r.wq, &r.io, r.fd, r.page, 4096, 0, CMWQ_NO_TIMEOUT);
    while (r.running.load() != 0) {
      cmwq_futex_wait(reinterpret_cast<uint32_t*>(&r.running), 1, CMWQ_NO_TIMEOUT);
    }
  } else {
    cmwq_work_init(&r.work, [](struct cmwq_work* work) {
      Reads* const self =
          reinterpret_cast<Reads*>(reinterpret_cast<char*>(work) - offsetof(Reads, work));
      while (self->left-- > 0) {
        if (cmwq_io_read(self->fd, self->page, 4096, 0) != 4096) abort();
      }
    });
    cmwq_queue_work(r.wq, &r.work);
    cmwq_flush_work(&r.work);
  }
  *wall_us = static_cast<double>(cmwq::base::MonotonicNs() - start) / 1e3 / rounds;
  *cpu_us = (CpuUs() - cpu) / rounds;
}

// Reads past the page cache, kDepth at once, each of which starts the next.
struct DirectRead {
  struct cmwq_io_work io;  // first
  struct Direct* all;
  char* page;
  uint32_t at;
};

struct Direct {
  static constexpr int kDepth = 16;
  static constexpr uint32_t kBlocks = 256;

  struct cmwq_workqueue* wq;
  size_t size;  // of a block
  int fd, buffer = -1;
  std::atomic<int> left, running{kDepth};
  std::array<DirectRead, kDepth> reads;
};

void NextDirect(DirectRead* r) {
  Direct* const all = r->all;
  if (all->left.fetch_sub(1) <= 0) {
    if (all->running.fetch_sub(1) == 1) {
      cmwq_futex_wake(reinterpret_cast<uint32_t*>(&all->running), 1);
    }
    return;
  }
  r->at = r->at * 1664525 + 1013904223;
  const auto offset = static_cast<int64_t>((r->at >> 8) % Direct::kBlocks * all->size);
  const bool begun =
      all->buffer < 0
          ? cmwq_io_read_work(all->wq, &r->io, all->fd, r->page, all->size, offset, CMWQ_NO_TIMEOUT)
          : cmwq_io_read_fixed_work(all->wq, &r->io, all->fd, r->page, all->size, offset, all->buffer,
                                    CMWQ_NO_TIMEOUT);
  if (!begun) abort();
}

// False: no file system here does that.
bool DirectReads(Way way, size_t size, const char* folder, int rounds, double* wall_us, double* cpu_us) {
  std::string name = std::string(folder) + "/cmwq_bench.XXXXXX";
  close(mkstemp(name.data()));
  Direct d;
  d.size = size;
  d.fd = open(name.c_str(), O_RDWR | O_DIRECT);
  unlink(name.c_str());
  char* const memory = static_cast<char*>(aligned_alloc(4096, size * Direct::kDepth));
  memset(memory, 1, size * Direct::kDepth);
  for (size_t i = 0; i < Direct::kBlocks; ++i) {
    const auto at = static_cast<off_t>(i * size);
    if (pwrite(d.fd, memory, size, at) != static_cast<ssize_t>(size)) return false;
  }
  d.wq = cmwq_alloc_workqueue("bench", 0, 0);
  if (way == Way::kFixed) {
    const iovec all = {memory, size * Direct::kDepth};
    d.buffer = cmwq_io_register_buffers(&all, 1);
    d.fd = cmwq_io_register_files(&d.fd, 1);
    if (d.buffer < 0 || d.fd < 0) abort();
  }
  d.left = rounds;
  const double cpu = CpuUs();
  const uint64_t start = cmwq::base::MonotonicNs();
  for (size_t i = 0; i < d.reads.size(); ++i) {
    DirectRead* const r = &d.reads[i];
    r->all = &d;
    r->page = memory + size * i;
    r->at = static_cast<uint32_t>(i);
    cmwq_io_work_init(&r->io, [](struct cmwq_work* work) {
      DirectRead* const self = reinterpret_cast<DirectRead*>(cmwq_io_work_of(work));
      if (self->io.result != static_cast<int64_t>(self->all->size)) abort();
      NextDirect(self);
    });
    NextDirect(r);
  }
  for (int n; (n = d.running.load()) > 0;) {
    cmwq_futex_wait(reinterpret_cast<uint32_t*>(&d.running), static_cast<uint32_t>(n), CMWQ_NO_TIMEOUT);
  }
  *wall_us = static_cast<double>(cmwq::base::MonotonicNs() - start) / 1e3 / rounds;
  *cpu_us = (CpuUs() - cpu) / rounds;
  return true;
}

struct Case {
  const char* name;
  int pairs;  // 0: cached reads; negative: bytes of reads past the cache
  bool sockets;
};
constexpr Case kCases[] = {{"pipe, 1 pair", 1, false},
                           {"pipe, 100 pairs", 100, false},
                           {"socket, 1 pair", 1, true},
                           {"socket, 100 pairs", 100, true},
                           {"cached 4 KiB read", 0, false}};
// Against each other: what registration is worth.
constexpr Case kFixedCases[] = {{"pipe, 100 pairs", 100, false},
                                {"O_DIRECT 4 KiB, 16", -4096, false},
                                {"O_DIRECT 64 KiB, 16", -65536, false}};
struct NamedWay {
  const char* name;
  const char* conf;
  Way way;
};
constexpr NamedWay kWays[] = {{"io_work, ring", "canary=0,io_uring=1", Way::kRing},
                              {"io_work, poller", "canary=0,io_uring=0", Way::kPoller},
                              {"worker, plain call", "canary=0,io_uring=0", Way::kWorker},
                              {"worker, its ring", "canary=0,io_uring=1", Way::kWorkerRing},
                              {"epoll loop", "", Way::kEpoll}};

constexpr NamedWay kFixedWays[] = {{"io_work, ring", "canary=0,io_uring=1", Way::kRing},
                                   {"registered, ring", "canary=0,io_uring=1", Way::kFixed}};

struct Figures {
  double wall_us, cpu_us;
};

// Negative: could not be done.
Figures InChild(const NamedWay& way, const Case& c, int rounds, const char* folder) {
  int ends[2];
  if (pipe(ends) != 0) abort();
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("CMWQ_CONF", way.conf, 1);
    Figures f;
    if (c.pairs < 0) {
      const auto size = static_cast<size_t>(-c.pairs);
      if (!DirectReads(way.way, size, folder, rounds, &f.wall_us, &f.cpu_us)) _exit(0);
    } else if (c.pairs == 0) {
      CachedReads(way.way, rounds, &f.wall_us, &f.cpu_us);
    } else {
      PingPong(way.way, c.pairs, c.sockets, rounds / c.pairs, &f.wall_us, &f.cpu_us);
    }
    if (write(ends[1], &f, sizeof(f)) != sizeof(f)) abort();
    _exit(0);
  }
  close(ends[1]);
  Figures f = {-1, -1};
  if (read(ends[0], &f, sizeof(f)) != sizeof(f)) f = {-1, -1};
  close(ends[0]);
  waitpid(pid, nullptr, 0);
  return f;
}

double Median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// Ratios are of neighbours, so that what others do on the machine meets both.
void CompareFixed(int rounds, int repeats, const char* folder) {
  printf("\n%-20s %-20s %12s %12s %12s\n", "registered, against", "", "us per op", "cpu us", "x");
  for (const Case& c : kFixedCases) {
    std::vector<double> wall[2], cpu[2], ratio, cpu_ratio;
    for (int i = 0; i < 2 * repeats; ++i) {
      Figures f[2];
      for (int w = 0; w < 2; ++w) f[w ^ (i & 1)] = InChild(kFixedWays[w ^ (i & 1)], c, rounds, folder);
      if (f[0].wall_us < 0 || f[1].wall_us < 0) break;
      for (int w = 0; w < 2; ++w) {
        wall[w].push_back(f[w].wall_us);
        cpu[w].push_back(f[w].cpu_us);
      }
      ratio.push_back(f[1].wall_us / f[0].wall_us);
      cpu_ratio.push_back(f[1].cpu_us / f[0].cpu_us);
    }
    if (ratio.empty()) {
      printf("%-20s could not be done in %s\n", c.name, folder);
      continue;
    }
    for (int w = 0; w < 2; ++w) {
      printf("%-20s %-20s %12.2f %12.2f\n", c.name, kFixedWays[w].name, Median(wall[w]), Median(cpu[w]));
    }
    const auto [least, most] = std::minmax_element(ratio.begin(), ratio.end());
    printf("%-20s %-20s %12.3f %12.3f  (time %.3f to %.3f)\n", c.name, "  ratio", Median(ratio),
           Median(cpu_ratio), *least, *most);
    fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? atoi(argv[1]) : 20000;
  const int repeats = argc > 2 ? atoi(argv[2]) : 5;
  const char* const folder = argc > 3 ? argv[3] : "/var/tmp";
  if (rounds < 100 || repeats < 1) return 1;
  printf("%-20s %-20s %12s %12s %12s\n", "what", "way", "ops/s", "us per op", "cpu us");
  for (const Case& c : kCases) {
    std::map<const char*, std::vector<double>> wall, cpu;
    for (int i = 0; i < repeats; ++i) {
      for (const NamedWay& way : kWays) {
        const Figures f = InChild(way, c, rounds, folder);
        wall[way.name].push_back(f.wall_us);
        cpu[way.name].push_back(f.cpu_us);
      }
    }
    for (const NamedWay& way : kWays) {
      const double us = Median(wall[way.name]);
      printf("%-20s %-20s %12.0f %12.2f %12.2f\n", c.name, way.name, 1e6 / us, us,
             Median(cpu[way.name]));
    }
    fflush(stdout);
  }
  CompareFixed(rounds, repeats, folder);
}
