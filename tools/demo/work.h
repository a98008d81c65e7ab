// The computation of one request of the demo's server. The demo measures how many rounds take how
// long, once, and gives every server the same number: measured by each server, noise would set them
// apart.

#ifndef CMWQ_TOOLS_DEMO_WORK_H_
#define CMWQ_TOOLS_DEMO_WORK_H_

#include <cstdint>

namespace cmwq::tools {

// A chain of dependent multiplications: its time is proportional to `rounds`, whatever the compiler
// does.
inline uint64_t Compute(uint64_t seed, uint64_t rounds) {
  uint64_t x = seed | 1;
  for (uint64_t i = 0; i < rounds; ++i) {
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9;
  }
  return x;
}

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_DEMO_WORK_H_
