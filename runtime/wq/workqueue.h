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
#include <new>

#include "runtime/base/intrusive_list.h"
#include "runtime/pool/pool.h"
#include "runtime/pool/pwq_base.h"
#include "runtime/pool/rescuer.h"
#include "runtime/sync/mutex.h"
#include "runtime/wq/flush_state.h"
#include "runtime/wq/node_limit.h"
#include "runtime/wq/pool_table.h"
#include "runtime/wq/tombstone.h"

namespace cmwq::wq {

class Pwq;
class Workqueue;

inline constexpr int kColours = 16;

// A pwq's place in the line for slots of its node.
struct LineEntry {
  base::ListNode node;  // first
  Pwq* pwq;
};

// A queue's half in one pool (kernel: pool_workqueue). Lives as long as the queue. Those of an unbound
// queue are retired when its attributes change: they finish what they have and take nothing new, and
// may be taken into use again.
class Pwq final : public pool::PwqBase {
 public:
  // node: where its slots are counted; null for bound queues, which count by themselves.
  Pwq(Workqueue* q, pool::WorkerPool* p, NodeLimit* limit_of_node, int limit)
      : PwqBase(p), wq(q), node(limit_of_node), max_active(limit) {
    base::ListInit(&line_entry.node);
    line_entry.pwq = this;
  }

  uint32_t Started(struct cmwq_work* work) override CMWQ_REQUIRES(pool->lock);
  void Finished(uint32_t cookie) override CMWQ_REQUIRES(pool->lock);
  static int ColourOf(uint32_t cookie) { return static_cast<int>(cookie & 0xf); }
  bool HasActive() const override CMWQ_REQUIRES(pool->lock) { return nr_active > 0; }
  const char* BrokenInvariant() override CMWQ_REQUIRES(pool->lock);  // invariants.cc
  const char* name() const override;
  cmwq_work_fail_fn fail() const override;
  bool IsBarrier(const struct cmwq_work* work) const override CMWQ_REQUIRES(pool->lock);
  int InFlight() const override CMWQ_REQUIRES(pool->lock);

  // Takes a slot of max_active for one more item. Without one, the pwq of an unbound queue gets in line
  // for the next that becomes free on its node. fill: limits were raised, do not mind the line.
  bool TryGetSlot(bool fill) CMWQ_REQUIRES(pool->lock);
  // Moves the first waiting item to the worklist if there is a slot. Wakes under the lock.
  bool ActivateFirst(bool fill) CMWQ_REQUIRES(pool->lock);
  // One item of `colour` has left; `slot`: it had a max_active slot. Drops and retakes pool->lock when a
  // slot goes to another pool; the caller must ask everything again.
  void Leave(int colour, bool slot) CMWQ_REQUIRES(pool->lock);
  bool Empty() const CMWQ_REQUIRES(pool->lock);
  void MoveFirst() CMWQ_REQUIRES(pool->lock);
  void LeaveLine() CMWQ_REQUIRES(pool->lock, node->lock);
  // Nothing waits here any more. Locks: takes kNode.
  void LeaveLineIfEmpty() CMWQ_REQUIRES(pool->lock);

  Workqueue* const wq;                                      // I
  NodeLimit* const node;                                    // I
  std::atomic<Pwq*> next{nullptr};                          // AT(Workqueue::Link, ForEachPwq)
  int max_active CMWQ_GUARDED_BY(pool->lock);               // bound queues; unbound: NodeLimit
  int nr_active CMWQ_GUARDED_BY(pool->lock) = 0;            // on the worklist or running; no barriers
  base::List inactive CMWQ_GUARDED_BY(pool->lock);          // FIFO
  int colour CMWQ_GUARDED_BY(pool->lock) = 0;               // of items queued now
  int nr_in_flight[kColours] CMWQ_GUARDED_BY(pool->lock) = {};
  // Attribute changes.
  bool current CMWQ_GUARDED_BY(pool->lock) = false;         // takes new items
  bool uses_pool CMWQ_GUARDED_BY(pool->lock) = false;       // is one of pool's users
  bool drained CMWQ_GUARDED_BY(pool->lock) = false;         // ordered: retired, its last item is through
  bool plugged CMWQ_GUARDED_BY(pool->lock) = false;         // ordered: an older generation has items
  uint64_t generation CMWQ_GUARDED_BY(pool->lock) = 0;      // ordered: counts up
  LineEntry line_entry;                                     // L: of the node (kNode)
  bool in_line CMWQ_GUARDED_BY(pool->lock) = false;         // line_entry is linked

 private:
  void PutSlot() CMWQ_REQUIRES(pool->lock);
};

using FlushState = BasicFlushState<sync::RealSync, kColours>;

enum class WqState : uint8_t { kLive, kDestroying, kDead };

// What unbound workers are like (kernel: workqueue_attrs).
struct WqAttrs {
  int nice = 0;
  platform::CpuSet mask;                                  // CPUs that the items may run on
  platform::Scope scope = platform::Scope::kDefault;      // CPUs of one pod share a pool
  bool strict = false;                                    // never leave the pod
};

class Workqueue {
 public:
  static void* operator new(size_t size, const std::nothrow_t&) noexcept {
    return Tombstone::Allocate(size);
  }
  static void operator delete(void* memory) noexcept { Tombstone::Bury(memory); }
  // Any handle that was ever handed out may be asked.
  bool alive() const { return tombstone.alive(); }

  Workqueue(const char* queue_name, unsigned queue_flags, int limit, bool is_ordered,
            PoolTable* table);

  // The pwq for an item queued from or to `cpu` (< nr_cpu_ids). Null: a bound queue that is not listed
  // yet, and a CPU that has come after it was made.
  Pwq* PwqFor(int cpu) const {
    return cpu_pwq[cpu].load(std::memory_order_acquire);  // pairs with the stores in Commit, MakePwqs
  }
  bool unbound() const { return (flags & CMWQ_UNBOUND) != 0; }
  // Every pwq, retired ones included. Needs no lock; one that is linked meanwhile may be missed.
  template <class F>
  void ForEachPwq(F visit) const {
    // acquire: pairs with the store in Link.
    for (Pwq* p = first_pwq.load(std::memory_order_acquire); p != nullptr;
         p = p->next.load(std::memory_order_relaxed)) {
      visit(p);
    }
  }
  // Makes `pwq` one of ForEachPwq. Under `mutex`, or before the queue is published.
  void Link(Pwq* pwq);

  Tombstone tombstone;                                    // I; first: outlives the object
  // What every queueing reads; written seldom.
  const unsigned flags;                                   // I
  const bool ordered;                                     // I
  bool shared = false;                                    // I: a default queue: never flushed, destroyed
  std::atomic<WqState> state{WqState::kLive};             // AT(Destroy, Refused)
  std::atomic<int> nr_drainers{0};                        // AT(DrainWorkqueue, Refused)
  PoolTable* const pools;                                 // I
  std::atomic<Pwq*>* cpu_pwq = nullptr;                   // AT(Commit, PwqFor): by CPU
  std::atomic<Pwq*> first_pwq{nullptr};                   // AT(Link, ForEachPwq): only ever grows
  NodeLimit* nodes = nullptr;                             // I: unbound: one per node, one for pools across
  int nr_nodes = 0;                                       // I: without the last
  pool::Rescuer* rescuer = nullptr;                       // I: null without CMWQ_MEM_RECLAIM
  char name[32];                                          // I

  WqAttrs attrs CMWQ_GUARDED_BY(pools->mu);               // unbound queues
  uint64_t unbound_version CMWQ_GUARDED_BY(pools->mu) = 0;  // the table's when it was made

  sync::Mutex mutex{sync::Rank::kWorkqueue};
  int saved_max_active CMWQ_GUARDED_BY(mutex);            // what the user asked for
  int saved_min_active CMWQ_GUARDED_BY(mutex);            // unbound: floor of each node's share
  bool frozen CMWQ_GUARDED_BY(mutex) = false;
  int* node_cpus CMWQ_PT_GUARDED_BY(mutex) = nullptr;     // unbound: usable CPUs by node
  uint64_t generation CMWQ_GUARDED_BY(mutex) = 0;         // ordered: of the newest pwq
  FlushState flush;                                       // AT: see flush_state.h
  std::atomic<cmwq_work_fail_fn> fail{nullptr};           // AT(set_fail, FailPending)
  int nr_operations = 0;                                  // L: of the io loop (kTimer): under way
  base::ListNode all_entry;                               // L: of the runtime (kRuntime)
};

// workqueue.cc
// Null with *err = errno value on failure; nothing is left behind. Locks: takes PoolTable::mu.
Workqueue* CreateWorkqueue(const char* name, unsigned flags, int max_active, bool ordered,
                           PoolTable* table, platform::Env* env, int* err);
void FreeWorkqueue(Workqueue* wq);
// Gives a bound queue its half in the pool of `cpu`, if it has none. False without memory.
bool AddBoundPwq(Workqueue* wq, int cpu) CMWQ_REQUIRES(wq->mutex);
// Applies saved_max_active (0 while frozen) to every pwq and node, and starts what may start now.
void ApplyMaxActive(Workqueue* wq) CMWQ_REQUIRES(wq->mutex);
int ClampMaxActive(int max_active);
// Changes the limits (0: the default). False: refused, the queue is ordered (min: or bound).
bool SetMaxActive(Workqueue* wq, int max_active) CMWQ_EXCLUDES(wq->mutex);
bool SetMinActive(Workqueue* wq, int min_active) CMWQ_EXCLUDES(wq->mutex);
// Child of fork: nothing is queued, in flight or being flushed. Calls drop for each waiting item.
void ResetAfterFork(Workqueue* wq, void (*drop)(struct cmwq_work* work)) CMWQ_NO_TSA;

// pwq.cc
// Lets the oldest generation of an ordered queue that has not drained run. Locks: takes kPool of one
// pwq after the other; something must keep the queue alive.
void UnplugOldest(Workqueue* wq);

// queue.cc
// The pwq for an item queued to `cpu`, its pool brought up. Where no worker can be made for that pool
// (limit of threads), one whose pool has workers: elsewhere is better than never.
Pwq* LivePwq(Workqueue* wq, int cpu);
// The same without making threads: `wanted`, or any whose pool has workers.
Pwq* ServedPwq(Workqueue* wq, Pwq* wanted);
// The queue takes nothing from the calling thread; says so once.
bool Refused(Workqueue* wq);
bool QueueWork(Workqueue* wq, int cpu, struct cmwq_work* work);
// The half of QueueWork for a timer that expires: the item is PENDING|TIMER and becomes queued.
// Locks: kTimer held, takes kPool.
void QueueFromTimer(Workqueue* wq, int cpu, struct cmwq_work* work);
// For an item whose queueing was accepted before the queue began to drain. Makes no threads: BringUp has.
bool QueueAccepted(Workqueue* wq, int cpu, struct cmwq_work* work);
void BringUp(Workqueue* wq, int cpu);
bool CancelWork(struct cmwq_work* work, PoolTable* pools, platform::EventThread* events);
bool DisableWork(struct cmwq_work* work, PoolTable* pools, platform::EventThread* events, bool sync);
bool EnableWork(struct cmwq_work* work);

// invariants.cc
// The name of an invariant of the queue that is broken, or null. Locks: takes kPool.
const char* BrokenInvariant(Workqueue* wq);

// flush.cc
// `fn` is the function of a flush's barrier.
bool IsBarrier(cmwq_work_fn fn);
bool FlushWork(struct cmwq_work* work, PoolTable* pools);
// Waits for a running execution only. True if there was one.
bool WaitForRunning(struct cmwq_work* work, PoolTable* pools);
void FlushWorkqueue(Workqueue* wq);
void DrainWorkqueue(Workqueue* wq);
bool WorkqueueEmpty(Workqueue* wq);

// delayed_work.cc
void FireDelayed(platform::Timer* t);
bool QueueDelayed(Workqueue* wq, int cpu, struct cmwq_delayed_work* d, uint64_t delay_ns,
                  platform::EventThread* events, platform::Env* env);
bool ModDelayed(Workqueue* wq, int cpu, struct cmwq_delayed_work* d, uint64_t delay_ns,
                PoolTable* pools, platform::EventThread* events, platform::Env* env);
bool FlushDelayed(struct cmwq_delayed_work* d, PoolTable* pools, platform::EventThread* events);

}  // namespace cmwq::wq

#endif  // CMWQ_RUNTIME_WQ_WORKQUEUE_H_
