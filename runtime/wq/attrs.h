// Attributes of unbound queues: which pools serve which CPU. Changed as a whole: everything that can
// fail is done before anything is visible (kernel: apply_wqattrs_prepare, _commit).
//
// Locks: PoolTable::mu over a change, from Prepare to Commit or to the end of the object, which undoes it.

#ifndef CMWQ_RUNTIME_WQ_ATTRS_H_
#define CMWQ_RUNTIME_WQ_ATTRS_H_

#include "runtime/wq/workqueue.h"

namespace cmwq::wq {

class AttrsChange {
 public:
  AttrsChange() = default;
  ~AttrsChange();
  AttrsChange(const AttrsChange&) = delete;
  AttrsChange& operator=(const AttrsChange&) = delete;

  // When a pod's pool or first worker cannot be had: kNone, the change fails; kDefault, the pool of all
  // CPUs of the queue serves that pod too (kernel: alloc_unbound_pwq in wq_update_pod).
  enum class Fallback { kNone, kDefault };
  // Finds or makes the pwqs. CPUs outside of what unbound queues may use are left out of the mask; if
  // none is left, all those are taken. 0 or ENOMEM; the destructor leaves nothing behind.
  int Prepare(Workqueue* wq, const WqAttrs& attrs, Fallback fallback = Fallback::kNone)
      CMWQ_REQUIRES(wq->pools->mu);
  // The pools are those of new queues: they stay.
  void KeepPools();
  // Makes the first worker of each pool. EAGAIN: one has none.
  int GoLive();
  // Publishes. Items queued from now on go to the new pwqs, the old ones finish what they have.
  void Commit() CMWQ_EXCLUDES(wq_->mutex);

  AttrsChange* next = nullptr;  // S: for a caller that changes several queues
  bool keep = false;            // S: as next

 private:
  struct Slot {
    Pwq* pwq;
    bool fresh;  // made by Prepare, not linked yet
  };
  Pwq* GetPwq(bool strict, const platform::CpuSet& pod, const platform::CpuSet& mask)
      CMWQ_NO_TSA;  // the caller of Prepare holds the table's lock
  Pwq* FindPwq(pool::WorkerPool* pool, const NodeLimit* node);
  void TakeInUse(const Slot& slot, int colour) CMWQ_NO_TSA;  // under wq_->mutex, by Commit
  void RetireOthers();
  bool Chosen(const Pwq* pwq) const;
  void CountNodes(const platform::CpuSet& effective) CMWQ_NO_TSA;  // as GetPwq
  static void DropSlot(const Slot& slot);

  Workqueue* wq_ = nullptr;      // S
  WqAttrs attrs_;                // S
  Fallback fallback_ = Fallback::kNone;  // S
  Pwq* dfl_ = nullptr;           // S: for CPUs whose pod has none of the mask
  Pwq** by_cpu_ = nullptr;       // S: new table
  Slot* slots_ = nullptr;        // S: every pwq of it once, with a user of its pool each
  int nr_slots_ = 0;             // S
  int* node_cpus_ = nullptr;     // S: for Workqueue::node_cpus
};

// The whole change. 0 or errno: EINVAL (bound queue, nice out of range, no usable CPU in the mask),
// ENOMEM, EAGAIN (no worker can be made for one of the pools); the old attributes stay then.
int ApplyAttrs(Workqueue* wq, const WqAttrs& attrs) CMWQ_EXCLUDES(wq->pools->mu, wq->mutex);
// The same for one attribute that `edit` sets from `value` (false: EINVAL). In one section with the change:
// two threads that set different attributes both succeed.
int EditAttrs(Workqueue* wq, bool (*edit)(WqAttrs* attrs, const char* value), const char* value)
    CMWQ_EXCLUDES(wq->pools->mu, wq->mutex);
// Before a new queue is listed, that is, found by whoever changes all: what unbound queues may use may have
// changed since InitAttrs. 0 or errno as ApplyAttrs.
int FollowUnboundCpus(Workqueue* wq) CMWQ_REQUIRES(wq->pools->mu) CMWQ_EXCLUDES(wq->mutex);
// The attributes of a new unbound queue, without threads. 0 or ENOMEM.
int InitAttrs(Workqueue* wq) CMWQ_EXCLUDES(wq->pools->mu, wq->mutex);
// Context: the queue is frozen, changed or created. Recomputes each node's share of max_active.
void UpdateNodeMax(Workqueue* wq) CMWQ_REQUIRES(wq->mutex);

}  // namespace cmwq::wq

#endif  // CMWQ_RUNTIME_WQ_ATTRS_H_
