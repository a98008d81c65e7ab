// What a pool knows of the queue that a work item belongs to: two calls, so that pools need not know
// workqueues (kernel: pool_workqueue).

#ifndef CMWQ_RUNTIME_POOL_PWQ_BASE_H_
#define CMWQ_RUNTIME_POOL_PWQ_BASE_H_

#include <cmwq/cmwq.h>

#include "runtime/base/intrusive_list.h"
#include "runtime/pool/pool.h"

namespace cmwq::pool {

class Rescuer;
class PwqBase;

// On the distress list of the queue's rescuer.
struct MaydayEntry {
  base::ListNode node;  // first
  PwqBase* pwq;
};

class PwqBase {
 public:
  explicit PwqBase(WorkerPool* p) : pool(p) {
    base::ListInit(&mayday_entry.node);
    mayday_entry.pwq = this;
  }

  // A worker is about to run `work`: leave "queued" behind. Returns the item's completion cookie, which
  // is given back to Finished because the item may be gone by then.
  virtual uint32_t Started(struct cmwq_work* work) CMWQ_REQUIRES(pool->lock) = 0;
  // The item is through: give its slot on, settle flushes.
  virtual void Finished(uint32_t cookie) CMWQ_REQUIRES(pool->lock) = 0;
  // Something of this queue is still on the worklist or running here.
  virtual bool HasActive() const CMWQ_REQUIRES(pool->lock) = 0;
  // The name of an invariant of this half that is broken, or null. Expensive.
  virtual const char* BrokenInvariant() CMWQ_REQUIRES(pool->lock) = 0;
  virtual const char* name() const = 0;
  // What to do with items for which no worker can be made; null: they wait. Lock-free.
  virtual cmwq_work_fail_fn fail() const = 0;
  // A flush's own item, which only wakes its waiter.
  virtual bool IsBarrier(const struct cmwq_work* work) const CMWQ_REQUIRES(pool->lock) = 0;
  // Items of this queue that are on a list here or running.
  virtual int InFlight() const CMWQ_REQUIRES(pool->lock) = 0;

  WorkerPool* const pool;           // I
  Rescuer* rescuer = nullptr;       // I: after the queue is published
  bool cpu_intensive = false;       // I
  uint64_t fail_pass = 0;           // L: of the pool: the last FailPending that met it
  MaydayEntry mayday_entry;         // L: of the rescuer (kMayday)
  uint64_t mayday_round = 0;        // L: of the pool; see SendMaydays
  int mayday_users = 0;             // L: of the pool; its users on behalf of calls not yet served

 protected:
  ~PwqBase() = default;
};

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_PWQ_BASE_H_
