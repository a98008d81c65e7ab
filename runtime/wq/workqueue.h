// Workqueue: the user-facing domain. Owns its pwqs (one per pool it uses), limits, flush state and
// rescuer.
//
// Locks: `mutex` has rank kWorkqueue and is held while limits change and while a flush starts; it is
// never held while waiting for items. Everything per pwq is guarded by the pwq's pool lock.

#ifndef CMWQ_RUNTIME_WQ_WORKQUEUE_H_
#define CMWQ_RUNTIME_WQ_WORKQUEUE_H_

#include <cmwq/cmwq.h>

#include <atomic>
#include <cstdint>

#include "runtime/base/intrusive_list.h"
#include "runtime/pool/pool.h"
#include "runtime/pool/pwq_base.h"
#include "runtime/pool/rescuer.h"
#include "runtime/sync/mutex.h"

namespace cmwq::wq {

class Workqueue;

inline constexpr int kColours = 16;

// A queue's half in one pool (kernel: pool_workqueue).
class Pwq final : public pool::PwqBase {
 public:
  Pwq(Workqueue* q, pool::WorkerPool* p, int limit) : PwqBase(p), wq(q), max_active(limit) {}

  uint32_t Started(struct cmwq_work* work) override CMWQ_REQUIRES(pool->lock);
  void Finished(uint32_t cookie) override CMWQ_REQUIRES(pool->lock);
  bool HasActive() const override CMWQ_REQUIRES(pool->lock) { return nr_active > 0; }
  const char* name() const override;

  // Moves waiting items to the worklist while there is room. Wakes under the lock.
  void ActivateInactive() CMWQ_REQUIRES(pool->lock);
  // One item of `colour` has left; `slot`: it had a max_active slot.
  void Leave(int colour, bool slot) CMWQ_REQUIRES(pool->lock);
  bool Empty() const CMWQ_REQUIRES(pool->lock);

  Workqueue* const wq;                                      // I
  int max_active CMWQ_GUARDED_BY(pool->lock);
  int nr_active CMWQ_GUARDED_BY(pool->lock) = 0;            // on the worklist or running; no barriers
  base::List inactive CMWQ_GUARDED_BY(pool->lock);          // FIFO
  int colour CMWQ_GUARDED_BY(pool->lock) = 0;               // of items queued now
  int nr_in_flight[kColours] CMWQ_GUARDED_BY(pool->lock) = {};
};

// Which pools there are. Filled at start-up; entries are never removed.
struct PoolTable {
  static constexpr int kMaxPools = 2 * platform::CpuSet::kMaxCpus + 2;
  pool::WorkerPool* by_id[kMaxPools] = {};                  // PR
  pool::WorkerPool* per_cpu[2][platform::CpuSet::kMaxCpus] = {};  // PR: [high priority][cpu]
  pool::WorkerPool* unbound[2] = {};                        // PR: [high priority]
  int nr_pools = 0;                                         // I: after start-up
  platform::CpuSet cpus;                                    // I: after start-up
  int nr_cpu_ids = 0;                                       // I: highest usable CPU number plus one
};

// Progress of flushes: colour c of a queue is closed when a flush begins and done when no pwq has items
// of it. Sequence numbers never wrap; the colour is the sequence modulo kColours.
struct FlushState {
  std::atomic<int32_t> nr_pwqs[kColours] = {};   // AT(FlushWorkqueue, ColourDone): pwqs not through yet
  std::atomic<uint64_t> current{0};              // WO: sequence of items queued now
  std::atomic<uint64_t> done{0};                 // AT(ColourDone, WaitFlush): all below are through
  std::atomic<int32_t> wake{0};                  // AT(ColourDone, WaitFlush): futex, bumped with done
};

enum class WqState : uint8_t { kLive, kDestroying, kDead };

class Workqueue {
 public:
  Workqueue(const char* queue_name, unsigned queue_flags, int limit, bool is_ordered,
            PoolTable* table);

  // The pwq for an item queued from or to `cpu`.
  Pwq* PwqFor(int cpu) const {
    return (flags & CMWQ_UNBOUND) != 0 ? pwqs[0] : pwqs[cpu];
  }
  template <class F>
  void ForEachPwq(F visit) const {
    for (int i = 0; i < nr_pwqs; ++i) {
      if (pwqs[i] != nullptr) visit(pwqs[i]);
    }
  }

  char name[32];                                          // I
  const unsigned flags;                                   // I
  const bool ordered;                                     // I
  PoolTable* const pools;                                 // I
  Pwq** pwqs = nullptr;                                   // I: bound: by CPU; unbound: one
  int nr_pwqs = 0;                                        // I
  pool::Rescuer* rescuer = nullptr;                       // I: null without CMWQ_MEM_RECLAIM

  sync::Mutex mutex{sync::Rank::kWorkqueue};
  int saved_max_active CMWQ_GUARDED_BY(mutex);            // what the user asked for
  bool frozen CMWQ_GUARDED_BY(mutex) = false;
  FlushState flush;                                       // AT: see FlushState
  std::atomic<int> nr_drainers{0};                        // AT(DrainWorkqueue, Refused)
  std::atomic<WqState> state{WqState::kLive};             // AT(Destroy, Refused)
  base::ListNode all_entry;                               // L: of the runtime (kRuntime)
};

// workqueue.cc
// Null with *err = errno value on failure; nothing is left behind.
Workqueue* CreateWorkqueue(const char* name, unsigned flags, int max_active, bool ordered,
                           PoolTable* table, platform::Env* env, int* err);
void FreeWorkqueue(Workqueue* wq);
// Applies saved_max_active (0 while frozen) to every pwq.
void ApplyMaxActive(Workqueue* wq) CMWQ_REQUIRES(wq->mutex);
int ClampMaxActive(int max_active);
// Child of fork: nothing is queued, in flight or being flushed. Calls drop for each waiting item.
void ResetAfterFork(Workqueue* wq, void (*drop)(struct cmwq_work* work)) CMWQ_NO_TSA;

// queue.cc
// The pwq for an item queued to `cpu`, its pool brought up. Where no worker can be made for that pool
// (limit of threads), one whose pool has workers: elsewhere is better than never.
Pwq* LivePwq(Workqueue* wq, int cpu);
// The queue takes nothing from the calling thread; says so once.
bool Refused(Workqueue* wq);
bool QueueWork(Workqueue* wq, int cpu, struct cmwq_work* work);
// The half of QueueWork for a timer that expires: the item is PENDING|TIMER and becomes queued.
// Locks: kTimer held, takes kPool.
void QueueFromTimer(Workqueue* wq, int cpu, struct cmwq_work* work);
bool CancelWork(struct cmwq_work* work, PoolTable* pools, platform::EventThread* events);
bool DisableWork(struct cmwq_work* work, PoolTable* pools, platform::EventThread* events, bool sync);
bool EnableWork(struct cmwq_work* work);

// flush.cc
bool FlushWork(struct cmwq_work* work, PoolTable* pools);
// Waits for a running execution only. True if there was one.
bool WaitForRunning(struct cmwq_work* work, PoolTable* pools);
void FlushWorkqueue(Workqueue* wq);
void DrainWorkqueue(Workqueue* wq);
void ColourDone(Workqueue* wq, int colour);
bool WorkqueueEmpty(Workqueue* wq);

// delayed_work.cc
void FireDelayed(platform::Timer* t);
bool QueueDelayed(Workqueue* wq, struct cmwq_delayed_work* d, uint64_t delay_ns,
                  platform::EventThread* events, platform::Env* env);
bool ModDelayed(Workqueue* wq, struct cmwq_delayed_work* d, uint64_t delay_ns, PoolTable* pools,
                platform::EventThread* events, platform::Env* env);
bool FlushDelayed(struct cmwq_delayed_work* d, PoolTable* pools, platform::EventThread* events);

}  // namespace cmwq::wq

#endif  // CMWQ_RUNTIME_WQ_WORKQUEUE_H_
