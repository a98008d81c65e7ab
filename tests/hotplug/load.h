// What runs in the guest while its CPUs come and go: cmwq with items of all kinds, and with the load of the
// pool that people write by hand, that pool, the clients of a server, and a thread that only sleeps and so shows what the guest does
// to everybody.

#ifndef CMWQ_TESTS_HOTPLUG_LOAD_H_
#define CMWQ_TESTS_HOTPLUG_LOAD_H_

#include <cmwq/cmwq.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace cmwq::hotplug {

uint64_t NowNs();
void SleepUs(unsigned us);

// The longest of what many threads saw.
class Longest {
 public:
  void See(uint64_t ns) {
    uint64_t seen = ns_.load(std::memory_order_relaxed);
    while (ns > seen && !ns_.compare_exchange_weak(seen, ns, std::memory_order_relaxed)) {}
  }
  uint64_t ns() const { return ns_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> ns_{0};
};

// From queueing to the function, of many items.
class Delays {
 public:
  void See(uint64_t ns) {
    longest_.See(ns);
    if (ns > kLateNs) late_.fetch_add(1, std::memory_order_relaxed);
    counts_[Bucket(ns)].fetch_add(1, std::memory_order_relaxed);
  }
  uint64_t longest_ns() const { return longest_.ns(); }
  uint64_t late() const { return late_.load(std::memory_order_relaxed); }
  // To an eighth.
  uint64_t PercentileNs(unsigned percent) const;
  static constexpr uint64_t kLateNs = 100'000'000;

 private:
  // Eight for each power of two.
  static constexpr int kBuckets = 64 * 8;
  static int Bucket(uint64_t ns);
  Longest longest_;
  std::atomic<uint64_t> late_{0};
  std::atomic<uint64_t> counts_[kBuckets] = {};
};

// A pool that items can be given to, CPU by CPU, and that can be asked to run one at once.
class Load {
 public:
  virtual ~Load() = default;
  virtual void Start() = 0;
  // Stops giving items and waits for those that were given.
  virtual void Stop() = 0;
  // An item for this CPU, from now until its function begins.
  virtual uint64_t Probe(int cpu) = 0;
  virtual uint64_t queued() const = 0;
  virtual uint64_t executed() const = 0;
  virtual uint64_t cancelled() const = 0;
  Delays delay;
  std::atomic<int> strangers{0};  // items that found a descriptor of the program closed
};
// All kinds of queues, items that are queued again and cancelled.
std::unique_ptr<Load> MakeCmwqLoad(int cpus);
// The same items for both, each for a given CPU.
std::unique_ptr<Load> MakePerCpuLoad(int cpus);
std::unique_ptr<Load> MakePlainLoad(int cpus);

// Sleeps a millisecond at a time; its longest nap is what no pool can be blamed for.
class Heartbeat {
 public:
  Heartbeat();
  ~Heartbeat();
  Longest gap;

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Clients of the demo's server at `path`.
class Clients {
 public:
  Clients(const char* path, int n);
  ~Clients() { Stop(); }
  void Stop();
  uint64_t answered() const { return answered_.load(); }
  // Connections that ended, or brought a wrong answer, before Stop.
  int failed() const { return failed_.load(); }
  Longest wait;

 private:
  void Run(const char* path);
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> answered_{0};
  std::atomic<int> failed_{0};
  std::vector<std::thread> threads_;
};

}  // namespace cmwq::hotplug

#endif  // CMWQ_TESTS_HOTPLUG_LOAD_H_
