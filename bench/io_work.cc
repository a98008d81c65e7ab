// Operations that nobody waits for, against workers that wait (announced plain calls) and a plain epoll
// loop: cost and rate of a byte to and fro over pipes and sockets, and of cached reads. Each way runs in a
// process of its own, because the settings are read once; rounds are interleaved, medians are printed.
//
// Usage: io_work [rounds] [repeats]

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
  if (!cmwq_io_read_work(e->wq, &e->io, e->in, &e->c, 1, -1, CMWQ_NO_TIMEOUT)) abort();
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

enum class Way { kRing, kPoller, kWorker, kWorkerRing, kEpoll };

void PingPong(Way way, int nr_pairs, bool sockets, int rounds, double* wall_us, double* cpu_us) {
  std::atomic<int> running{2 * nr_pairs};
  Pairs pairs(nr_pairs, sockets, rounds, &running);
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("bench", 0, 2048);
  const double cpu = CpuUs();
  const uint64_t start = cmwq::base::MonotonicNs();
  for (size_t i = 0; i < pairs.sides.size(); i += 2) Put(pairs.sides[i]->out);
  if (way == Way::kEpoll) {
    EpollLoop(pairs);
  } else {
    for (size_t i = 0; i < pairs.sides.size(); ++i) {
      Echo* const e = pairs.sides[i].get();
      e->wq = wq;
      if (way == Way::kRing || way == Way::kPoller) {
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
  } else if (way == Way::kRing || way == Way::kPoller) {
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

struct Case {
  const char* name;
  int pairs;  // 0: cached reads
  bool sockets;
};
constexpr Case kCases[] = {{"pipe, 1 pair", 1, false},
                           {"pipe, 100 pairs", 100, false},
                           {"socket, 1 pair", 1, true},
                           {"socket, 100 pairs", 100, true},
                           {"cached 4 KiB read", 0, false}};
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

struct Figures {
  double wall_us, cpu_us;
};

Figures InChild(const NamedWay& way, const Case& c, int rounds) {
  int ends[2];
  if (pipe(ends) != 0) abort();
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("CMWQ_CONF", way.conf, 1);
    Figures f;
    if (c.pairs == 0) {
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

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? atoi(argv[1]) : 20000;
  const int repeats = argc > 2 ? atoi(argv[2]) : 5;
  if (rounds < 100 || repeats < 1) return 1;
  printf("%-20s %-20s %12s %12s %12s\n", "what", "way", "ops/s", "us per op", "cpu us");
  for (const Case& c : kCases) {
    std::map<const char*, std::vector<double>> wall, cpu;
    for (int i = 0; i < repeats; ++i) {
      for (const NamedWay& way : kWays) {
        const Figures f = InChild(way, c, rounds);
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
}
