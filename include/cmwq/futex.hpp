// cmwq::futex: the functions of cmwq/futex.h for std::atomic<uint32_t>. C++17.
//
//   std::atomic<uint32_t> ready{0};
//   auto consumer = queue.submit([&] {
//     while (ready.load() == 0) cmwq::futex::wait(ready, 0);   // the next item runs
//   });
//   ready = 1;
//   cmwq::futex::wake_all(ready);
//
// Words are private to the process. Times are std::chrono durations, negative ones count as zero,
// or points of steady_clock and system_clock. Nothing throws.
#ifndef CMWQ_FUTEX_HPP_
#define CMWQ_FUTEX_HPP_

#include <cmwq/futex.h>

#include <atomic>
#include <chrono>
#include <cmwq/io.hpp>

#if __cplusplus < 201703L
#error "cmwq's C++ headers need C++17; cmwq/futex.h is plain C"
#endif

namespace cmwq::futex {

// How a wait ended; cmwq/futex.h has the exact meaning of each.
enum class Status {
  kWoken,
  kChanged,  // the word was different: nothing was waited for
  kTimeout,
  kInterrupted,  // a signal handler ran
};

namespace detail {

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t) &&
              std::atomic<uint32_t>::is_always_lock_free);

inline uint32_t* Word(std::atomic<uint32_t>& word) { return reinterpret_cast<uint32_t*>(&word); }

// A word that exists and a bitset that is not 0 leave no other errors.
inline Status StatusOf(int result) {
  if (result >= 0) return Status::kWoken;
  if (errno == CMWQ_FUTEX_CHANGED) return Status::kChanged;
  return errno == CMWQ_FUTEX_TIMEOUT ? Status::kTimeout : Status::kInterrupted;
}

constexpr unsigned ClockFlag(const std::chrono::steady_clock*) { return CMWQ_FUTEX_AT_MONOTONIC; }
constexpr unsigned ClockFlag(const std::chrono::system_clock*) { return CMWQ_FUTEX_AT_REALTIME; }

}  // namespace detail

// Waits while word == expected. bits, not 0: which wakes count.
inline Status wait(std::atomic<uint32_t>& word, uint32_t expected, uint32_t bits = CMWQ_FUTEX_ANY) {
  return detail::StatusOf(
      cmwq_futex_wait_bitset(detail::Word(word), expected, bits, CMWQ_NO_TIMEOUT, 0));
}
template <class Rep, class Period>
Status wait_for(std::atomic<uint32_t>& word, uint32_t expected,
                std::chrono::duration<Rep, Period> timeout, uint32_t bits = CMWQ_FUTEX_ANY) {
  return detail::StatusOf(cmwq_futex_wait_bitset(detail::Word(word), expected, bits,
                                                 io::detail::Nanoseconds(timeout), 0));
}
// Clock: steady_clock or system_clock.
template <class Clock, class Duration>
Status wait_until(std::atomic<uint32_t>& word, uint32_t expected,
                  std::chrono::time_point<Clock, Duration> deadline,
                  uint32_t bits = CMWQ_FUTEX_ANY) {
  return detail::StatusOf(cmwq_futex_wait_bitset(
      detail::Word(word), expected, bits, io::detail::Nanoseconds(deadline.time_since_epoch()),
      detail::ClockFlag(static_cast<const Clock*>(nullptr))));
}

// How many were woken.
inline int wake_one(std::atomic<uint32_t>& word, uint32_t bits = CMWQ_FUTEX_ANY) {
  return cmwq_futex_wake_bitset(detail::Word(word), bits, 1, 0);
}
inline int wake_all(std::atomic<uint32_t>& word, uint32_t bits = CMWQ_FUTEX_ANY) {
  return cmwq_futex_wake_bitset(detail::Word(word), bits, INT32_MAX, 0);
}

}  // namespace cmwq::futex

#endif  // CMWQ_FUTEX_HPP_
