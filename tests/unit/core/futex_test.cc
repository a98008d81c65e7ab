// Waiting for words. The canary is off, so that only an announcement lets the next item of a CPU run.

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cmwq/futex.hpp>
#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

#include "runtime/base/sys.h"
#include "tests/support/child.h"
#include "tests/support/gate.h"
#include "tests/support/overlap.h"
#include "tests/support/sanitizer.h"

namespace cmwq::test {
namespace {

constexpr uint64_t kHour = 3600 * base::kNsPerSec;

uint64_t RealtimeNs() {
  struct timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  return static_cast<uint64_t>(ts.tv_sec) * base::kNsPerSec + static_cast<uint64_t>(ts.tv_nsec);
}

uint32_t Load(const uint32_t& word) { return __atomic_load_n(&word, __ATOMIC_ACQUIRE); }
void Store(uint32_t& word, uint32_t value) { __atomic_store_n(&word, value, __ATOMIC_RELEASE); }

bool HaveWaitv() {
  uint32_t words[2] = {1, 1};
  const cmwq_futex_waiter waiters[2] = {{&words[0], 1, 0}, {&words[1], 1, 0}};
  return cmwq_futex_waitv(waiters, 2, 1000, 0) == -1 && errno != ENOSYS;
}

// One way to wait for `word` to leave 0, for as long as it takes.
struct Way {
  const char* name;
  int (*wait)(uint32_t* word);
  bool restarts;  // after a handler with SA_RESTART
};

const Way kWays[] = {
    {"wait", [](uint32_t* w) { return cmwq_futex_wait(w, 0, CMWQ_NO_TIMEOUT); }, true},
    {"for an hour", [](uint32_t* w) { return cmwq_futex_wait(w, 0, kHour); }, false},
    {"bitset",
     [](uint32_t* w) { return cmwq_futex_wait_bitset(w, 0, 0x10, CMWQ_NO_TIMEOUT, 0); }, true},
    {"until",
     [](uint32_t* w) {
       return cmwq_futex_wait_bitset(w, 0, CMWQ_FUTEX_ANY, base::MonotonicNs() + kHour,
                                     CMWQ_FUTEX_AT_MONOTONIC);
     },
     false},
    {"until, by the system's clock",
     [](uint32_t* w) {
       return cmwq_futex_wait_bitset(w, 0, CMWQ_FUTEX_ANY, RealtimeNs() + kHour,
                                     CMWQ_FUTEX_AT_REALTIME);
     },
     false},
    {"vector of one",
     [](uint32_t* w) {
       const cmwq_futex_waiter one = {w, 0, 0};
       return cmwq_futex_waitv(&one, 1, CMWQ_NO_TIMEOUT, 0);
     },
     true},
};

TEST(Futex, LetsTheNextItemRun) {
  for (const Way& way : kWays) {
    SCOPED_TRACE(way.name);
    uint32_t word = 0;
    ExpectOverlap(
        [&] {
          while (Load(word) == 0) {
            // The other item may be as quick as to come between the announcement and the wait.
            if (way.wait(&word) != 0) {
              EXPECT_EQ(errno, CMWQ_FUTEX_CHANGED);
            }
          }
        },
        [&] {
          Store(word, 1);
          EXPECT_GE(cmwq_futex_wake(&word, 1), 0);
        });
  }
}

TEST(Futex, SeveralWordsLetTheNextItemRun) {
  if (!HaveWaitv()) GTEST_SKIP() << "no futex_waitv here";
  uint32_t words[3] = {};
  ExpectOverlap(
      [&] {
        const cmwq_futex_waiter waiters[3] = {{&words[0], 0, 0}, {&words[1], 0, 0}, {&words[2], 0, 0}};
        while (Load(words[1]) == 0) {
          const int result = cmwq_futex_waitv(waiters, 3, kHour, 0);
          if (result < 0) {
            EXPECT_EQ(errno, CMWQ_FUTEX_CHANGED);
          } else {
            EXPECT_EQ(result, 1);
          }
        }
      },
      [&] {
        Store(words[1], 1);
        EXPECT_GE(cmwq_futex_wake(&words[1], 1), 0);
      });
}

// A look that already knows the answer tells nobody; a wait tells once.
TEST(Futex, LooksBeforeItAnnounces) {
  OnWorker([] {
    uint32_t word = 7;
    const cmwq_futex_waiter two[2] = {{&word, 7, 0}, {&word, 8, 0}};
    const uint64_t before = Announced();
    EXPECT_EQ(cmwq_futex_wait(&word, 8, CMWQ_NO_TIMEOUT), -1);
    EXPECT_EQ(errno, CMWQ_FUTEX_CHANGED);
    EXPECT_EQ(cmwq_futex_waitv(two, 2, CMWQ_NO_TIMEOUT, 0), -1);
    EXPECT_EQ(errno, CMWQ_FUTEX_CHANGED);
    EXPECT_EQ(cmwq_futex_wait(&word, 7, 0), -1);
    EXPECT_EQ(errno, CMWQ_FUTEX_TIMEOUT);
    for (const unsigned clock : {CMWQ_FUTEX_AT_MONOTONIC, CMWQ_FUTEX_AT_REALTIME}) {
      EXPECT_EQ(cmwq_futex_wait_bitset(&word, 7, 1, 1000, clock), -1);
      EXPECT_EQ(errno, CMWQ_FUTEX_TIMEOUT);
    }
    EXPECT_EQ(cmwq_futex_wake(&word, INT32_MAX), 0);
    EXPECT_EQ(Announced(), before);
    EXPECT_EQ(cmwq_futex_wait(&word, 7, 1000), -1);
    EXPECT_EQ(errno, CMWQ_FUTEX_TIMEOUT);
    EXPECT_EQ(Announced(), before + 1);
  });
}

TEST(Futex, TimesOutNotBeforeTime) {
  const auto check = [] {
    uint32_t word = 0;
    const uint64_t start = base::MonotonicNs();
    EXPECT_EQ(cmwq_futex_wait(&word, 0, 1'000'000), -1);
    EXPECT_EQ(errno, CMWQ_FUTEX_TIMEOUT);
    EXPECT_GE(base::MonotonicNs(), start + 1'000'000);
    EXPECT_EQ(cmwq_futex_wait_bitset(&word, 0, 1, start + 2'000'000, CMWQ_FUTEX_AT_MONOTONIC), -1);
    EXPECT_EQ(errno, CMWQ_FUTEX_TIMEOUT);
    EXPECT_GE(base::MonotonicNs(), start + 2'000'000);
    const uint64_t real = RealtimeNs() + 1'000'000;
    EXPECT_EQ(cmwq_futex_wait_bitset(&word, 0, 1, real, CMWQ_FUTEX_AT_REALTIME), -1);
    EXPECT_EQ(errno, CMWQ_FUTEX_TIMEOUT);
  };
  check();
  OnWorker(check);
}

TEST(Futex, RefusesWhatIsWrong) {
  alignas(8) uint32_t word[2] = {};
  auto* const odd = reinterpret_cast<uint32_t*>(reinterpret_cast<char*>(word) + 2);
  const cmwq_futex_waiter good[2] = {{word, 0, 0}, {word, 0, 0}};
  const cmwq_futex_waiter bad_word[2] = {{word, 0, 0}, {odd, 0, 0}};
  const cmwq_futex_waiter bad_flags[2] = {{word, 0, 0}, {word, 0, CMWQ_FUTEX_AT_REALTIME}};
  const unsigned both = CMWQ_FUTEX_AT_MONOTONIC | CMWQ_FUTEX_AT_REALTIME;
  const auto refused = [](int result) { return result == -1 && errno == EINVAL; };
  EXPECT_TRUE(refused(cmwq_futex_wait(nullptr, 0, 0)));
  EXPECT_TRUE(refused(cmwq_futex_wait(odd, 0, 0)));
  EXPECT_TRUE(refused(cmwq_futex_wait_bitset(word, 0, 0, 0, 0)));
  EXPECT_TRUE(refused(cmwq_futex_wait_bitset(word, 0, 1, 0, both)));
  EXPECT_TRUE(refused(cmwq_futex_wait_bitset(word, 0, 1, 0, 0x80)));
  EXPECT_TRUE(refused(cmwq_futex_waitv(nullptr, 1, 0, 0)));
  EXPECT_TRUE(refused(cmwq_futex_waitv(good, 0, 0, 0)));
  EXPECT_TRUE(refused(cmwq_futex_waitv(good, CMWQ_FUTEX_WAITV_MAX + 1, 0, 0)));
  EXPECT_TRUE(refused(cmwq_futex_waitv(good, 2, 0, CMWQ_FUTEX_SHARED)));
  EXPECT_TRUE(refused(cmwq_futex_waitv(bad_word, 2, 0, 0)));
  EXPECT_TRUE(refused(cmwq_futex_waitv(bad_flags, 2, 0, 0)));
  EXPECT_TRUE(refused(cmwq_futex_wake(nullptr, 1)));
  EXPECT_TRUE(refused(cmwq_futex_wake(word, -1)));
  EXPECT_TRUE(refused(cmwq_futex_wake_bitset(word, 0, 1, 0)));
  EXPECT_TRUE(refused(cmwq_futex_wake_bitset(word, 1, 1, CMWQ_FUTEX_AT_MONOTONIC)));
  EXPECT_EQ(cmwq_futex_wake(word, 0), 0);
}

// Wakes until somebody was woken.
void WakeOne(uint32_t* word, uint32_t bitset) {
  Eventually([=] { return cmwq_futex_wake_bitset(word, bitset, 1, 0) == 1; });
}

TEST(Futex, WakesThoseWithACommonBit) {
  uint32_t word = 0;
  int results[2] = {-2, -2};
  std::thread first([&] { results[0] = cmwq_futex_wait_bitset(&word, 0, 1, CMWQ_NO_TIMEOUT, 0); });
  WakeOne(&word, 1);
  first.join();
  std::thread second([&] { results[1] = cmwq_futex_wait_bitset(&word, 0, 2, kHour, 0); });
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(cmwq_futex_wake_bitset(&word, ~2u, INT32_MAX, 0), 0);
    base::SchedYield();
  }
  WakeOne(&word, 6);
  second.join();
  EXPECT_EQ(results[0], 0);
  EXPECT_EQ(results[1], 0);
}

TEST(Futex, SaysWhichOfSeveralWordsWasWoken) {
  if (!HaveWaitv()) GTEST_SKIP() << "no futex_waitv here";
  std::vector<uint32_t> words(CMWQ_FUTEX_WAITV_MAX);
  std::vector<cmwq_futex_waiter> waiters;
  for (uint32_t& word : words) waiters.push_back({&word, 0, 0});
  for (const unsigned at : {0u, 77u, CMWQ_FUTEX_WAITV_MAX - 1u}) {
    int result = -2;
    std::thread waiter([&] {
      result = cmwq_futex_waitv(waiters.data(), CMWQ_FUTEX_WAITV_MAX, CMWQ_NO_TIMEOUT, 0);
    });
    WakeOne(&words[at], CMWQ_FUTEX_ANY);
    waiter.join();
    EXPECT_EQ(result, static_cast<int>(at));
  }
}

// Time-outs race with wakes: what wakes have counted is what waits have reported, to the last one.
TEST(Futex, ATimeOutEatsNoWake) {
  constexpr int kWaiters = 4, kWaits = 3000;
  uint32_t words[2] = {};
  const bool several = HaveWaitv();
  std::atomic<int> left{kWaiters};
  std::atomic<long> woken{0}, timed_out{0}, other{0};
  const auto wait = [&](int waiter) {
    for (int i = 0; i < kWaits; ++i) {
      const uint64_t ns = static_cast<uint64_t>((i * 7 + waiter * 13) % 60) * 1000;
      const cmwq_futex_waiter both[2] = {{&words[0], 0, 0}, {&words[1], 0, 0}};
      const int result = several && i % 2 == 0 ? cmwq_futex_waitv(both, 2, ns, 0)
                                               : cmwq_futex_wait(&words[0], 0, ns);
      (result >= 0 ? woken : errno == CMWQ_FUTEX_TIMEOUT ? timed_out : other).fetch_add(1);
    }
    left.fetch_sub(1);
  };
  Workqueue queue("futex_test");
  std::vector<Submitted> items;
  for (int i = 0; i < kWaiters / 2; ++i) items.push_back(queue.submit([&, i] { wait(i); }));
  std::vector<std::thread> threads;
  for (int i = kWaiters / 2; i < kWaiters; ++i) threads.emplace_back([&, i] { wait(i); });
  long wakes = 0;
  while (left.load() > 0) {
    wakes += cmwq_futex_wake(&words[0], 1);
    base::SchedYield();
  }
  for (auto& item : items) item.wait();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(woken.load(), wakes);
  EXPECT_EQ(woken + timed_out, kWaiters * kWaits);
  EXPECT_EQ(other.load(), 0);
}

std::atomic<int> g_handled{0};

void Install(int flags) {
  struct sigaction action = {};
  action.sa_handler = [](int) { g_handled.fetch_add(1); };
  action.sa_flags = flags;
  sigaction(SIGUSR1, &action, nullptr);
}

void Unblock() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

// A thread that waits on `word`, inside a worker or not, and what the wait returned.
struct Waiter {
  Waiter(int (*how)(uint32_t*), bool in_worker) : wait(how) {
    const auto body = [this] {
      Unblock();
      self = pthread_self();
      ready.store(true, std::memory_order_release);
      result = wait(&word);
      error = errno;
      running = CountedRunning();
      done.store(true, std::memory_order_release);
    };
    thread = std::thread([=] { in_worker ? OnWorker(body) : body(); });
    Eventually([this] { return ready.load(std::memory_order_acquire); });
  }
  ~Waiter() { thread.join(); }
  bool Done() const { return done.load(std::memory_order_acquire); }
  // Workers that count on the test's CPU.
  static int CountedRunning() {
    int n = 0;
    core::Runtime::Get().pools()->ForEachPool(
        [&n](pool::WorkerPool& pool) { n += pool.Stats().nr_running; });
    return n;
  }

  int (*const wait)(uint32_t*);
  uint32_t word = 0;
  pthread_t self{};
  std::atomic<bool> ready{false}, done{false};
  int result = -2, error = 0, running = -1;
  std::thread thread;
};

// The word never changes and nobody wakes: only the signal ends the wait. The worker counts again.
TEST(Futex, ASignalIsTold) {
  if (kTsan) GTEST_SKIP() << "the sanitizer delays handlers to calls that it knows";
  Install(0);
  for (const bool in_worker : {false, true}) {
    for (const Way& way : kWays) {
      SCOPED_TRACE(way.name);
      Waiter waiter(way.wait, in_worker);
      Eventually([&] {
        if (!waiter.Done()) pthread_kill(waiter.self, SIGUSR1);
        return waiter.Done();
      });
      EXPECT_EQ(waiter.result, -1);
      EXPECT_EQ(waiter.error, CMWQ_FUTEX_INTERRUPTED);
      if (in_worker) {
        EXPECT_EQ(waiter.running, 1);
      }
    }
  }
  signal(SIGUSR1, SIG_IGN);
}

TEST(Futex, WithoutATimeAWaitGoesOnAfterARestartingHandler) {
  if (kTsan) GTEST_SKIP() << "the sanitizer delays handlers to calls that it knows";
  Install(SA_RESTART);
  for (const Way& way : kWays) {
    if (!way.restarts) continue;
    SCOPED_TRACE(way.name);
    const int handled = g_handled.load();
    Waiter waiter(way.wait, false);
    for (int i = 1; i <= 20; ++i) {
      pthread_kill(waiter.self, SIGUSR1);
      Eventually([&] { return g_handled.load() >= handled + i; });
    }
    Store(waiter.word, 1);
    cmwq_futex_wake(&waiter.word, 1);
    Eventually([&] { return waiter.Done(); });
    // Changed: the wake came while the handler ran, or before the wait.
    EXPECT_TRUE(waiter.result == 0 || waiter.error == CMWQ_FUTEX_CHANGED) << waiter.error;
  }
  signal(SIGUSR1, SIG_IGN);
}

uint32_t g_word;

// A handler may wake, and may wait.
TEST(Futex, MayBeCalledInAHandler) {
  if (kTsan) GTEST_SKIP() << "the sanitizer delays handlers to calls that it knows";
  g_word = 0;
  struct sigaction action = {};
  action.sa_handler = [](int) {
    const int saved = errno;
    Store(g_word, 1);
    cmwq_futex_wake(&g_word, INT32_MAX);
    uint32_t own = 0;
    cmwq_futex_wait(&own, 0, 1000);
    errno = saved;
  };
  sigaction(SIGUSR1, &action, nullptr);
  OnWorker([] {
    std::thread waiter([] {
      while (Load(g_word) == 0) cmwq_futex_wait(&g_word, 0, CMWQ_NO_TIMEOUT);
    });
    Unblock();
    const uint64_t before = Announced();
    cmwq_block_begin();
    raise(SIGUSR1);  // inside a region: its wait nests
    cmwq_block_end();
    EXPECT_EQ(Announced(), before + 1);
    raise(SIGUSR1);
    EXPECT_EQ(Announced(), before + 2);
    EXPECT_EQ(Waiter::CountedRunning(), 1);
    waiter.join();
  });
  signal(SIGUSR1, SIG_IGN);
}

// Deferred cancellation ends a thread at the next cancellation point; a wait is none.
TEST(Futex, IsNoCancellationPoint) {
  for (const Way& way : kWays) {
    SCOPED_TRACE(way.name);
    struct Args {
      int (*wait)(uint32_t*);
      uint32_t word = 0;
      std::atomic<bool> returned{false}, survived{false};
    } args = {way.wait};
    pthread_t thread;
    ASSERT_EQ(pthread_create(
                  &thread, nullptr,
                  [](void* arg) -> void* {
                    auto* const a = static_cast<Args*>(arg);
                    while (Load(a->word) == 0) a->wait(&a->word);
                    a->returned = true;
                    pthread_testcancel();
                    a->survived = true;
                    return nullptr;
                  },
                  &args),
              0);
    ASSERT_EQ(pthread_cancel(thread), 0);
    WakeOne(&args.word, CMWQ_FUTEX_ANY);  // it waits although it is cancelled
    Store(args.word, 1);
    cmwq_futex_wake(&args.word, 1);
    void* result = nullptr;
    ASSERT_EQ(pthread_join(thread, &result), 0);
    EXPECT_TRUE(args.returned);
    EXPECT_FALSE(args.survived);
    EXPECT_EQ(result, PTHREAD_CANCELED);
  }
}

// A child of fork may use everything, also when the parent has workers; shared words work across.
TEST(Futex, SharedWordsReachTheChildOfFork) {
  if (kTsan) GTEST_SKIP() << "ThreadSanitizer cannot follow the fork of a threaded process";
  OnWorker([] {});  // the engine is there
  auto* const words = static_cast<uint32_t*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
                                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(words, MAP_FAILED);
  const auto wait = [](uint32_t* word) {
    while (Load(*word) == 0) {
      cmwq_futex_wait_bitset(word, 0, CMWQ_FUTEX_ANY, CMWQ_NO_TIMEOUT, CMWQ_FUTEX_SHARED);
    }
  };
  const auto set = [](uint32_t* word) {
    Store(*word, 1);
    cmwq_futex_wake_bitset(word, CMWQ_FUTEX_ANY, INT32_MAX, CMWQ_FUTEX_SHARED);
  };
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    wait(&words[0]);
    set(&words[1]);
    _exit(0);
  }
  set(&words[0]);
  OnWorker([&] { wait(&words[1]); });
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  munmap(words, 4096);
}

// Filters refuse the call with either errno; one word is waited for all the same.
TEST(Futex, SaysWhereSeveralWordsAreRefused) {
  if (kTsan) GTEST_SKIP() << "ThreadSanitizer cannot follow the fork of a threaded process";
  for (const int err : {ENOSYS, EPERM}) {
    EXPECT_EQ(InChild([err] {
      struct sock_filter code[] = {
          BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 449, 0, 1),  // futex_waitv
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(err)),
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      };
      struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
      CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
      CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
      uint32_t words[2] = {};
      const cmwq_futex_waiter waiters[2] = {{&words[0], 0, 0}, {&words[1], 0, 0}};
      for (int i = 0; i < 2; ++i) {
        CHILD_CHECK(cmwq_futex_waitv(waiters, 2, CMWQ_NO_TIMEOUT, 0) == -1 && errno == ENOSYS);
      }
      CHILD_CHECK(cmwq_futex_waitv(waiters, 1, 1000, 0) == -1 && errno == CMWQ_FUTEX_TIMEOUT);
    }),
              0);
  }
}

TEST(FutexCxx, StatusOfEachEnd) {
  using futex::Status;
  std::atomic<uint32_t> word{5};
  EXPECT_EQ(futex::wait(word, 4), Status::kChanged);
  EXPECT_EQ(futex::wait_for(word, 5, std::chrono::microseconds(-1)), Status::kTimeout);
  EXPECT_EQ(futex::wait_for(word, 5, std::chrono::duration<double, std::micro>(1.5)),
            Status::kTimeout);
  EXPECT_EQ(futex::wait_until(word, 5, std::chrono::steady_clock::now()), Status::kTimeout);
  EXPECT_EQ(futex::wait_until(word, 5, std::chrono::system_clock::now()), Status::kTimeout);
  EXPECT_EQ(futex::wait_until(word, 5, std::chrono::system_clock::time_point()), Status::kTimeout);
  Status status = Status::kTimeout;
  std::thread waiter([&] { status = futex::wait(word, 5, 2); });
  EXPECT_EQ(futex::wake_all(word, 1), 0);
  Eventually([&] { return futex::wake_one(word, 3) == 1; });
  waiter.join();
  EXPECT_EQ(status, Status::kWoken);
}

}  // namespace
}  // namespace cmwq::test
