// cmwq::Task: a coroutine that is awaited by another one, with a result. Nothing without
// coroutines.
//
//   cmwq::Task<int> Answer(cmwq::Workqueue& queue) {
//     co_await queue.schedule();
//     co_return 42;
//   }
//   int main() {
//     cmwq::Workqueue queue("example");
//     return cmwq::sync_wait(Answer(queue)) == 42 ? 0 : 1;
//   }
//
// Lazy: begins when it is awaited, on the awaiting thread, and takes that one along to wherever it
// ends. The awaiting coroutine goes on by symmetric transfer (as far as the compiler makes a tail
// call of it: GCC from -O2 on), so chains and loops do not use up the stack.
// Exceptions leave it through co_await, sync_wait or, from start_detached, to std::terminate. Under
// -fno-exceptions there are none.
// Lifetime: the Task owns the frame; it must not be destroyed between begin and end. Arguments are
// copied into the frame, references and what a lambda captured are not.
#ifndef CMWQ_TASK_HPP_
#define CMWQ_TASK_HPP_

#include <cmwq/result.hpp>

#if defined(__cpp_impl_coroutine)
#include <coroutine>

namespace cmwq {

template <class T = void>
class Task;

namespace detail {

struct TaskPromiseBase {
  struct Final {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> who) const noexcept {
      return who.promise().continuation;
    }
    void await_resume() const noexcept {}
  };
  std::suspend_always initial_suspend() const noexcept { return {}; }
  Final final_suspend() const noexcept { return {}; }
  std::coroutine_handle<> continuation;
};

template <class T>
struct TaskPromise : TaskPromiseBase {
  Task<T> get_return_object() noexcept;
  template <class U = T>
  void return_value(U&& value) {
    result.Put(std::forward<U>(value));
  }
  void unhandled_exception() noexcept { result.KeepException(); }
  Result<T> result;
};
template <>
struct TaskPromise<void> : TaskPromiseBase {
  Task<void> get_return_object() noexcept;
  void return_void() { result.Put(); }
  void unhandled_exception() noexcept { result.KeepException(); }
  Result<void> result;
};

}  // namespace detail

template <class T>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::TaskPromise<T>;

  Task(Task&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      if (frame_) frame_.destroy();
      frame_ = std::exchange(other.frame_, nullptr);
    }
    return *this;
  }
  ~Task() {
    if (frame_) frame_.destroy();
  }

  // co_await std::move(task): runs it and gives its result. Once.
  struct Awaiter {
    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> who) noexcept {
      frame.promise().continuation = who;
      return frame;
    }
    T await_resume() { return frame.promise().result.Take(); }
    std::coroutine_handle<promise_type> frame;
  };
  Awaiter operator co_await() && noexcept { return Awaiter{frame_}; }

  // The same, the result stays inside: for sync_wait.
  struct Finished : Awaiter {
    void await_resume() const noexcept {}
  };
  Finished finished() noexcept { return Finished{{frame_}}; }
  T Take() { return frame_.promise().result.Take(); }

 private:
  friend promise_type;
  explicit Task(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
  std::coroutine_handle<promise_type> frame_;
};

namespace detail {

template <class T>
Task<T> TaskPromise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<TaskPromise>::from_promise(*this));
}
inline Task<void> TaskPromise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<TaskPromise>::from_promise(*this));
}

// A coroutine that begins at once and frees itself.
struct Detached {
  struct promise_type {
    Detached get_return_object() const noexcept { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
  };
};

// A coroutine that begins at once and raises an event when it has ended. Its owner frees it.
struct Signalling {
  struct promise_type {
    struct Final {
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<promise_type> who) const noexcept {
        who.promise().ended->Raise();  // the frame may be gone
      }
      void await_resume() const noexcept {}
    };
    template <class T>
    promise_type(Task<T>&, Event* event) noexcept : ended(event) {}
    Signalling get_return_object() noexcept {
      return {std::coroutine_handle<promise_type>::from_promise(*this)};
    }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    Final final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
    Event* ended;
  };
  std::coroutine_handle<promise_type> frame;
};

template <class T>
Detached RunDetached(Task<T> task) {
  co_await std::move(task);
}
template <class T>
Signalling RunSignalling(Task<T>& task, Event*) {
  co_await task.finished();
}

}  // namespace detail

// Begins `task` on the calling thread and lets it go: it frees itself. Its result is dropped; an
// exception that leaves it ends the process.
template <class T>
void start_detached(Task<T> task) {
  detail::RunDetached(std::move(task));
}

// Begins `task` on the calling thread, waits until it has ended, wherever that is, and returns its
// result or throws its exception. In a worker the wait is announced: the next one of its CPU may
// run.
template <class T>
T sync_wait(Task<T> task) {
  detail::Event ended;
  const detail::Signalling run = detail::RunSignalling(task, &ended);
  ended.Wait();
  run.frame.destroy();
  return task.Take();
}

}  // namespace cmwq

#endif  // coroutines

#endif  // CMWQ_TASK_HPP_
