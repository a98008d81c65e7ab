#include "tests/hotplug/load.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <bit>
#include <random>
#include <string>

#include "runtime/platform/cpu_set.h"
#include "tools/demo/work.h"

namespace cmwq::hotplug {
namespace {

constexpr int kItems = 256;
constexpr int kProducers = 2;
constexpr int kMostWaiting = 256;  // of a per-CPU load: a machine that is too slow does not queue without end
constexpr unsigned kPauseUs = 300;  // of a producer between two items: emulated CPUs are slow
constexpr uint64_t kRounds = 2000;  // some 20 us of computing here
constexpr int kMostInTurn = 8;  // waiting in the queue that runs one after the other

// What an item does: it computes, and some wait, announced or not.
void Work(uint32_t kind) {
  if (kind % 8 == 0) {
    cmwq_block_begin();
    SleepUs(1000);
    cmwq_block_end();
  } else if (kind % 32 == 1) {
    SleepUs(1000);
  } else {
    static std::atomic<uint64_t> sink;
    sink.store(tools::Compute(kind, kRounds), std::memory_order_relaxed);
  }
}

// An item for `cpu` and how long it took to begin.
uint64_t ProbeQueue(cmwq_workqueue* wq, int cpu, Delays* delays) {
  struct Probe {
    cmwq_work work;  // first
    Delays* delays;
    uint64_t took_ns = 0;
    Stamp queued = {};
  } probe = {{}, delays};
  cmwq_work_init(&probe.work, [](cmwq_work* w) {
    auto* const p = reinterpret_cast<Probe*>(w);
    p->took_ns = p->delays->See(p->queued);
  });
  cmwq_queue_work_on(cpu, wq, &probe.work);
  cmwq_flush_work(&probe.work);
  return probe.took_ns;
}

class CmwqLoad final : public Load {
 public:
  explicit CmwqLoad(int cpus) : cpus_(static_cast<unsigned>(cpus)), items_(kItems) {
    queues_[0] = cmwq_alloc_workqueue("normal", 0, 0);
    queues_[1] = cmwq_alloc_workqueue("high", CMWQ_HIGHPRI, 0);
    queues_[2] = cmwq_alloc_workqueue("unbound", CMWQ_UNBOUND, 0);
    queues_[3] = cmwq_alloc_workqueue("reclaim", CMWQ_MEM_RECLAIM, 1);
    for (Item& item : items_) {
      cmwq_work_init(&item.work, &Run);
      item.load = this;
    }
  }

  void Start() override {
    for (int i = 0; i < kProducers; ++i) producers_.emplace_back([this, i] { Produce(i); });
  }

  void Stop() override {
    stop_.store(true);
    for (std::thread& t : producers_) t.join();
    for (cmwq_workqueue* const wq : queues_) cmwq_drain_workqueue(wq);
  }

  uint64_t Probe(int cpu) override {
    queued_.fetch_add(1);
    const uint64_t took = ProbeQueue(queues_[0], cpu, &delay);
    executed_.fetch_add(1);
    return took;
  }

  uint64_t queued() const override { return queued_.load(); }
  uint64_t executed() const override { return executed_.load(); }
  uint64_t cancelled() const override { return cancelled_.load(); }

 private:
  struct Item {
    cmwq_work work;  // first
    CmwqLoad* load;
    std::atomic<bool> busy{false};
    Stamp queued = {};
    uint32_t kind = 0;
    int queue = 0;
  };

  void Free(Item* item) {
    if (item->queue == kInTurn) in_turn_.fetch_sub(1);
    item->busy.store(false);
  }

  static void Run(cmwq_work* work) {
    Item* const item = reinterpret_cast<Item*>(work);
    CmwqLoad* const load = item->load;
    load->delay.See(item->queued);
    load->longest_rounds[item->queue].See(Rounds::Now() - item->queued.round);
    // Made by whatever thread: every worker has the program's descriptors.
    if (fcntl(load->descriptor_, F_GETFD) < 0) load->strangers.fetch_add(1);
    Work(item->kind);
    load->executed_.fetch_add(1);
    load->Free(item);
  }

  void Produce(int seed) {
    std::mt19937 random(static_cast<unsigned>(seed));
    while (!stop_.load()) {
      Item& item = items_[random() % kItems];
      if (!item.busy.exchange(true)) {
        item.queued = {};
        item.kind = static_cast<uint32_t>(random());
        queued_.fetch_add(1);
        item.queue = static_cast<int>(random() % 4);
        if (item.queue == kInTurn && in_turn_.fetch_add(1) >= kMostInTurn) {
          in_turn_.fetch_sub(1);
          item.queue = 0;
        }
        const int cpu = random() % 2 == 0 ? CMWQ_CPU_ANY : static_cast<int>(random() % cpus_);
        // Nobody else queues it: refused would mean lost, and the account will say so.
        cmwq_queue_work_on(cpu, queues_[item.queue], &item.work);
      } else if (random() % 4 == 0 && cmwq_cancel_work(&item.work)) {
        cancelled_.fetch_add(1);
        Free(&item);
      }
      SleepUs(kPauseUs);
    }
  }

  const unsigned cpus_;
  const int descriptor_ = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  std::vector<Item> items_;
  static constexpr int kInTurn = 3;
  cmwq_workqueue* queues_[4];
  std::atomic<int> in_turn_{0};
  std::vector<std::thread> producers_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> queued_{0}, executed_{0}, cancelled_{0};
};

// Items for CPUs, made by two threads and never cancelled.
class PerCpu : public Load {
 public:
  void Start() override {
    for (int i = 0; i < kProducers; ++i) producers_.emplace_back([this, i] { Produce(i); });
  }
  void Stop() override {
    stop_.store(true);
    for (std::thread& t : producers_) t.join();
    Drain();
  }
  uint64_t queued() const override { return queued_.load(); }
  uint64_t executed() const override { return executed_.load(); }
  uint64_t cancelled() const override { return 0; }

 protected:
  explicit PerCpu(int cpus) : cpus_(static_cast<unsigned>(cpus)) {}
  virtual void Queue(int cpu, uint32_t kind) = 0;
  virtual void Drain() = 0;
  void Execute(const Stamp& queued, int cpu, uint32_t kind) {
    delay.See(queued);
    if (sched_getcpu() != cpu) elsewhere.fetch_add(1);
    Work(kind);
    executed_.fetch_add(1);
  }
  std::atomic<uint64_t> queued_{0}, executed_{0};

 private:
  void Produce(int seed) {
    std::mt19937 random(static_cast<unsigned>(seed));
    while (!stop_.load()) {
      const auto kind = static_cast<uint32_t>(random());
      const auto cpu = static_cast<int>(random() % cpus_);
      if (queued_.load() - executed_.load() < kMostWaiting) {
        queued_.fetch_add(1);
        Queue(cpu, kind);
      }
      SleepUs(kPauseUs);
    }
  }

  const unsigned cpus_;
  std::vector<std::thread> producers_;
  std::atomic<bool> stop_{false};
};

class CmwqPerCpuLoad final : public PerCpu {
 public:
  explicit CmwqPerCpuLoad(int cpus) : PerCpu(cpus) {}
  uint64_t Probe(int cpu) override {
    queued_.fetch_add(1);
    const uint64_t took = ProbeQueue(wq_, cpu, &delay);
    executed_.fetch_add(1);
    return took;
  }

 private:
  struct Item {
    cmwq_work work;  // first
    CmwqPerCpuLoad* load;
    int cpu;
    uint32_t kind;
    Stamp queued = {};
  };
  static void Run(cmwq_work* work) {
    const std::unique_ptr<Item> item(reinterpret_cast<Item*>(work));
    item->load->Execute(item->queued, item->cpu, item->kind);
  }
  void Queue(int cpu, uint32_t kind) override {
    auto* const item = new Item{{}, this, cpu, kind};
    cmwq_work_init(&item->work, &Run);
    cmwq_queue_work_on(cpu, wq_, &item->work);
  }
  void Drain() override { cmwq_drain_workqueue(wq_); }

  cmwq_workqueue* const wq_ = cmwq_alloc_workqueue("percpu", 0, 0);
};

// One pinned thread and one queue per CPU.
class PlainLoad final : public PerCpu {
 public:
  explicit PlainLoad(int cpus) : PerCpu(cpus) {
    for (int cpu = 0; cpu < cpus; ++cpu) lanes_.push_back(std::make_unique<Lane>());
    for (int cpu = 0; cpu < cpus; ++cpu) {
      Lane& lane = *lanes_[static_cast<size_t>(cpu)];
      lane.thread = std::thread([&lane] { Serve(lane); });
      const std::string name = "plain/" + std::to_string(cpu);
      pthread_setname_np(lane.thread.native_handle(), name.c_str());
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      pthread_setaffinity_np(lane.thread.native_handle(), sizeof(one), &one);
    }
  }

  uint64_t Probe(int cpu) override {
    std::mutex mu;
    std::condition_variable done;
    uint64_t took_ns = 0;
    bool began = false;
    queued_.fetch_add(1);
    Add(cpu, [&, queued = Stamp()] {
      std::lock_guard<std::mutex> hold(mu);
      took_ns = delay.See(queued);
      began = true;
      done.notify_one();
    });
    std::unique_lock<std::mutex> hold(mu);
    done.wait(hold, [&] { return began; });
    executed_.fetch_add(1);
    return took_ns;
  }

 private:
  struct Lane {
    std::mutex mu;
    std::condition_variable more;
    std::deque<std::function<void()>> items;
    bool end = false;
    std::thread thread;
  };

  void Queue(int cpu, uint32_t kind) override {
    Add(cpu, [this, cpu, kind, queued = Stamp()] { Execute(queued, cpu, kind); });
  }

  void Add(int cpu, std::function<void()> fn) {
    Lane& lane = *lanes_[static_cast<size_t>(cpu)];
    {
      std::lock_guard<std::mutex> hold(lane.mu);
      lane.items.push_back(std::move(fn));
    }
    lane.more.notify_one();
  }

  void Drain() override {
    for (auto& lane : lanes_) {
      {
        std::lock_guard<std::mutex> hold(lane->mu);
        lane->end = true;
      }
      lane->more.notify_one();
      lane->thread.join();
    }
  }

  static void Serve(Lane& lane) {
    std::unique_lock<std::mutex> hold(lane.mu);
    for (;;) {
      lane.more.wait(hold, [&] { return lane.end || !lane.items.empty(); });
      if (lane.items.empty()) return;
      const auto item = std::move(lane.items.front());
      lane.items.pop_front();
      hold.unlock();
      item();
      hold.lock();
    }
  }

  std::vector<std::unique_ptr<Lane>> lanes_;
};

int Connect(const char* path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return fd;
  close(fd);
  return -1;
}

// One request and its answer, to the end of the line.
bool Ask(int fd, unsigned number) {
  char text[64];
  const int n = snprintf(text, sizeof(text), number % 2 == 0 ? "GET %u %u\n" : "PUT %u %u 7\n",
                         number % 100, number);
  if (write(fd, text, static_cast<size_t>(n)) != n) return false;
  size_t used = 0;
  while (used < sizeof(text) - 1) {
    const ssize_t got = read(fd, text + used, sizeof(text) - 1 - used);
    if (got <= 0) return false;
    used += static_cast<size_t>(got);
    if (text[used - 1] == '\n') break;
  }
  text[used] = '\0';
  unsigned answered = 0;
  return sscanf(text, "%u ", &answered) == 1 && answered == number;
}

}  // namespace

uint64_t NowNs() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<uint64_t>(ts.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(ts.tv_nsec);
}

void SleepUs(unsigned us) {
  const timespec ts = {us / 1'000'000, static_cast<long>(us % 1'000'000) * 1000};
  nanosleep(&ts, nullptr);
}

std::unique_ptr<Load> MakeCmwqLoad(int cpus) { return std::make_unique<CmwqLoad>(cpus); }
std::unique_ptr<Load> MakePerCpuLoad(int cpus) { return std::make_unique<CmwqPerCpuLoad>(cpus); }
std::unique_ptr<Load> MakePlainLoad(int cpus) { return std::make_unique<PlainLoad>(cpus); }

int Delays::Bucket(uint64_t ns) {
  if (ns < 8) return static_cast<int>(ns);
  const int shift = std::bit_width(ns) - 4;  // leaves the highest bit and three below
  return shift * 8 + static_cast<int>(ns >> shift);
}

uint64_t Delays::PercentileNs(unsigned percent) const {
  uint64_t all = 0, below = 0;
  for (const auto& count : counts_) all += count.load(std::memory_order_relaxed);
  int i = 0;
  while (i < kBuckets - 1) {
    below += counts_[i].load(std::memory_order_relaxed);
    if (below * 100 > all * percent) break;
    ++i;
  }
  return i < 8 ? static_cast<uint64_t>(i) : static_cast<uint64_t>(i % 8 + 8) << (i / 8 - 1);
}

std::atomic<uint64_t> Rounds::now_{0};
Longest Rounds::nap_;

Rounds::Rounds(int cpus) : all_((uint64_t{1} << cpus) - 1) {
  for (int cpu = 0; cpu < cpus; ++cpu) threads_.emplace_back([this, cpu] { Nap(cpu); });
}

Rounds::~Rounds() {
  stop_.store(true);
  for (std::thread& t : threads_) t.join();
}

void Rounds::Nap(int cpu) {
  while (!stop_.load()) {
    if (sched_getcpu() != cpu) {
      // Refused while the CPU is away or out of the cpuset.
      const platform::CpuSet one = platform::CpuSet::Of(cpu);
      one.StoreAffinity(0);
    }
    const uint64_t from = NowNs();
    SleepUs(1'000'000 / kPerSecond);
    nap_.See(NowNs() - from);
    const uint64_t bit = uint64_t{1} << cpu;
    uint64_t all = all_;
    if ((done_.fetch_or(bit) | bit) == all && done_.compare_exchange_strong(all, 0)) {
      now_.fetch_add(1, std::memory_order_relaxed);
    }
  }
}

Clients::Clients(const char* path, int n) {
  for (int i = 0; i < n; ++i) threads_.emplace_back([this, path] { Run(path); });
}

void Clients::Run(const char* path) {
  const int fd = Connect(path);
  for (unsigned number = 0; !stop_.load(); ++number) {
    const Stamp from;
    if (fd < 0 || !Ask(fd, number)) {
      failed_.fetch_add(1);
      break;
    }
    wait.See(from);
    answered_.fetch_add(1);
    SleepUs(2000);
  }
  if (fd >= 0) close(fd);
}

void Clients::Stop() {
  stop_.store(true);
  for (std::thread& t : threads_) t.join();
  threads_.clear();
}

}  // namespace cmwq::hotplug
