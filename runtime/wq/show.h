// One queue as text, for cmwq_show_all_workqueues, the watchdog, and a drain or destruction that finds
// no end.

#ifndef CMWQ_RUNTIME_WQ_SHOW_H_
#define CMWQ_RUNTIME_WQ_SHOW_H_

#include "runtime/pool/dump.h"
#include "runtime/wq/workqueue.h"

namespace cmwq::wq {

// What one pwq does, copied under its pool's lock.
struct PwqShot {
  static constexpr int kInFlight = 32;  // workers shown per pwq
  char queue[32];
  unsigned flags;
  bool ordered;
  bool first;       // of its queue: the line of the queue comes before it
  char pool[32];
  int nr_active, max_active;
  bool mayday, plugged;
  int nr_in_flight;
  bool more_in_flight;
  pool::InFlight in_flight[kInFlight];
  pool::Runs pending, inactive;
};

// Copies the first busy pwq of `wq` from the *at-th on, and moves *at behind it. False: no more.
// `wq` must not be freed meanwhile. Locks: takes the pool's.
bool CapturePwq(Workqueue* wq, int* at, uint64_t now, PwqShot* shot);
// Locks: none may be held.
void PrintPwq(const PwqShot& shot, pool::LineWriter* out);
// Both, for the whole queue. The caller keeps it alive. Locks: none held.
void ShowWorkqueue(Workqueue* wq, pool::LineWriter* out);

}  // namespace cmwq::wq

#endif  // CMWQ_RUNTIME_WQ_SHOW_H_
