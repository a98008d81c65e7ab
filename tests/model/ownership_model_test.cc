// The PENDING protocol (wq/ownership.h) under every schedule: each claim is executed or cancelled once,
// an item never runs twice at once, nobody is refused without being served, no token leaks.

#include <gtest/gtest.h>

#include "tests/model/mini_queue.h"

namespace cmwq::model {
namespace {

using Good = MiniQueue<>;
using D = QueueDefect;

// Two threads queue one item to two pools, again and again.
template <class Q>
void TwoQueuers(World& world) {
  auto* q = world.Make<Q>("queue");
  q->AddThreads(world);
  static const char* const kNames[] = {"queuer-0", "queuer-1"};
  for (int i = 0; i < 2; ++i) {
    world.Thread(kNames[i], [=] {
      for (int n = 1; n <= 3; ++n) q->Queue(0, n % 2 == 0 ? i : 1 - i, i, n);
    });
  }
  world.AtEnd([=] {
    q->CheckEnd();
    q->CheckSeen(0);
  });
}

TEST(Ownership, OneItemTwoPools) { ExpectHolds(TwoQueuers<Good>); }

TEST(Ownership, AnItemThatRunsTwiceAtOnceIsCaught) {
  ExpectCaught("runs twice at once", TwoQueuers<MiniQueue<D::kNoGeneration>>);
  ExpectCaught("runs twice at once", TwoQueuers<MiniQueue<D::kNoRedirect>>);
}

// Cancellers against queuers and workers.
template <class Q>
void Cancellers(World& world) {
  auto* q = world.Make<Q>("queue");
  q->AddThreads(world);
  world.Thread("queuer-0", [=] {
    for (int n = 0; n < 3; ++n) q->Queue(0, n % 2);
  });
  world.Thread("queuer-1", [=] {
    q->Queue(1, 0);
    q->Queue(0, 1);
  });
  world.Thread("canceller", [=] {
    for (int n = 0; n < 3; ++n) q->Cancel(0);
    q->Cancel(1);
  });
  world.AtEnd([=] { q->CheckEnd(); });
}

TEST(Ownership, CancelTakesWhatIsPending) { ExpectHolds(Cancellers<Good>); }

TEST(Ownership, TokensOutsideALockAreCaught) {
  ExpectCaught("not on the list", Cancellers<MiniQueue<D::kEnqueueLate>>);
  ExpectCaught("not on the list", Cancellers<MiniQueue<D::kStealUnlocked>>);
}

// The timer owns the item, or the queue, or the canceller.
template <class Q>
void Delayed(World& world) {
  auto* q = world.Make<Q>("queue");
  q->AddThreads(world, true);
  world.Thread("delayer", [=] {
    for (int n = 0; n < 2; ++n) q->QueueDelayed(0, n);
  });
  world.Thread("queuer", [=] {
    q->Queue(0, 1);
    q->QueueDelayed(1, 0);
  });
  world.Thread("canceller", [=] {
    for (int n = 0; n < 2; ++n) q->Cancel(0);
    q->Cancel(1);
  });
  world.AtEnd([=] { q->CheckEnd(); });
}

TEST(Ownership, TimersHandOver) { ExpectHolds(Delayed<Good>); }

TEST(Ownership, ATimerThatStaysArmedIsCaught) {
  ExpectCaught("line ", Delayed<MiniQueue<D::kNoDisarm>>);  // whichever check comes first
}

// L8, D6: after disable_sync nothing starts until the item is enabled, its own re-queueing included.
template <class Q>
void Disablers(World& world) {
  auto* q = world.Make<Q>("queue");
  q->AddThreads(world, true);
  q->items[0].requeue = 2;
  world.Thread("queuer", [=] {
    q->Queue(0, 0);
    q->QueueDelayed(0, 1);
  });
  world.Thread("disabler", [=] {
    q->DisableSync(0);
    q->items[0].quiet = true;
    MODEL_CHECK(q->items[0].running == 0);
    MODEL_CHECK(!q->Queue(0, 1) && !q->QueueDelayed(0, 1));
    q->items[0].quiet = false;
    MODEL_CHECK(q->Enable(0) == 0);
    MODEL_CHECK(q->Enable(0) == -1);
  });
  world.AtEnd([=] { q->CheckEnd(); });
}

TEST(Ownership, NothingStartsWhileDisabled) { ExpectHolds(Disablers<Good>); }

TEST(Ownership, DisablingTwiceCountsTwice) {
  ExpectHolds([](World& world) {
    auto* q = world.Make<Good>("queue");
    q->AddThreads(world);
    int* last = world.Make<int>("last");
    for (const char* name : {"a", "b"}) {
      world.Thread(name, [=] {
        q->DisableSync(0);
        MODEL_CHECK(!q->Queue(0, 0));
        if (q->Enable(0) == 0) ++*last;
      });
    }
    world.Thread("queuer", [=] { q->Queue(0, 1); });
    world.AtEnd([=] {
      q->CheckEnd();
      MODEL_CHECK(*last >= 1);
    });
  });
}

// D7: what the flusher has queued is over when flush returns; nothing that it waits for gets lost.
TEST(Ownership, FlushWaitsForTheInstanceBefore) {
  ExpectHolds([](World& world) {
    auto* q = world.Make<Good>("queue");
    q->AddThreads(world);
    world.Thread("flusher", [=] {
      for (int n = 1; n <= 2; ++n) {
        q->Queue(0, n % 2, 0, n);
        q->Flush(0);
        MODEL_CHECK(q->items[0].seen[0] == n);
      }
    });
    world.Thread("other", [=] { q->Queue(0, 0, 1, 1); });
    world.AtEnd([=] { q->CheckEnd(); });
  });
}

TEST(Ownership, AFlusherSurvivesACancellation) {
  ExpectHolds([](World& world) {
    auto* q = world.Make<Good>("queue");
    q->AddThreads(world);
    world.Thread("flusher", [=] {
      q->Queue(0, 0);
      q->Flush(0);
      MODEL_CHECK(q->items[0].running == 0);
    });
    world.Thread("canceller", [=] { q->Cancel(0); });
    world.AtEnd([=] { q->CheckEnd(); });
  });
}

// An attribute change retires a pool while somebody is about to queue there.
template <class Q>
void Retiring(World& world) {
  auto* q = world.Make<Q>("queue");
  q->AddThreads(world, true);
  static const char* const kNames[] = {"queuer-0", "queuer-1"};
  for (int i = 0; i < 2; ++i) {
    world.Thread(kNames[i], [=] {
      for (int n = 1; n <= 2; ++n) q->Queue(0, i, i, n);
    });
  }
  world.Thread("delayer", [=] { q->QueueDelayed(1, 0); });
  world.Thread("changer", [=] { q->Retire(0); });
  world.AtEnd([=] {
    q->CheckEnd();
    q->CheckSeen(0);
  });
}

TEST(Ownership, ARetiredPoolTakesNothingNew) { ExpectHolds(Retiring<Good>); }

TEST(Ownership, AnItemOnARetiredPoolIsCaught) {
  ExpectCaught("chosen->retired", Retiring<MiniQueue<D::kRetiredTarget>>);
}

// T12: the timer fires while the queue refuses; the canceller must not find a token without an owner.
template <class Q>
void RefusedTimer(World& world) {
  auto* q = world.Make<Q>("queue");
  q->AddThreads(world, true);
  world.Thread("delayer", [=] { q->QueueDelayed(0, 0); });
  world.Thread("drainer", [=] {
    q->refuse = true;
    Yield();
    q->refuse = false;
  });
  world.Thread("canceller", [=] {
    q->DisableSync(0);
    q->Enable(0);
  });
  world.AtEnd([=] { q->CheckEnd(); });
}

TEST(Ownership, ARefusedTimerGivesItsTokenBack) { ExpectHolds(RefusedTimer<Good>); }

TEST(Ownership, ALeakedTokenIsCaught) {
  ExpectCaught("kLeaveMask", RefusedTimer<MiniQueue<D::kLeakOnRefusal>>);
}

}  // namespace
}  // namespace cmwq::model
