// StateWord under every schedule: whoever changes the word, the returned changes add up, and each
// edge is seen by exactly one party.

#include <gtest/gtest.h>

#include "runtime/pool/state_word.h"
#include "tests/model/explore.h"
#include "tests/model/model_sync.h"
#include "tests/model/mutant_word.h"

namespace cmwq::model {
namespace {

using pool::WorkerFlag;
using Word = pool::BasicStateWord<ModelSync>;
template <Defect kDefect>
using Mutant = MutantWord<ModelSync, kDefect>;

template <class W>
struct Shared {
  W word;
  int sum = 0;          // of all returned changes
  int own_changes = 0;  // made by the worker's hooks
  int minus = 0;        // edges "counted -> not counted"
  void Owe(int change) {
    sum += change;
    if (change < 0) ++minus;
  }
};

// Own hooks, a detector and a flag setter, all at once.
template <class W>
void EverybodyChanges(World& world) {
  auto* s = world.Make<Shared<W>>("word");
  s->word.Reset(0);
  world.Thread("worker", [=] {
    for (int i = 0; i < 3; ++i) {
      s->Owe(s->word.Sleep());
      s->Owe(s->word.Run());
    }
  });
  world.Thread("detector", [=] {
    for (int i = 0; i < 3; ++i) {
      s->Owe(s->word.Presume(s->word.Load()));
      s->Owe(s->word.Unpresume(s->word.Load()));
    }
  });
  world.Thread("flags", [=] {
    s->Owe(s->word.SetFlags(WorkerFlag::kCpuIntensive));
    s->Owe(s->word.SetFlags(WorkerFlag::kUnbound));
    s->Owe(s->word.ReplaceFlags(WorkerFlag::kUnbound, WorkerFlag::kRebound));
    s->Owe(s->word.ClearFlags(WorkerFlag::kCpuIntensive));
    s->Owe(s->word.ClearFlags(WorkerFlag::kRebound));
  });
  world.AtEnd([=] {
    const int counted = W::Counted(s->word.Load()) ? 1 : 0;
    MODEL_CHECK(1 + s->sum == counted);
  });
}

TEST(StateWord, ChangesAddUp) { ExpectHolds(EverybodyChanges<Word>); }

TEST(StateWord, MutantsWhoseChangesDoNotAddUpAreCaught) {
  ExpectCaught("1 + s->sum", EverybodyChanges<Mutant<Defect::kPlainStore>>);
  ExpectCaught("1 + s->sum", EverybodyChanges<Mutant<Defect::kBlindPresume>>);
  ExpectCaught("1 + s->sum", EverybodyChanges<Mutant<Defect::kEveryFlag>>);
}

// One edge, three parties that could see it.
template <class W>
void OneEdge(World& world) {
  auto* s = world.Make<Shared<W>>("word");
  s->word.Reset(0);
  world.Thread("worker", [=] { s->Owe(s->word.Sleep()); });
  world.Thread("detector", [=] { s->Owe(s->word.Presume(s->word.Load())); });
  world.Thread("tick", [=] { s->Owe(s->word.SetFlags(WorkerFlag::kCpuIntensive)); });
  world.AtEnd([=] { MODEL_CHECK(s->minus == 1 && s->sum == -1); });
}

TEST(StateWord, AnEdgeIsSeenOnce) { ExpectHolds(OneEdge<Word>); }

TEST(StateWord, AMutantThatSeesAnEdgeTwiceIsCaught) {
  ExpectCaught("s->minus == 1", OneEdge<Mutant<Defect::kPlainStore>>);
  ExpectCaught("s->minus == 1", OneEdge<Mutant<Defect::kBlindPresume>>);
}

// A detector looked, the worker moved on and came back to the same activity: the look is worthless.
template <class W>
void StaleLook(World& world) {
  auto* s = world.Make<Shared<W>>("word");
  s->word.Reset(0);
  world.Thread("worker", [=] {
    for (int i = 0; i < 2; ++i) {
      s->word.Sleep();
      ++s->own_changes;
      if (s->word.Run() != 0) ++s->own_changes;
    }
  });
  world.Thread("detector", [=] {
    for (int i = 0; i < 3; ++i) {
      const uint32_t seen = s->word.Load();
      const int before = s->own_changes;
      // Between Load and the exchange inside Presume lies one scheduling point.
      if (s->word.Presume(seen) != 0) {
        MODEL_CHECK(s->own_changes == before);
        s->word.Unpresume(s->word.Load());
      }
    }
  });
}

TEST(StateWord, AStaleLookChangesNothing) { ExpectHolds(StaleLook<Word>); }

TEST(StateWord, AWordWithoutSequenceIsCaught) {
  ExpectCaught("own_changes == before", StaleLook<Mutant<Defect::kNoSequence>>);
}

// T4: the trustee gives the CPU back. From UNBOUND to REBOUND no hook may see neither flag.
template <class W>
void Rebind(World& world) {
  auto* s = world.Make<Shared<W>>("word");
  s->word.Reset(WorkerFlag::kUnbound);
  world.Thread("trustee", [=] {
    s->Owe(s->word.ReplaceFlags(WorkerFlag::kUnbound, WorkerFlag::kRebound));
    MODEL_CHECK(s->sum == 0);
  });
  world.Thread("worker", [=] {
    for (int i = 0; i < 2; ++i) {
      MODEL_CHECK(s->word.Sleep() == 0);
      MODEL_CHECK(s->word.Run() == 0);
    }
  });
}

TEST(StateWord, RebindingIsOneStep) { ExpectHolds(Rebind<Word>); }

TEST(StateWord, RebindingInTwoStepsIsCaught) {
  ExpectCaught("== 0", Rebind<Mutant<Defect::kTwoStep>>);
}

}  // namespace
}  // namespace cmwq::model
