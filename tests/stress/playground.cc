#include "tests/stress/playground.h"

#include <algorithm>
#include <cerrno>

namespace cmwq::stress {

Playground::Playground(const Behaviour& behaviour) : behaviour_(behaviour) {
  constexpr bool kResized = true, kDrained = true;
  AddQueue(0, 0, false, false);
  AddQueue(0, 1, false, false);
  AddQueue(CMWQ_UNBOUND, 4, false, false);
  AddQueue(CMWQ_MEM_RECLAIM, 2, false, false);
  AddQueue(CMWQ_HIGHPRI, 3, kResized, false);
  AddQueue(CMWQ_FREEZABLE, 2, kResized, false);
  AddQueue(CMWQ_UNBOUND | CMWQ_MEM_RECLAIM | CMWQ_FREEZABLE, 3, false, false);
  // Queueing to these may be refused: general items only.
  AddQueue(CMWQ_CPU_INTENSIVE, 0, false, kDrained);
  AddQueue(0, 6, kResized, kDrained);
  AddQueue(CMWQ_UNBOUND | CMWQ_HIGHPRI, 1, kResized, kDrained);
  AddQueue(CMWQ_MEM_RECLAIM, 1, false, kDrained);
  Queue& ordered = queues_.emplace_back();
  ordered.wq = cmwq_alloc_ordered_workqueue("stress-o", 0);
  ordered.flags = CMWQ_UNBOUND;
  ordered.ordered = true;
  ordered.most = 1;
  AddItems();
}

// max_active of an unbound queue is divided among the nodes, but each has a floor, and so have pools that
// are in no node.
int Playground::Shares(struct cmwq_workqueue* handle) {
  const wq::Workqueue* const wq = reinterpret_cast<wq::Workqueue*>(handle);
  return wq->unbound() && wq->nr_nodes > 1 ? wq->nr_nodes + 1 : 1;
}

void Playground::AddQueue(unsigned flags, int limit, bool resized, bool drained) {
  Queue& queue = queues_.emplace_back();
  queue.wq = cmwq_alloc_workqueue("stress", flags, limit);
  EXPECT_NE(queue.wq, nullptr);
  queue.flags = flags;
  queue.ordered = false;
  queue.most = (resized ? 6 : limit == 0 ? CMWQ_DFL_ACTIVE : limit) * Shares(queue.wq);
  queue.resized = resized;
  queue.drained = drained;
}

Playground::Queue* Playground::PickQueue(Class cls, unsigned i) {
  if (cls == Class::kOrdered) return &queues_.back();
  for (size_t n = i;; ++n) {
    Queue* const queue = &queues_[n % queues_.size()];
    if (!queue->drained || cls == Class::kGeneral) return queue;
  }
}

void Playground::AddItems() {
  for (size_t c = 0; c < std::size(items_); ++c) {
    for (unsigned i = 0; i < kItemsPerClass[c]; ++i) {
      Subject& s = items_[c].emplace_back();
      cmwq_delayed_work_init(&s.d, &RunSubject);
      s.ground = this;
      s.cls = static_cast<Class>(c);
      s.queue = PickQueue(s.cls, i);
      s.owner = i % kThreads;
      s.may_vanish = s.queue->drained && i % 3 == 0;
      s.delayable = !s.queue->drained || s.may_vanish;
      s.salt = (i + 1) * 7919;
    }
  }
  std::deque<Subject>& general = items_[static_cast<size_t>(Class::kGeneral)];
  for (size_t i = 0; i < general.size(); ++i) general[i].partner = &general[(i * 5 + 3) % general.size()];
}

// ---- What items do ------------------------------------------------------------------------------

// Enters the count of items of `queue` that run here; returns it for leaving.
std::atomic<int>* Playground::Enter(Queue* queue) {
  const int cpu = pool::CurrentWorker()->pool->attrs().cpu;
  std::atomic<int>* const running = &queue->running[cpu + 1];
  if (running->fetch_add(1) >= queue->most) excesses_.fetch_add(1);
  return running;
}

void Playground::Blunder(Subject* s, uint32_t dice) {
  if (dice < behaviour_.announced_percent) {
    cmwq_block_begin();
    SleepUs(50 + dice * 10);
    cmwq_block_end();
  } else if (dice < behaviour_.announced_percent + behaviour_.silent_percent) {
    SleepUs(100);
  } else if (s->cls == Class::kGeneral && !stopping()) {
    if (dice > 92) {
      Count(s->queued, cmwq_queue_work(s->queue->wq, &s->d.work));
    } else if (dice > 84) {
      Count(s->partner->queued, cmwq_queue_work(s->partner->queue->wq, &s->partner->d.work));
    }
  }
}

void Playground::Execute(Subject* s) {
  if (s->running.fetch_add(1) != 0) overlaps_.fetch_add(1);
  std::atomic<int>* const here = Enter(s->queue);
  if (s->cls == Class::kPure) {
    for (unsigned t = 0; t < kThreads; ++t) {
      // Relaxed: queueing itself is what makes the value visible.
      s->seen[t].store(s->written[t].load(std::memory_order_relaxed), std::memory_order_relaxed);
    }
  } else if (s->cls == Class::kOrdered) {
    const uint64_t sequence = s->sequence.load(std::memory_order_relaxed);
    if (ordered_seen_[s->owner].exchange(sequence) >= sequence) disorders_.fetch_add(1);
  }
  Blunder(s, (s->salt.fetch_add(2654435761u) >> 8) % 100);
  here->fetch_sub(1);
  s->running.fetch_sub(1);
  s->executed.fetch_add(1);
}

void Playground::RunSubject(struct cmwq_work* work) {
  Subject* const s = reinterpret_cast<Subject*>(work);
  s->ground->Execute(s);
}

void Playground::RunSpark(struct cmwq_work* work) {
  Spark* const spark = reinterpret_cast<Spark*>(work);
  Playground* const ground = spark->ground;
  std::atomic<int>* const here = spark->queue != nullptr ? ground->Enter(spark->queue) : nullptr;
  std::atomic<int>* const ran = spark->ran;
  delete spark;
  if (here != nullptr) here->fetch_sub(1);
  ground->sparks_run_.fetch_add(1);
  ran->fetch_add(1);
}

// ---- Operations ---------------------------------------------------------------------------------

void Playground::General(Subject& s, unsigned op, unsigned arg) {
  struct cmwq_workqueue* const wq = s.queue->wq;
  switch (op % 14) {
    case 0: case 1: case 2: Count(s.queued, cmwq_queue_work(wq, &s.d.work)); break;
    case 3:
      Count(s.queued, arg % 4 != 0 ? cmwq_queue_work_on(Cpu(arg), wq, &s.d.work)
                                   : cmwq_queue_work_node(0, wq, &s.d.work));
      break;
    case 4: case 5:
      Count(s.queued, s.delayable ? cmwq_queue_delayed_work(wq, &s.d, arg % 3 * 300'000)
                                  : cmwq_queue_work(wq, &s.d.work));
      break;
    case 6: Count(s.cancelled, cmwq_cancel_delayed_work(&s.d)); break;
    case 7: Count(s.cancelled, cmwq_cancel_work_sync(&s.d.work)); break;
    case 8: Count(s.cancelled, cmwq_cancel_delayed_work_sync(&s.d)); break;
    case 9: cmwq_flush_work(&s.d.work); break;
    case 10: cmwq_flush_delayed_work(&s.d); break;
    case 11:
      Count(s.cancelled, cmwq_disable_work(&s.d.work));
      cmwq_enable_work(&s.d.work);
      break;
    case 12:
      Count(s.cancelled, cmwq_disable_work_sync(&s.d.work));
      cmwq_enable_work(&s.d.work);
      break;
    default: cmwq_work_busy(&s.d.work); break;
  }
}

void Playground::Modified(Subject& s, unsigned thread, unsigned op, unsigned arg) {
  if (s.owner == thread) {
    // The count first: the item may be cancelled before the call returns.
    s.queued.fetch_add(1);
    Count(s.cancelled, cmwq_mod_delayed_work(s.queue->wq, &s.d, arg % 3 * 300'000));
    return;
  }
  switch (op % 3) {
    case 0: Count(s.cancelled, cmwq_cancel_delayed_work(&s.d)); break;
    case 1: cmwq_flush_work(&s.d.work); break;
    default: cmwq_flush_delayed_work(&s.d); break;
  }
}

void Playground::Pure(Subject& s, unsigned thread, unsigned op, unsigned arg) {
  const uint64_t value = s.written[thread].load(std::memory_order_relaxed) + 1;
  s.written[thread].store(value, std::memory_order_relaxed);
  switch (op % 4) {
    case 0: Count(s.queued, cmwq_queue_delayed_work(s.queue->wq, &s.d, arg % 2 * 200'000)); break;
    case 1: Count(s.queued, cmwq_queue_work_on(Cpu(arg), s.queue->wq, &s.d.work)); break;
    default: Count(s.queued, cmwq_queue_work(s.queue->wq, &s.d.work)); break;
  }
  if (arg % 4 != 0) return;
  // Pending or queued: an execution that sees the value is over when the flush returns.
  cmwq_flush_delayed_work(&s.d);
  if (s.seen[thread].load(std::memory_order_relaxed) < value) unseen_.fetch_add(1);
}

void Playground::Ordered(Subject& s, unsigned thread, unsigned op) {
  if (s.owner != thread) {
    if (op % 2 == 0) Count(s.cancelled, cmwq_cancel_work_sync(&s.d.work));
    else cmwq_flush_work(&s.d.work);
    return;
  }
  // Only the owner queues: what is idle stays idle, and nobody reads the sequence.
  if (cmwq_work_busy(&s.d.work) != 0) return;
  s.sequence.store(++ordered_sequence_[thread], std::memory_order_relaxed);
  Count(s.queued, cmwq_queue_work(s.queue->wq, &s.d.work));
}

// Items that free themselves; a flush must have seen the end of all that were queued before it.
void Playground::Sparks(Queue& queue, unsigned n, bool flush) {
  std::atomic<int>* const ran = new std::atomic<int>(0);
  int queued = 0;
  for (unsigned i = 0; i < n; ++i) {
    Spark* const spark = new Spark{{}, &queue, this, ran};
    cmwq_work_init(&spark->work, &RunSpark);
    if (cmwq_queue_work(queue.wq, &spark->work)) {
      sparks_.fetch_add(1);
      ++queued;
    } else {
      delete spark;
    }
  }
  if (flush) {
    cmwq_flush_workqueue(queue.wq);
    if (ran->load() != queued) lost_sparks_.fetch_add(1);
  }
  while (ran->load() != queued) SleepUs(50);
  delete ran;
}

void Playground::Wide(Queue& queue, unsigned op, unsigned arg) {
  switch (op % 12) {
    case 0: case 1:
      if (queue.resized) {
        cmwq_workqueue_set_max_active(queue.wq, 1 + static_cast<int>(arg % 6));
      }
      break;
    case 2:
      cmwq_freeze_workqueues_begin();
      cmwq_freeze_workqueues_busy();
      if (arg % 4 == 0) SleepUs(200);
      cmwq_thaw_workqueues();
      break;
    case 3: case 4: cmwq_flush_workqueue(queue.wq); break;
    case 5:
      if (queue.drained) cmwq_drain_workqueue(queue.wq);
      break;
    case 6: case 7: case 8: Sparks(queue, 1 + arg % 8, op % 2 == 0); break;
    case 9: Transient(op, arg); break;
    case 10: Attributes(queue, arg); break;
    default: ForEachPool([](pool::WorkerPool& pool) { pool.CheckInvariants(); }); break;
  }
}

// Moves an unbound queue, ordered ones included, to other pools under load, or changes its floor.
void Playground::Attributes(Queue& queue, unsigned arg) {
  if ((queue.flags & CMWQ_UNBOUND) == 0) return;
  if (arg % 4 == 0 && !queue.ordered) {
    EXPECT_EQ(cmwq_workqueue_set_min_active(queue.wq, static_cast<int>(arg / 4 % 5)), 0);
    return;
  }
  const struct cmwq_workqueue_attrs attrs = {
      .nice = static_cast<int>(arg / 4 % 2),
      .affinity_scope = arg / 8 % 2 != 0 ? CMWQ_AFFN_CPU : CMWQ_AFFN_SYSTEM,
      .affinity_strict = arg / 16 % 2 != 0,
      .cpumask = nullptr,
      .cpumask_size = 0,
  };
  if (cmwq_apply_workqueue_attrs(queue.wq, &attrs) != 0) {
    EXPECT_EQ(errno, EAGAIN);
  }
}

// A queue that lives for a few items. Its creation may fail where threads cannot be made.
void Playground::Transient(unsigned op, unsigned arg) {
  const unsigned all = CMWQ_UNBOUND | CMWQ_FREEZABLE | CMWQ_MEM_RECLAIM | CMWQ_HIGHPRI |
                       CMWQ_CPU_INTENSIVE;
  Queue queue;
  queue.ordered = arg % 5 == 0;
  queue.most = queue.ordered ? 1 : 1 + static_cast<int>(arg % 7);
  queue.flags = op * 2654435761u >> 9 & all;
  queue.wq = queue.ordered ? cmwq_alloc_ordered_workqueue("brief", queue.flags)
                           : cmwq_alloc_workqueue("brief", queue.flags, queue.most);
  if (queue.wq == nullptr) {
    EXPECT_EQ(errno, EAGAIN);
    return;
  }
  queue.most *= queue.ordered ? 1 : Shares(queue.wq);
  transient_.fetch_add(1);
  std::atomic<int> ran{0};
  const int n = static_cast<int>(arg % 6);
  for (int i = 0; i < n; ++i) {
    Spark* const spark = new Spark{{}, &queue, this, &ran};
    cmwq_work_init(&spark->work, &RunSpark);
    sparks_.fetch_add(1);
    if (!cmwq_queue_work_on(Cpu(static_cast<unsigned>(i)), queue.wq, &spark->work)) {
      lost_sparks_.fetch_add(1);
    }
  }
  if (arg % 2 == 0) cmwq_flush_workqueue(queue.wq);
  cmwq_destroy_workqueue(queue.wq);  // drains
  if (ran.load() != n) lost_sparks_.fetch_add(1);
}

void Playground::Step(unsigned thread, Random& random) {
  // Drawn whatever happens, so that the streams depend on the seed alone.
  const unsigned what = random.Below(100), index = random.Below(1 << 16);
  const unsigned op = random.Below(1 << 16), arg = random.Below(1 << 16);
  const auto item = [this, index](Class cls) -> Subject& {
    return Item(cls, index % kItemsPerClass[static_cast<size_t>(cls)]);
  };
  if (what < 45) {
    General(item(Class::kGeneral), op, arg);
  } else if (what < 58) {
    Modified(item(Class::kModified), thread, op, arg);
  } else if (what < 73) {
    Pure(item(Class::kPure), thread, op, arg);
  } else if (what < 90) {
    // Mostly its own.
    const unsigned own = index % kOrderedPerThread * kThreads + thread;
    Ordered(arg % 4 != 0 ? Item(Class::kOrdered, own) : item(Class::kOrdered), thread, op);
  } else {
    Wide(queues_[index % queues_.size()], op, arg);
  }
}

// ---- The account --------------------------------------------------------------------------------

void Playground::CheckItem(const Subject& s, int index) {
  if (s.may_vanish) {
    EXPECT_GE(s.queued, s.executed + s.cancelled) << "item " << index;
  } else {
    EXPECT_EQ(s.queued, s.executed + s.cancelled)
        << "item " << index << " of class " << static_cast<int>(s.cls);
  }
  EXPECT_EQ(cmwq_work_busy(&s.d.work), 0u);
  if (s.cls != Class::kPure) return;
  for (unsigned t = 0; t < kThreads; ++t) EXPECT_EQ(s.seen[t], s.written[t]) << "item " << index;
}

void Playground::CheckThreads() {
  // Threads that were told to exit may still be on their way.
  int threads = 0, most = 0;
  for (int look = 0; look < 1000; ++look) {
    int workers = 0;
    ForEachPool([&workers](pool::WorkerPool& pool) { workers += pool.Stats().nr_workers; });
    threads = ThreadCount();
    // Main, event thread, watcher of CPUs, a sanitizer's own, a canary per CPU at most.
    most = workers + 4 + core::Runtime::Get().pools()->cpus().Count();
    if (threads <= most) return;
    SleepUs(5'000);
  }
  EXPECT_LE(threads, most);
}

void Playground::Settle() {
  cmwq_thaw_workqueues();
  for (std::deque<Subject>& items : items_) {
    for (Subject& s : items) {
      // Those that are proved to be executed must not be cancelled.
      if (s.cls == Class::kPure) cmwq_flush_delayed_work(&s.d);
      else Count(s.cancelled, cmwq_cancel_delayed_work_sync(&s.d));
    }
  }
  for (Queue& queue : queues_) cmwq_drain_workqueue(queue.wq);
  int index = 0;
  uint64_t executed = 0;
  for (const std::deque<Subject>& items : items_) {
    for (const Subject& s : items) {
      CheckItem(s, index++);
      executed += s.executed;
      EXPECT_GT(s.executed, 0u) << "item " << index - 1;
    }
  }
  EXPECT_EQ(sparks_, sparks_run_);
  EXPECT_EQ(overlaps_, 0u) << "times that an item ran twice at once";
  EXPECT_EQ(disorders_, 0u) << "items of the ordered queue out of order";
  EXPECT_EQ(excesses_, 0u) << "times that more ran than max_active allows";
  EXPECT_EQ(unseen_, 0u) << "flushes that returned before the value was seen";
  EXPECT_EQ(lost_sparks_, 0u) << "flushes or destructions that did not wait";
  for (Queue& queue : queues_) {
    EXPECT_EQ(wq::BrokenInvariant(reinterpret_cast<wq::Workqueue*>(queue.wq)), nullptr);
    cmwq_destroy_workqueue(queue.wq);
  }
  ForEachPool([](pool::WorkerPool& pool) {
    pool.CheckInvariants();
    EXPECT_EQ(pool.Resync(), 0);
  });
  CheckThreads();
  printf("  %llu executions, %llu of items that freed themselves, %llu brief queues\n",
         static_cast<unsigned long long>(executed + sparks_run_),
         static_cast<unsigned long long>(sparks_run_.load()),
         static_cast<unsigned long long>(transient_.load()));
}

}  // namespace cmwq::stress
