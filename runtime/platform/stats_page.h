// The process's statistics page (stats_layout.h): making it, its rows, taking it away.
//
// Rows stay where they are for the life of the process. Where there is no page, because it is switched
// off or refused, who asks for a row gets none and uses one of its own: counting costs the same and
// needs no question.

#ifndef CMWQ_RUNTIME_PLATFORM_STATS_PAGE_H_
#define CMWQ_RUNTIME_PLATFORM_STATS_PAGE_H_

#include "runtime/platform/stats_layout.h"

namespace cmwq::platform {

class StatsPage {
 public:
  // Those beyond are not shown one by one.
  static constexpr uint32_t kMaxWorkers = 1024;
  static constexpr uint32_t kUnboundPools = 32;

  enum class Edition { kLibrary, kPreload };

  // Makes the page; the first call counts. One line if it cannot be had. 0 or -errno.
  // Context: before the first row is asked for; makes system calls, allocates nothing.
  int Create(Edition edition) { return CreateIn(kStatsFolder, edition); }
  int CreateIn(const char* folder, Edition edition);

  // Removes the file. The rows stay usable. Context: exit handler; again and in a forked child: nothing.
  void Unlink();

  // Child of fork, single-threaded: the page is the parent's; the rows become private memory, all zero.
  // Again() makes the child's own page of them; the caller knows that nobody has counted since.
  void ResetAfterFork();
  void Again();

  // A free row, or null. Context: any; no system call.
  StatsWorker* TakeWorker();
  StatsPool* PoolRow(uint32_t id) {
    return base_ != nullptr && id < nr_pools_ ? reinterpret_cast<StatsPool*>(base_ + pools_at_) + id
                                              : nullptr;
  }
  StatsGate* GateRow(uint32_t index) {
    return base_ != nullptr && index < nr_gates_ ? reinterpret_cast<StatsGate*>(base_ + gates_at_) + index
                                                 : nullptr;
  }
  bool published() const { return published_.load(std::memory_order_relaxed); }
  const char* path() const { return path_; }

 private:
  int Map(char** to);
  void Describe(char* page);
  void Sweep();
  void Lay();

  // Those marked I change in a forked child once more, while it has one thread.
  Edition edition_ = Edition::kLibrary;    // I: after Create
  const char* folder_ = nullptr;           // I: as edition_
  char* base_ = nullptr;                   // I: of the mapping, which is private memory in a forked child
  uint32_t size_ = 0;                      // I: as edition_
  uint32_t tables_at_ = 0, nr_tables_ = 0;   // I: as edition_
  uint32_t fields_at_ = 0, nr_fields_ = 0;   // I: as edition_
  uint32_t pools_at_ = 0, nr_pools_ = 0;     // I: as edition_
  uint32_t gates_at_ = 0, nr_gates_ = 0;     // I: as edition_
  uint32_t workers_at_ = 0;                // I: as edition_
  std::atomic<bool> published_{false};     // AT(Unlink, published): relaxed; the file exists and is ours
  char path_[96] = "";                     // I: as base_
  std::atomic<uint32_t> workers_used_{0};  // AT(TakeWorker, TakeWorker): relaxed, rows handed out
};

extern constinit StatsPage g_stats_page;

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_STATS_PAGE_H_
