// cmwq::Submission: the handle of a call that Workqueue::submit made. C++17; co_await and stop
// tokens C++20.
//
//   cmwq::Workqueue queue("example");
//   cmwq::Submission<int> answer = queue.submit([] { return 6 * 7; });
//   if (answer.wait()) std::printf("%d\n", answer.get());   // or: co_await std::move(answer)
//
// Exceptions: what the callable throws is kept, and thrown by get() or co_await; it is dropped with
// the handle if nobody asks. (Workqueue::post is for calls that nobody asks about: there an
// exception ends the process.) Under -fno-exceptions nothing can be thrown.
// Lifetime: the call and its result outlive the handle and the handle may outlive the queue; the
// queue must outlive the call. The callable is destroyed once: after its execution, by the worker;
// or by whoever cancels it; or, if the queue does not accept it, before submit returns.
// Cancelling: cancel() and stop tokens take a call back that no worker has begun, and never wait
// for one that runs. Either the call is executed or somebody was told that it was cancelled.
#ifndef CMWQ_SUBMIT_HPP_
#define CMWQ_SUBMIT_HPP_

#include <cmwq/result.hpp>
#include <new>

#if __has_include(<version>)
#include <version>
#endif
#if defined(__cpp_impl_coroutine)
#include <coroutine>
#endif
#if defined(__cpp_lib_jthread)
#include <stop_token>
#endif

namespace cmwq {

namespace detail {

// Who goes on, on a worker, when a call is over. Lives in a suspended coroutine.
struct Waiter {
  void (*go_on)(Waiter*) = nullptr;
};

// One submitted call without its types: the only thing here that is allocated. Owned by the handle
// and by the execution together; the last of them frees it.
class CallBase : public ::cmwq_work {
 public:
  explicit CallBase(::cmwq_workqueue* wq) noexcept : wq_(wq) {}
  CallBase(const CallBase&) = delete;
  CallBase& operator=(const CallBase&) = delete;

  void Unref() noexcept {
    // acq_rel: the last owner sees what the other one did with the call.
    if (owners_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  bool over() const noexcept { return over_.raised(); }
  void Wait() noexcept {
    if (over()) return;
    if (cmwq_current_work() == this) {
      cmwq_flush_work(this);  // a call waits for itself: this says so in the log, and does not wait
      return;
    }
    over_.Wait();
  }
  // Takes the call back if no worker has begun it. Context: any, stop callbacks included; takes no
  // lock but the engine's, for moments; waits for nobody.
  bool Cancel() noexcept {
    // One attempt: it fails only if the call has begun, and then all others would. A second one
    // could take back the queueing below.
    if (cancel_tried_.exchange(true, std::memory_order_relaxed)) return false;
    if (!cmwq_cancel_work(this)) return false;
    AbandonOwned();
    return true;
  }
  // The same for a call that was never queued. Ends the execution's share of the ownership.
  void AbandonOwned() noexcept {
    DropCallable();
    Waiter* const waiter = Finish();
    // A coroutine goes on where it would have, for it may rely on that: in a worker of the queue,
    // not in the midst of whoever cancels. Only a queue that takes nothing leaves no choice.
    if (waiter != nullptr) {
      resume_only_ = waiter;
      if (cmwq_queue_work(wq_, this)) return;
      waiter->go_on(waiter);
    }
    Unref();
  }
  // False: the call is over, `waiter` will not be called. Otherwise it may have been called
  // already.
  bool Await(Waiter* waiter) noexcept {
    Waiter* nobody = nullptr;
    // acq_rel: pairs with the exchange in Finish, whichever comes first.
    return waiter_.compare_exchange_strong(nobody, waiter, std::memory_order_acq_rel);
  }

 protected:
  virtual ~CallBase() = default;
  virtual void DropCallable() noexcept = 0;
  // Makes the result known. Returns who waits for it other than by sleeping.
  Waiter* Finish() noexcept {
    over_.Raise();
    return waiter_.exchange(Over(), std::memory_order_acq_rel);  // pairs with Await
  }
  // Context: worker, first lines of the function.
  bool ResumeOnly() noexcept {
    if (resume_only_ == nullptr) return false;
    resume_only_->go_on(resume_only_);
    Unref();
    return true;
  }

 private:
  static Waiter* Over() noexcept {
    static Waiter over;
    return &over;
  }

  ::cmwq_workqueue* const wq_;
  Event over_;
  std::atomic<int> owners_{2};
  std::atomic<bool> cancel_tried_{false};
  std::atomic<Waiter*> waiter_{nullptr};
  Waiter* resume_only_ = nullptr;  // handed from Cancel to the execution by the queueing
};

template <class T>
class TypedCall : public CallBase {
 public:
  using CallBase::CallBase;
  Result<T> result;  // written before over(), read after
};

template <class T, class F>
class Call : public TypedCall<T> {
 public:
  template <class G>
  Call(::cmwq_workqueue* wq, G&& fn) : TypedCall<T>(wq), fn_(std::forward<G>(fn)) {
    cmwq_work_init(this, &Run);
  }

 protected:
  void DropCallable() noexcept override { fn_.reset(); }

 private:
  static void Run(::cmwq_work* work) noexcept {
    auto* const call = static_cast<Call*>(static_cast<CallBase*>(work));
    if (call->ResumeOnly()) return;
    call->result.Call(std::move(*call->fn_));
    call->fn_.reset();
    if (Waiter* const waiter = call->Finish()) waiter->go_on(waiter);
    // Not before the coroutine has gone on: while this function runs, the address of its item must
    // not be given to another call.
    call->Unref();
  }

  std::optional<F> fn_;
};

#if defined(__cpp_lib_jthread)
template <class T, class F>
class StoppableCall final : public Call<T, F> {
 public:
  using Call<T, F>::Call;
  // After the queueing, by a thread that owns the handle: a stop takes back what is on a queue.
  void Watch(const std::stop_token& token) noexcept {
    if (token.stop_possible()) callback_.emplace(token, Stop{this});
  }

 private:
  struct Stop {
    void operator()() const noexcept { call->Cancel(); }
    CallBase* call;
  };
  // Destroyed first, which waits for a stop in another thread. A stop that drops the last share
  // destroys it from inside, which std::stop_callback allows.
  ~StoppableCall() override { callback_.reset(); }
  std::optional<std::stop_callback<Stop>> callback_;
};
#endif

// A call that nobody asks about.
template <class F>
struct PostedCall : ::cmwq_work {
  template <class G>
  explicit PostedCall(G&& f) : fn(std::forward<G>(f)) {
    cmwq_work_init(this, &Run);
  }
  static void Run(::cmwq_work* work) noexcept {
    auto* const call = static_cast<PostedCall*>(work);
    std::move(call->fn)();
    delete call;
  }
  F fn;
};

}  // namespace detail

// The handle. Letting go of it neither waits nor cancels. One thread at a time.
template <class T>
class [[nodiscard]] Submission {
 public:
  Submission() = default;
  Submission(Submission&& other) noexcept : call_(std::exchange(other.call_, nullptr)) {}
  Submission& operator=(Submission&& other) noexcept {
    if (this != &other) {
      Release();
      call_ = std::exchange(other.call_, nullptr);
    }
    return *this;
  }
  ~Submission() { Release(); }

  // False: the call was not accepted (no memory, or the queue is being drained) and will not run;
  // or its result was fetched.
  explicit operator bool() const noexcept { return call_ != nullptr; }
  // Waits until the call is over. Returns whether it was executed: there is a value or an
  // exception. Not from the call itself (reported, returns false).
  bool wait() noexcept {
    if (call_ == nullptr) return false;
    call_->Wait();
    return call_->over() && call_->result.complete();
  }
  // Over: executed, or cancelled.
  bool done() const noexcept { return call_ != nullptr && call_->over(); }
  bool cancelled() const noexcept { return done() && !call_->result.complete(); }
  // Takes the call back if no worker has begun it. True: it will not run, and this call is what
  // prevented it.
  bool cancel() noexcept { return call_ != nullptr && call_->Cancel(); }
  // Waits, then returns the result or throws what the call threw; Cancelled if it will never run.
  // Leaves the handle empty.
  T get() {
    if (!wait()) {
      Release();
      detail::ThrowCancelled();
    }
    const Submission fetched(std::move(*this));
    return fetched.call_->result.Take();
  }

#if defined(__cpp_impl_coroutine)
  // co_await: get() without a thread that waits. The coroutine goes on in the worker that executed
  // the call, or, where the call is over already, at once. A coroutine that waits must not be
  // destroyed, nor must the handle; one coroutine at a time.
  class Awaiter : private detail::Waiter {
   public:
    explicit Awaiter(Submission& call) noexcept : call_(call) {}
    bool await_ready() const noexcept { return !call_ || call_.done(); }
    bool await_suspend(std::coroutine_handle<> who) noexcept {
      who_ = who;
      go_on = [](detail::Waiter* w) { static_cast<Awaiter*>(w)->who_.resume(); };
      return call_.call_->Await(
          this);  // true: the coroutine may be running, nothing may be touched
    }
    T await_resume() { return call_.get(); }

   private:
    Submission& call_;
    std::coroutine_handle<> who_;
  };
  Awaiter operator co_await() & noexcept { return Awaiter(*this); }
  Awaiter operator co_await() && noexcept { return Awaiter(*this); }
#endif

 private:
  friend class Workqueue;
  explicit Submission(detail::TypedCall<T>* call) noexcept : call_(call) {}
  void Release() noexcept {
    if (call_ != nullptr) std::exchange(call_, nullptr)->Unref();
  }
  detail::TypedCall<T>* call_ = nullptr;
};

// Of a call without a result.
using Submitted = Submission<void>;

}  // namespace cmwq

#endif  // CMWQ_SUBMIT_HPP_
