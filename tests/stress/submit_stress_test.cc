// Many producers that submit, cancel and stop, then an account: every call that was accepted was
// executed or cancelled, once; every callable is gone; every coroutine ended. Lasts
// CMWQ_STRESS_SECONDS, 2 if unset.

#include <gtest/gtest.h>

#include <cmwq/sender.hpp>
#include <cmwq/task.hpp>
#include <cmwq/workqueue.hpp>
#include <memory>
#include <thread>
#include <vector>

#include "tests/stress/stress.h"

#if !defined(__cpp_lib_jthread)

TEST(SubmitStress, NeedsStopTokens) { GTEST_SKIP() << "this library has no std::stop_token"; }

#else

namespace cmwq::stress {
namespace {

constexpr int kProducers = 8;

struct Account {
  std::atomic<uint64_t> accepted{0}, refused{0}, executed{0}, cancelled{0}, thrown{0};
  std::atomic<int64_t> callables{0};
  std::atomic<uint64_t> begun{0}, ended{0};               // coroutines
  std::atomic<uint64_t> started{0}, values{0}, stops{0};  // senders
};

struct Payload {
  explicit Payload(Account* a) : account(a) { account->callables.fetch_add(1); }
  Payload(const Payload& o) : Payload(o.account) {}
  Payload(Payload&& o) noexcept : account(o.account) { account->callables.fetch_add(1); }
  ~Payload() { account->callables.fetch_sub(1); }
  Account* account;
};

#if defined(__cpp_impl_coroutine)
Task<> Wander(Workqueue& queue, std::stop_token stop, Account& account, unsigned dice) {
  account.begun.fetch_add(1);
  const bool on = co_await queue.schedule(stop);
  if (on && dice % 2 != 0) {
    const bool passed = co_await queue.schedule_after(std::chrono::microseconds(dice % 300), stop);
    (void)passed;
  }
  auto call = queue.submit(stop, [p = Payload(&account), dice]() -> unsigned {
    p.account->executed.fetch_add(1);
    if (dice % 5 == 0) throw dice;
    return dice;
  });
  account.accepted.fetch_add(1);
  try {
    const unsigned got = co_await call;
    EXPECT_EQ(got, dice);
  } catch (const Cancelled&) {
    account.cancelled.fetch_add(1);
  } catch (unsigned) {
    account.thrown.fetch_add(1);
  }
  account.ended.fetch_add(1);
}
#endif

struct Receiver {
  struct Env {
    std::stop_token query(get_stop_token_t) const noexcept { return stop; }
    std::stop_token stop;
  };
  Env get_env() const noexcept { return {stop}; }
  void set_value() && noexcept { End(account->values); }
  void set_stopped() && noexcept { End(account->stops); }
  void End(std::atomic<uint64_t>& counter) noexcept;
  struct Box* box;
  std::stop_token stop;
  Account* account;
};
struct Box {
  Box(Workqueue& q, std::stop_token stop, Account* account, unsigned us)
      : operation(Scheduler(q)
                      .schedule_after(std::chrono::microseconds(us))
                      .connect(Receiver{this, std::move(stop), account})) {}
  ScheduleAfterOperation<Receiver> operation;
};
void Receiver::End(std::atomic<uint64_t>& counter) noexcept {
  auto& account_counter = counter;
  delete box;  // and this receiver
  account_counter.fetch_add(1);
}

class Producer {
 public:
  Producer(Workqueue& queue, Account& account, unsigned number)
      : queue_(queue), account_(account), random_(number) {}

  void Step() {
    if (random_.Below(16) == 0) {
      stop_.request_stop();
      stop_ = std::stop_source();
    }
    switch (random_.Below(6)) {
      case 0:
      case 1:
        Plain();
        break;
      case 2:
      case 3:
        WithToken();
        break;
      case 4:
        Coroutine();
        break;
      default:
        account_.started.fetch_add(1);
        (new Box(queue_, stop_.get_token(), &account_, random_.Below(200)))->operation.start();
        break;
    }
    if (held_.size() > 64) Settle();
  }
  void Settle() {
    for (Submission<int>& call : held_) {
      if (random_.Below(2) != 0) call.cancel();
      try {
        call.get();
      } catch (const Cancelled&) {
        account_.cancelled.fetch_add(1);
      } catch (int) {
        account_.thrown.fetch_add(1);
      }
    }
    held_.clear();
  }

 private:
  auto Callable() {
    return [p = Payload(&account_), dice = random_.Below(100)]() -> int {
      p.account->executed.fetch_add(1);
      if (dice < 10) SleepUs(dice * 10);
      if (dice == 11) throw 1;
      return 1;
    };
  }
  void Plain() {
    account_.accepted.fetch_add(1);
    auto call = queue_.submit(Callable());
    // Either told by cancel, or by get.
    if (random_.Below(4) == 0 && call.cancel()) {
      account_.cancelled.fetch_add(1);
    } else if (random_.Below(3) != 0) {
      held_.push_back(std::move(call));
    }
  }
  void WithToken() {
    account_.accepted.fetch_add(1);
    held_.push_back(queue_.submit(stop_.get_token(), Callable()));
  }
  void Coroutine() {
#if defined(__cpp_impl_coroutine)
    start_detached(Wander(queue_, stop_.get_token(), account_, random_.Below(1000)));
#endif
  }

  Workqueue& queue_;
  Account& account_;
  Random random_;
  std::stop_source stop_;
  std::vector<Submission<int> > held_;
};

TEST(SubmitStress, EveryCallIsExecutedOrCancelled) {
  Guard(60);
  const uint64_t end =
      base::MonotonicNs() + Setting("CMWQ_STRESS_SECONDS", 2) * base::kNsPerMs * 1000;
  Account account;
  for (int round = 0; round == 0 || base::MonotonicNs() < end; ++round) {
    const unsigned flags[] = {0, CMWQ_UNBOUND, CMWQ_HIGHPRI};
    Workqueue queue = round % 4 == 3 ? Workqueue::ordered("stress")
                                     : Workqueue("stress", flags[round % 3], round % 5);
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < kProducers; ++i) {
      threads.emplace_back([&, i] {
        Producer producer(queue, account, static_cast<unsigned>(round) * kProducers + i);
        for (int step = 0; step < 500; ++step) producer.Step();
        producer.Settle();
      });
    }
    for (std::thread& thread : threads) thread.join();
    // Timers are not drained: their owners must have ended.
    while (account.begun != account.ended || account.started != account.values + account.stops) {
      SleepUs(200);
    }
    queue.drain();
    ASSERT_EQ(account.accepted, account.executed + account.cancelled) << "round " << round;
    ASSERT_EQ(account.callables, 0);
  }
  EXPECT_GT(account.executed, 0u);
  EXPECT_GT(account.cancelled, 0u);
  EXPECT_GT(account.thrown, 0u);
  printf("accepted %llu executed %llu cancelled %llu thrown %llu senders %llu stopped %llu\n",
         static_cast<unsigned long long>(account.accepted),
         static_cast<unsigned long long>(account.executed),
         static_cast<unsigned long long>(account.cancelled),
         static_cast<unsigned long long>(account.thrown),
         static_cast<unsigned long long>(account.started),
         static_cast<unsigned long long>(account.stops));
}

}  // namespace
}  // namespace cmwq::stress

#endif
