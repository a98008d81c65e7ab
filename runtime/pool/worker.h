// Worker: a thread owned by a pool. Idle, busy, managing, or dying; see WorkerMain in worker.cc.
//
// Worker objects are type-stable: they are never freed, only re-used, because detectors and wakers
// look at them without the pool's lock.

#ifndef CMWQ_RUNTIME_POOL_WORKER_H_
#define CMWQ_RUNTIME_POOL_WORKER_H_

#include <cmwq/cmwq.h>
#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "runtime/base/intrusive_list.h"
#include "runtime/platform/stats_layout.h"
#include "runtime/pool/state_word.h"
#include "runtime/sync/parker.h"

namespace cmwq::pool {

class WorkerPool;
class PwqBase;
class SwitchAudit;

struct alignas(64) Worker {
  Worker() { base::ListInit(&entry); }

  // First line: waking, sleeping, hooks.
  sync::Parker parker;                   // AT(WorkerMain, Wake)
  std::atomic<int> tid{0};               // AT(WorkerMain, detectors): 0 before it runs
  StateWord* word = nullptr;             // I: in the pool's dense table; S for hooks, see state_word.h
  WorkerPool* pool = nullptr;            // I (rescuer: L of the pool it serves)
  int slot = -1;                         // I
  bool is_rescuer = false;               // I: or the event thread:
  bool fails = false;                    // I: fail.cc
  // Under pool->lock; the owner may read what only it writes (K).
  bool idle = false;                     // K
  bool die = false;                      // L: told to exit
  base::ListNode entry;                  // K: idle list
  uint32_t block_depth = 0;              // S: nesting of blocking regions
  uint32_t in_runtime = 0;               // S: > 0 inside the engine: hooks are ignored
  std::atomic<uint64_t> nr_sleeps{0};    // AT(WorkerSleeping, Report): relaxed, a count only

  // Second line: all that each item changes.
  Worker* hash_next = nullptr;           // K: busy hash chain
  struct cmwq_work* current_work = nullptr;  // K
  cmwq_work_fn current_fn = nullptr;     // K
  PwqBase* current_pwq = nullptr;        // K
  uint32_t current_cookie = 0;           // K: of PwqBase::Started
  bool current_fresh = false;            // K: debug builds; see work_link.h
  bool described = false;                // L: desc is of the current item
  base::List scheduled;                  // L: items that must run after the current one, here
  std::atomic<uint64_t> nr_executed{0};  // AT(ProcessOneWork, Report): relaxed, a count only

  // The rest: reports, detectors, culling.
  SwitchAudit* audit = nullptr;          // S: null: its switches are not counted
  platform::StatsWorker* stats = &own_stats;  // I: its row of the page, or none; never null
  char desc[32] = "";                    // L: cmwq_set_worker_desc; see described
  uint64_t last_active_ns = 0;           // K: when it went idle
  uint64_t batch_ns = 0;                 // K: for reports: when it last left the idle list
  uint64_t batch_executed = 0;           // K: nr_executed then
  uint64_t seen_executed = 0;            // L: nr_executed when a report or the watchdog last saw it busy
  uint64_t seen_ns = 0;                  // L: when that was first so; 0: never
  // The tick's last look, see FindHogs.
  uint32_t hog_word = 0;                 // S: the event thread
  uint64_t hog_executed = 0;             // S: the event thread
  uint64_t hog_cpu_ns = 0;               // S: the event thread
  uint64_t shown_executed = 0;           // L: nr_executed when its row was last filled in
  platform::StatsWorker own_stats = {};  // S: where there is no row; read by nobody
};
static_assert(offsetof(Worker, hash_next) == 64 && offsetof(Worker, audit) == 128);

// The worker that the calling thread is, or null.
Worker* CurrentWorker();
void SetCurrentWorker(Worker* worker);

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_WORKER_H_
