// What Workqueue::schedule and schedule_after return to co_await. Nothing without coroutines
// (C++20).
//
//   cmwq::Task<> Example(cmwq::Workqueue& queue, std::stop_token stop) {
//     co_await queue.schedule();   // now in a worker
//     const bool passed = co_await queue.schedule_after(10ms, stop);   // no thread waits meanwhile
//     if (!passed) co_return;
//   }
//
// The item lives in the coroutine's frame: nothing is allocated. The coroutine may run, and its
// frame be gone, before the suspending thread has returned. co_await gives true in a worker of the
// queue; false if a stop was requested, or if the queue takes nothing (it is being drained).
// A stop does not take a coroutine off its queue: it goes on in its turn, in a worker, and is told;
// a delay is cut short. Where the queue takes nothing, or the stop came first, it goes on at once,
// on the thread that it is on; if a delay is cut short and the queue takes nothing, inside the
// stop. Lifetime: the queue must outlive the wait, and a coroutine that waits must not be
// destroyed. GCC 12 miscompiles co_await of a temporary as the condition of if or while, whatever
// the awaitable: give the result a name first.
#ifndef CMWQ_COROUTINE_HPP_
#define CMWQ_COROUTINE_HPP_

#include <cmwq/scheduled.hpp>

#if defined(__cpp_impl_coroutine)
#include <coroutine>

namespace cmwq {

template <class Token = detail::Unstoppable>
class [[nodiscard]] Schedule : private detail::ScheduledNow<Schedule<Token>> {
 public:
  explicit Schedule(::cmwq_workqueue* wq, Token token = {}) noexcept
      : wq_(wq), token_(std::move(token)) {}

  bool await_ready() const noexcept { return token_.stop_requested(); }
  bool await_suspend(std::coroutine_handle<> who) noexcept {
    who_ = who;
    // Before the queueing: if it succeeds, only the resumed coroutine may look at it.
    accepted_ = true;
    if (this->Start(wq_)) return true;
    accepted_ = false;
    return false;
  }
  bool await_resume() const noexcept { return accepted_ && !token_.stop_requested(); }

 private:
  friend class detail::ScheduledNow<Schedule>;
  void Complete() noexcept { who_.resume(); }

  ::cmwq_workqueue* wq_;
  Token token_;
  std::coroutine_handle<> who_;
  bool accepted_ = false;
};

template <class Token = detail::Unstoppable>
class [[nodiscard]] ScheduleAfter : private detail::ScheduledAfter<ScheduleAfter<Token>, Token> {
  using Base = detail::ScheduledAfter<ScheduleAfter, Token>;

 public:
  ScheduleAfter(::cmwq_workqueue* wq, std::chrono::nanoseconds delay, Token token = {}) noexcept
      : Base(std::move(token)), wq_(wq), delay_(delay) {}

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> who) noexcept {
    who_ = who;
    accepted_ = true;  // as in Schedule
    if (this->Start(wq_, delay_)) return true;
    accepted_ = false;
    return false;
  }
  bool await_resume() const noexcept { return accepted_ && !this->stop_requested(); }

 private:
  friend Base;
  void Complete() noexcept { who_.resume(); }

  ::cmwq_workqueue* wq_;
  std::chrono::nanoseconds delay_;
  std::coroutine_handle<> who_;
  bool accepted_ = false;
};

}  // namespace cmwq

#endif  // coroutines

#endif  // CMWQ_COROUTINE_HPP_
