#include "tools/common/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace cmwq::tools {

int Histogram::BucketOf(uint64_t value) {
  if (value < kSubBuckets) return static_cast<int>(value);
  const int shift = std::bit_width(value) - 1 - kSubBits;
  const uint64_t bucket =
      (static_cast<uint64_t>(shift) + 1) * kSubBuckets + (value >> shift) - kSubBuckets;
  return static_cast<int>(std::min<uint64_t>(bucket, kBuckets - 1));
}

double Histogram::MiddleOf(int bucket) {
  if (bucket < kSubBuckets) return bucket;
  const int shift = bucket / kSubBuckets - 1;
  const double width = std::ldexp(1.0, shift);
  return (kSubBuckets + bucket % kSubBuckets) * width + width / 2;
}

void Histogram::Record(uint64_t value) {
  ++counts_[BucketOf(value)];
  ++count_;
  max_ = std::max(max_, value);
}

double Histogram::Quantile(double fraction) const {
  if (count_ == 0) return 0;
  const uint64_t wanted = std::max<uint64_t>(
      1, static_cast<uint64_t>(std::ceil(fraction * static_cast<double>(count_))));
  uint64_t seen = 0;
  for (int bucket = 0; bucket < kBuckets; ++bucket) {
    seen += counts_[bucket];
    if (seen >= wanted) return std::min(MiddleOf(bucket), static_cast<double>(max_));
  }
  return static_cast<double>(max_);
}

}  // namespace cmwq::tools
