// A state word with a planted defect. The tests of the real one are run on it and must fail.

#ifndef CMWQ_TESTS_MODEL_MUTANT_WORD_H_
#define CMWQ_TESTS_MODEL_MUTANT_WORD_H_

#include <cstdint>

#include "runtime/pool/state_word.h"

namespace cmwq::model {

enum class Defect {
  kPlainStore,    // load, change, store instead of compare-and-swap
  kTwoStep,       // ReplaceFlags clears and sets in two steps
  kNoSequence,    // a word that came back to an old value looks as if nothing had happened
  kBlindPresume,  // a detector takes the worker out whatever it does now
  kEveryFlag,     // each flag counts, instead of the first and the last
};

template <class Sync, Defect kDefect>
class MutantWord {
 public:
  using Good = pool::BasicStateWord<Sync>;
  using Activity = pool::Activity;

  int Sleep() {
    return Change([](uint32_t w) { return With(w, Activity::kSleeping); });
  }
  int Run() {
    return Change([](uint32_t w) { return With(w, Activity::kRunning); });
  }
  int SetFlags(uint32_t flags) {
    const int change = Change([flags](uint32_t w) { return w | flags; });
    return kDefect == Defect::kEveryFlag ? -1 : change;
  }
  int ClearFlags(uint32_t flags) {
    const int change = Change([flags](uint32_t w) { return w & ~flags; });
    return kDefect == Defect::kEveryFlag ? 1 : change;
  }
  int ReplaceFlags(uint32_t clear, uint32_t set) {
    if (kDefect == Defect::kTwoStep) return ClearFlags(clear) + SetFlags(set);
    return Change([=](uint32_t w) { return (w & ~clear) | set; });
  }
  int Presume(uint32_t seen) {
    if (!Counted(seen)) return 0;
    if (kDefect == Defect::kBlindPresume) {
      word_.store(Next(With(word_.load(), Activity::kPresumed)));
      return -1;
    }
    const uint32_t want = Next(With(seen, Activity::kPresumed));
    return word_.compare_exchange_strong(seen, want, std::memory_order_acq_rel) ? -1 : 0;
  }
  int Unpresume(uint32_t seen) {
    if (Good::ActivityOf(seen) != Activity::kPresumed) return 0;
    const uint32_t want = Next(With(seen, Activity::kRunning));
    if (!word_.compare_exchange_strong(seen, want, std::memory_order_acq_rel)) return 0;
    return Counted(want) ? 1 : 0;
  }
  uint32_t Load() const { return word_.load(std::memory_order_acquire); }
  void Reset(uint32_t flags) { word_.store(flags, std::memory_order_release); }
  static bool Counted(uint32_t w) { return Good::Counted(w); }

 private:
  static uint32_t With(uint32_t w, Activity a) { return (w & ~3u) | static_cast<uint32_t>(a); }
  static uint32_t Next(uint32_t w) { return kDefect == Defect::kNoSequence ? w : w + (1u << 16); }
  template <class F>
  int Change(F change) {
    uint32_t seen = word_.load(std::memory_order_relaxed);
    for (;;) {
      const uint32_t want = Next(change(seen));
      if (kDefect == Defect::kPlainStore) {
        word_.store(want, std::memory_order_release);
      } else if (!word_.compare_exchange_weak(seen, want, std::memory_order_acq_rel,
                                              std::memory_order_relaxed)) {
        continue;
      }
      return static_cast<int>(Counted(want)) - static_cast<int>(Counted(seen));
    }
  }

  typename Sync::template Atomic<uint32_t> word_{pool::WorkerFlag::kPrep};
};

}  // namespace cmwq::model

#endif  // CMWQ_TESTS_MODEL_MUTANT_WORD_H_
