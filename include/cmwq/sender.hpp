// cmwq::Scheduler: a workqueue as a scheduler of senders, in the shape of C++26 [exec]. C++17.
//
//   struct Receiver {
//     void set_value() && noexcept { std::puts("in a worker"); }
//     void set_stopped() && noexcept { std::puts("stopped"); }
//   };
//   cmwq::Workqueue queue("example");
//   auto operation = cmwq::Scheduler(queue).schedule().connect(Receiver());
//   operation.start();   // must live until one of the two was called
//
// Members only, the way the standard has them: schedule(), connect(), start(), get_env(), query().
// Exactly one of set_value and set_stopped is called once: set_value in a worker of the queue;
// set_stopped there too, unless the stop came before start() or the queue takes nothing: then by
// start(), or, for a delay cut short on such a queue, by the stop. There is no set_error. The item
// is a member of the operation: nothing is allocated. The receiver may destroy the operation. A
// receiver with get_env() whose result has query(cmwq::get_stop_token) is stopped by that token:
// std::stop_token, or any token with callback_type as in C++26. Its turn in the queue is kept, a
// delay is cut short. Lifetime: the queue must outlive operations that are under way.
#ifndef CMWQ_SENDER_HPP_
#define CMWQ_SENDER_HPP_

#include <cmwq/scheduled.hpp>
#include <cmwq/workqueue.hpp>

namespace cmwq {

// What environments are asked for.
struct get_stop_token_t {};
struct get_scheduler_t {};
struct get_completion_scheduler_t {};
inline constexpr get_stop_token_t get_stop_token{};
inline constexpr get_scheduler_t get_scheduler{};
inline constexpr get_completion_scheduler_t get_completion_scheduler{};

namespace detail {

template <class R, class = void>
struct TokenOf {
  using type = Unstoppable;
  static type Get(const R&) noexcept { return {}; }
};
template <class R>
struct TokenOf<R, std::void_t<decltype(std::declval<const R&>().get_env().query(get_stop_token))>> {
  using type = std::decay_t<decltype(std::declval<const R&>().get_env().query(get_stop_token))>;
  static type Get(const R& receiver) noexcept { return receiver.get_env().query(get_stop_token); }
};
template <class R>
using TokenType = typename TokenOf<R>::type;

}  // namespace detail

template <class R>
class ScheduleOperation : private detail::ScheduledNow<ScheduleOperation<R>> {
 public:
  ScheduleOperation(::cmwq_workqueue* wq, R receiver) : wq_(wq), receiver_(std::move(receiver)) {}
  ScheduleOperation(const ScheduleOperation&) = delete;
  ScheduleOperation& operator=(const ScheduleOperation&) = delete;

  void start() & noexcept {
    // When Start has succeeded the operation may be gone.
    if (stopped() || !this->Start(wq_)) std::move(receiver_).set_stopped();
  }

 private:
  friend class detail::ScheduledNow<ScheduleOperation>;
  bool stopped() const noexcept { return detail::TokenOf<R>::Get(receiver_).stop_requested(); }
  void Complete() noexcept {
    if (stopped()) {
      std::move(receiver_).set_stopped();
    } else {
      std::move(receiver_).set_value();
    }
  }
  ::cmwq_workqueue* wq_;
  R receiver_;
};

template <class R>
class ScheduleAfterOperation
    : private detail::ScheduledAfter<ScheduleAfterOperation<R>, detail::TokenType<R>> {
  using Base = detail::ScheduledAfter<ScheduleAfterOperation, detail::TokenType<R>>;

 public:
  ScheduleAfterOperation(::cmwq_workqueue* wq, std::chrono::nanoseconds delay, R receiver)
      : Base(detail::TokenOf<R>::Get(receiver)),
        wq_(wq),
        delay_(delay),
        receiver_(std::move(receiver)) {}

  void start() & noexcept {
    if (!this->Start(wq_, delay_)) std::move(receiver_).set_stopped();  // as above
  }

 private:
  friend Base;
  void Complete() noexcept {
    if (this->stop_requested()) {
      std::move(receiver_).set_stopped();
    } else {
      std::move(receiver_).set_value();
    }
  }
  ::cmwq_workqueue* wq_;
  std::chrono::nanoseconds delay_;
  R receiver_;
};

class Scheduler {
 public:
  explicit Scheduler(const Workqueue& queue) noexcept : wq_(queue.get()) {}
  explicit Scheduler(::cmwq_workqueue* wq) noexcept : wq_(wq) {}

  class Env {
   public:
    explicit Env(::cmwq_workqueue* wq) noexcept : wq_(wq) {}
    Scheduler query(get_scheduler_t) const noexcept { return Scheduler(wq_); }
    Scheduler query(get_completion_scheduler_t) const noexcept { return Scheduler(wq_); }

   private:
    ::cmwq_workqueue* wq_;
  };
  class Sender {
   public:
    explicit Sender(::cmwq_workqueue* wq) noexcept : wq_(wq) {}
    template <class R>
    ScheduleOperation<std::decay_t<R>> connect(R&& receiver) const {
      return ScheduleOperation<std::decay_t<R>>(wq_, std::forward<R>(receiver));
    }
    Env get_env() const noexcept { return Env(wq_); }

   private:
    ::cmwq_workqueue* wq_;
  };
  class DelayedSender {
   public:
    DelayedSender(::cmwq_workqueue* wq, std::chrono::nanoseconds delay) noexcept
        : wq_(wq), delay_(delay) {}
    template <class R>
    ScheduleAfterOperation<std::decay_t<R>> connect(R&& receiver) const {
      return ScheduleAfterOperation<std::decay_t<R>>(wq_, delay_, std::forward<R>(receiver));
    }
    Env get_env() const noexcept { return Env(wq_); }

   private:
    ::cmwq_workqueue* wq_;
    std::chrono::nanoseconds delay_;
  };

  Sender schedule() const noexcept { return Sender(wq_); }
  DelayedSender schedule_after(std::chrono::nanoseconds delay) const noexcept {
    return DelayedSender(wq_, delay);
  }

  friend bool operator==(const Scheduler& a, const Scheduler& b) noexcept { return a.wq_ == b.wq_; }
  friend bool operator!=(const Scheduler& a, const Scheduler& b) noexcept { return !(a == b); }

 private:
  ::cmwq_workqueue* wq_;
};

}  // namespace cmwq

#endif  // CMWQ_SENDER_HPP_
