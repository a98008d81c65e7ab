// MiniPool: a worker pool cut down to what decides whether work is lost. The same predicates, state
// words, Concurrency and Parkers as the product; lock, threads and items are the model's.
//
// Defects can be planted, to show that a run notices them.

#ifndef CMWQ_TESTS_MODEL_MINI_POOL_H_
#define CMWQ_TESTS_MODEL_MINI_POOL_H_

#include <cstdint>
#include <functional>

#include "runtime/pool/concurrency.h"
#include "runtime/pool/creation_delay.h"
#include "runtime/pool/policy.h"
#include "runtime/pool/trustee.h"
#include "runtime/sync/parker.h"
#include "tests/model/model_sync.h"

namespace cmwq::model {

struct PoolDefects {
  bool sleeper_never_kicks = false;
  bool queuer_never_kicks = false;
  bool no_recheck_before_idle = false;  // PREP is set and nobody looks again
  bool start_without_spare = false;     // the last idle worker executes instead of managing
  bool detector_never_nudges = false;
  bool no_arm_when_queued = false;    // a dormant detector is not told about a new item
  bool no_arm_when_started = false;   // nor by a worker that starts with more on the list
  bool no_arm_when_idle = false;      // nor by a worker that could be started from now on
  bool dormant_without_look = false;  // the detector goes to sleep on an old answer
  bool idle_when_others_moved = false;  // the manager takes movement for an end of the need
  bool wake_means_idle = false;       // a token is taken as proof of being on the idle list
  // Of the trustee.
  bool leaves_without_kick = false;     // the CPU leaves, and nobody is woken
  bool zaps_running = false;            // nr_running is zeroed instead of following the edges
  bool attaches_as_made = false;        // a worker keeps the flags that it was made with
  bool butchers_spares = false;         // idle workers go while others are busy
  bool nobody_calls = false;            // an item for a pool without workers is put on the list, no more
  bool no_look_when_idle = false;       // the last one that goes idle in a butchered pool stays
  bool role_without_spare = false;      // the role is given back although nobody is idle
  bool counts_before_placed = false;    // flags first, then the places
};

class MiniPool {
 public:
  static constexpr int kWorkers = 6;
  static constexpr int kMaxItems = 6;
  using Word = pool::BasicStateWord<ModelSync>;
  using Item = std::function<void(MiniPool*, int worker)>;

  // `flags`: kUnbound for a pool whose workers are not counted.
  explicit MiniPool(uint32_t flags = 0, PoolDefects defects = {});

  // Adds the threads of all workers; one is alive from the start, the manager makes the others.
  void AddWorkers(World& world);
  void Queue(Item item);

  // For items: the hooks, and whether the worker counts.
  void Sleeping(int worker);
  void Running(int worker) { conc_.Running(workers_[worker].word); }
  bool Counts(int worker) const { return Word::Counted(workers_[worker].word.Load()); }
  // A blocking region around a wait for `event`.
  void AnnouncedWait(int worker, int event);
  // The same without telling anybody: only a detector can find out.
  void SilentWait(int worker, int event);
  void Signal(int event);
  // One round of a detector over all workers.
  void Detect();
  // A detector that sleeps while watching cannot help, for a daemon of its own.
  void DetectorLoop();
  // Lets the oldest idle worker go if there are more than `keep`.
  void Cull(int keep);
  // A wake-up that was decided on long ago: it may come at any time for an object that had a
  // thread.
  void LateWake(int worker) { Wake(worker); }
  // The CPU leaves and returns. One thread at a time.
  void LeaveCpu();
  void ReturnCpu();
  // So many creations fail from now on.
  void FailCreations(int n) { failures_ = n; }
  // The event thread, for a daemon of its own: calls the trustee, and manages when a worker cannot.
  void EventLoop();
  pool::TrusteeState trustee_state() const { return trustee_.state(); }
  bool AllDone() const { return executed_ == queued_; }
  int executed() const { return executed_; }
  void CheckEnd(int expected);

 private:
  struct Worker {
    Word word;
    sync::BasicParker<ModelSync> parker;
    ModelAtomic<int32_t> born{0};  // its thread exists; a retired one waits here to be made again
    bool idle = false;
    bool die = false;
    bool alive = false;    // its object is in use
    bool off_cpu = false;  // what a detector can see from outside
    bool placed = false;   // there is a thread to be placed
    bool home = true;      // on the pool's CPU
  };
  struct TrusteeHost;

  pool::PoolCounts Counts() const;
  void WorkerLoop(int self);
  void WorkerLife(int self);
  void WorkUntilDone(int self);
  void Execute(int self);
  bool Manage(bool* go_idle);
  bool NeedLasts(bool* go_idle);
  uint64_t Moves() const;
  bool Create(bool give_up_role);
  void EventTick();
  void EnterIdle(int self);
  void LeaveIdle(int self);
  int NeedWake() const;
  void Wake(int worker);
  void LetGo(int worker);
  void Kick();
  void PublishFirstIdle();
  bool WantsWatch() const;
  void ArmDetector(bool skip);

  const uint32_t flags_;
  const PoolDefects defects_;
  ModelMutex lock_;
  pool::BasicConcurrency<ModelSync> conc_;
  Worker workers_[kWorkers];
  ModelAtomic<int32_t> first_idle_{-1};
  ModelAtomic<int32_t> detector_{1};  // as BlockingSource: 0 dormant, 1 watching
  ModelAtomic<int32_t> events_[kMaxItems];
  ModelAtomic<int32_t> calls_{0};  // of the event thread
  ModelAtomic<int32_t> away_{0};
  int index_[kWorkers];
  ModelMutex attach_;
  bool home_ = true;               // guarded by attach_: where new threads go
  // Guarded by lock_.
  Item worklist_[kMaxItems];
  int head_ = 0, tail_ = 0;
  int idle_[kWorkers];  // LIFO
  int nr_idle_ = 0;
  int nr_workers_ = 0;
  bool managing_ = false;
  pool::CreationDelay delay_;
  bool event_manages_ = false;
  bool look_again_ = false;
  uint64_t time_ = 0;
  int failures_ = 0;
  pool::Trustee trustee_;
  // Bookkeeping of the test.
  int queued_ = 0, executed_ = 0;
};

}  // namespace cmwq::model

#endif  // CMWQ_TESTS_MODEL_MINI_POOL_H_
