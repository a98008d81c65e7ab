// FlushState (wq/flush_state.h) under every schedule: each flush returns, and not before the items that
// were queued before its call have run; items queued later do not hold it up.
//
// The pwqs here are the model's: a lock, the open colour and the number of items in flight per colour,
// with the two rules that wq/workqueue.cc applies to them (Enter, Leave).

#include <gtest/gtest.h>

#include "runtime/sync/parker.h"
#include "runtime/wq/flush_state.h"
#include "tests/model/explore.h"
#include "tests/model/model_sync.h"

namespace cmwq::model {
namespace {

constexpr int kPwqs = 2;
constexpr int kMaxItems = 6;

enum class Defect {
  kNone,
  kNoBias,        // the flusher's own share is given back before the pwqs are asked
  kWakeFirst,     // waiters are woken before done_ moves
  kNoOrder,       // a colour completes although an older one has not
};

template <class Sync, int kColours, Defect kDefect>
class State : public wq::BasicFlushState<Sync, kColours> {
 public:
  using Base = wq::BasicFlushState<Sync, kColours>;

  void Completed(int colour) {
    if (kDefect == Defect::kWakeFirst) {
      if (this->nr_pwqs_[colour].fetch_sub(1) != 1) return;
      this->wake_.fetch_add(1);
      Sync::FutexWake(&this->wake_, INT32_MAX);
      uint64_t done = this->done_.load();
      while (done < this->current_.load() && this->nr_pwqs_[Base::ColourOf(done)].load() == 0) {
        if (this->done_.compare_exchange_strong(done, done + 1)) ++done;
      }
    } else if (kDefect == Defect::kNoOrder) {
      if (this->nr_pwqs_[colour].fetch_sub(1) != 1) return;
      this->done_.store(this->current_.load());
      this->wake_.fetch_add(1);
      Sync::FutexWake(&this->wake_, INT32_MAX);
    } else {
      Base::Done(colour);
    }
  }
};

template <class Sync, int kColours, Defect kDefect = Defect::kNone>
struct Queue {
  struct Pwq {
    ModelMutex lock;
    int colour = 0;
    int in_flight[kColours] = {};
    // The worker's side: items of each pwq run in order.
    int item[kMaxItems];  // colour
    int queued = 0, executed = 0;
    sync::BasicParker<Sync> work;
  };
  struct Host {
    Queue* const q;
    void Lock() { q->mutex.Lock(); }
    void Unlock() { q->mutex.Unlock(); }
    void Sleeping() {}
    void Running() {}
    void Close(int old, int next) {
      if (kDefect == Defect::kNoBias) q->flush.Done(old);
      for (Pwq& pwq : q->pwqs) {
        ModelLock hold(&pwq.lock);
        pwq.colour = next;
        if (pwq.in_flight[old] > 0) q->flush.Join(old);
      }
      if (kDefect == Defect::kNoBias) q->flush.Join(old);  // Flush takes it off again
    }
  };

  void Enter(int i) {
    Pwq& pwq = pwqs[i];
    {
      ModelLock hold(&pwq.lock);
      pwq.item[pwq.queued++] = pwq.colour;
      ++pwq.in_flight[pwq.colour];
    }
    pwq.work.Unpark();
  }
  // A worker of one pwq, until `items` have run.
  void Work(int i, int items) {
    Pwq& pwq = pwqs[i];
    while (pwq.executed < items) {
      pwq.lock.Lock();
      const bool any = pwq.executed < pwq.queued;
      pwq.lock.Unlock();
      if (!any) {
        pwq.work.Park();
        continue;
      }
      if (hold_back == i) gate.Park();
      ModelLock hold(&pwq.lock);
      const int colour = pwq.item[pwq.executed++];
      if (--pwq.in_flight[colour] == 0 && colour != pwq.colour) flush.Completed(colour);
    }
  }
  void Flush() {
    int before[kPwqs];
    for (int i = 0; i < kPwqs; ++i) before[i] = pwqs[i].queued;
    Host host{this};
    flush.Flush(host);
    for (int i = 0; i < kPwqs; ++i) MODEL_CHECK(pwqs[i].executed >= before[i]);
    ++flushed;
  }
  void CheckEnd(int flushes) {
    MODEL_CHECK(flushed == flushes);
    MODEL_CHECK(flush.done() == flush.current());
    MODEL_CHECK(flush.done() == static_cast<uint64_t>(flushes));
  }

  ModelMutex mutex;
  State<Sync, kColours, kDefect> flush;
  Pwq pwqs[kPwqs];
  sync::BasicParker<Sync> gate;
  int hold_back = -1;  // the worker of this pwq waits for `gate` before it finishes an item
  int flushed = 0;
};

// Each producer queues to its own pwq and flushes in between.
template <class Q>
void ProducersFlush(World& world) {
  auto* q = world.Make<Q>("queue");
  world.Thread("producer-0", [=] {
    q->Enter(0);
    q->Flush();
    q->Enter(0);
    q->Flush();
  });
  world.Thread("producer-1", [=] {
    q->Enter(1);
    q->Flush();
  });
  world.Thread("worker-0", [=] { q->Work(0, 2); });
  world.Thread("worker-1", [=] { q->Work(1, 1); });
  world.AtEnd([=] { q->CheckEnd(3); });
}

// So many flushers that the colours run out.
template <class Q, int kFlushers>
void ManyFlushers(World& world) {
  static const char* const kNames[] = {"flusher-0", "flusher-1", "flusher-2", "flusher-3"};
  auto* q = world.Make<Q>("queue");
  for (int i = 0; i < kFlushers; ++i) {
    world.Thread(kNames[i], [=] {
      q->Enter(i % kPwqs);
      q->Flush();
    });
  }
  world.Thread("worker-0", [=] { q->Work(0, (kFlushers + 1) / kPwqs); });
  world.Thread("worker-1", [=] { q->Work(1, kFlushers / kPwqs); });
  world.AtEnd([=] { q->CheckEnd(kFlushers); });
}

TEST(Flush, EachReturnsAfterWhatWasQueuedBefore) {
  ExpectHolds(ProducersFlush<Queue<ModelSync, 16>>);
  ExpectHolds(ProducersFlush<Queue<ModelSync, 4>>);
}

TEST(Flush, WaitsForAFreeColour) {
  ExpectHolds(ManyFlushers<Queue<ModelSync, 2>, 3>);
  ExpectHolds(ManyFlushers<Queue<ModelSync, 3>, 4>);
  ExpectHolds(ManyFlushers<Queue<ModelSync, 16>, 4>);
}

// T35: a producer that goes on, and an item that ends only after the flush has returned.
template <class Q>
void LaterItems(World& world) {
  auto* q = world.Make<Q>("queue");
  q->hold_back = 1;
  world.Thread("flusher", [=] {
    q->Enter(0);
    q->Flush();
    // Only now may the item on the other pwq end, which was queued later.
    q->gate.Unpark();
  });
  world.Thread("later", [=] {
    while (q->flush.current() == 0) Yield();
    // The flush has begun; it may not have asked this pwq yet. Under the mutex it has.
    q->mutex.Lock();
    q->mutex.Unlock();
    q->Enter(1);
  });
  world.Thread("worker-0", [=] { q->Work(0, 1); });
  world.Thread("worker-1", [=] { q->Work(1, 1); });
  world.AtEnd([=] { q->CheckEnd(1); });
}

TEST(Flush, DoesNotWaitForLaterItems) { ExpectHolds(LaterItems<Queue<ModelSync, 16>>); }

// The last items of two colours end at once: one of the two must advance past both.
template <class Q>
void TwoColoursAtOnce(World& world) {
  auto* q = world.Make<Q>("queue");
  world.Thread("flusher-0", [=] {
    q->Enter(0);
    q->Flush();
  });
  world.Thread("flusher-1", [=] {
    while (q->flush.current() == 0) Yield();
    q->Enter(1);
    q->Flush();
  });
  world.Thread("worker-0", [=] { q->Work(0, 1); });
  world.Thread("worker-1", [=] { q->Work(1, 1); });
  world.AtEnd([=] { q->CheckEnd(2); });
}

TEST(Flush, TwoColoursMayEndAtOnce) { ExpectHolds(TwoColoursAtOnce<Queue<ModelSync, 4>>); }

// The decrements of two colours against each other's looks: store buffering, without a lock between.
template <class Sync>
void BareCompletions(World& world) {
  struct Host {
    ModelMutex* mutex;
    State<Sync, 4, Defect::kNone>* state;
    int joins;
    void Lock() { mutex->Lock(); }
    void Unlock() { mutex->Unlock(); }
    void Sleeping() {}
    void Running() {}
    void Close(int old, int) {
      for (int i = 0; i < joins; ++i) state->Join(old);
    }
  };
  struct Both {
    ModelMutex mutex;
    State<Sync, 4, Defect::kNone> state;
    typename Sync::template Atomic<int32_t> closed[2] = {0, 0};
  };
  auto* b = world.Make<Both>("state");
  static const char* const kFlushers[] = {"flusher-0", "flusher-1"};
  static const char* const kItems[] = {"item-0", "item-1"};
  for (int i = 0; i < 2; ++i) {
    world.Thread(kFlushers[i], [=] {
      Host host{&b->mutex, &b->state, 1};
      b->state.Flush(host);
    });
    // The one item of colour i, which can end once its pwq has been asked.
    world.Thread(kItems[i], [=] {
      while (b->state.current() <= static_cast<uint64_t>(i)) Yield();
      b->mutex.Lock();
      b->mutex.Unlock();
      b->state.Done(i);
    });
  }
  world.AtEnd([=] { MODEL_CHECK(b->state.done() == 2); });
}

TEST(Flush, CompletionsNeedNoLock) { ExpectHolds(BareCompletions<ModelSync>); }

TEST(Flush, WeakerOrdersAreCaught) {
  ExpectCaught("deadlock", BareCompletions<Weakened<ModifiesAcqRel>>);
  ExpectCaught("deadlock", BareCompletions<Weakened<AllRelaxed>>);
  // A flusher that closes a colour while the one before it is finished by another.
  ExpectCaught("deadlock", ProducersFlush<Queue<Weakened<StoresRelease>, 4>>);
  ExpectCaught("deadlock", ProducersFlush<Queue<Weakened<LoadsAcquire>, 4>>);
}

TEST(Flush, DefectsAreCaught) {
  ExpectCaught("executed >= before", ProducersFlush<Queue<ModelSync, 4, Defect::kNoBias>>);
  ExpectCaught("deadlock", ProducersFlush<Queue<ModelSync, 4, Defect::kWakeFirst>>);
  ExpectCaught("executed >= before", ManyFlushers<Queue<ModelSync, 4, Defect::kNoOrder>, 3>);
}

}  // namespace
}  // namespace cmwq::model
