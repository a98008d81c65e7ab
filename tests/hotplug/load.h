// What runs in the guest while its CPUs come and go: cmwq with items of all kinds, and with the load of the
// pool that people write by hand, that pool, the clients of a server, and threads that only sleep and so
// show what the guest does to everybody.

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
  uint64_t Take() { return ns_.exchange(0, std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> ns_{0};
};

// Time as the guest gets on: one thread for each CPU naps, and a round is over when every one of them has
// had a nap. A machine that is emulated slowly, stands still or is held back by its quota has fewer rounds
// in a second, and none has more than kPerSecond.
class Rounds {
 public:
  explicit Rounds(int cpus);
  ~Rounds();
  static uint64_t Now() { return now_.load(std::memory_order_relaxed); }
  // The longest nap since this was last asked.
  static uint64_t TakeLongestNapNs() { return nap_.Take(); }
  static constexpr uint64_t kPerSecond = 200;

 private:
  void Nap(int cpu);
  static std::atomic<uint64_t> now_;
  static Longest nap_;
  const uint64_t all_;
  std::atomic<uint64_t> done_{0};  // a bit for each that has had its nap in this round
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

// A moment, in both times.
struct Stamp {
  uint64_t ns = NowNs();
  uint64_t round = Rounds::Now();
};

// From queueing to the function, of many items.
class Delays {
 public:
  // Returns what it saw.
  uint64_t See(const Stamp& from) {
    const uint64_t ns = NowNs() - from.ns;
    longest_.See(ns);
    rounds_.See(Rounds::Now() - from.round);
    if (ns > kLateNs) late_.fetch_add(1, std::memory_order_relaxed);
    counts_[Bucket(ns)].fetch_add(1, std::memory_order_relaxed);
    return ns;
  }
  uint64_t longest_ns() const { return longest_.ns(); }
  uint64_t longest_rounds() const { return rounds_.ns(); }
  uint64_t late() const { return late_.load(std::memory_order_relaxed); }
  // To an eighth.
  uint64_t PercentileNs(unsigned percent) const;
  static constexpr uint64_t kLateNs = 100'000'000;

 private:
  // Eight for each power of two.
  static constexpr int kBuckets = 64 * 8;
  static int Bucket(uint64_t ns);
  Longest longest_, rounds_;
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
  std::atomic<uint64_t> elsewhere{0};  // items for a CPU that ran on another one
  Longest longest_rounds[4];           // to begin, of each queue, if there are several
};
// All kinds of queues, items that are queued again and cancelled.
std::unique_ptr<Load> MakeCmwqLoad(int cpus);
// The same items for both, each for a given CPU.
std::unique_ptr<Load> MakePerCpuLoad(int cpus);
std::unique_ptr<Load> MakePlainLoad(int cpus);

// Clients of the demo's server at `path`.
class Clients {
 public:
  Clients(const char* path, int n);
  ~Clients() { Stop(); }
  void Stop();
  uint64_t answered() const { return answered_.load(); }
  // Connections that ended, or brought a wrong answer, before Stop.
  int failed() const { return failed_.load(); }
  Delays wait;

 private:
  void Run(const char* path);
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> answered_{0};
  std::atomic<int> failed_{0};
  std::vector<std::thread> threads_;
};

}  // namespace cmwq::hotplug

#endif  // CMWQ_TESTS_HOTPLUG_LOAD_H_
