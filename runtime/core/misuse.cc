// Wrong calls: recognising and reporting them.

#include <atomic>

#include "runtime/core/capi.h"
#include "runtime/core/runtime.h"
#include "runtime/wq/work_word.h"

namespace cmwq::core {

bool Misuse(const char* function, const char* what) {
  static constinit std::atomic<uint64_t> reported[128] = {};
  const uint64_t key = reinterpret_cast<uintptr_t>(function) * 31 + reinterpret_cast<uintptr_t>(what);
  for (auto& slot : reported) {
    uint64_t seen = 0;
    if (slot.compare_exchange_strong(seen, key, std::memory_order_relaxed)) break;
    if (seen == key) return false;
  }
  base::RawLog(base::LogLevel::kError, "%s: %s; ignored", function, what);
  return false;
}

// Reports why; false.
bool Unusable(const char* function, const struct cmwq_workqueue* handle) {
  return Misuse(function, handle == nullptr ? "null workqueue" : "the workqueue was destroyed");
}

bool Unusable(const char* function, const struct cmwq_work* work) {
  return Misuse(function, work == nullptr ? "null work" : "the work was not initialised");
}

bool Sound(const char* function, const struct cmwq_work* work) {
  using wq::Word;
  if (!Usable(function, work)) return false;
  const uint64_t word = wq::WordOf(work).load(std::memory_order_relaxed);
  const uint16_t id = Word::Pool(word);
  const bool somewhere = id != Word::kNoPool && Runtime::Get().pools()->ById(id) != nullptr;
  bool sound;
  if ((word & Word::kPending) == 0) {
    sound = (word & ~Word::kLeaveMask) == 0 && (somewhere || id == Word::kNoPool);
  } else if ((word & Word::kTimer) != 0) {
    sound = (word & Word::kQueued) == 0;
  } else {
    sound = (word & Word::kQueued) != 0 && somewhere;
  }
  return sound || Misuse(function, "the work was not initialised, or was overwritten");
}

// Context: cmwq_work_init, whose memory is usually uninitialised; nearly always the first test fails.
// Locks: takes kTimer, or kRuntime and kPool.
bool Runtime::ReallyPending(const struct cmwq_work* work) {
  using wq::Word;
  const uint64_t word = wq::WordOf(work).load(std::memory_order_relaxed);
  if ((word & Word::kPending) == 0 || !started()) return false;
  if ((word & Word::kTimer) != 0) {
    return events_->Contains(&reinterpret_cast<const struct cmwq_delayed_work*>(work)->timer_);
  }
  if ((word & Word::kQueued) == 0) return false;
  pool::WorkerPool* const pool = table_.ById(Word::Pool(word));
  if (pool == nullptr) return false;
  bool found = false;
  {
    sync::MutexLock hold(pool->lock);
    found = pool->Holds(&work->entry_);
  }
  if (found) return true;
  ForEachQueue([&](wq::Workqueue* queue) {
    queue->ForEachPwq([&](wq::Pwq* pwq) {
      if (pwq->pool != pool) return;
      sync::MutexLock hold(pwq->pool->lock);
      for (base::ListNode* n = pwq->inactive.front(); n != nullptr; n = pwq->inactive.next(n)) {
        if (n == &work->entry_) found = true;
      }
    });
  });
  return found;
}

}  // namespace cmwq::core
