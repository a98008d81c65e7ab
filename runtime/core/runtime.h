// Runtime: the process's one engine. Pools, event thread, list of queues, fork handling.
//
// Constant-initialised, started by the first queue, never destroyed: workers may run until the very end
// of the process.

#ifndef CMWQ_RUNTIME_CORE_RUNTIME_H_
#define CMWQ_RUNTIME_CORE_RUNTIME_H_

#include <atomic>

#include "runtime/base/annotations.h"
#include "runtime/platform/timer.h"
#include "runtime/sync/mutex.h"
#include "runtime/wq/workqueue.h"

namespace cmwq::core {

class Runtime {
 public:
  static Runtime& Get();

  // Starts the engine if it is not running. 0 or errno (EAGAIN: no thread for timers).
  int Start() CMWQ_EXCLUDES(mu_);
  bool started() const { return started_.load(std::memory_order_acquire); }

  wq::PoolTable* pools() { return &table_; }
  platform::EventThread* events() { return events_; }
  platform::Env* env() { return env_; }

  // The usable CPU for a request of `cpu` (CMWQ_CPU_ANY: the caller's).
  int PickCpu(int cpu);

  // See cpus.h. Null: as before.
  int ChangeCpus(const platform::CpuSet* allowed, const platform::CpuSet* requested) CMWQ_EXCLUDES(mu_);
  int RetryCpus() CMWQ_EXCLUDES(mu_);

  // Freezes or thaws the freezable queues, those included that are made later.
  void Freeze(bool frozen) CMWQ_EXCLUDES(mu_);
  // Changes what unbound queues may use, and every unbound queue, or nothing. 0 or errno, see attrs.h.
  int SetUnboundCpus(const platform::CpuSet& set) CMWQ_EXCLUDES(mu_);

  // Lists a new queue; with `slot`, puts it there, but for a queue that is there already. In one section:
  // nobody finds, and no fork sees, a listed queue that is then given up. Returns the one that is listed;
  // null with *err, see attrs.h.
  wq::Workqueue* AddQueue(wq::Workqueue* queue, std::atomic<wq::Workqueue*>* slot, int* err)
      CMWQ_EXCLUDES(mu_);
  void RemoveQueue(wq::Workqueue* queue) CMWQ_EXCLUDES(mu_);
  template <class F>
  void ForEachQueue(F visit) CMWQ_EXCLUDES(mu_) {
    sync::MutexLock hold(mu_);
    for (base::ListNode* n = queues_.front(); n != nullptr; n = queues_.next(n)) {
      visit(base::ListOwner<wq::Workqueue>(n, offsetof(wq::Workqueue, all_entry)));
    }
  }

  // misuse.cc: the item is really on a list or in the timer heap. `work` may be any readable memory;
  // nothing that it points to is looked at.
  bool ReallyPending(const struct cmwq_work* work) CMWQ_EXCLUDES(mu_);
  // show.cc: the busy queues, the pools that have workers, both to descriptor fd.
  void ShowQueues(pool::LineWriter* out) CMWQ_EXCLUDES(mu_);
  void ShowPools(pool::LineWriter* out);
  void Show(int fd) CMWQ_EXCLUDES(mu_);
  // Writes the CMWQ_REPORT table to descriptor fd.
  void Report(int fd);

 private:
  int StartLocked() CMWQ_REQUIRES(mu_);
  void Revive() CMWQ_EXCLUDES(mu_);
  static void BeforeFork() CMWQ_NO_TSA;
  static void AfterForkInParent() CMWQ_NO_TSA;
  static void AfterForkInChild() CMWQ_NO_TSA;

  sync::Mutex mu_{sync::Rank::kRuntime};
  std::atomic<bool> started_{false};                     // AT(Start, started)
  bool handlers_ CMWQ_GUARDED_BY(mu_) = false;           // fork and exit handlers are registered
  bool frozen_ CMWQ_GUARDED_BY(mu_) = false;             // freezable queues are frozen
  bool revive_ CMWQ_GUARDED_BY(mu_) = false;             // child of fork: threads are to be made anew
  platform::Env* env_ = nullptr;                         // I: after Start
  platform::EventThread* events_ = nullptr;              // I: after Start
  wq::PoolTable table_;                                  // I: after Start
  platform::CpuSet allowed_ CMWQ_GUARDED_BY(table_.mu);    // see cpus.h
  platform::CpuSet requested_ CMWQ_GUARDED_BY(table_.mu);  // as allowed_
  bool map_again_ CMWQ_GUARDED_BY(table_.mu) = false;      // the last change of CPUs was not carried through
  base::List queues_ CMWQ_GUARDED_BY(mu_);
};

}  // namespace cmwq::core

#endif  // CMWQ_RUNTIME_CORE_RUNTIME_H_
