// Many pending items: what one more costs as their number grows, and how much memory each takes.
//
// Timers: up to a million delayed items; cancelling all, and all expiring at once. Queue: up to as many
// items behind one that waits, taken off again, and executed.

#include <cmwq/cmwq.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "bench/harness.h"

namespace cmwq::bench {
namespace {

constexpr size_t kSteps[] = {1'000, 10'000, 100'000, 1'000'000};
constexpr size_t kNrSteps = std::size(kSteps);
constexpr uint64_t kFarNs = 3'600'000'000'000;  // deadlines that never come

long g_timers = 1'000'000;
long g_items = 100'000;

// Resident memory of this process, bytes.
double Resident() {
  long pages = 0, resident = 0;
  FILE* const file = fopen("/proc/self/statm", "re");
  if (file == nullptr) return 0;
  if (fscanf(file, "%ld %ld", &pages, &resident) != 2) resident = 0;
  fclose(file);
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

// Of one run. Prices are ns per item; those of a step are of the items since the step before.
struct Result {
  double insert[kNrSteps];
  double bytes;     // resident memory per item beyond the items themselves
  double cancel;    // all of them
  double complete;  // all of them again: expired or unplugged, until the last was executed
  double arm_ms;    // longest time that arming one more took while all expired
};

double Since(uint64_t start, size_t n) {
  return static_cast<double>(NowNs() - start) / static_cast<double>(n);
}

// insert(i) for all i, timed step by step.
template <class Insert>
void TimeSteps(size_t n, Insert insert, double* prices) {
  size_t i = 0;
  for (size_t step = 0; step < kNrSteps; ++step) {
    const size_t end = std::min(n, kSteps[step]);
    const size_t begin = i;
    const uint64_t start = NowNs();
    for (; i < end; ++i) insert(i);
    prices[step] = end > begin ? Since(start, end - begin) : 0;
  }
}

int g_left;  // items that have not been executed; futex

void CountDown(struct cmwq_work*) {
  if (__atomic_sub_fetch(&g_left, 1, __ATOMIC_ACQ_REL) == 0) FutexWakeAll(&g_left);
}

void WaitForAll() {
  for (int seen; (seen = __atomic_load_n(&g_left, __ATOMIC_ACQUIRE)) != 0;) {
    FutexWaitWhile(&g_left, seen);
    // Woken by the last one only; others change the word.
  }
}

// random: deadlines in no order; else each later than the one before, as with one constant delay.
void Timers(bool random, Result* result) {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("many_pending", 0, 0);
  const auto n = static_cast<size_t>(g_timers);
  std::vector<struct cmwq_delayed_work> works(n);
  for (auto& work : works) cmwq_delayed_work_init(&work, &CountDown);
  std::vector<uint64_t> delays(n);
  std::mt19937_64 numbers(42);
  for (size_t i = 0; i < n; ++i) delays[i] = kFarNs + (random ? numbers() % kFarNs : i * 1000);
  // The event thread exists from here on.
  cmwq_queue_delayed_work(wq, &works[0], kFarNs);
  cmwq_cancel_delayed_work(&works[0]);

  const double before = Resident();
  TimeSteps(n, [&](size_t i) { cmwq_queue_delayed_work(wq, &works[i], delays[i]); },
            result->insert);
  result->bytes = (Resident() - before) / static_cast<double>(n);
  uint64_t start = NowNs();
  for (auto& work : works) cmwq_cancel_delayed_work(&work);
  result->cancel = Since(start, n);

  // All become due within a millisecond, after the last was armed.
  g_left = static_cast<int>(n);
  const uint64_t due = NowNs() + 2'000 * n + 100'000'000;
  for (size_t i = 0; i < n; ++i) {
    const uint64_t now = NowNs();
    cmwq_queue_delayed_work(wq, &works[i], due > now ? due - now + (random ? delays[i] % 1'000'000 : i) : 1);
  }
  const bool late = NowNs() > due;
  if (!late) SleepNs(due - NowNs());
  start = NowNs();
  uint64_t longest = 0;
  struct cmwq_delayed_work other;
  cmwq_delayed_work_init(&other, &CountDown);
  while (__atomic_load_n(&g_left, __ATOMIC_ACQUIRE) != 0) {
    const uint64_t before_arming = NowNs();
    cmwq_queue_delayed_work(wq, &other, kFarNs);
    longest = std::max(longest, NowNs() - before_arming);
    cmwq_cancel_delayed_work(&other);
    SleepNs(100'000);
  }
  result->arm_ms = static_cast<double>(longest) / kNsPerMs;
  // Some were executed while others were armed: no price.
  result->complete = late ? 0 : Since(start, n);
  cmwq_destroy_workqueue(wq);
}

struct Plug {
  struct cmwq_work work;  // first
  int released = 0;
};

void HoldSlot(struct cmwq_work* work) {
  cmwq_block_begin();
  FutexWaitWhile(&reinterpret_cast<Plug*>(work)->released, 0);
  cmwq_block_end();
}

// behind_slot: they wait for max_active; else on the worklist, behind a worker that computes.
void Items(bool behind_slot, Result* result) {
  const int here = AllowedCpus().front(), there = AllowedCpus().back();
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("many_pending", 0, behind_slot ? 1 : 0);
  const auto n = static_cast<size_t>(g_items);
  std::vector<struct cmwq_work> works(n);
  for (auto& work : works) cmwq_work_init(&work, &CountDown);
  PinSelf(here);
  Plug plug;
  cmwq_work_fn spin = [](struct cmwq_work* work) {
    while (__atomic_load_n(&reinterpret_cast<Plug*>(work)->released, __ATOMIC_ACQUIRE) == 0) {
    }
  };
  cmwq_work_init(&plug.work, behind_slot ? &HoldSlot : spin);
  cmwq_queue_work_on(there, wq, &plug.work);
  while (cmwq_work_busy(&plug.work) != CMWQ_WORK_RUNNING) SleepNs(100'000);

  const double before = Resident();
  TimeSteps(n, [&](size_t i) { cmwq_queue_work_on(there, wq, &works[i]); }, result->insert);
  result->bytes = (Resident() - before) / static_cast<double>(n);
  uint64_t start = NowNs();
  for (auto& work : works) cmwq_cancel_work(&work);
  result->cancel = Since(start, n);

  g_left = static_cast<int>(n);
  for (auto& work : works) cmwq_queue_work_on(there, wq, &work);
  start = NowNs();
  __atomic_store_n(&plug.released, 1, __ATOMIC_RELEASE);
  FutexWakeAll(&plug.released);
  WaitForAll();
  result->complete = Since(start, n);
  cmwq_destroy_workqueue(wq);
}

struct Variant {
  const char* name;
  std::function<void(Result*)> run;
  size_t n;
  std::array<Samples, kNrSteps> insert = {};
  Samples bytes = {}, cancel = {}, complete = {}, arm_ms = {};
};

bool Collect(Variant* v) {
  const auto got = InChild<Result>(v->run, 120);
  if (!got) return false;
  for (size_t i = 0; i < kNrSteps; ++i) v->insert[i].Add(got->insert[i]);
  v->bytes.Add(got->bytes);
  v->cancel.Add(got->cancel);
  if (got->complete > 0) v->complete.Add(got->complete);
  if (got->arm_ms > 0) v->arm_ms.Add(got->arm_ms);
  return true;
}

void AddRows(const Variant& v, Report* report) {
  auto row = [&](const std::string& what, const Samples& s, int decimals) {
    report->Row({v.name, what, Fixed(s.Median(), decimals), s.Spread(decimals)});
  };
  for (size_t i = 0; i < kNrSteps && (i == 0 || kSteps[i - 1] < v.n); ++i) {
    row("insert, up to " + std::to_string(std::min(v.n, kSteps[i])) + ", ns", v.insert[i], 0);
  }
  row("cancel all, ns per item", v.cancel, 0);
  row("execute all, ns per item", v.complete, 0);
  if (!v.arm_ms.empty()) row("longest arming meanwhile, ms", v.arm_ms, 2);
  row("memory beyond the item, bytes", v.bytes, 1);
}

int Main(int argc, char** argv) {
  DoNotWatchCpus();
  Options options("Many pending items; each round of each in a fresh process.", 5);
  options.Number("timers", &g_timers, "delayed items, at most 1000000");
  options.Number("items", &g_items, "items on one queue, at most 1000000");
  if (const int code = options.Parse(argc, argv); code >= 0) return code;
  g_timers = std::clamp(g_timers, 1L, 1'000'000L);
  g_items = std::clamp(g_items, 1L, 1'000'000L);

  const auto timers = static_cast<size_t>(g_timers), items = static_cast<size_t>(g_items);
  std::vector<Variant> variants = {
      {"timers, random", [](Result* r) { Timers(true, r); }, timers},
      {"timers, ascending", [](Result* r) { Timers(false, r); }, timers},
      {"items, worklist", [](Result* r) { Items(false, r); }, items},
      {"items, max_active 1", [](Result* r) { Items(true, r); }, items},
  };
  for (int round = 0; round < options.rounds(); ++round) {
    for (Variant& v : variants) {
      if (!Collect(&v)) return 3;
    }
  }
  Report report("many pending items", {"items", "figure", "median", "spread"});
  for (const Variant& v : variants) {
    AddRows(v, &report);
    report.Bar(std::string(v.name) + ", bytes beyond the item", v.bytes.Median(), 4);
  }
  return report.Finish(options);
}

}  // namespace
}  // namespace cmwq::bench

int main(int argc, char** argv) { return cmwq::bench::Main(argc, argv); }
