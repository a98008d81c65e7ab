// What a process publishes about itself in /dev/shm, shared with the tools that read it.
//
// A page is a file `cmwq.PID.STARTTIME.EDITION`: a header, descriptions of its tables and of their
// fields, then the tables. Readers go by the descriptions: a field that they do not know is skipped, one
// that they miss is not shown. kStatsVersion changes only when the header or a description does.
//
// Every counter has one writer at a time, which uses plain stores; see the structures. The rows marked
// "as of `published_ns`" are copied by one thread between two stores of `seq`, odd while it writes: a
// reader that saw it odd, or two values of it, reads the row again. Nobody ever waits for a reader.

#ifndef CMWQ_RUNTIME_PLATFORM_STATS_LAYOUT_H_
#define CMWQ_RUNTIME_PLATFORM_STATS_LAYOUT_H_

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace cmwq::platform {

inline constexpr char kStatsFolder[] = "/dev/shm";
inline constexpr char kStatsPrefix[] = "cmwq.";
inline constexpr uint64_t kStatsMagic = 0x5441545351574d43;  // "CMWQSTAT" in memory
inline constexpr uint32_t kStatsVersion = 1;

enum class StatsType : uint32_t { kU32 = 1, kU64 = 2, kText = 3, kHistogram = 4 };
enum class StatsUnit : uint32_t { kNone = 0, kEvents = 1, kNanoseconds = 2, kAddress = 3 };

// `scope` of a field is the index of its table.
struct StatsTable {
  char name[16];
  uint32_t offset;  // of the first row, from the start of the page
  uint32_t stride;
  uint32_t rows;
  uint32_t reserved;
};
struct StatsField {
  char name[20];
  uint32_t scope;
  uint32_t offset;  // in the row
  uint32_t size;    // bytes
  StatsType type;
  StatsUnit unit;
};

struct StatsHeader {
  uint64_t magic;               // stored last, release; readers look at it first, acquire
  uint32_t version;
  uint32_t pid;                 // in the name space `pid_ns`
  uint64_t start_time;          // of the process, field 22 of /proc/PID/stat: a reused pid has another
  uint64_t pid_ns;              // inode of /proc/PID/ns/pid, 0: not known
  uint64_t size;                // of the page
  uint64_t created_ns;          // CLOCK_MONOTONIC
  uint32_t tables_offset, nr_tables;
  uint32_t fields_offset, nr_fields;
  char edition[12];             // "library" or "preload"
  char release[12];             // of cmwq
  char command[16];             // of the process when the page was made
};

// Four buckets per power of two, from 256 ns to 64 s; the first holds what is below, the last what is
// above. Written under the lock of the pool or gate.
struct StatsHistogram {
  static constexpr int kFirstBit = 8, kLastBit = 35;
  static constexpr int kBuckets = 2 + (kLastBit - kFirstBit + 1) * 4;

  static constexpr int BucketOf(uint64_t ns) {
    if (ns < uint64_t{1} << kFirstBit) return 0;
    const int bit = std::bit_width(ns) - 1;
    if (bit > kLastBit) return kBuckets - 1;
    return 1 + (bit - kFirstBit) * 4 + static_cast<int>((ns >> (bit - 2)) & 3);
  }
  // The smallest value of a bucket.
  static constexpr uint64_t LowerBound(int bucket) {
    if (bucket <= 0) return 0;
    const int bit = kFirstBit + (bucket - 1) / 4;
    return (uint64_t{1} << bit) + ((uint64_t{1} << (bit - 2)) * static_cast<uint64_t>((bucket - 1) % 4));
  }

  void Add(uint64_t ns) {
    std::atomic<uint64_t>& n = count[BucketOf(ns)];
    n.store(n.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  std::atomic<uint64_t> count[kBuckets];  // AT(Add, readers): relaxed
};

// All below: AT(the writer named, readers), relaxed.

// A worker of the library, or a member of a gate. The first line is its thread's own, live; a member's
// `executed` and `function` are written under the gate's lock.
struct alignas(64) StatsWorker {
  std::atomic<uint64_t> executed;  // AT: items, or requests
  std::atomic<uint64_t> blocks;    // AT: regions begun
  std::atomic<uint64_t> unblocks;  // AT: regions ended: it is in one while they differ
  std::atomic<uint64_t> function;  // AT: of its item, 0: none; a member's: 1 while it has a request
  std::atomic<uint32_t> tid;       // AT: 0: the row is free
  std::atomic<uint32_t> pool;      // AT: row in `pools` or `gates`
  // AT(PublishWorkers, readers): its item has run since, or a little longer; 0: not known.
  alignas(64) std::atomic<uint64_t> since_ns;
  std::atomic<uint32_t> presumed;  // AT: as since_ns; found blocked, without an announcement
  std::atomic<uint64_t> queue[4];  // AT: as since_ns; text: its item's workqueue
};
static_assert(sizeof(StatsWorker) == 128);

// As of published_ns, by PublishStats, but for the histogram: that is live.
struct alignas(64) StatsPool {
  std::atomic<uint32_t> seq;           // AT: odd while the others are written
  std::atomic<uint32_t> used;          // AT: 0: the row is free
  std::atomic<uint64_t> published_ns;  // AT: CLOCK_MONOTONIC
  std::atomic<uint32_t> cpu, nice;     // AT: two's complement; cpu -1: unbound
  std::atomic<uint32_t> workers, idle, running, pending;                      // AT: now
  std::atomic<uint64_t> queued, created, destroyed, create_failures;          // AT: so far
  std::atomic<uint64_t> peak_workers;  // AT: at most so far
  std::atomic<uint64_t> found;         // AT: blocks that a detector found
  std::atomic<uint64_t> maydays, hogs, stalls, drift, failed, repatriated;    // AT: so far
  StatsHistogram delay;                // L: of the pool; from queueing to start, of a sample of the items
};

// Live, written under the gate's lock.
struct alignas(64) StatsGate {
  std::atomic<uint32_t> used, cpu, members;                                   // AT: as in StatsPool
  std::atomic<uint32_t> waiting;       // AT: at the boundary
  std::atomic<uint32_t> held;          // AT: of those: ready, and not let in
  std::atomic<uint64_t> requests, direct, held_total, held_ns, held_max_ns, over_limit, leads;  // AT: GateStats
  std::atomic<uint64_t> found;         // AT: as in StatsPool
  StatsHistogram hold;                 // L: of the gate; of those that were held
};

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_STATS_LAYOUT_H_
