// Pools as text: who executes what and for how long, what waits. For the watchdog and for
// cmwq_show_all_workqueues.
//
// Everything is copied under the pool's lock, a few dozen entries at a time, and printed without it:
// the sink may be a terminal that stands still, and symbols take the dynamic linker's lock.

#ifndef CMWQ_RUNTIME_POOL_DUMP_H_
#define CMWQ_RUNTIME_POOL_DUMP_H_

#include <cmwq/cmwq.h>

#include <cstdarg>
#include <cstddef>
#include <cstdint>

#include "runtime/base/intrusive_list.h"
#include "runtime/pool/pool.h"

namespace cmwq::pool {

// Where the lines go.
class LineWriter {
 public:
  // `line` without a newline.
  virtual void Line(const char* line) = 0;

 protected:
  ~LineWriter() = default;
};
class LogWriter final : public LineWriter {
 public:
  void Line(const char* line) override;
};
class FdWriter final : public LineWriter {
 public:
  explicit FdWriter(int fd) : fd_(fd) {}
  void Line(const char* line) override;

 private:
  const int fd_;  // S: the printing thread
};

// "cpu3", "cpu3/high", "unbound".
void PoolName(const WorkerPool::Attrs& attrs, char* buf, size_t size);

// One worker that executes something.
struct InFlight {
  int tid;
  int slot;            // -1: a rescuer, or
  bool fails;          // the event thread with a queue's fail callback
  cmwq_work_fn fn;
  const PwqBase* pwq;  // for comparing only, it may be gone
  char queue[32];
  char desc[32];       // cmwq_set_worker_desc; empty: none
  uint64_t for_ns;
  bool exact;          // for_ns is the time since the start; else it is at least that long
  uint32_t word;
  uint32_t scheduled;  // items on its own list
};

// Runs of equal functions of a list, as "N*function".
struct Runs {
  static constexpr int kRuns = 16;    // shown per list
  static constexpr int kNodes = 512;  // looked at per list: bounds the time under the lock
  struct Run {
    cmwq_work_fn fn;
    uint32_t n;
    bool barrier;
  };
  Run run[kRuns];
  int nr = 0;
  uint32_t left_out = 0;  // items that were looked at but did not fit
  bool more = false;      // the list goes on beyond kNodes

  // Collects the items of `list` that are of `pwq` (null: all). Locks: the pool's held.
  void Collect(base::List& list, const PwqBase* pwq);
  // One line "<label>: 3*f, g, BAR". Nothing if there are none. Locks: none held.
  void Print(LineWriter* out, const char* label) const;
};

void PrintInFlight(LineWriter* out, const InFlight& in_flight);

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_DUMP_H_
