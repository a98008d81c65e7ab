// CPUs that come and go, as far as pools and queues are concerned (kernel: workqueue_online_cpu,
// workqueue_offline_cpu, wq_update_pod).

#ifndef CMWQ_RUNTIME_WQ_CPUS_H_
#define CMWQ_RUNTIME_WQ_CPUS_H_

#include "runtime/wq/workqueue.h"

namespace cmwq::wq {

// The queues that there are. Whoever changes CPUs holds PoolTable::mu, so none comes or goes meanwhile.
class QueueList {
 public:
  virtual void ForEach(void (*visit)(Workqueue* wq, void* arg), void* arg) = 0;

 protected:
  ~QueueList() = default;
};

// `usable`, not empty and below nr_cpu_ids, are the CPUs from now on. Those that come get their pools and
// halves of queues before an item can be queued to them; pools of those that go are disassociated; unbound
// queues are mapped anew, also without a change if `remap`. Threads are placed again in any case.
// 0, or what kept something from being done: ENOMEM, EAGAIN (a CPU could not be taken into use, or a queue
// not mapped: it stays with its old pools). May be called again with the same set.
// Context: may create threads.
int ChangeCpus(PoolTable* table, const platform::CpuSet& usable, QueueList* queues, bool remap)
    CMWQ_REQUIRES(table->mu);

// Before a new queue is listed, that is, found by ChangeCpus: CPUs may have come since it was made.
// False without memory.
bool FollowCpus(Workqueue* wq) CMWQ_REQUIRES(wq->pools->mu) CMWQ_EXCLUDES(wq->mutex);

}  // namespace cmwq::wq

#endif  // CMWQ_RUNTIME_WQ_CPUS_H_
