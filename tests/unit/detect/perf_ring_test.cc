// The reader of perf rings on rings made by hand, and on the kernel's where that is allowed.

#include "hooks/detect/perf_ring.h"

#include <gtest/gtest.h>
#include <linux/perf_event.h>
#include <sys/resource.h>

#include <cstring>
#include <thread>
#include <vector>

#include "hooks/detect/task_state.h"
#include "tests/support/gate.h"

namespace cmwq::test {
namespace {

using detect::PerfRing;
using detect::SwitchCounts;

// The kernel's side of a ring.
class Writer {
 public:
  // start: where head and tail stand at first.
  explicit Writer(size_t words, uint64_t start = 0)
      : data_(words), meta_(new perf_event_mmap_page) {
    memset(meta_, 0, sizeof(*meta_));
    meta_->data_head = meta_->data_tail = start;
    ring.Adopt(meta_, data_.data(), words * 8);
  }
  ~Writer() { delete meta_; }

  void Put(uint32_t type, uint16_t misc, std::vector<uint64_t> body = {}) {
    const uint64_t size = 8 * (1 + body.size());
    PutWord(type | uint64_t{misc} << 32 | size << 48);
    for (const uint64_t word : body) PutWord(word);
  }
  void Slept() { Put(PERF_RECORD_SWITCH, PERF_RECORD_MISC_SWITCH_OUT); }
  void Preempted() {
    Put(PERF_RECORD_SWITCH, PERF_RECORD_MISC_SWITCH_OUT | PERF_RECORD_MISC_SWITCH_OUT_PREEMPT);
  }
  void In() { Put(PERF_RECORD_SWITCH, 0); }
  void PutWord(uint64_t word) {
    data_[meta_->data_head / 8 % data_.size()] = word;
    meta_->data_head += 8;
  }
  SwitchCounts Read() {
    SwitchCounts counts;
    ring.Read(&counts);
    return counts;
  }
  perf_event_mmap_page* meta() { return meta_; }

  PerfRing ring;

 private:
  std::vector<uint64_t> data_;
  perf_event_mmap_page* const meta_;
};

TEST(PerfRing, TellsSleepsFromPreemptions) {
  Writer w(16);
  EXPECT_EQ(w.Read().slept, 0u);
  w.Slept();
  w.In();
  w.Preempted();
  w.In();
  w.Slept();
  const SwitchCounts c = w.Read();
  EXPECT_EQ(c.slept, 2u);
  EXPECT_EQ(c.preempted, 1u);
  EXPECT_EQ(c.lost, 0u);
  EXPECT_EQ(w.meta()->data_tail, w.meta()->data_head);  // room for more
  EXPECT_EQ(w.Read().slept, 0u);                        // once each
}

TEST(PerfRing, RecordsOfOtherKindsAndSizesAreSkipped) {
  Writer w(16);
  w.Put(PERF_RECORD_THROTTLE, 0, {1, 2, 3});
  w.Put(PERF_RECORD_SWITCH, PERF_RECORD_MISC_SWITCH_OUT, {7, 8});  // with an id behind it
  w.Put(PERF_RECORD_SAMPLE, PERF_RECORD_MISC_SWITCH_OUT, {1});
  w.Slept();
  EXPECT_EQ(w.Read().slept, 2u);
}

// Every position of the end of the ring within a record of three words.
TEST(PerfRing, WrapsAround) {
  for (uint64_t start = 0; start < 16; ++start) {
    Writer w(8, start * 8);
    for (int round = 0; round < 20; ++round) {
      w.Slept();
      w.Put(PERF_RECORD_LOST, 0, {~uint64_t{0}, 5});
      w.Preempted();
      const SwitchCounts c = w.Read();
      ASSERT_EQ(c.slept, 1u) << start;
      ASSERT_EQ(c.preempted, 1u) << start;
      ASSERT_EQ(c.lost, 5u) << start;
    }
  }
}

TEST(PerfRing, PositionsBeyond32Bits) {
  Writer w(8, (uint64_t{1} << 32) - 16);
  for (int i = 0; i < 8; ++i) w.Slept();
  EXPECT_EQ(w.Read().slept, 8u);  // exactly full
}

TEST(PerfRing, HalfFull) {
  Writer w(8);
  for (int i = 0; i < 3; ++i) w.Slept();
  EXPECT_FALSE(w.ring.HalfFull());
  w.Slept();
  EXPECT_TRUE(w.ring.HalfFull());
  w.Read();
  EXPECT_FALSE(w.ring.HalfFull());
}

// What can only come from a broken ring: said to be lost, and what follows is read again.
TEST(PerfRing, NonsenseIsLostAndOver) {
  const std::vector<uint64_t> bad = {
      0,                                               // size 0 would never end
      PERF_RECORD_SWITCH | uint64_t{4} << 48,          // shorter than a header
      PERF_RECORD_SWITCH | uint64_t{12} << 48,         // no whole words
      PERF_RECORD_SWITCH | uint64_t{80} << 48,         // longer than what was written
  };
  for (const uint64_t header : bad) {
    Writer w(16);
    w.Slept();
    w.PutWord(header);
    SwitchCounts c = w.Read();
    EXPECT_EQ(c.slept, 1u);
    EXPECT_EQ(c.lost, 1u);
    w.Slept();
    c = w.Read();
    EXPECT_EQ(c.slept, 1u);
    EXPECT_EQ(c.lost, 0u);
  }
}

// A head that no kernel writes: in the middle of a word, or further than the ring is long.
TEST(PerfRing, TornHead) {
  for (const uint64_t head : {uint64_t{12}, uint64_t{8 * 16 + 8}, ~uint64_t{0}}) {
    Writer w(16);
    w.meta()->data_head = head;
    EXPECT_EQ(w.Read().lost, 1u);
    EXPECT_EQ(w.meta()->data_tail, head);
    EXPECT_EQ(w.Read().lost, 0u);
  }
}

// A LOST record cut short says nothing of how many.
TEST(PerfRing, ShortLostRecord) {
  Writer w(16);
  w.Put(PERF_RECORD_LOST, 0, {1});
  w.Slept();
  const SwitchCounts c = w.Read();
  EXPECT_EQ(c.lost, 0u);
  EXPECT_EQ(c.slept, 1u);
}

TEST(PerfRing, TheKernelsRing) {
  struct Result {
    int err = -1;
    const char* what = "";
    SwitchCounts counts;
  } result;
  constexpr int kSleeps = 20;
  Gate gates[kSleeps];
  std::atomic<int> tid{0}, asleep{0};
  std::thread sleeper([&] {
    PerfRing ring;
    result.err = ring.Open(&result.what);
    tid = base::Tid();
    if (result.err != 0) return;
    for (int i = 0; i < kSleeps; ++i) {
      asleep = i + 1;
      gates[i].Wait();
    }
    ring.Read(&result.counts);
    ring.Close();
    ring.Read(&result.counts);  // nothing any more, and no fault
  });
  Eventually([&] { return tid != 0; });
  detect::TaskStateReader reader;
  for (int i = 0; i < kSleeps && result.err == 0; ++i) {
    // Before it is let go it is seen asleep: each gate is one sleep at least.
    Eventually([&] { return asleep == i + 1 && reader.Read(tid) == detect::TaskState::kAsleep; });
    gates[i].Open();
  }
  sleeper.join();
  reader.CloseAll();
  if (result.err == EACCES || result.err == EPERM || result.err == ENOSYS) {
    GTEST_SKIP() << result.what << " is refused here, errno " << result.err;
  }
  ASSERT_EQ(result.err, 0) << result.what;
  EXPECT_GE(result.counts.slept, static_cast<uint64_t>(kSleeps));
  EXPECT_EQ(result.counts.lost, 0u);
}

// 512 records fit; what comes beyond is counted as lost once there is room again.
TEST(PerfRing, TheKernelsRingOverflows) {
  PerfRing ring;
  const char* what;
  const int err = ring.Open(&what);
  if (err == EACCES || err == EPERM || err == ENOSYS) GTEST_SKIP() << what << " is refused here";
  ASSERT_EQ(err, 0) << what;
  std::atomic<int32_t> never{0};
  const auto nap = [&never] {
    sync::RealSync::FutexWait(&never, 0, base::MonotonicNs() + base::kNsPerMs / 10);
  };
  struct rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  const long begin = usage.ru_nvcsw;
  while (usage.ru_nvcsw - begin < 600) {
    nap();
    getrusage(RUSAGE_THREAD, &usage);
  }
  EXPECT_TRUE(ring.HalfFull());
  SwitchCounts counts;
  ring.Read(&counts);
  const uint64_t before = counts.slept;
  while (counts.slept == before) {
    nap();
    ring.Read(&counts);
  }
  ring.Close();
  EXPECT_GT(counts.lost, 0u);
}

}  // namespace
}  // namespace cmwq::test
