// ModelSync: stands in for sync::RealSync, so that the product's own templates run in a World.
//
// Weakened<...> is the same with some memory orders taken down: the mutation tests run the
// product's code on it to show that the orders it asks for are needed and that the model notices.

#ifndef CMWQ_TESTS_MODEL_MODEL_SYNC_H_
#define CMWQ_TESTS_MODEL_MODEL_SYNC_H_

#include <atomic>
#include <cstdint>
#include <cstring>

#include "runtime/base/sys.h"
#include "tests/model/scheduler.h"

namespace cmwq::model {

// What a machine with weaker orders would have been asked for.
struct AsWritten {
  static constexpr std::memory_order Load(std::memory_order o) { return o; }
  static constexpr std::memory_order Store(std::memory_order o) { return o; }
  static constexpr std::memory_order Modify(std::memory_order o) { return o; }
};
struct AllRelaxed {
  static constexpr std::memory_order Load(std::memory_order) { return std::memory_order_relaxed; }
  static constexpr std::memory_order Store(std::memory_order) { return std::memory_order_relaxed; }
  static constexpr std::memory_order Modify(std::memory_order) { return std::memory_order_relaxed; }
};
struct StoresRelease : AsWritten {
  static constexpr std::memory_order Store(std::memory_order o) {
    return o == std::memory_order_seq_cst ? std::memory_order_release : o;
  }
};
struct LoadsAcquire : AsWritten {
  static constexpr std::memory_order Load(std::memory_order o) {
    return o == std::memory_order_seq_cst ? std::memory_order_acquire : o;
  }
};
struct ModifiesAcqRel : AsWritten {
  static constexpr std::memory_order Modify(std::memory_order o) {
    return o == std::memory_order_seq_cst ? std::memory_order_acq_rel : o;
  }
};

template <class T, class Orders = AsWritten>
class ModelAtomic {
 public:
  using Order = std::memory_order;
  static constexpr Order kSeqCst = std::memory_order_seq_cst;

  ModelAtomic(T value = T{}) : cell_(Bits(value)) {}  // NOLINT: implicit, as std::atomic
  ModelAtomic(const ModelAtomic&) = delete;
  ModelAtomic& operator=(const ModelAtomic&) = delete;

  T load(Order order = kSeqCst) const {
    return Value(World::current()->Load(&cell_, Orders::Load(order)));
  }
  void store(T value, Order order = kSeqCst) {
    World::current()->Store(&cell_, Bits(value), Orders::Store(order));
  }
  T exchange(T value, Order order = kSeqCst) {
    return Do([](uint64_t, uint64_t b) { return b; }, value, order);
  }
  T fetch_add(T value, Order order = kSeqCst) {
    return Do([](uint64_t a, uint64_t b) { return Bits(static_cast<T>(Value(a) + Value(b))); },
              value, order);
  }
  T fetch_sub(T value, Order order = kSeqCst) {
    return Do([](uint64_t a, uint64_t b) { return Bits(static_cast<T>(Value(a) - Value(b))); },
              value, order);
  }
  T fetch_or(T value, Order order = kSeqCst) {
    return Do([](uint64_t a, uint64_t b) { return a | b; }, value, order);
  }
  T fetch_and(T value, Order order = kSeqCst) {
    return Do([](uint64_t a, uint64_t b) { return a & b; }, value, order);
  }
  bool compare_exchange_strong(T& expected, T desired, Order success, Order failure) {
    return Compare(expected, desired, success, failure, false);
  }
  bool compare_exchange_strong(T& expected, T desired, Order order = kSeqCst) {
    return Compare(expected, desired, order, FailureOf(order), false);
  }
  bool compare_exchange_weak(T& expected, T desired, Order success, Order failure) {
    return Compare(expected, desired, success, failure, true);
  }
  bool compare_exchange_weak(T& expected, T desired, Order order = kSeqCst) {
    return Compare(expected, desired, order, FailureOf(order), true);
  }

  Cell* cell() const { return &cell_; }

 private:
  static uint64_t Bits(T value) {
    uint64_t bits = 0;
    static_assert(sizeof(T) <= sizeof(bits));
    memcpy(&bits, &value, sizeof(T));
    return bits;
  }
  static T Value(uint64_t bits) {
    T value;
    memcpy(&value, &bits, sizeof(T));
    return value;
  }
  static constexpr Order FailureOf(Order order) {
    if (order == std::memory_order_acq_rel) return std::memory_order_acquire;
    if (order == std::memory_order_release) return std::memory_order_relaxed;
    return order;
  }
  T Do(uint64_t (*op)(uint64_t, uint64_t), T value, Order order) {
    return Value(World::current()->Modify(&cell_, op, Bits(value), Orders::Modify(order)));
  }
  bool Compare(T& expected, T desired, Order success, Order failure, bool weak) {
    uint64_t seen = Bits(expected);
    const bool done = World::current()->CompareExchange(
        &cell_, &seen, Bits(desired), Orders::Modify(success), Orders::Load(failure), weak);
    expected = Value(seen);
    return done;
  }

  mutable Cell cell_;
};

template <class Orders>
struct Weakened {
  template <class T>
  using Atomic = ModelAtomic<T, Orders>;

  static bool FutexWait(const Atomic<int32_t>* word, int32_t expected,
                        uint64_t deadline_ns = base::kNever) {
    return World::current()->FutexWait(word->cell(), static_cast<uint32_t>(expected),
                                       deadline_ns != base::kNever);
  }
  static void FutexWake(const Atomic<int32_t>* word, int count) {
    World::current()->FutexWake(word->cell(), count);
  }
  static void Relax() { Yield(); }
};

using ModelSync = Weakened<AsWritten>;

// Any deadline but kNever: the world may let it pass at any moment.
inline constexpr uint64_t kSomeDeadline = 1;

// The pool's lock as the model sees it: a primitive, not the product's Mutex.
class ModelMutex {
 public:
  void Lock() { World::current()->LockMutex(this, &owner_, &view_); }
  void Unlock() { World::current()->UnlockMutex(this, &owner_, &view_); }

 private:
  int owner_ = -1;
  View view_ = {};
};

class ModelLock {
 public:
  explicit ModelLock(ModelMutex* mutex) : mutex_(mutex) { mutex_->Lock(); }
  ~ModelLock() { mutex_->Unlock(); }
  ModelLock(const ModelLock&) = delete;
  ModelLock& operator=(const ModelLock&) = delete;

 private:
  ModelMutex* const mutex_;
};

}  // namespace cmwq::model

#endif  // CMWQ_TESTS_MODEL_MODEL_SYNC_H_
