// The seven memory-order pairs that concurrency-managed workqueues rest on, each on the product's own
// template, and each with a weaker copy that must be caught.
//
//   M1  item on the list | nr_running        pool/concurrency.h
//   M2  PENDING taken off | the data         wq/ownership.h
//   M3  "pending already" | the data         wq/ownership.h
//   M4  waiting for a slot | giving it back  not here: wq/node_limit.h has a model test of its own
//   M5  UNBOUND to REBOUND                   pool/state_word.h
//   M6  progress stamp | worklist            not here: read again under the pool's lock
//   M7  on the idle list | parked            sync/parker.h, sync/mutex_word.h

#include <gtest/gtest.h>

#include "runtime/pool/concurrency.h"
#include "runtime/sync/mutex_word.h"
#include "tests/model/mini_queue.h"
#include "tests/model/mutant_word.h"

namespace cmwq::model {
namespace {

using pool::WorkerFlag;

// M1. insert; read nr_running  ||  leave nr_running; read the list.
template <class Sync>
void M1(World& world) {
  struct Both {
    pool::BasicConcurrency<Sync> conc;
    pool::BasicStateWord<Sync> word;
    bool kicked = false;
    Both() { conc.ClearFlags(word, WorkerFlag::kPrep); }
  };
  auto* b = world.Make<Both>("conc");
  world.Thread("queuer", [=] {
    if (b->conc.SetPending(1)) b->kicked = true;
  });
  world.Thread("sleeper", [=] {
    if (b->conc.Sleeping(b->word)) b->kicked = true;
  });
  world.AtEnd([=] { MODEL_CHECK(b->kicked); });
}

TEST(LitmusM1, OneSideSeesTheOther) {
  ExpectHolds(M1<ModelSync>);
  ExpectCaught("kicked", M1<Weakened<StoresRelease>>);
  ExpectCaught("kicked", M1<Weakened<LoadsAcquire>>);
  ExpectCaught("kicked", M1<Weakened<ModifiesAcqRel>>);
}

// M2 and M3. write data; queue, refused or not  ||  take PENDING off; read data.
template <class Q>
void WriteThenQueue(World& world) {
  auto* q = world.Make<Q>("queue");
  q->AddThreads(world);
  world.Thread("producer", [=] {
    for (int n = 1; n <= 3; ++n) q->Queue(0, 0, 0, n);
  });
  world.AtEnd([=] {
    q->CheckEnd();
    q->CheckSeen(0);
  });
}

TEST(LitmusM2, TheRunnerSeesWhatWasQueued) {
  ExpectHolds(WriteThenQueue<MiniQueue<>>);
  ExpectCaught("items[item].seen[w]", WriteThenQueue<MiniQueue<QueueDefect::kLeaveRelaxed>>);
  ExpectCaught("items[item].seen[w]", WriteThenQueue<MiniQueue<QueueDefect::kLeaveAfter>>);
}

TEST(LitmusM3, ARefusalIsOrdered) {
  ExpectHolds(WriteThenQueue<MiniQueue<>>);
  ExpectCaught("items[item].seen[w]", WriteThenQueue<MiniQueue<QueueDefect::kPlainRefusal>>);
}

// M5. replace UNBOUND by REBOUND  ||  a hook that asks "do I count?".
template <class Word>
void M5(World& world) {
  auto* word = world.Make<Word>("word");
  word->Reset(WorkerFlag::kUnbound);
  world.Thread("rebinder",
               [=] { word->ReplaceFlags(WorkerFlag::kUnbound, WorkerFlag::kRebound); });
  world.Thread("hook", [=] {
    MODEL_CHECK(word->Sleep() == 0);
    MODEL_CHECK(word->Run() == 0);
  });
}

TEST(LitmusM5, RebindingIsOneStore) {
  ExpectHolds(M5<pool::BasicStateWord<ModelSync>>);
  ExpectCaught("== 0", M5<MutantWord<ModelSync, Defect::kTwoStep>>);
}

// M7. go on the idle list; drop the lock; park  ||  insert; wake whoever is on the idle list.
enum class IdleDefect { kNone, kIdleAfterUnlock, kForgetsToken };

template <class Sync, IdleDefect kDefect = IdleDefect::kNone>
struct IdleWorker {
  sync::BasicMutexWord<Sync, 1> lock;
  sync::BasicParker<Sync> parker;
  typename Sync::template Atomic<int32_t> items{0};  // guarded by lock; relaxed is as weak as plain
  bool idle = false;                                 // guarded by lock
  int served = 0;

  void Queue() {
    lock.Lock();
    items.store(items.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    const bool wake = idle;
    lock.Unlock();
    if (wake) parker.Unpark();
  }
  void Serve(int all) {
    for (;;) {
      lock.Lock();
      idle = false;
      served += items.load(std::memory_order_relaxed);
      items.store(0, std::memory_order_relaxed);
      if (served < all && kDefect != IdleDefect::kIdleAfterUnlock) idle = true;
      lock.Unlock();
      if (served == all) return;
      if (kDefect == IdleDefect::kIdleAfterUnlock) {
        lock.Lock();
        idle = true;
        lock.Unlock();
      }
      if (kDefect == IdleDefect::kForgetsToken) parker.Reset();
      parker.Park();
    }
  }
};

template <class W>
void M7(World& world) {
  auto* w = world.Make<W>("worker");
  for (const char* name : {"queuer-0", "queuer-1"}) world.Thread(name, [=] { w->Queue(); });
  world.Thread("worker", [=] { w->Serve(2); });
}

TEST(LitmusM7, IdleBeforeTheLockIsDropped) {
  ExpectHolds(M7<IdleWorker<ModelSync>>);
  ExpectCaught("deadlock", M7<IdleWorker<ModelSync, IdleDefect::kIdleAfterUnlock>>);
  ExpectCaught("deadlock", M7<IdleWorker<ModelSync, IdleDefect::kForgetsToken>>);
  ExpectCaught("deadlock", M7<IdleWorker<Weakened<AllRelaxed>>>);
}

}  // namespace
}  // namespace cmwq::model
