// What the stress tests share: the seed, the length, a small generator, counts of threads.

#ifndef CMWQ_TESTS_STRESS_STRESS_H_
#define CMWQ_TESTS_STRESS_STRESS_H_

#include <dirent.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "runtime/base/sys.h"
#include "runtime/core/runtime.h"

namespace cmwq::stress {

inline uint64_t Setting(const char* name, uint64_t fallback) {
  const char* const text = getenv(name);
  return text != nullptr ? strtoull(text, nullptr, 0) : fallback;
}

// CMWQ_STRESS_SEED, or one from the clock; printed, so that a failure can be repeated.
inline uint64_t Seed() {
  static const uint64_t seed = [] {
    const uint64_t s = Setting("CMWQ_STRESS_SEED", base::MonotonicNs());
    printf("CMWQ_STRESS_SEED=%llu\n", static_cast<unsigned long long>(s));
    fflush(stdout);
    return s;
  }();
  return seed;
}

inline uint64_t Seconds() { return Setting("CMWQ_STRESS_SECONDS", 10); }

// Ends the process if a stress hangs: `seconds` beyond its length.
inline void Guard(unsigned seconds) { alarm(static_cast<unsigned>(Seconds()) + seconds); }

class Random {
 public:
  explicit Random(uint64_t stream) : state_(Seed() * 0x9e3779b97f4a7c15u + stream + 1) {}
  // xorshift64*
  uint64_t Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1du;
  }
  unsigned Below(unsigned n) { return static_cast<unsigned>((Next() >> 33) % n); }

 private:
  uint64_t state_;
};

inline void SleepUs(unsigned us) {
  const struct timespec ts = {0, static_cast<long>(us) * 1000};
  nanosleep(&ts, nullptr);
}

inline int ThreadCount() {
  int n = 0;
  DIR* const dir = opendir("/proc/self/task");
  if (dir == nullptr) return -1;
  while (const dirent* e = readdir(dir)) n += e->d_name[0] != '.' ? 1 : 0;
  closedir(dir);
  return n;
}

template <class F>
void ForEachPool(F visit) {
  wq::PoolTable* const table = core::Runtime::Get().pools();
  table->ForEachPool(visit);
}

}  // namespace cmwq::stress

#endif  // CMWQ_TESTS_STRESS_STRESS_H_
