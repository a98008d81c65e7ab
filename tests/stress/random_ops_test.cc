// Random operations from many threads, then an account: every queueing that was accepted was executed
// or cancelled, no item ever ran twice at once, the pools are whole, no thread is left over.

#include <gtest/gtest.h>

#include <deque>
#include <thread>
#include <vector>

#include "tests/stress/stress.h"

namespace cmwq::stress {
namespace {

constexpr int kThreads = 8;
constexpr int kItems = 48;

struct Subject {
  struct cmwq_delayed_work d;  // first: Run finds the rest from it
  struct cmwq_workqueue* wq;
  // Items that mod_delayed is used on are never disabled and queued by one thread only: then each call
  // queues once and takes back at most one queueing, and can be counted.
  bool modified;
  std::atomic<int> running{0};
  std::atomic<uint64_t> queued{0}, executed{0}, cancelled{0};
  std::atomic<uint64_t> overlaps{0};
  std::atomic<uint32_t> salt{1};
};

constinit std::atomic<bool> g_stop{false};
constinit unsigned g_silent_percent = 0;
constinit unsigned g_announced_percent = 0;

void Run(struct cmwq_work* work) {
  Subject* const s = reinterpret_cast<Subject*>(work);
  if (s->running.fetch_add(1) != 0) s->overlaps.fetch_add(1);
  const uint32_t dice = (s->salt.fetch_add(2654435761u) >> 8) % 100;
  if (dice < g_announced_percent) {
    cmwq_block_begin();
    SleepUs(50 + dice * 10);
    cmwq_block_end();
  } else if (dice < g_announced_percent + g_silent_percent) {
    SleepUs(100);
  } else if (dice > 90 && !s->modified && !g_stop.load()) {
    if (cmwq_queue_work(s->wq, work)) s->queued.fetch_add(1);
  }
  s->running.fetch_sub(1);
  s->executed.fetch_add(1);
}

class Playground {
 public:
  Playground() {
    const unsigned flags[] = {0, 0, CMWQ_UNBOUND, CMWQ_MEM_RECLAIM, CMWQ_HIGHPRI,
                              CMWQ_CPU_INTENSIVE, CMWQ_FREEZABLE};
    const int limits[] = {0, 1, 4, 2, 3, 0, 2};
    for (size_t i = 0; i < std::size(flags); ++i) {
      queues_.push_back(cmwq_alloc_workqueue("stress", flags[i], limits[i]));
    }
    queues_.push_back(cmwq_alloc_ordered_workqueue("stress-o", 0));
    for (int i = 0; i < kItems; ++i) {
      Subject& s = items_.emplace_back();
      cmwq_delayed_work_init(&s.d, &Run);
      s.wq = queues_[static_cast<size_t>(i) % queues_.size()];
      s.modified = i % 2 != 0;
      s.salt = static_cast<uint32_t>(i) * 7919;
    }
  }

  void Step(unsigned thread, Random& random) {
    const unsigned index = random.Below(kItems);
    Subject& s = items_[index];
    if (s.modified && index / 2 % kThreads != thread) {
      if (random.Below(2) != 0) Count(s.cancelled, cmwq_cancel_delayed_work(&s.d));
      cmwq_flush_work(&s.d.work);
      return;
    }
    switch (random.Below(s.modified ? 9 : 13)) {
      case 0: case 1: case 2: Count(s.queued, cmwq_queue_work(s.wq, &s.d.work)); break;
      case 3: Count(s.queued, cmwq_queue_work_on(Cpu(random), s.wq, &s.d.work)); break;
      case 4: Count(s.queued, cmwq_queue_delayed_work(s.wq, &s.d, random.Below(3) * 300'000)); break;
      case 5: Count(s.cancelled, cmwq_cancel_delayed_work(&s.d)); break;
      case 6: cmwq_flush_work(&s.d.work); break;
      case 7: Wide(random); break;
      case 8: if (s.modified) Modify(s, random); else cmwq_flush_delayed_work(&s.d); break;
      case 9: Count(s.cancelled, cmwq_cancel_work_sync(&s.d.work)); break;
      case 10:
        Count(s.cancelled, random.Below(2) != 0 ? cmwq_disable_work_sync(&s.d.work)
                                                : cmwq_disable_work(&s.d.work));
        cmwq_enable_work(&s.d.work);
        break;
      case 11: Count(s.cancelled, cmwq_cancel_delayed_work_sync(&s.d)); break;
      default: cmwq_work_busy(&s.d.work); break;
    }
  }

  void Settle() {
    cmwq_thaw_workqueues();
    for (Subject& s : items_) Count(s.cancelled, cmwq_cancel_delayed_work_sync(&s.d));
    for (struct cmwq_workqueue* wq : queues_) cmwq_drain_workqueue(wq);
    int index = 0;
    for (Subject& s : items_) {
      EXPECT_EQ(s.queued, s.executed + s.cancelled) << "item " << index;
      ++index;
      EXPECT_EQ(s.overlaps, 0u);
      EXPECT_EQ(cmwq_work_busy(&s.d.work), 0u);
    }
    for (struct cmwq_workqueue* wq : queues_) cmwq_destroy_workqueue(wq);
    int workers = 0;
    ForEachPool([&workers](pool::WorkerPool& pool) {
      pool.CheckInvariants();
      EXPECT_EQ(pool.Resync(), 0);
      workers += pool.Stats().nr_workers;
    });
    // Main, event thread, a sanitizer's own, a canary per CPU at most.
    EXPECT_LE(ThreadCount(), workers + 3 + core::Runtime::Get().pools()->cpus.Count());
  }

  uint64_t Executed() const {
    uint64_t n = 0;
    for (const Subject& s : items_) n += s.executed;
    return n;
  }

 private:
  static void Count(std::atomic<uint64_t>& counter, bool yes) { counter.fetch_add(yes ? 1 : 0); }
  static int Cpu(Random& random) {
    return static_cast<int>(random.Below(core::Runtime::Get().pools()->nr_cpu_ids));
  }
  static void Modify(Subject& s, Random& random) {
    // The count first: the item may be cancelled before the call returns.
    s.queued.fetch_add(1);
    Count(s.cancelled, cmwq_mod_delayed_work(s.wq, &s.d, random.Below(3) * 300'000));
  }
  void Wide(Random& random) {
    struct cmwq_workqueue* const wq = queues_[random.Below(queues_.size())];
    switch (random.Below(12)) {
      case 0: cmwq_workqueue_set_max_active(wq, 1 + static_cast<int>(random.Below(6))); break;
      case 1:
        cmwq_freeze_workqueues_begin();
        cmwq_freeze_workqueues_busy();
        cmwq_thaw_workqueues();
        break;
      case 2: case 3: cmwq_flush_workqueue(wq); break;
      default: ForEachPool([](pool::WorkerPool& pool) { pool.CheckInvariants(); }); break;
    }
  }

  std::vector<struct cmwq_workqueue*> queues_;
  std::deque<Subject> items_;
};

void Play(unsigned announced, unsigned silent) {
  Guard(60);
  g_stop = false;
  g_announced_percent = announced;
  g_silent_percent = silent;
  Playground* const ground = new Playground;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([ground, t] {
      Random random(static_cast<uint64_t>(t));
      while (!g_stop.load(std::memory_order_relaxed)) ground->Step(static_cast<unsigned>(t), random);
    });
  }
  for (uint64_t i = 0; i < Seconds() * 10; ++i) SleepUs(100'000);
  g_stop = true;
  for (std::thread& t : threads) t.join();
  ground->Settle();
  EXPECT_GT(ground->Executed(), 0u);
  delete ground;
  alarm(0);
}

TEST(RandomOps, QuickItems) { Play(0, 0); }
TEST(RandomOps, AnnouncedBlocks) { Play(60, 0); }
TEST(RandomOps, SilentBlocks) { Play(10, 40); }

}  // namespace
}  // namespace cmwq::stress
