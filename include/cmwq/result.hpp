// What a call leaves behind, for one other thread to pick up: used by cmwq/submit.hpp and
// cmwq/task.hpp. Of interest to users: cmwq::Cancelled. C++17.
//
//   try {
//     use(call.get());
//   } catch (const cmwq::Cancelled&) {   // nobody called the function, and nobody will
//   }
#ifndef CMWQ_RESULT_HPP_
#define CMWQ_RESULT_HPP_

#include <cmwq/cmwq.h>
#include <cmwq/futex.h>

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#if __cplusplus < 201703L
#error "cmwq's C++ headers need C++17; cmwq/cmwq.h is plain C"
#endif

namespace cmwq {

// Thrown where a result is asked for that will never exist: the call was cancelled, or was not
// accepted. Without exceptions asking for such a result ends the process; ask wait() first.
class Cancelled : public std::exception {
 public:
  const char* what() const noexcept override { return "cmwq: the call was cancelled"; }
};

namespace detail {

[[noreturn]] inline void ThrowCancelled() {
#if defined(__cpp_exceptions)
  throw Cancelled();
#else
  std::terminate();
#endif
}

// A flag that is raised once, and waited for by threads. Workers that wait announce it.
class Event {
 public:
  bool raised() const noexcept {
    return (word_.load(std::memory_order_acquire) & kRaised) != 0;  // pairs with Raise
  }
  // The event may be gone as soon as the flag is up: the wake-up then reaches an address that is
  // somebody else's, who takes it for one without a reason, as everybody who waits must be ready
  // to.
  void Raise() noexcept {
    auto* const address = reinterpret_cast<uint32_t*>(&word_);
    // acq_rel: publishes what was done before (raised, Wait); sees that somebody sleeps.
    if ((word_.fetch_or(kRaised, std::memory_order_acq_rel) & kSleepers) != 0) {
      cmwq_futex_wake(address, INT32_MAX);
    }
  }
  void Wait() noexcept {
    uint32_t seen = word_.load(std::memory_order_acquire);  // pairs with Raise
    while ((seen & kRaised) == 0) {
      if ((seen & kSleepers) != 0 ||
          word_.compare_exchange_weak(seen, seen | kSleepers, std::memory_order_acquire)) {
        cmwq_futex_wait(reinterpret_cast<uint32_t*>(&word_), kSleepers, CMWQ_NO_TIMEOUT);
        seen = word_.load(std::memory_order_acquire);  // pairs with Raise
      }
    }
  }

 private:
  static constexpr uint32_t kRaised = 1, kSleepers = 2;
  std::atomic<uint32_t> word_{0};
  static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t), "the kernel waits on it");
};

// How a value of type T is kept until it is fetched.
template <class T>
struct Kept {
  template <class... Args>
  void Put(Args&&... args) {
    value.emplace(std::forward<Args>(args)...);
  }
  T Take() { return std::move(*value); }
  std::optional<T> value;
};
template <class T>
struct Kept<T&> {
  void Put(T& t) { value = std::addressof(t); }
  T& Take() { return *value; }
  T* value = nullptr;
};
template <>
struct Kept<void> {
  void Put() {}
  void Take() {}
};

// A value, an exception or nothing. No locks: whoever reads it was told by an Event, or by being
// resumed, that it is complete.
template <class T>
class Result {
 public:
  // Calls `fn` and keeps what comes out of it. With -fno-exceptions nothing can come out but a
  // value.
  template <class F>
  void Call(F&& fn) noexcept {
#if defined(__cpp_exceptions)
    try {
      CallUncaught(std::forward<F>(fn));
    } catch (...) {
      KeepException();
    }
#else
    CallUncaught(std::forward<F>(fn));
#endif
  }
  template <class... Args>
  void Put(Args&&... args) {
    kept_.Put(std::forward<Args>(args)...);
    has_value_ = true;
  }
  void KeepException() noexcept {
#if defined(__cpp_exceptions)
    exception_ = std::current_exception();
#else
    std::terminate();
#endif
  }
  bool complete() const noexcept {
#if defined(__cpp_exceptions)
    if (exception_ != nullptr) return true;
#endif
    return has_value_;
  }
  T Take() {
#if defined(__cpp_exceptions)
    // Moved out first: the last reference to it must not be dropped by another thread.
    if (exception_ != nullptr) std::rethrow_exception(std::exchange(exception_, nullptr));
#endif
    if (!has_value_) ThrowCancelled();
    return kept_.Take();
  }

 private:
  template <class F>
  void CallUncaught(F&& fn) {
    if constexpr (std::is_void_v<T>) {
      std::invoke(std::forward<F>(fn));
      Put();
    } else {
      Put(std::invoke(std::forward<F>(fn)));
    }
  }

  Kept<T> kept_;
#if defined(__cpp_exceptions)
  std::exception_ptr exception_;
#endif
  bool has_value_ = false;
};

}  // namespace detail

}  // namespace cmwq

#endif  // CMWQ_RESULT_HPP_
