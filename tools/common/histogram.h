// A latency histogram with a fixed relative error: 64 linear buckets in each power of two.

#ifndef CMWQ_TOOLS_COMMON_HISTOGRAM_H_
#define CMWQ_TOOLS_COMMON_HISTOGRAM_H_

#include <cstdint>

namespace cmwq::tools {

// Plain data, so that the load's process can hand it over a pipe as it is.
class Histogram {
 public:
  void Record(uint64_t value);

  // The value below which `fraction` of the records lie, within 1/64; 0 without records.
  double Quantile(double fraction) const;

  uint64_t count() const { return count_; }
  uint64_t max() const { return max_; }

 private:
  static constexpr int kSubBits = 6;
  static constexpr int kSubBuckets = 1 << kSubBits;
  // Covers 2^41 ns, more than half an hour; greater values share the last bucket.
  static constexpr int kBuckets = (41 - kSubBits + 1) * kSubBuckets;

  static int BucketOf(uint64_t value);
  static double MiddleOf(int bucket);

  uint64_t counts_[kBuckets] = {};
  uint64_t count_ = 0;
  uint64_t max_ = 0;
};

}  // namespace cmwq::tools

#endif  // CMWQ_TOOLS_COMMON_HISTOGRAM_H_
