#include "runtime/platform/cpu_set.h"

#include <sched.h>

#include "runtime/base/raw_log.h"

namespace cmwq::platform {
namespace {

// Reads a number at *at and moves behind it. -1: none there, or too large for a CPU.
int ReadCpu(const char** at) {
  const char* p = *at;
  int v = 0;
  if (*p < '0' || *p > '9') return -1;
  for (; *p >= '0' && *p <= '9'; ++p) {
    v = v * 10 + (*p - '0');
    if (v >= CpuSet::kMaxCpus) return -1;
  }
  *at = p;
  return v;
}

bool Blank(char c) { return c == ' ' || c == '\n' || c == '\t'; }

}  // namespace

int CurrentCpu() {
  const int cpu = ::sched_getcpu();
  return cpu >= 0 ? cpu : 0;
}

bool CpuSet::Parse(const char* list) {
  *this = CpuSet();
  while (Blank(*list)) ++list;
  if (*list == '\0') return true;
  for (;;) {
    while (Blank(*list)) ++list;
    const int first = ReadCpu(&list);
    if (first < 0) return false;
    int last = first;
    if (*list == '-') {
      ++list;
      last = ReadCpu(&list);
      if (last < first) return false;
    }
    for (int cpu = first; cpu <= last; ++cpu) Add(cpu);
    while (Blank(*list)) ++list;
    if (*list == '\0') return true;
    if (*list++ != ',') return false;
  }
}

size_t CpuSet::Format(char* out, size_t size) const {
  size_t used = 0;
  if (size == 0) return 0;
  out[0] = '\0';
  for (int first = Next(0); first >= 0;) {
    int last = first;
    while (Has(last + 1)) ++last;
    char range[16];
    const size_t n = first == last
                         ? base::RawFormat(range, sizeof(range), "%s%d", used > 0 ? "," : "", first)
                         : base::RawFormat(range, sizeof(range), "%s%d-%d", used > 0 ? "," : "",
                                           first, last);
    if (used + n >= size) break;
    for (size_t i = 0; i <= n; ++i) out[used + i] = i < n ? range[i] : '\0';
    used += n;
    first = Next(last + 1);
  }
  return used;
}

bool CpuSet::FromMask(const void* mask, size_t bytes) {
  *this = CpuSet();
  const auto* const byte = static_cast<const unsigned char*>(mask);
  // Bit i of the mask is bit i % 64 of its word i / 64, in the machine's byte order.
  for (size_t i = 0; i < bytes * 8; ++i) {
    const size_t word = i / 64 * 8, bit = i % 64;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    const size_t at = word + bit / 8;
#else
    const size_t at = word + 7 - bit / 8;
#endif
    if (at >= bytes || ((byte[at] >> (bit % 8)) & 1) == 0) continue;
    if (i >= kMaxCpus) return false;
    Add(static_cast<int>(i));
  }
  return true;
}

}  // namespace cmwq::platform
