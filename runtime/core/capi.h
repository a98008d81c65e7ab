// What the files of the C interface share: argument checks and the way to the engine.

#ifndef CMWQ_RUNTIME_CORE_CAPI_H_
#define CMWQ_RUNTIME_CORE_CAPI_H_

#include <cmwq/cmwq.h>

#include "runtime/wq/workqueue.h"

namespace cmwq::core {

inline wq::Workqueue* Impl(struct cmwq_workqueue* queue) {
  return reinterpret_cast<wq::Workqueue*>(queue);
}
inline struct cmwq_workqueue* Handle(wq::Workqueue* queue) {
  return reinterpret_cast<struct cmwq_workqueue*>(queue);
}

// Reports a wrong call, one line per function, kind and process: a misuse in a loop must not flood
// the log. Returns false. misuse.cc, as the next four.
bool Misuse(const char* function, const char* what);
bool Unusable(const char* function, const struct cmwq_workqueue* handle);
bool Unusable(const char* function, const struct cmwq_work* work);
// The handle is not null and its queue not gone: one load of what queueing reads anyway.
inline bool Usable(const char* function, const struct cmwq_workqueue* handle) {
  const bool good = handle != nullptr && reinterpret_cast<const wq::Workqueue*>(handle)->alive();
  return __builtin_expect(good, 1) || Unusable(function, handle);
}
// For queueing: an item that was never initialised has no function.
inline bool Usable(const char* function, const struct cmwq_work* work) {
  const bool good = work != nullptr && work->fn_ != nullptr;
  return __builtin_expect(good, 1) || Unusable(function, work);
}
// For whatever follows an item to where it is queued: its word must be one that we can have written.
bool Sound(const char* function, const struct cmwq_work* work);
// -1 with errno.
int Fail(int err);

// cmwq_alloc_workqueue. slot: of a default queue, which nobody may flush or destroy; if somebody else has
// filled it meanwhile, that queue is returned.
wq::Workqueue* AllocQueue(const char* name, unsigned flags, int max_active, bool ordered,
                          std::atomic<wq::Workqueue*>* slot);

}  // namespace cmwq::core

#endif  // CMWQ_RUNTIME_CORE_CAPI_H_
