// The hard transition of runtime/pool/concurrency.h under every schedule: when work is pending and
// nobody counts as running, somebody has been told to look; and the counter always agrees with the
// state words once everybody has stopped.

#include <gtest/gtest.h>

#include "runtime/pool/concurrency.h"
#include "tests/model/explore.h"
#include "tests/model/model_sync.h"

namespace cmwq::model {
namespace {

using pool::WorkerFlag;

constexpr int kWorkers = 2;

template <class Sync>
struct Shared {
  using Word = pool::BasicStateWord<Sync>;
  pool::BasicConcurrency<Sync> conc;
  Word words[kWorkers];
  ModelMutex lock;
  bool pending = false;    // guarded by lock
  bool served = false;     // a kick found that a worker is needed
  int counted = kWorkers;  // words that counted at the start

  Shared() {
    for (Word& w : words) conc.ClearFlags(w, WorkerFlag::kPrep);
  }
  // What a kick does in the pool: look again, with the lock.
  void Kick() {
    ModelLock hold(&lock);
    if (pending && conc.nr_running() == 0) served = true;
  }
  void Queue() {
    lock.Lock();
    pending = true;
    const bool kick = conc.SetPending(1);
    lock.Unlock();
    if (kick) Kick();
  }
  void Sleep(int i) {
    if (conc.Sleeping(words[i])) Kick();
  }
  // The tail of a detector's round; true if it took the worker out.
  bool Detect(int i) {
    if (!conc.Presume(words[i], words[i].Load())) return false;
    if (conc.nr_running() == 0) Kick();
    return true;
  }
  int Recount() const {
    int n = 0;
    for (const Word& w : words) n += Word::Counted(w.Load()) ? 1 : 0;
    return n;
  }
  void CheckEnd() {
    MODEL_CHECK(conc.RawRunning() == Recount());
    if (pending && Recount() == 0) MODEL_CHECK(served);
  }
};

template <class Sync>
void SleepersAndQueuer(World& world) {
  auto* s = world.Make<Shared<Sync>>("conc");
  world.Thread("worker-0", [=] { s->Sleep(0); });
  world.Thread("worker-1", [=] { s->Sleep(1); });
  world.Thread("queuer", [=] { s->Queue(); });
  world.AtEnd([=] { s->CheckEnd(); });
}

TEST(Transition, NobodyAsleepWithWorkPending) { ExpectHolds(SleepersAndQueuer<ModelSync>); }

TEST(Transition, WeakerOrdersAreCaught) {
  ExpectCaught("served", SleepersAndQueuer<Weakened<AllRelaxed>>);
  ExpectCaught("served", SleepersAndQueuer<Weakened<StoresRelease>>);
  ExpectCaught("served", SleepersAndQueuer<Weakened<LoadsAcquire>>);
  ExpectCaught("served", SleepersAndQueuer<Weakened<ModifiesAcqRel>>);
}

// Defect: the sleeping side looks at the list before it leaves nr_running.
template <class Sync>
struct CheckFirst {
  typename Sync::template Atomic<int32_t> nr_running{kWorkers};
  typename Sync::template Atomic<uint32_t> nr_pending{0};
  bool Sleeping() {
    const bool work = nr_pending.load() > 0;
    return nr_running.fetch_sub(1) == 1 && work;
  }
  bool SetPending() {
    nr_pending.store(1);
    return nr_running.load() <= 0;
  }
};

// Defect: the queuing side looks at the workers before it publishes the item.
template <class Sync>
struct LookFirst : CheckFirst<Sync> {
  bool Sleeping() { return this->nr_running.fetch_sub(1) == 1 && this->nr_pending.load() > 0; }
  bool SetPending() {
    const bool kick = this->nr_running.load() <= 0;
    this->nr_pending.store(1);
    return kick;
  }
};

template <class Mutant>
void MutantTransition(World& world) {
  struct Both {
    Mutant mutant;
    bool kicked = false;
  };
  Both* b = world.Make<Both>("mutant");
  for (const char* name : {"worker-0", "worker-1"}) {
    world.Thread(name, [=] {
      if (b->mutant.Sleeping()) b->kicked = true;
    });
  }
  world.Thread("queuer", [=] {
    if (b->mutant.SetPending()) b->kicked = true;
  });
  world.AtEnd([=] { MODEL_CHECK(b->kicked); });
}

TEST(Transition, WrongOrderOfStepsIsCaught) {
  ExpectCaught("kicked", MutantTransition<CheckFirst<ModelSync>>);
  ExpectCaught("kicked", MutantTransition<LookFirst<ModelSync>>);
}

// Workers come and go while items arrive; in the end all sleep.
TEST(Transition, HoldsWhenWorkersComeAndGo) {
  ExpectHolds([](World& world) {
    auto* s = world.Make<Shared<ModelSync>>("conc");
    for (int i = 0; i < kWorkers; ++i) {
      world.Thread(i == 0 ? "worker-0" : "worker-1", [=] {
        for (int round = 0; round < 3; ++round) {
          if (round > 0) s->conc.Running(s->words[i]);
          s->Sleep(i);
        }
      });
    }
    world.Thread("queuer", [=] { s->Queue(); });
    world.AtEnd([=] {
      MODEL_CHECK(s->Recount() == 0);
      s->CheckEnd();
    });
  });
}

// One worker blocks without a word, after the queuer saw it run: the detector must take it out and
// kick.
template <bool kDetectorKicks>
void UnannouncedBlock(World& world) {
  struct Both : Shared<ModelSync> {
    bool off_cpu = false;  // what the detector can find out about worker-0
  };
  auto* s = world.Make<Both>("conc");
  world.Thread("worker-0", [=] { s->off_cpu = true; });
  world.Thread("worker-1", [=] {
    s->Sleep(1);
    s->conc.Running(s->words[1]);
    s->Sleep(1);
  });
  world.Thread("queuer", [=] { s->Queue(); });
  world.Thread("detector", [=] {
    for (;;) {
      Yield();
      if (!s->off_cpu) continue;
      if (!s->conc.Presume(s->words[0], s->words[0].Load())) continue;
      if (kDetectorKicks && s->conc.nr_running() == 0) s->Kick();
      return;
    }
  });
  world.AtEnd([=] {
    MODEL_CHECK(s->Recount() == 0);
    s->CheckEnd();
  });
}

TEST(Transition, ADetectorStandsInForASilentBlock) { ExpectHolds(UnannouncedBlock<true>); }

TEST(Transition, ADetectorThatDoesNotKickIsCaught) {
  ExpectCaught("served", UnannouncedBlock<false>);
}

// Everything at once: the counter equals the recount, and no kick is missing.
TEST(Counter, EqualsTheRecountWhateverHappens) {
  ExpectHolds([](World& world) {
    auto* s = world.Make<Shared<ModelSync>>("conc");
    for (int i = 0; i < kWorkers; ++i) {
      world.Thread(i == 0 ? "worker-0" : "worker-1", [=] {
        for (int n = 0; n < 3; ++n) {
          s->Sleep(i);
          if (World::current()->Random(4) != 0) s->conc.Running(s->words[i]);
        }
      });
    }
    world.Thread("detector", [=] {
      for (int n = 0; n < 4; ++n) {
        const int i = n % kWorkers;
        if (!s->Detect(i)) s->conc.Unpresume(s->words[i], s->words[i].Load());
      }
    });
    world.Thread("flags", [=] {
      for (auto& word : s->words) {
        if (s->conc.SetFlags(word, WorkerFlag::kUnbound)) s->Kick();
      }
      for (auto& word : s->words) {
        s->conc.ReplaceFlags(word, WorkerFlag::kUnbound, WorkerFlag::kRebound);
        s->conc.ClearFlags(word, WorkerFlag::kRebound);
      }
    });
    world.Thread("queuer", [=] { s->Queue(); });
    world.AtEnd([=] { s->CheckEnd(); });
  });
}

// T23: the tick marks a hog in the moment it blocks; it leaves nr_running once and comes back once.
TEST(Counter, CpuIntensiveWhileSleepingCountsOnce) {
  ExpectHolds([](World& world) {
    auto* s = world.Make<Shared<ModelSync>>("conc");
    world.Thread("worker-0", [=] {
      s->Sleep(0);
      s->conc.Running(s->words[0]);
    });
    world.Thread("tick", [=] {
      if (s->conc.SetFlags(s->words[0], WorkerFlag::kCpuIntensive)) s->Kick();
    });
    world.AtEnd([=] {
      MODEL_CHECK(s->conc.RawRunning() == 1);
      s->conc.ClearFlags(s->words[0], WorkerFlag::kCpuIntensive);
      MODEL_CHECK(s->conc.RawRunning() == 2);
    });
  });
}

// T3: the pool loses its CPU while hooks are half-way. Afterwards nobody counts, and whoever was
// needed has been woken.
TEST(Counter, UnbindingAgainstHooksLeavesZero) {
  ExpectHolds([](World& world) {
    auto* s = world.Make<Shared<ModelSync>>("conc");
    for (int i = 0; i < kWorkers; ++i) {
      world.Thread(i == 0 ? "worker-0" : "worker-1", [=] {
        for (int n = 0; n < 2; ++n) {
          s->Sleep(i);
          s->conc.Running(s->words[i]);
        }
      });
    }
    world.Thread("trustee", [=] {
      for (auto& word : s->words) {
        if (s->conc.SetFlags(word, WorkerFlag::kUnbound)) s->Kick();
      }
      for (const auto& word : s->words) {
        MODEL_CHECK(!pool::BasicStateWord<ModelSync>::Counted(word.Load()));
      }
    });
    world.Thread("queuer", [=] { s->Queue(); });
    world.AtEnd([=] {
      MODEL_CHECK(s->conc.RawRunning() == 0);
      MODEL_CHECK(s->served);
    });
  });
}

// The defect T3 is about: management is switched off by zeroing the counter instead of by edges.
TEST(Counter, ZeroingTheCounterIsCaught) {
  ExpectCaught("RawRunning() == s->Recount()", [](World& world) {
    auto* s = world.Make<Shared<ModelSync>>("conc");
    world.Thread("worker-0", [=] {
      s->Sleep(0);
      s->conc.Running(s->words[0]);
    });
    world.Thread("trustee", [=] {
      for (auto& word : s->words) word.SetFlags(WorkerFlag::kUnbound);
      s->conc.Repair(-s->conc.RawRunning());
    });
    world.AtEnd([=] { MODEL_CHECK(s->conc.RawRunning() == s->Recount()); });
  });
}

}  // namespace
}  // namespace cmwq::model
