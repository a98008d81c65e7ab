// The whole policy of a pool: five questions over a few numbers, evaluated with the pool's lock held.
//
// nr_running may change at any moment without the lock (a worker blocks or returns), so a caller takes
// one snapshot and decides everything from it; asking twice and expecting one answer is the defect that
// sent the last idle worker off to execute (kernel 3.19).

#ifndef CMWQ_RUNTIME_POOL_POLICY_H_
#define CMWQ_RUNTIME_POOL_POLICY_H_

namespace cmwq::pool {

struct PoolCounts {
  bool worklist;    // something is on the worklist
  int nr_running;   // counted workers, never negative
  int nr_idle;      // on the idle list
  int nr_workers;   // all but the dying
  bool managing;    // somebody holds the manager role
};

// Sources: kernel need_more_worker(), may_start_working(), keep_working(), need_to_create_worker(),
// too_many_workers().
constexpr bool NeedMoreWorker(const PoolCounts& c) { return c.worklist && c.nr_running == 0; }
constexpr bool MayStartWorking(const PoolCounts& c) { return c.nr_idle > 0; }
// The asking worker counts itself.
constexpr bool KeepWorking(const PoolCounts& c) { return c.worklist && c.nr_running <= 1; }
constexpr bool NeedToCreateWorker(const PoolCounts& c) {
  return NeedMoreWorker(c) && !MayStartWorking(c);
}
// The manager counts as idle: it was the last idle worker and will be again.
constexpr bool TooManyWorkers(const PoolCounts& c, int ratio) {
  const int idle = c.nr_idle + (c.managing ? 1 : 0);
  const int busy = c.nr_workers - idle;
  return idle > 2 && (idle - 2) * ratio >= busy;
}

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_POLICY_H_
