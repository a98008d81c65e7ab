// Rescuer: the reserve thread of one CMWQ_MEM_RECLAIM queue. Created with the queue, so that one item
// at a time makes progress when no worker can be created (kernel: rescuer_thread).
//
// It never counts in nr_running and allocates nothing on its path.

#ifndef CMWQ_RUNTIME_POOL_RESCUER_H_
#define CMWQ_RUNTIME_POOL_RESCUER_H_

#include "runtime/base/annotations.h"
#include "runtime/platform/env.h"
#include "runtime/pool/worker.h"
#include "runtime/sync/mutex.h"

namespace cmwq::pool {

class PwqBase;

class Rescuer {
 public:
  Rescuer(platform::Env* env, const char* queue_name);

  // Creates the thread, which touches its stack. 0 or errno. Nothing to do if it is there already.
  int Start();
  // Serves what is on the distress list, then ends and joins the thread.
  void Stop() CMWQ_EXCLUDES(mayday_lock_);

  // Puts `pwq` on the distress list and wakes the rescuer. False: it was there already.
  // Context: any; locks: pwq->pool->lock held, takes kMayday.
  bool Mayday(PwqBase* pwq) CMWQ_EXCLUDES(mayday_lock_);

  // Child of fork: the thread is gone; Start makes it anew. Calls drop for each item it had taken.
  void ResetAfterFork(void (*drop)(struct cmwq_work* work)) CMWQ_NO_TSA;

  uint64_t rescued() const { return nr_rescued_.load(std::memory_order_relaxed); }
  bool IsSelf() const { return CurrentWorker() == &worker_; }

 private:
  friend class PoolTestPeer;
  static constexpr int kBatch = 16;  // kernel RESCUER_BATCH: then others get their turn

  static void* Main(void* self);
  void Loop();
  void ServePwq(PwqBase* pwq);
  bool OthersWait();

  platform::Env* const env_;                                   // I
  char name_[16];                                              // I
  pthread_t thread_{};                                         // I: after Start
  bool started_ = false;  // S: creator, then reviver of a forked child, then destroyer; never two
  StateWord word_;                                             // AT: stays in PREP, never counted
  Worker worker_;                                              // S: the rescuer thread
  sync::Mutex mayday_lock_{sync::Rank::kMayday};
  base::List maydays_ CMWQ_GUARDED_BY(mayday_lock_);
  bool stop_ CMWQ_GUARDED_BY(mayday_lock_) = false;
  std::atomic<uint64_t> nr_rescued_{0};                        // AT(ServePwq, rescued): relaxed
};

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_RESCUER_H_
