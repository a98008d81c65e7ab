#include "bench/detection_run.h"

#include <cmwq/cmwq.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <random>

#include "bench/harness.h"
#include "runtime/core/runtime.h"

namespace cmwq::bench {
namespace {

void SpinNs(uint64_t ns) {
  const uint64_t end = NowNs() + ns;
  while (NowNs() < end) {
  }
}

class CmwqSupplier final : public Supplier {
 public:
  explicit CmwqSupplier(int cpu) : cpu_(cpu), queue_(cmwq_alloc_workqueue("detection", 0, 0)) {
    cmwq_work_init(&first_.work, [](struct cmwq_work* w) { Of(w)->Blocker(); });
    cmwq_work_init(&second_.work, [](struct cmwq_work* w) { Of(w)->Next(); });
  }
  ~CmwqSupplier() override { cmwq_destroy_workqueue(queue_); }

  void Start(Exchange* exchange) override {
    first_.exchange = second_.exchange = exchange;
    cmwq_queue_work_on(cpu_, queue_, &first_.work);
    cmwq_queue_work_on(cpu_, queue_, &second_.work);
    exchange->Go();
  }
  void Finish() override {
    cmwq_flush_work(&first_.work);
    cmwq_flush_work(&second_.work);
  }
  uint64_t Presumed() const override {
    uint64_t sum = 0;
    core::Runtime::Get().pools()->ForEachPool(
        [&sum](pool::WorkerPool& pool) { sum += pool.Stats().presumed; });
    return sum;
  }

 private:
  struct Item {
    struct cmwq_work work;  // first: Of
    Exchange* exchange;
  };
  static Exchange* Of(struct cmwq_work* work) { return reinterpret_cast<Item*>(work)->exchange; }

  const int cpu_;
  struct cmwq_workqueue* const queue_;
  Item first_ = {}, second_ = {};
};

// A thread that makes one call each time it is asked to.
class Caller {
 public:
  Caller(int cpu, std::function<void()> call)
      : call_(std::move(call)), thread_(cpu, [this] {
          tid_ = static_cast<int>(syscall(SYS_gettid));
          for (;;) {
            FutexWaitWhile(&order_, 0);
            if (__atomic_exchange_n(&order_, 0, __ATOMIC_ACQUIRE) < 0) return;
            call_();
          }
        }) {}
  ~Caller() { Ask(-1); }
  void Ask(int order = 1) {
    __atomic_store_n(&order_, order, __ATOMIC_RELEASE);
    FutexWakeAll(&order_);
  }
  int tid() const { return tid_; }

 private:
  int order_ = 0;  // futex
  int tid_ = 0;    // valid once it was called
  const std::function<void()> call_;
  Thread thread_;  // last: uses the others
};

class BareSupplier final : public Supplier {
 public:
  explicit BareSupplier(int cpu)
      : second_(cpu, [this] { exchange_->Next(); }),
        first_(cpu, [this] { exchange_->Blocker(&wake_second_); }) {}
  void Start(Exchange* exchange) override {
    exchange_ = exchange;
    exchange->Go();
    first_.Ask();
  }

 private:
  Exchange* exchange_ = nullptr;
  const std::function<void()> wake_second_ = [this] { second_.Ask(); };
  Caller second_, first_;
};

// What of libdispatch's monitor matters here. It looks at the workers of a class only while
// something is queued there; a worker counts as running when its state is R; one thread is added
// per look.
class PollSupplier final : public Supplier {
 public:
  explicit PollSupplier(int cpu)
      : second_(cpu, [this] { exchange_->Next(); }),
        first_(cpu, [this] { exchange_->Blocker(); }),
        monitor_(-1, [this] { Monitor(); }) {}
  ~PollSupplier() override { __atomic_store_n(&end_, 1, __ATOMIC_RELEASE); }

  void Start(Exchange* exchange) override {
    SleepNs(random_() % kPeriodNs);  // any moment between two looks is as good as any other
    exchange_ = exchange;
    exchange->Go();
    first_.Ask();
    __atomic_store_n(&pending_, 1, __ATOMIC_RELEASE);
  }

 private:
  static constexpr uint64_t kPeriodNs = 1'000'000'000;

  bool Running() const {
    const std::string path = "/proc/self/task/" + std::to_string(first_.tid()) + "/stat";
    FILE* const file = fopen(path.c_str(), "re");
    char letter = 'R';
    if (file != nullptr && fscanf(file, "%*d (%*[^)]) %c", &letter) != 1) letter = 'R';
    if (file != nullptr) fclose(file);
    return letter == 'R';
  }
  void Monitor() {
    uint64_t next = NowNs();
    while (__atomic_load_n(&end_, __ATOMIC_ACQUIRE) == 0) {
      next += kPeriodNs;
      if (next > NowNs()) SleepNs(next - NowNs());
      if (__atomic_load_n(&pending_, __ATOMIC_ACQUIRE) == 0 || Running()) continue;
      __atomic_store_n(&pending_, 0, __ATOMIC_RELEASE);
      second_.Ask();
    }
  }

  Exchange* exchange_ = nullptr;
  std::mt19937 random_{static_cast<uint32_t>(getpid())};
  int pending_ = 0, end_ = 0;
  Caller second_, first_;
  Thread monitor_;
};

}  // namespace

std::unique_ptr<Supplier> MakeCmwq(int cpu) { return std::make_unique<CmwqSupplier>(cpu); }
std::unique_ptr<Supplier> MakeBare(int cpu) { return std::make_unique<BareSupplier>(cpu); }
std::unique_ptr<Supplier> MakePoll(int cpu) { return std::make_unique<PollSupplier>(cpu); }

long OwnSwitches() {
  struct rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nvcsw;
}

bool Exchange::WaitFor(const int* word, uint64_t ns) {
  const uint64_t end = NowNs() + ns;
  while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == 0) {
    const uint64_t now = NowNs();
    if (now >= end) return false;
    const struct timespec left = {static_cast<time_t>((end - now) / 1'000'000'000),
                                  static_cast<long>((end - now) % 1'000'000'000)};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, &left);
  }
  return true;
}

void Exchange::Set(int* word) {
  __atomic_store_n(word, 1, __ATOMIC_RELEASE);
  FutexWakeAll(word);
}

void Exchange::Blocker(const std::function<void()>* hand_over) {
  while (__atomic_load_n(&go_, __ATOMIC_ACQUIRE) == 0) {
  }
  SpinNs(busy_ns_);
  const long before = OwnSwitches();
  if (hand_over != nullptr) {
    uint64_t later;
    left_ = NowNs();
    (*hand_over)();
    block_->Enter(&later);
  } else {
    block_->Enter(&left_);
  }
  returned_ = NowNs();
  switches_ = OwnSwitches() - before;
  Set(&blocker_done_);
}

void Exchange::Next() {
  entered_ = NowNs();
  block_->Release();
  Set(&next_done_);
}

bool Exchange::Run(Supplier* supplier, uint64_t patience_ns, Sample* sample) {
  constexpr uint64_t kNudgeNs = 50'000'000;
  go_ = blocker_done_ = next_done_ = 0;
  left_ = returned_ = entered_ = 0;
  if (!block_->Prepare()) return false;
  const uint64_t presumed = supplier->Presumed();
  *sample = {};
  supplier->Start(this);
  // B came too early, or not at all: then its Release ended nothing.
  sample->missed = !WaitFor(&next_done_, patience_ns);
  while (!WaitFor(&blocker_done_, kNudgeNs)) block_->Release();
  if (!WaitFor(&next_done_, patience_ns)) return false;
  supplier->Finish();
  block_->Clear();
  const uint64_t left = block_->Left(left_);
  sample->us = static_cast<double>(static_cast<int64_t>(entered_ - left)) / kNsPerUs;
  sample->early = entered_ < left;
  sample->short_ = returned_ < entered_ && !sample->missed;
  sample->presumed = static_cast<long>(supplier->Presumed() - presumed);
  sample->switches = switches_;
  return true;
}

}  // namespace cmwq::bench
