// cmwq for C++17 and later: Workqueue, with Work, DelayedWork, submit, and for C++20 co_await.
// Header-only, over cmwq/cmwq.h. include/cmwq/CXX.md is the tour.
//
//   cmwq::Workqueue queue("example");
//   if (!queue) return errno;
//   auto sum = queue.submit([] { return 1 + 2; });
//   queue.post([] { std::puts("nobody waits for this"); });
//   std::printf("%d\n", sum.get());
//
// Method names follow the standard library; what they mean is said at the C functions of that name.
// The rules of cmwq.h for threads, signals and fork hold. No function here throws unless a
// callable's own copy constructor does, or its comment says so.
#ifndef CMWQ_WORKQUEUE_HPP_
#define CMWQ_WORKQUEUE_HPP_

#include <cmwq/coroutine.hpp>
#include <cmwq/submit.hpp>
#include <cmwq/work.hpp>

namespace cmwq {

namespace detail {

// What a call returns, as it can be kept: references stay, T&& and const T become T.
template <class R>
using KeptType = std::conditional_t<std::is_lvalue_reference_v<R>, R,
                                    std::remove_cv_t<std::remove_reference_t<R>>>;
template <class F>
using ResultOf = KeptType<std::invoke_result_t<std::decay_t<F>>>;

#if defined(__cpp_lib_jthread)
// A callable that wants the token gets it.
template <class F>
struct WithToken {
  decltype(auto) operator()() && {
    if constexpr (std::is_invocable_v<F, std::stop_token>) {
      return std::invoke(std::move(fn), std::move(token));
    } else {
      return std::invoke(std::move(fn));
    }
  }
  F fn;
  std::stop_token token;
};
#endif

}  // namespace detail

// A workqueue. Empty (false) if it could not be created; errno says why. Its destructor drains it.
class Workqueue {
 public:
  Workqueue() = default;
  explicit Workqueue(const char* name, unsigned flags = 0, int max_active = 0) noexcept
      : wq_(cmwq_alloc_workqueue(name, flags, max_active)) {}
  // One item at a time, in queueing order.
  static Workqueue ordered(const char* name, unsigned flags = 0) noexcept {
    Workqueue made;
    made.wq_ = cmwq_alloc_ordered_workqueue(name, flags);
    return made;
  }
  Workqueue(Workqueue&& other) noexcept : wq_(std::exchange(other.wq_, nullptr)) {}
  Workqueue& operator=(Workqueue&& other) noexcept {
    if (this != &other) {
      cmwq_destroy_workqueue(wq_);
      wq_ = std::exchange(other.wq_, nullptr);
    }
    return *this;
  }
  ~Workqueue() { cmwq_destroy_workqueue(wq_); }

  explicit operator bool() const noexcept { return wq_ != nullptr; }
  ::cmwq_workqueue* get() const noexcept { return wq_; }

  // True: newly queued. False: it was pending already, or is disabled.
  template <class F>
  bool queue(Work<F>& work) noexcept {
    return cmwq_queue_work(wq_, work.get());
  }
  template <class F>
  bool queue_on(int cpu, Work<F>& work) noexcept {
    return cmwq_queue_work_on(cpu, wq_, work.get());
  }
  template <class F>
  bool queue_after(DelayedWork<F>& work, std::chrono::nanoseconds delay) noexcept {
    return cmwq_queue_delayed_work(wq_, work.get(), detail::DelayNs(delay));
  }
  // Sets a new delay, pending or not. Returns whether it was pending.
  template <class F>
  bool requeue_after(DelayedWork<F>& work, std::chrono::nanoseconds delay) noexcept {
    return cmwq_mod_delayed_work(wq_, work.get(), detail::DelayNs(delay));
  }

  // Calls a copy of `fn` once on a worker; see Submission for the result, exceptions and
  // cancelling. Allocates one node, freed when the call is over and the handle is gone; use Work
  // where that is too much. The handle is empty if the call was not accepted.
  template <class F, class T = detail::ResultOf<F>>
  Submission<T> submit(F&& fn) {
    using Call = detail::Call<T, std::decay_t<F>>;
    auto* const call = new (std::nothrow) Call(wq_, std::forward<F>(fn));
    if (call == nullptr) return Submission<T>();
    if (cmwq_queue_work(wq_, call)) return Submission<T>(call);
    Refuse(call);
    return Submission<T>();
  }
#if defined(__cpp_lib_jthread)
  // The same; a stop that is requested before a worker begins the call cancels it. `fn` is called
  // with the token if it takes one.
  template <class F, class T = detail::ResultOf<detail::WithToken<std::decay_t<F>>>>
  Submission<T> submit(std::stop_token stop, F&& fn) {
    using Call = detail::StoppableCall<T, detail::WithToken<std::decay_t<F>>>;
    auto* const call =
        new (std::nothrow) Call(wq_, detail::WithToken<std::decay_t<F>>{std::forward<F>(fn), stop});
    if (call == nullptr) return Submission<T>();
    if (stop.stop_requested()) {
      call->AbandonOwned();
      return Submission<T>(call);
    }
    if (!cmwq_queue_work(wq_, call)) {
      Refuse(call);
      return Submission<T>();
    }
    call->Watch(stop);
    return Submission<T>(call);
  }
#endif
  // Calls a copy of `fn` once on a worker and tells nobody. Returns false if it was not accepted;
  // the copy is destroyed then. An exception that leaves `fn` ends the process.
  template <class F>
  bool post(F&& fn) {
    using Call = detail::PostedCall<std::decay_t<F>>;
    auto* const call = new (std::nothrow) Call(std::forward<F>(fn));
    if (call == nullptr) return false;
    if (cmwq_queue_work(wq_, call)) return true;
    delete call;
    return false;
  }

  void flush() noexcept { cmwq_flush_workqueue(wq_); }
  void drain() noexcept { cmwq_drain_workqueue(wq_); }
  bool set_max_active(int max_active) noexcept {
    return cmwq_workqueue_set_max_active(wq_, max_active) == 0;
  }

#if defined(__cpp_impl_coroutine)
  // To be awaited: see cmwq/coroutine.hpp.
  Schedule<> schedule() noexcept { return Schedule<>(wq_); }
  ScheduleAfter<> schedule_after(std::chrono::nanoseconds delay) noexcept {
    return ScheduleAfter<>(wq_, delay);
  }
#if defined(__cpp_lib_jthread)
  Schedule<std::stop_token> schedule(std::stop_token stop) noexcept {
    return Schedule<std::stop_token>(wq_, std::move(stop));
  }
  ScheduleAfter<std::stop_token> schedule_after(std::chrono::nanoseconds delay,
                                                std::stop_token stop) noexcept {
    return ScheduleAfter<std::stop_token>(wq_, delay, std::move(stop));
  }
#endif
#endif

 private:
  // Both shares of a call that no queue took.
  static void Refuse(detail::CallBase* call) noexcept {
    call->Unref();
    call->Unref();
  }
  ::cmwq_workqueue* wq_ = nullptr;
};

}  // namespace cmwq

#endif  // CMWQ_WORKQUEUE_HPP_
