// cmwq::Executor: a workqueue as an executor for Asio (standalone or Boost) and for code written to
// the same interface. Knows properties by their shape and includes nothing of Asio. C++17.
//
//   cmwq::Workqueue queue("example");
//   const cmwq::Executor executor(queue);
//   asio::post(executor, [] { std::puts("in a worker"); });
//   asio::co_spawn(executor, Session(), asio::detached);   // asio::awaitable<void, cmwq::Executor>
//
// Handlers may block: that is what the queue is for. They may run side by side; the executor of an
// ordered queue is a strand. blocking.never: execute() never calls the function itself.
// Exceptions: one that leaves a function ends the process. execute() throws std::bad_alloc where
// there is no memory (without exceptions the process ends).
// Lifetime: copies of a pointer; the queue must outlive all of them. A queue that takes nothing (it
// is being drained) destroys the function without calling it, as a stopped asio::io_context does.
// asio::any_io_executor, and with it asio::awaitable<void>, and asio::strand want an execution
// context of Asio to belong to: executor.with_context(io) brings one, whose services are then used.
#ifndef CMWQ_EXECUTOR_HPP_
#define CMWQ_EXECUTOR_HPP_

#include <cmwq/workqueue.hpp>

namespace cmwq {

namespace detail {

// Has the three values of Asio's "blocking" property.
template <class P>
using IfBlocking = std::enable_if_t<std::is_constructible_v<P, typename P::possibly_t> &&
                                    std::is_constructible_v<P, typename P::always_t> &&
                                    std::is_constructible_v<P, typename P::never_t>>;

// Has the shape of that property's value "never": asking an executor that has it is requiring it.
template <class P, class B = typename P::polymorphic_query_result_type, class = IfBlocking<B>>
using IfNever = std::enable_if_t<std::is_same_v<P, typename B::never_t>, B>;

// Asio's "context": can only be asked for, and its answer as seen through a type-erased executor is
// an object (std::any) that is neither the property itself nor a number.
template <class P, class Any = typename P::polymorphic_query_result_type>
using IfContext = std::enable_if_t<!P::is_requirable && !P::is_preferable && std::is_class_v<Any> &&
                                   !std::is_same_v<Any, P>>;

}  // namespace detail

// Context: what query(context) refers to; for Executor, the workqueue itself.
template <class Context>
class BasicExecutor {
 public:
  BasicExecutor(::cmwq_workqueue* wq, Context& context) noexcept : wq_(wq), context_(&context) {}
  template <class C = Context, class = std::enable_if_t<std::is_same_v<C, ::cmwq_workqueue>>>
  explicit BasicExecutor(const Workqueue& queue) noexcept
      : wq_(queue.get()), context_(queue.get()) {}
  // The same queue, belonging to another context.
  template <class Other>
  BasicExecutor<Other> with_context(Other& other) const noexcept {
    return BasicExecutor<Other>(wq_, other);
  }

  template <class F>
  void execute(F&& fn) const {
    auto* const call = new detail::PostedCall<std::decay_t<F>>(std::forward<F>(fn));
    if (!cmwq_queue_work(wq_, call)) delete call;
  }
  template <class Blocking, class = detail::IfBlocking<Blocking>>
  static constexpr Blocking query(Blocking) noexcept {
    return Blocking(typename Blocking::never_t());
  }
  template <class Never, class Blocking = detail::IfNever<Never>>
  static constexpr auto query(Never never) noexcept -> Blocking {
    return Blocking(never);
  }
  template <class Property, class = detail::IfContext<Property>>
  Context& query(Property) const noexcept {
    return *context_;
  }

  friend bool operator==(const BasicExecutor& a, const BasicExecutor& b) noexcept {
    return a.wq_ == b.wq_ && a.context_ == b.context_;
  }
  friend bool operator!=(const BasicExecutor& a, const BasicExecutor& b) noexcept {
    return !(a == b);
  }

 private:
  ::cmwq_workqueue* wq_;
  Context* context_;
};

using Executor = BasicExecutor<::cmwq_workqueue>;

}  // namespace cmwq

#endif  // CMWQ_EXECUTOR_HPP_
