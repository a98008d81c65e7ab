// The seven memory-order pairs that concurrency-managed workqueues rest on, each on the product's own
// template, and each with a weaker copy that must be caught.
//
//   M1  item on the list | nr_running        pool/concurrency.h
//   M2  PENDING taken off | the data         wq/ownership.h
//   M3  "pending already" | the data         wq/ownership.h
//   M4  waiting for a slot | giving it back  wq/node_limit.h
//   M5  UNBOUND to REBOUND                   pool/state_word.h
//   M6  progress stamp | worklist            not here: read again under the pool's lock
//   M7  on the idle list | parked            sync/parker.h, sync/mutex_word.h

#include <gtest/gtest.h>

#include "runtime/pool/concurrency.h"
#include "runtime/sync/mutex_word.h"
#include "runtime/wq/node_limit.h"
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

// M4. join the line; try once more  ||  give the slot back; look at the line.
enum class LineDefect { kNone, kTryFirst, kLookFirst };

template <class Sync, LineDefect kDefect = LineDefect::kNone>
void M4(World& world) {
  struct Both {
    wq::BasicNodeCount<Sync> count;
    bool got = false, served = false;
    Both() { count.SetMax(1); }
  };
  auto* b = world.Make<Both>("node");
  MODEL_CHECK(b->count.TryGet());
  world.Thread("waiter", [=] {
    if (kDefect != LineDefect::kTryFirst) b->count.SetWaiting(1);
    b->got = b->count.TryGet();
    if (kDefect == LineDefect::kTryFirst) b->count.SetWaiting(1);
  });
  world.Thread("releaser", [=] {
    const bool before = b->count.waiting() != 0;
    const bool after = b->count.Put();
    b->served = kDefect == LineDefect::kLookFirst ? before : after;
  });
  world.AtEnd([=] { MODEL_CHECK(b->got || b->served); });
}

TEST(LitmusM4, AFreeSlotFindsWhoWaits) {
  ExpectHolds(M4<ModelSync>);
  ExpectCaught("b->got || b->served", M4<Weakened<StoresRelease>>);
  ExpectCaught("b->got || b->served", M4<Weakened<LoadsAcquire>>);
  ExpectCaught("b->got || b->served", M4<ModelSync, LineDefect::kTryFirst>);
  ExpectCaught("b->got || b->served", M4<ModelSync, LineDefect::kLookFirst>);
}

// M4 with a limit that several share: never exceeded, and whoever waits is served.
TEST(LitmusM4, TheLimitHolds) {
  struct Node {
    wq::BasicNodeCount<ModelSync> count;
    ModelMutex lock;
    int active = 0, waiting = 0, served = 0;
    Node() { count.SetMax(2); }
    void Activate() { MODEL_CHECK(++active <= 2); }
    void Release() {
      --active;
      if (!count.Put()) return;
      ModelLock hold(&lock);
      if (waiting > 0 && count.TryGet()) {
        count.SetWaiting(--waiting);
        Activate();
        ++served;
      }
    }
  };
  ExpectHolds([](World& world) {
    auto* n = world.Make<Node>("node");
    for (const char* name : {"a", "b", "c", "d"}) {
      world.Thread(name, [=] {
        bool got = n->count.TryGet();
        if (!got) {
          ModelLock hold(&n->lock);
          n->count.SetWaiting(++n->waiting);
          got = n->count.TryGet();
          if (got) n->count.SetWaiting(--n->waiting);
        }
        if (!got) return;  // whoever releases activates it
        n->Activate();
        n->Release();
        while (n->served > 0) {  // what was activated here ends here
          --n->served;
          n->Release();
        }
      });
    }
    world.AtEnd([=] { MODEL_CHECK(n->waiting == 0 && n->active == 0 && n->count.nr() == 0); });
  });
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
