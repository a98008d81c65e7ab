// cmwq_show_all_workqueues: every busy queue and every pool that has workers.

#include "runtime/wq/show.h"

#include "runtime/core/cpus.h"
#include "runtime/core/io_loop.h"
#include "runtime/core/runtime.h"
#include "runtime/pool/switch_audit.h"

namespace cmwq::core {

// One pwq at a time: copied under the locks, printed without. Queues that come or go meanwhile may be
// left out or shown twice.
void Runtime::ShowQueues(pool::LineWriter* out) {
  wq::PwqShot shot;
  const wq::Workqueue* last = nullptr;
  for (int queue = 0, at = 0;;) {
    bool found = false, end = true;
    {
      sync::MutexLock hold(mu_);
      int index = 0;
      for (base::ListNode* n = queues_.front(); n != nullptr && !found; n = queues_.next(n)) {
        if (index++ < queue) continue;
        end = false;
        auto* const wq = base::ListOwner<wq::Workqueue>(n, offsetof(wq::Workqueue, all_entry));
        found = wq::CapturePwq(wq, &at, env_->NowNs(), &shot);
        if (!found) {
          ++queue;
          at = 0;
          continue;
        }
        shot.first = wq != last;
        last = wq;
      }
    }
    if (found) wq::PrintPwq(shot, out);
    if (end || !found) return;
  }
}

void Runtime::ShowPools(pool::LineWriter* out) {
  table_.ForEachPool([out](pool::WorkerPool& pool) {
    if (pool.served()) pool.ShowPool(out);
  });
}

// Context: any thread. Locks: none held.
void Runtime::Show(int fd) {
  pool::FdWriter out(fd);
  char line[64];
  base::RawFormat(line, sizeof(line), "cmwq: busy workqueues and worker pools, pid %d:", base::Pid());
  out.Line(line);
  if (!started()) return;
  WriteCpus(&out);
  ShowQueues(&out);
  ShowPools(&out);
  IoLoop::Get().Show(&out);
  pool::WriteSwitches(&out);
}

}  // namespace cmwq::core
