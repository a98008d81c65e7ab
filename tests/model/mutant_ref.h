// The reference through which wq/ownership.h reaches a work word, for the model: as std::atomic_ref, or
// with a planted defect.

#ifndef CMWQ_TESTS_MODEL_MUTANT_REF_H_
#define CMWQ_TESTS_MODEL_MUTANT_REF_H_

#include <atomic>
#include <cstdint>

#include "tests/model/model_sync.h"

namespace cmwq::model {

enum class QueueDefect {
  kNone,
  // In what the host does.
  kNoGeneration,     // a word that came back to an old value looks as if nothing had happened
  kNoRedirect,       // nobody asks whether the item still runs elsewhere
  kEnqueueLate,      // the item reaches its list after the lock was dropped
  kStealUnlocked,    // a canceller does not lock the pool
  kNoDisarm,         // a canceller leaves the timer armed
  kRetiredTarget,    // a queuer does not look whether its target was retired meanwhile
  // In how the word is accessed.
  kPlainRefusal,     // "pending already" is found out by a load
  kLeaveRelaxed,     // a worker takes PENDING off without order
  kLeaveAfter,       // a worker takes PENDING off once the function has run
  kLeakOnRefusal,    // the timer of a refused item keeps PENDING
};

// std::atomic_ref as the model has it.
template <QueueDefect kDefect>
class ModelRef {
 public:
  using Order = std::memory_order;
  explicit ModelRef(ModelAtomic<uint64_t>* atomic) : atomic_(atomic) {}
  uint64_t load(Order order) const { return atomic_->load(order); }
  uint64_t fetch_or(uint64_t bits, Order order) const {
    if (kDefect == QueueDefect::kPlainRefusal) return atomic_->load(std::memory_order_acquire);
    return atomic_->fetch_or(bits, order);
  }
  uint64_t fetch_and(uint64_t bits, Order order) const {
    if (kDefect == QueueDefect::kLeaveRelaxed) order = std::memory_order_relaxed;
    return atomic_->fetch_and(bits, order);
  }
  bool compare_exchange_strong(uint64_t& seen, uint64_t want, Order order) const {
    return atomic_->compare_exchange_strong(seen, want, order);
  }
  bool compare_exchange_weak(uint64_t& seen, uint64_t want, Order order) const {
    return atomic_->compare_exchange_weak(seen, want, order);
  }

 private:
  ModelAtomic<uint64_t>* const atomic_;
};

}  // namespace cmwq::model

#endif  // CMWQ_TESTS_MODEL_MUTANT_REF_H_
