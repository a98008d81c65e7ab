// WorkerPool: the workers of one CPU (or of no CPU in particular), their worklist and their counts.
// Knows no workqueue.
// size: one class; what could be told apart is in headers of its own, the code in eight sources.
//
// Legend of the field letters, used everywhere and defined only here:
//   I            set before publication, immutable afterwards
//   S            touched only by the owning thread
//   K            written by the owning worker under pool.lock; it may read without, others need it
//   L            guarded by pool.lock where the annotation cannot be written
//   AT(partner)  lock-free atomic; partner names the function it pairs with
//
// Locks: `lock` has rank kPool. Under it: no allocation, no callback into the application, no system
// call but futex wake, no logging.

#ifndef CMWQ_RUNTIME_POOL_POOL_H_
#define CMWQ_RUNTIME_POOL_POOL_H_

#include <atomic>
#include <cstdint>

#include "runtime/base/annotations.h"
#include "runtime/base/conf.h"
#include "runtime/base/intrusive_list.h"
#include "runtime/platform/stats_layout.h"
#include "runtime/platform/timer.h"
#include "runtime/pool/blocking_source.h"
#include "runtime/pool/callbacks.h"
#include "runtime/pool/concurrency.h"
#include "runtime/pool/creation_delay.h"
#include "runtime/pool/policy.h"
#include "runtime/pool/pool_attrs.h"
#include "runtime/pool/pool_stats.h"
#include "runtime/pool/trustee.h"
#include "runtime/pool/watch.h"
#include "runtime/pool/worker.h"
#include "runtime/sync/mutex.h"

namespace cmwq::pool {

class PwqBase;
class LineWriter;
struct InFlight;
struct Runs;

class WorkerPool final : public Watched {
 public:
  using Attrs = PoolAttrs;
  // base_nice: what nice 0 means. Not the caller's: any thread may be the first to need an unbound pool.
  WorkerPool(const Attrs& attrs, platform::Env* env, platform::EventThread* events,
             const base::Conf* conf, int base_nice);

  // Immutable while somebody uses the pool.
  const Attrs& attrs() const { return attrs_; }
  bool bound() const { return attrs_.cpu >= 0; }

  // trustee.cc. The CPU of a bound pool has left, or the CPUs that are left are others now: its workers
  // run on any of `cpus`. ReturnCpu: it is there (again). False: it cannot be had, nothing has changed.
  // PlaceUnbound: the same for a pool without a CPU of its own. Context: see trustee.h. May create a thread.
  void LeaveCpu(const platform::CpuSet& cpus) CMWQ_EXCLUDES(attach, lock);
  bool ReturnCpu() CMWQ_EXCLUDES(attach, lock);
  void PlaceUnbound(const platform::CpuSet& cpus) CMWQ_EXCLUDES(attach, lock);
  bool disassociated() const { return away_.load(std::memory_order_seq_cst); }
  // A rescuer comes to serve the pool, and leaves it: it is placed like a worker meanwhile.
  void AttachRescuer(Worker* w) CMWQ_EXCLUDES(attach, lock);
  void DetachRescuer(Worker* w) CMWQ_EXCLUDES(attach);
  // For the leak check: how often threads were placed so far, and what to do about other CPUs than before.
  uint32_t places() const { return nr_places_.load(std::memory_order_acquire); }  // pairs with PlaceAll
  bool PutBack(uint32_t places, const platform::CpuSet& cpus) CMWQ_EXCLUDES(attach);

  // Makes the pool ready for its first item: first worker, detector. Takes no lock of the caller's.
  // When no thread can be made the event thread keeps trying; items queued meanwhile wait.
  // False: it has no worker yet, and items had better go to a pool that has.
  bool GoLive() CMWQ_EXCLUDES(lock) { return served() || GoLiveSlow(); }
  bool served() const { return served_.load(std::memory_order_acquire); }  // pairs: CreateWorker

  // Over the birth, the end and the placing of the pool's threads: whoever places them knows all, and none
  // is another thread by then. System calls are made under it.
  sync::Mutex attach{sync::Rank::kAttach};
  sync::Mutex lock{sync::Rank::kPool};

  // Users: the pwqs that may bring items. Without one the pool lets its workers go at once, and it may
  // be used again with other attributes.
  void AddUser() CMWQ_REQUIRES(lock);
  void DropUser() CMWQ_REQUIRES(lock);
  // One user for ever: the pool of the default attributes keeps its workers between two queues.
  void Keep() CMWQ_REQUIRES(lock) {
    if (!kept_) AddUser();
    kept_ = true;
  }
  void Unkeep() CMWQ_REQUIRES(lock) {
    if (kept_) DropUser();
    kept_ = false;
  }
  bool used() const CMWQ_REQUIRES(lock) { return nr_users_ > 0; }
  // No user and no thread left: Reuse may change what the pool is. The id stays.
  bool Reusable() const CMWQ_REQUIRES(lock) {
    return nr_users_ == 0 && nr_threads_ == 0 && !managing_;
  }
  void Reuse(const Attrs& attrs) CMWQ_REQUIRES(attach, lock);

  // Worklist. Insert puts `node` before `where` (the list head: at the end) and returns the worker to
  // wake after the lock is dropped, or null.
  [[nodiscard]] Worker* Insert(base::ListNode* node, base::ListNode* where) CMWQ_REQUIRES(lock);
  // Takes a node off the worklist, or off the list of the worker that it was assigned to.
  void Remove(base::ListNode* node) CMWQ_REQUIRES(lock);
  base::ListNode* worklist_head() CMWQ_REQUIRES(lock) { return worklist_.head(); }
  // The item enters a list of this pool or of a queue's half in it: of a sample, its delay is measured.
  void Stamp(struct cmwq_work* work) CMWQ_REQUIRES(lock) {
    work->queued_ns_ = __builtin_expect(++nr_queued_ == next_sample_, 0) ? TakeSample() : 0;
  }
  // A worker between two items is about to drop the lock without looking at the list first.
  void LeaveBoundary() CMWQ_REQUIRES(lock) { at_boundary_ = false; }

  // The worker to wake if the policy wants one more, else null.
  Worker* NeedWake() CMWQ_REQUIRES(lock) { return NeedWake(Counts()); }
  Worker* NeedWake(const PoolCounts& counts) CMWQ_REQUIRES(lock);
  static void Wake(Worker* worker) {
    if (worker != nullptr) worker->parker.Unpark();
  }
  // NeedWake and Wake under the own lock. Context: hooks, detectors excluded.
  void Kick() CMWQ_EXCLUDES(lock);

  // The worker that executes `work` with function `fn`, or null. Address and function must match:
  // memory of a finished item may be in use again.
  Worker* FindExecuting(const struct cmwq_work* work, cmwq_work_fn fn) CMWQ_REQUIRES(lock);

  // Hooks of the calling worker.
  void Sleeping(Worker* w) CMWQ_EXCLUDES(lock);
  void Running(Worker* w);

  // `node` is on the worklist or on a worker's own list; it may be any address. Looks at every item: for
  // checks.
  bool Holds(const base::ListNode* node) CMWQ_REQUIRES(lock);

  PoolStats Stats() CMWQ_EXCLUDES(lock);
  // stats.cc: fills in the pool's row of the statistics page and what rows of its workers take from it.
  // Context: one thread at a time.
  void PublishStats() CMWQ_EXCLUDES(lock);
  // Something is pending, or was since the last call.
  bool Awake() CMWQ_EXCLUDES(lock);
  // Ends the process if the pool or a queue with items here is inconsistent. Expensive; invariants.cc.
  void CheckInvariants() CMWQ_EXCLUDES(lock);
  // The pool's state, its busy workers and what is pending, as lines (dump.cc).
  void ShowPool(LineWriter* out) CMWQ_EXCLUDES(lock);
  // The busy workers that execute for `pwq` (null: all).
  void ShowInFlight(LineWriter* out, const PwqBase* pwq) CMWQ_EXCLUDES(lock);
  // Copies what executes and what is pending for `pwq`; *more: there were more than max workers.
  int CopyWork(const PwqBase* pwq, uint64_t now, InFlight* out, int max, bool* more, Runs* pending)
      CMWQ_REQUIRES(lock);
  // Recomputes nr_running from the state words; returns the drift that was repaired.
  int Resync() CMWQ_EXCLUDES(lock);
  // Child of fork: no worker is left. Calls drop for every item that was queued here.
  void ResetAfterFork(void (*drop)(struct cmwq_work* work)) CMWQ_NO_TSA;

  // Watched: for detectors, lock-free.
  bool WantsWatch() const override;
  int ListSuspects(Suspect* out, int max) override;
  bool Presume(const Suspect& suspect) override;
  void Nudge() override;

 private:
  friend class Inspector;
  friend class Rescuer;
  friend class PoolTestPeer;
  void DropWorkersAfterFork(void (*drop)(struct cmwq_work* work)) CMWQ_NO_TSA;
  static constexpr int kBusyHashSize = 64;  // kernel BUSY_WORKER_HASH_ORDER 6

  PoolCounts Counts() const CMWQ_REQUIRES(lock) {
    return {!worklist_.empty(), conc_.nr_running(), nr_idle_, nr_workers_, manager_ != nullptr};
  }
  static int Bucket(const struct cmwq_work* work) {
    return static_cast<int>((reinterpret_cast<uintptr_t>(work) >> 6) % kBusyHashSize);
  }

  void SetAttrs(const Attrs& attrs) CMWQ_REQUIRES(attach, lock);
  void LetIdleGo() CMWQ_REQUIRES(lock);
  void BeginAnew() CMWQ_REQUIRES(lock);
  bool GoLiveSlow() CMWQ_EXCLUDES(lock);
  void FindDetector() CMWQ_EXCLUDES(lock);
  void ArmDetector() CMWQ_REQUIRES(lock);

  // worker.cc
  static void* WorkerMain(void* worker);
  void WorkerLoop(Worker* w) CMWQ_EXCLUDES(lock);
  void WorkUntilDone(Worker* w) CMWQ_REQUIRES(lock);
  bool LookAtPeers(const Worker* w) CMWQ_REQUIRES(lock);
  void Call(Worker* w, PwqBase* pwq, cmwq_work_fn fn, struct cmwq_work* work);
  bool AssignWork(struct cmwq_work* work, Worker* w) CMWQ_REQUIRES(lock);
  void ProcessScheduled(Worker* w) CMWQ_REQUIRES(lock);
  void ProcessOneWork(Worker* w, struct cmwq_work* work, cmwq_work_fail_fn fail = nullptr)
      CMWQ_REQUIRES(lock);
  void BeginExecution(Worker* w, struct cmwq_work* work) CMWQ_REQUIRES(lock);
  void EndExecution(Worker* w) CMWQ_REQUIRES(lock);
  void EnterIdle(Worker* w) CMWQ_REQUIRES(lock);
  void LeaveIdle(Worker* w) CMWQ_REQUIRES(lock);
  void HashInsert(Worker* w) CMWQ_REQUIRES(lock);
  void HashRemove(Worker* w) CMWQ_REQUIRES(lock);
  void PlaceSelf(const Worker* w) CMWQ_REQUIRES(attach);
  void Repatriate();
  void Retire(Worker* w) CMWQ_EXCLUDES(lock);
  void PublishFirstIdle() CMWQ_REQUIRES(lock);

  // manager.cc
  Worker* TakeSlot() CMWQ_EXCLUDES(lock);
  bool CreateWorker(bool give_up_role) CMWQ_EXCLUDES(lock);
  void HoldRole(bool managing, Worker* manager) CMWQ_REQUIRES(lock) {
    managing_ = managing;
    manager_ = manager;
    short_handed_.store(managing && manager == nullptr, std::memory_order_seq_cst);
  }
  bool ManageWorkers(Worker* w) CMWQ_REQUIRES(lock);
  bool NeedLasts() CMWQ_REQUIRES(lock);
  uint64_t Moves() CMWQ_REQUIRES(lock);
  void ArmManageTimer() CMWQ_EXCLUDES(lock);
  void ReportCreateFailure(int err);
  static void ManageFire(platform::Timer* t) CMWQ_NO_TSA;  // drops and retakes the caller's kTimer
  void SendMaydays() CMWQ_EXCLUDES(lock);
  static void CullFire(platform::Timer* t) CMWQ_NO_TSA;  // the caller holds kTimer
  uint64_t CullIdle() CMWQ_EXCLUDES(lock);
  void ArmCullIfWanted() CMWQ_EXCLUDES(lock);

  // trustee.cc
  struct TrusteeHost;
  void WentIdle() CMWQ_REQUIRES(lock);
  void CallForWorker() CMWQ_REQUIRES(lock);
  int PlaceAll(const platform::CpuSet& cpus) CMWQ_REQUIRES(attach);
  static void TrusteeSoonFire(platform::Timer* t) CMWQ_NO_TSA;  // the caller holds kTimer
  static void TrusteeLookFire(platform::Timer* t) CMWQ_NO_TSA;  // as TrusteeSoonFire
  void TrusteeTick(bool asked) CMWQ_EXCLUDES(lock) CMWQ_NO_TSA;

  // stats.cc
  uint64_t TakeSample() CMWQ_REQUIRES(lock);
  void NoteDelay(uint64_t queued_ns) CMWQ_REQUIRES(lock);
  void PublishWorkers(uint64_t now) CMWQ_REQUIRES(lock);
  // fail.cc
  void FailPending() CMWQ_EXCLUDES(lock);
  void SettleFailed(Worker* w) CMWQ_REQUIRES(lock);
  struct cmwq_work* NextToFail(uint64_t pass, int64_t* budget, cmwq_work_fail_fn* fail)
      CMWQ_REQUIRES(lock);
  // watch.cc
  // Pending work behind a running worker, or pending work at all: the timers that look after it.
  void ArmTick() CMWQ_REQUIRES(lock) {
    if (!tick_armed_ && bound()) ArmTickSlow();  // in an unbound pool nobody counts
  }
  void ArmStall() CMWQ_REQUIRES(lock) {
    if (!noted_) ArmStallSlow();
  }
  void ArmTickSlow() CMWQ_REQUIRES(lock);
  void ArmStallSlow() CMWQ_REQUIRES(lock);
  uint64_t StallPeriodNs() const;
  static void TickFire(platform::Timer* t) CMWQ_NO_TSA;   // drops and retakes the caller's kTimer
  static void StallFire(platform::Timer* t) CMWQ_NO_TSA;  // as TickFire
  void SampleIfNobodyAttends() CMWQ_NO_TSA CMWQ_EXCLUDES(lock);  // as TickFire
  int FindHogs(HogReport* reports) CMWQ_EXCLUDES(lock);
  bool MarkIntensive(Worker* w, uint32_t seen, uint64_t executed, cmwq_work_fn* fn)
      CMWQ_EXCLUDES(lock);
  void ReportHogs(const HogReport* reports, int n) CMWQ_EXCLUDES(lock);
  int Drift() CMWQ_REQUIRES(lock);
  int RepairDrift() CMWQ_EXCLUDES(lock);
  void ReportStall(uint64_t for_ns) CMWQ_EXCLUDES(lock);
  void ResetWatchAfterFork() CMWQ_NO_TSA;
  // dump.cc
  void NoteInFlight(uint64_t now) CMWQ_REQUIRES(lock);
  void DescribeInFlight(Worker* w, uint64_t now, InFlight* f) CMWQ_REQUIRES(lock);
  int ListInFlight(InFlight* out, int max, int* from, const PwqBase* pwq, uint64_t now)
      CMWQ_REQUIRES(lock);

  Attrs attrs_;                                    // I: while the pool has users or threads
  platform::CpuSet place_;                         // I: as attrs_; where its workers belong
  bool steers_ = false;                            // I: as attrs_; place_ is wider than the pod
  platform::CpuSet where_ CMWQ_GUARDED_BY(attach); // where they run: place_, or what is left of the CPUs
  base::List rescuers_ CMWQ_GUARDED_BY(attach);    // that serve the pool now, by entry
  std::atomic<uint32_t> nr_places_{0};             // AT(PlaceAll, CallChecked): placings, counted twice each
  const int base_nice_;                            // I: of the thread that started the runtime
  platform::Env* const env_;                       // I
  platform::EventThread* const events_;            // I
  const base::Conf* const conf_;                   // I
  const bool leak_check_;                          // I: conf.leak_check
  const bool audited_;                             // I: conf.switches: workers may have an audit
  std::atomic<BlockingSource*> detector_{nullptr}; // AT(FindDetector, ArmDetector): set once
  std::atomic<bool> served_{false};                // AT(CreateWorker, served): has had a worker
  // One thread makes the first worker. Changes under the lock; relaxed look without it, a hint.
  std::atomic<bool> going_live_{false};            // AT(GoLiveSlow, GoLiveSlow)
  bool tried_ CMWQ_GUARDED_BY(lock) = false;       // the first attempt is over

  Concurrency conc_;                               // AT: see concurrency.h

  // One cache line: what queueing and executing change.
  base::List worklist_ CMWQ_GUARDED_BY(lock);
  uint32_t nr_pending_ CMWQ_GUARDED_BY(lock) = 0;
  bool tick_armed_ CMWQ_GUARDED_BY(lock) = false;   // see PoolWatch
  bool noted_ CMWQ_GUARDED_BY(lock) = false;       // stall_armed_, and pending work since the last Awake
  bool stall_armed_ CMWQ_GUARDED_BY(lock) = false;  // as tick_armed_
  bool at_boundary_ CMWQ_GUARDED_BY(lock) = false;  // whoever holds the lock is between two items
  uint64_t progress_ CMWQ_GUARDED_BY(lock) = 0;    // see PoolWatch
  uint64_t nr_queued_ CMWQ_GUARDED_BY(lock) = 0;
  uint64_t next_sample_ CMWQ_GUARDED_BY(lock);     // the value of nr_queued_ that is stamped; 0: none
  base::List idle_list_ CMWQ_GUARDED_BY(lock);     // LIFO: the warmest worker first
  int nr_workers_ CMWQ_GUARDED_BY(lock) = 0;
  int nr_threads_ CMWQ_GUARDED_BY(lock) = 0;       // workers, and those that are told to go
  int nr_users_ CMWQ_GUARDED_BY(lock) = 0;
  bool kept_ CMWQ_GUARDED_BY(lock) = false;
  int nr_idle_ CMWQ_GUARDED_BY(lock) = 0;
  bool managing_ CMWQ_GUARDED_BY(lock) = false;   // somebody has the manager role
  Worker* manager_ CMWQ_GUARDED_BY(lock) = nullptr;  // null while the event thread has it
  Worker* busy_[kBusyHashSize] CMWQ_GUARDED_BY(lock) = {};
  std::atomic<Worker*> first_idle_{nullptr};       // AT(PublishFirstIdle, Nudge): hint for detectors
  // The event thread has the manager role; written under the lock.
  std::atomic<bool> short_handed_{false};          // AT(HoldRole, WantsWatch)

  // Slots: state words lie densely so that a detector scans many of them in a few cache lines.
  StateWord* words_;                               // I: array of conf.max_workers
  std::atomic<Worker*>* slots_;                    // I: array of conf.max_workers; AT(TakeSlot, ListSuspects)
  std::atomic<int> slots_used_{0};                 // AT(TakeSlot, ListSuspects): high-water mark
  base::List free_slots_ CMWQ_GUARDED_BY(lock);    // retired workers, by entry

  Trustee trustee_ CMWQ_GUARDED_BY(lock);
  TrusteeCalls trustee_calls_;                     // L, I: see watch.h
  // trustee_.disassociated(), written under the lock.
  std::atomic<bool> away_{false};                  // AT(TrusteeHost, WantsWatch)

  static WorkerPool* PoolOf(platform::Timer* t) { return reinterpret_cast<PoolTimer*>(t)->pool; }
  PoolTimer manage_timer_;                         // I: the pointer; timer see PoolTimer
  PoolTimer cull_timer_;                           // I: as manage_timer_
  bool cull_armed_ CMWQ_GUARDED_BY(lock) = false;
  bool cull_wanted_ CMWQ_GUARDED_BY(lock) = false;
  uint64_t next_create_ns_ CMWQ_GUARDED_BY(lock) = 0;  // cool-down ends
  uint64_t mayday_round_ CMWQ_GUARDED_BY(lock) = 0;    // calls for help so far; see SendMaydays
  CreationDelay delay_ CMWQ_GUARDED_BY(lock);
  int create_err_ CMWQ_GUARDED_BY(lock) = 0;       // of the last attempt: 0 or errno
  StateWord fail_word_;                            // S: the event thread: PREP for ever
  Worker fail_worker_;                             // S: the event thread, while it fails items
  uint64_t fail_pass_ = 0;                         // S: the event thread

  PoolWatch watch_;                                // L, S: see watch.h
  PoolStats stats_ CMWQ_GUARDED_BY(lock) = {};
  uint64_t sample_step_ CMWQ_GUARDED_BY(lock) = 1;  // one item of so many; see TakeSample
  uint64_t sampled_ns_ CMWQ_GUARDED_BY(lock) = 0;
  platform::StatsPool* const row_;                 // I: the rows behind it: L
  platform::StatsPool own_row_ = {};               // L: where there is no page
  std::atomic<uint64_t> nr_presumed_{0};           // AT(Presume, Stats): relaxed, a count only
  std::atomic<uint64_t> nr_repatriated_{0};        // AT(Repatriate, Stats): relaxed, a count only
};

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_POOL_H_
