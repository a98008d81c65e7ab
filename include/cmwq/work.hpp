// cmwq::Work, cmwq::DelayedWork: a callable as an item that is embedded in its user's object.
// C++17.
//
//   cmwq::Workqueue queue("example");
//   cmwq::Work flush_log([] { std::puts("flushed"); });
//   queue.queue(flush_log);   // allocates nothing; pending at most once
//   flush_log.flush();        // waits for it
#ifndef CMWQ_WORK_HPP_
#define CMWQ_WORK_HPP_

#include <cmwq/cmwq.h>

#include <chrono>
#include <utility>

#if __cplusplus < 201703L
#error "cmwq's C++ headers need C++17; cmwq/cmwq.h is plain C"
#endif

namespace cmwq {

namespace detail {

// Nothing runs it afterwards, but for the calling execution itself, which cannot be waited for.
inline void CancelBeforeDestruction(::cmwq_work* work) noexcept {
  if (cmwq_current_work() == work) {
    cmwq_cancel_work(work);
  } else {
    cmwq_cancel_work_sync(work);
  }
}

}  // namespace detail

// An item that calls `fn()`. Pending at most once; queueing it allocates nothing. Neither copied
// nor moved, because a queue holds its address. An exception that leaves `fn` ends the process:
// there is nobody to catch it. Destroying it cancels it and waits for a running execution, unless
// that execution itself destroys it: then `fn` must not touch its own captures afterwards.
template <class F>
class Work : private ::cmwq_work {
 public:
  explicit Work(F fn) : fn_(std::move(fn)) { cmwq_work_init(this, &Run); }
  ~Work() { detail::CancelBeforeDestruction(this); }
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
  ~DelayedWork() { detail::CancelBeforeDestruction(&this->work); }
  DelayedWork(const DelayedWork&) = delete;
  DelayedWork& operator=(const DelayedWork&) = delete;

  // Queues it at once if its timer runs, then waits for it.
  bool flush() noexcept { return cmwq_flush_delayed_work(this); }
  bool cancel() noexcept { return cmwq_cancel_delayed_work(this); }
  bool cancel_sync() noexcept { return cmwq_cancel_delayed_work_sync(this); }
  // Stop its timer too.
  bool disable() noexcept { return cmwq_disable_delayed_work(this); }
  bool disable_sync() noexcept { return cmwq_disable_delayed_work_sync(this); }
  bool enable() noexcept { return cmwq_enable_delayed_work(this); }
  unsigned busy() const noexcept { return cmwq_work_busy(&this->work); }
  ::cmwq_delayed_work* get() noexcept { return this; }

 private:
  static void Run(::cmwq_work* work) noexcept {
    // `work` is the first member of a standard-layout struct: both have one address.
    static_cast<DelayedWork*>(reinterpret_cast<::cmwq_delayed_work*>(work))->fn_();
  }
  F fn_;
};

namespace detail {

inline uint64_t DelayNs(std::chrono::nanoseconds d) noexcept {
  return d.count() > 0 ? static_cast<uint64_t>(d.count()) : 0;
}

}  // namespace detail

}  // namespace cmwq

#endif  // CMWQ_WORK_HPP_
