#include "runtime/platform/cpu_watch.h"

#include "runtime/base/sys.h"
#include "runtime/base/test_point.h"

namespace cmwq::platform {

void CpuWatch::Look() {
  // Acquire and release hand the fields from one looker to the next.
  if (looks_.fetch_add(1, std::memory_order_acq_rel) != 0) return;
  uint32_t seen = looks_.load(std::memory_order_acquire);
  for (;;) {
    LookOnce();
    if (looks_.compare_exchange_strong(seen, 0, std::memory_order_acq_rel)) return;
  }
}

// True: the thread is not where it was put, so others may not be either.
bool CpuWatch::Moved() {
  const int tid = tid_.load(std::memory_order_acquire);  // pairs with the store in Run
  if (tid == 0 || tid != marked_tid_ || mark_.Empty()) return false;
  CpuSet now;
  return now.LoadAffinity(tid) == 0 && !(now == mark_);
}

// Context: Look, which lets one thread in.
void CpuWatch::LookOnce() {
  CpuGrant now;
  CMWQ_TEST_POINT("cpu_watch.look");
  if (!reader_->Read(&now)) return;
  const int tid = tid_.load(std::memory_order_acquire);  // pairs with the store in Run
  const bool moved = Moved(), changed = !(now == last_);
  quota_milli_.store(now.quota_milli, std::memory_order_relaxed);
  if (changed || moved || again_) {
    last_ = now;
    again_ = !changed_(now, arg_);
  }
  if (tid != 0 && (changed || moved || tid != marked_tid_)) {
    const CpuSet first = CpuSet::Of(now.cpus.Next(0));
    mark_ = first.StoreAffinity(tid) == 0 ? first : CpuSet();
    marked_tid_ = tid;
  }
}

void CpuWatch::Run() {
  if (!events_->Open()) return;
  tid_.store(base::Tid(), std::memory_order_release);  // pairs with the loads in LookOnce and Moved
  // What changed before the first event could be received.
  wanted_(arg_);
  for (;;) {
    switch (events_->Wait()) {
      case CpuEvent::kCpus:
      case CpuEvent::kLost:
        wanted_(arg_);
        break;
      case CpuEvent::kOther:
        break;
      case CpuEvent::kEnd:
        tid_.store(0, std::memory_order_relaxed);
        return;
    }
  }
}

void CpuWatch::ResetAfterFork() {
  reader_->Forget();
  looks_.store(0, std::memory_order_relaxed);
  tid_.store(0, std::memory_order_relaxed);
  marked_tid_ = 0;
  mark_ = CpuSet();
  again_ = true;
}

}  // namespace cmwq::platform
