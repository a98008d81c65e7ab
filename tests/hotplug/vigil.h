// Sees to it that the guest ends, and says why if it does not get on.

#ifndef CMWQ_TESTS_HOTPLUG_VIGIL_H_
#define CMWQ_TESTS_HOTPLUG_VIGIL_H_

#include <atomic>
#include <cstdint>
#include <thread>

namespace cmwq::hotplug {

// Who a step waits for.
enum class Waits { kProgram, kKernel };

// Without a step for some time it writes on the console what every thread of the machine is at, what the
// engine has and what the kernel says, twice, and then switches the machine off. It runs before everything
// that has no real-time priority, and no quota holds it: as long as the kernel runs anybody, it says
// "ALIVE" every ten seconds.
class Vigil {
 public:
  Vigil();
  // What is begun now, a text that stays. kKernel: a system call that no other thread's doing can hold up.
  // Context: one thread; allocates nothing.
  void Step(const char* what, Waits waits = Waits::kProgram) {
    what_.store(what, std::memory_order_relaxed);
    waits_.store(waits, std::memory_order_relaxed);
    steps_.fetch_add(1, std::memory_order_relaxed);
  }

 private:
  void Watch();
  std::atomic<const char*> what_{"the start"};
  std::atomic<Waits> waits_{Waits::kProgram};
  std::atomic<uint64_t> steps_{0};
  std::thread thread_;
};

}  // namespace cmwq::hotplug

#endif  // CMWQ_TESTS_HOTPLUG_VIGIL_H_
