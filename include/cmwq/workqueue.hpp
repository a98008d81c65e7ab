// cmwq for C++17 and later: Workqueue, Work, DelayedWork, submit. Header-only, over cmwq/cmwq.h.
//
// Nothing throws, and a callable must not either: an exception that leaves it ends the process.
// Method names follow the standard library; what they mean is said at the C functions of that name.
// The rules of cmwq.h for threads, signals and fork hold.
#ifndef CMWQ_WORKQUEUE_HPP_
#define CMWQ_WORKQUEUE_HPP_

#include <cmwq/cmwq.h>

#include <atomic>
#include <chrono>
#include <new>
#include <type_traits>
#include <utility>

#if defined(__cpp_impl_coroutine)
#include <coroutine>
#endif

#if __cplusplus < 201703L
#error "cmwq's C++ headers need C++17; cmwq/cmwq.h is plain C"
#endif

namespace cmwq {

// An item that calls `fn()`. Pending at most once; queueing it allocates nothing. Neither copied
// nor moved, because a queue holds its address. Destroying it cancels it and waits for a running
// execution, unless that execution itself destroys it: then `fn` must not touch its own captures
// afterwards.
//
//   cmwq::Work flush_log([this] { log_.Flush(); });
//   queue.queue(flush_log);
template <class F>
class Work : private ::cmwq_work {
 public:
  explicit Work(F fn) : fn_(std::move(fn)) { cmwq_work_init(this, &Run); }
  ~Work() { cmwq_cancel_work_sync(this); }
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

  bool flush() noexcept { return cmwq_flush_work(this); }
  bool cancel() noexcept { return cmwq_cancel_work(this); }
  bool cancel_sync() noexcept { return cmwq_cancel_work_sync(this); }
  bool disable() noexcept { return cmwq_disable_work(this); }
  bool disable_sync() noexcept { return cmwq_disable_work_sync(this); }
  bool enable() noexcept { return cmwq_enable_work(this); }
  unsigned busy() const noexcept { return cmwq_work_busy(this); }
  // For the C functions.
  ::cmwq_work* get() noexcept { return this; }

 private:
  static void Run(::cmwq_work* work) noexcept { static_cast<Work*>(work)->fn_(); }
  F fn_;
};

// The same behind a timer. See Workqueue::queue_after.
template <class F>
class DelayedWork : private ::cmwq_delayed_work {
 public:
  explicit DelayedWork(F fn) : fn_(std::move(fn)) { cmwq_delayed_work_init(this, &Run); }
  ~DelayedWork() { cmwq_cancel_delayed_work_sync(this); }
  DelayedWork(const DelayedWork&) = delete;
  DelayedWork& operator=(const DelayedWork&) = delete;

  // Queues it at once if its timer runs, then waits for it.
  bool flush() noexcept { return cmwq_flush_delayed_work(this); }
  bool cancel() noexcept { return cmwq_cancel_delayed_work(this); }
  bool cancel_sync() noexcept { return cmwq_cancel_delayed_work_sync(this); }
  ::cmwq_delayed_work* get() noexcept { return this; }

 private:
  static void Run(::cmwq_work* work) noexcept {
    // `work` is the first member of a standard-layout struct: both have one address.
    static_cast<DelayedWork*>(reinterpret_cast<::cmwq_delayed_work*>(work))->fn_();
  }
  F fn_;
};

namespace detail {

// One submitted call: the only thing here that is allocated. Owned by the handle and by the
// execution together; the last of them frees it.
struct Node : ::cmwq_work {
  explicit Node(void (*drop)(Node*)) : destroy(drop) {}
  void Unref() {
    // acq_rel: the last owner sees what the other one did with the node.
    if (owners.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy(this);
  }
  std::atomic<int> owners{2};
  std::atomic<bool> done{false};
  void (*const destroy)(Node*);
};

template <class F>
struct CallNode final : Node {
  explicit CallNode(F&& f) : Node(&Destroy), fn(std::move(f)) { cmwq_work_init(this, &Run); }
  explicit CallNode(const F& f) : Node(&Destroy), fn(f) { cmwq_work_init(this, &Run); }
  static void Run(::cmwq_work* work) noexcept {
    auto* const node = static_cast<CallNode*>(work);
    node->fn();
    node->done.store(true, std::memory_order_release);  // pairs with Submitted::done
    node->Unref();
  }
  static void Destroy(Node* node) { delete static_cast<CallNode*>(node); }
  F fn;
};

inline uint64_t DelayNs(std::chrono::nanoseconds d) noexcept {
  return d.count() > 0 ? static_cast<uint64_t>(d.count()) : 0;
}

}  // namespace detail

// A submitted call. Letting go of it neither waits nor cancels.
class Submitted {
 public:
  Submitted() = default;
  Submitted(Submitted&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
  Submitted& operator=(Submitted&& other) noexcept {
    if (this != &other) {
      Release();
      node_ = std::exchange(other.node_, nullptr);
    }
    return *this;
  }
  ~Submitted() { Release(); }

  // False: the call was not accepted (no memory, or the queue is being drained) and will not run.
  explicit operator bool() const noexcept { return node_ != nullptr; }
  // Waits until the call has returned. Not from the call itself.
  void wait() noexcept {
    if (node_ != nullptr) cmwq_flush_work(node_);
  }
  bool done() const noexcept {
    return node_ != nullptr && node_->done.load(std::memory_order_acquire);  // pairs with Run
  }

 private:
  friend class Workqueue;
  explicit Submitted(detail::Node* node) noexcept : node_(node) {}
  void Release() noexcept {
    if (node_ != nullptr) node_->Unref();
  }
  detail::Node* node_ = nullptr;
};

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

  // Calls a copy of `fn` once on a worker. Allocates one node, freed when the call has returned and
  // the handle is gone; use Work where that is too much.
  template <class F>
  Submitted submit(F&& fn) {
    using Node = detail::CallNode<std::decay_t<F>>;
    auto* const node = new (std::nothrow) Node(std::forward<F>(fn));
    if (node == nullptr) return Submitted();
    if (cmwq_queue_work(wq_, node)) return Submitted(node);
    delete node;
    return Submitted();
  }

  void flush() noexcept { cmwq_flush_workqueue(wq_); }
  void drain() noexcept { cmwq_drain_workqueue(wq_); }
  bool set_max_active(int max_active) noexcept {
    return cmwq_workqueue_set_max_active(wq_, max_active) == 0;
  }

#if defined(__cpp_impl_coroutine)
  // co_await queue.schedule(): the coroutine goes on in a worker of this queue. The item lives in
  // the coroutine's frame, nothing is allocated. Where the queue takes nothing any more it goes on
  // at once, on the calling thread, and the result of co_await is false.
  class Schedule : private ::cmwq_work {
   public:
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> who) noexcept {
      who_ = who;
      cmwq_work_init(this, &Run);
      // Queued: the coroutine may be running, or over, before this returns; nothing may be touched.
      if (cmwq_queue_work(wq_, this)) return true;
      accepted_ = false;
      return false;
    }
    bool await_resume() const noexcept { return accepted_; }

   private:
    friend class Workqueue;
    explicit Schedule(::cmwq_workqueue* wq) noexcept : wq_(wq) {}
    static void Run(::cmwq_work* work) noexcept { static_cast<Schedule*>(work)->who_.resume(); }
    ::cmwq_workqueue* wq_;
    std::coroutine_handle<> who_;
    bool accepted_ = true;
  };
  Schedule schedule() noexcept { return Schedule(wq_); }
#endif

 private:
  ::cmwq_workqueue* wq_ = nullptr;
};

}  // namespace cmwq

#endif  // CMWQ_WORKQUEUE_HPP_
