// Waits of abseil's Mutex, CondVar, Notification and the like, announced.
//
// abseil lets a program replace what a thread does when it has to wait: AbslInternalPerThreadSemWait is a
// weak symbol, with the name of abseil's inline namespace behind it where there is one. This is abseil's
// own wait with a blocking region around it; Mutex has tried and spun before it comes here. To be linked
// into the program, whether abseil is in shared or in static libraries. Uses the public interface of cmwq
// only: a program that brings an abseil of its own may compile this file itself.
//
// Hook rules: no allocation, no exceptions; the application's locks may be held.

#include <absl/base/config.h>
#include <absl/synchronization/internal/create_thread_identity.h>
#include <absl/synchronization/internal/kernel_timeout.h>
#include <absl/synchronization/internal/per_thread_sem.h>
#include <absl/synchronization/internal/waiter.h>
#include <cmwq/cmwq.h>

// Something to ask the linker for: nobody refers to a definition that replaces a weak one.
extern "C" __attribute__((visibility("default"))) const char cmwq_absl_linked = 1;

extern "C" __attribute__((visibility("default"))) bool ABSL_INTERNAL_C_SYMBOL(
    AbslInternalPerThreadSemWait)(absl::synchronization_internal::KernelTimeout timeout) {
  using absl::synchronization_internal::Waiter;
  auto* const self = absl::synchronization_internal::GetOrCreateCurrentThreadIdentity();
  // For abseil's own ticker, which wakes those that wait for long, so that they can let go of resources;
  // 0 there means "does not wait".
  const int ticker = self->ticker.load(std::memory_order_relaxed);
  self->wait_start.store(ticker != 0 ? ticker : 1, std::memory_order_relaxed);
  self->is_idle.store(false, std::memory_order_relaxed);
  std::atomic<int>* const counter = self->blocked_count_ptr;
  if (counter != nullptr) counter->fetch_add(1, std::memory_order_relaxed);

  cmwq_block_begin();
  const bool posted = Waiter::GetWaiter(self)->Wait(timeout);
  cmwq_block_end();

  if (counter != nullptr) counter->fetch_sub(1, std::memory_order_relaxed);
  self->is_idle.store(false, std::memory_order_relaxed);
  self->wait_start.store(0, std::memory_order_relaxed);
  return posted;
}
