// Items that carry somebody to a worker and are gone before the queueing returns: what
// cmwq/coroutine.hpp and cmwq/sender.hpp are made of. Nothing here is for users. C++17.
#ifndef CMWQ_SCHEDULED_HPP_
#define CMWQ_SCHEDULED_HPP_

#include <cmwq/work.hpp>
#include <optional>
#include <type_traits>

#if __has_include(<version>)
#include <version>
#endif
#if defined(__cpp_lib_jthread)
#include <stop_token>
#endif

namespace cmwq::detail {

// A token that never stops.
struct Unstoppable {
  static constexpr bool stop_requested() noexcept { return false; }
  static constexpr bool stop_possible() noexcept { return false; }
  template <class F>
  struct callback_type {
    callback_type(Unstoppable, F) noexcept {}
  };
};

// std::stop_callback<F> for std::stop_token; Token::callback_type<F> for all others, as in C++26.
template <class Token, class F>
struct StopCallbackOf {
  using type = typename Token::template callback_type<F>;
};
#if defined(__cpp_lib_jthread)
template <class F>
struct StopCallbackOf<std::stop_token, F> {
  using type = std::stop_callback<F>;
};
#endif

// Derived::Complete() is called exactly once per Start that returned true, by a worker. It may
// destroy the object, even before Start returns: after a queueing the queueing side touches nothing
// of it.
template <class Derived>
class ScheduledNow : private ::cmwq_work {
 protected:
  // False: the queue takes nothing; the object is the caller's as before.
  bool Start(::cmwq_workqueue* wq) noexcept {
    cmwq_work_init(this, &Run);
    return cmwq_queue_work(wq, this);
  }

 private:
  static void Run(::cmwq_work* work) noexcept {
    static_cast<Derived*>(static_cast<ScheduledNow*>(work))->Complete();
  }
};

// The same after a delay, which a stop cuts short: the item then goes to the queue at once and
// completes there, so that the one who stops runs nobody's code. Neither side can miss the other:
// a stop disables the item, after which a queueing that comes later fails.
template <class Derived, class Token>
class ScheduledAfter : private ::cmwq_delayed_work {
 protected:
  explicit ScheduledAfter(Token token) noexcept : token_(std::move(token)) {}
  ScheduledAfter(const ScheduledAfter&) = delete;
  ScheduledAfter& operator=(const ScheduledAfter&) = delete;
  ~ScheduledAfter() = default;

  bool stop_requested() const noexcept { return token_.stop_requested(); }
  // False: stopped already, or the queue takes nothing.
  bool Start(::cmwq_workqueue* wq, std::chrono::nanoseconds delay) noexcept {
    if (token_.stop_requested()) return false;
    queue_ = wq;
    cmwq_delayed_work_init(this, &Run);
    if (token_.stop_possible()) callback_.emplace(token_, Stop{this});
    if (cmwq_queue_delayed_work(wq, this, DelayNs(delay))) return true;
    callback_.reset();  // waits for a stop in another thread, which finds nothing to do
    return false;
  }

 private:
  struct Stop {
    // Context: any thread; never waits.
    void operator()() const noexcept { item->CutShort(); }
    ScheduledAfter* item;
  };

  void CutShort() noexcept {
    // Not pending: Start will fail to queue it, or Run has begun and will see the token.
    if (!cmwq_disable_delayed_work(this)) return;
    cmwq_enable_delayed_work(this);
    // This side has the item now, and Run, once it is queued, waits for this callback to return.
    if (cmwq_queue_work(queue_, &this->work)) return;
    // A queue that takes nothing leaves no worker to go on in. Destroys the callback that runs.
    static_cast<Derived*>(this)->Complete();
  }
  static void Run(::cmwq_work* work) noexcept {
    // `work` is the first member of a standard-layout struct: both have one address.
    auto* const self = static_cast<ScheduledAfter*>(reinterpret_cast<::cmwq_delayed_work*>(work));
    self->callback_.reset();  // from here on no stop can touch the object
    static_cast<Derived*>(self)->Complete();
  }

  ::cmwq_workqueue* queue_ = nullptr;
  Token token_;
  std::optional<typename StopCallbackOf<Token, Stop>::type> callback_;
};

}  // namespace cmwq::detail

#endif  // CMWQ_SCHEDULED_HPP_
