// Playground: queues of every kind and items of every kind, for random operations by many threads.
//
// Classes of items, by what may be done to them and what can be proved then:
//   kGeneral   everything but mod; queued = executed + cancelled
//   kModified  mod_delayed by one thread, cancelled by all: each call queues once and takes back at most
//              one queueing, so they can be counted
//   kPure      queued and flushed only: whoever wrote before queueing is seen by an execution
//   kOrdered   of an ordered queue, queued by one thread: executed in the order of its queueings

#ifndef CMWQ_TESTS_STRESS_PLAYGROUND_H_
#define CMWQ_TESTS_STRESS_PLAYGROUND_H_

#include <cmwq/attrs.h>
#include <cmwq/cmwq.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <vector>

#include "tests/stress/stress.h"

namespace cmwq::stress {

struct Behaviour {
  unsigned announced_percent;
  unsigned silent_percent;
};

class Playground {
 public:
  static constexpr unsigned kThreads = 8;

  explicit Playground(const Behaviour& behaviour);
  // One operation of thread `thread`; which one depends on `random` alone.
  void Step(unsigned thread, Random& random);
  void Stop() { stopping_ = true; }
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }
  // After all threads have stopped: lets everything end, then checks the account.
  void Settle();

 private:
  enum class Class { kGeneral, kModified, kPure, kOrdered };
  static constexpr unsigned kItemsPerClass[] = {32, 16, 24, 32};
  static constexpr unsigned kOrderedPerThread = 32 / kThreads;

  struct Queue {
    struct cmwq_workqueue* wq;
    unsigned flags;
    bool ordered;
    int most;      // no limit that it ever has is larger
    bool resized;  // set_max_active is called on it, up to `most`
    bool drained;  // so that queueing may be refused
    std::atomic<int> running[platform::CpuSet::kMaxCpus + 1] = {};  // by CPU; [0] for unbound ones
  };
  struct Subject {
    struct cmwq_delayed_work d;  // first: Run finds the rest from it
    Playground* ground;
    Queue* queue;
    Class cls;
    unsigned owner;    // kOrdered: the thread that queues it
    bool delayable;
    bool may_vanish;   // its timer may expire while its queue drains: refused, and nobody is told
    Subject* partner;  // what its function may queue
    std::atomic<int> running{0};
    std::atomic<uint64_t> queued{0}, executed{0}, cancelled{0};
    std::atomic<uint32_t> salt{1};
    std::atomic<uint64_t> sequence{0};  // kOrdered
    std::atomic<uint64_t> written[kThreads] = {}, seen[kThreads] = {};  // kPure
  };
  // Lives for one execution and frees itself in it.
  struct Spark {
    struct cmwq_work work;  // first
    Queue* queue;
    Playground* ground;
    std::atomic<int>* ran;
  };

  static void RunSubject(struct cmwq_work* work);
  static void RunSpark(struct cmwq_work* work);
  void Execute(Subject* s);
  void Blunder(Subject* s, uint32_t dice);
  std::atomic<int>* Enter(Queue* queue);

  static int Shares(struct cmwq_workqueue* handle);
  void AddQueue(unsigned flags, int limit, bool resized, bool drained);
  void AddItems();
  Queue* PickQueue(Class cls, unsigned i);
  Subject& Item(Class cls, unsigned i) { return items_[static_cast<size_t>(cls)][i]; }

  void General(Subject& s, unsigned op, unsigned arg);
  void Modified(Subject& s, unsigned thread, unsigned op, unsigned arg);
  void Pure(Subject& s, unsigned thread, unsigned op, unsigned arg);
  void Ordered(Subject& s, unsigned thread, unsigned op);
  void Wide(Queue& queue, unsigned op, unsigned arg);
  void Sparks(Queue& queue, unsigned n, bool flush);
  void Attributes(Queue& queue, unsigned arg);
  void Transient(unsigned op, unsigned arg);
  void CheckItem(const Subject& s, int index);
  void CheckThreads();

  static void Count(std::atomic<uint64_t>& counter, bool yes) { counter.fetch_add(yes ? 1 : 0); }
  static int Cpu(unsigned arg) {
    return static_cast<int>(arg % static_cast<unsigned>(core::Runtime::Get().pools()->nr_cpu_ids));
  }

  const Behaviour behaviour_;
  std::atomic<bool> stopping_{false};
  std::deque<Queue> queues_;
  std::deque<Subject> items_[4];
  uint64_t ordered_sequence_[kThreads] = {};                  // each of its thread
  std::atomic<uint64_t> ordered_seen_[kThreads] = {};
  std::atomic<uint64_t> overlaps_{0}, disorders_{0}, excesses_{0}, unseen_{0}, lost_sparks_{0};
  std::atomic<uint64_t> sparks_{0}, sparks_run_{0}, transient_{0};
};

}  // namespace cmwq::stress

#endif  // CMWQ_TESTS_STRESS_PLAYGROUND_H_
