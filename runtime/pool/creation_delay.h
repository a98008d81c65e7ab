// CreationDelay: when the last idle worker, needed, makes a further one.
//
// Need alone says little: a worker that is back from a block of some microseconds counts only once it gets
// the CPU, and whoever asks has the CPU. A pool whose items block shortly would end with a thread per item.
// So the manager gives the CPU away first. Somebody of the pool used it: there was no want of workers.
// Nobody did: for that long the CPU had nothing of this pool to run. A further worker is made once that
// sums up to about the cost of making it; at once where all really block, never where they keep the CPU
// busy. An item may wait by looking again and again, for one that has not begun: therefore after some time
// without any beginning in any case.

#ifndef CMWQ_RUNTIME_POOL_CREATION_DELAY_H_
#define CMWQ_RUNTIME_POOL_CREATION_DELAY_H_

#include <cstdint>

namespace cmwq::pool {

// All under the pool's lock.
class CreationDelay {
 public:
  // A manager is about to give the CPU away. progress: changes with each item that begins. moves: changes
  // with whatever the pool's workers do.
  void Begin(uint64_t now_ns, uint64_t progress, uint64_t moves) {
    // Kept over several managers that found the need gone: none of them let an item begin.
    if (progress != progress_) since_ns_ = now_ns;
    progress_ = progress;
    moves_ = moves;
    idle_ns_ = 0;
  }
  // The CPU was away for away_ns. True: make the worker.
  bool Lasted(uint64_t now_ns, uint64_t moves, uint64_t away_ns, uint64_t idle_limit_ns,
              uint64_t total_limit_ns) {
    if (moves == moves_) idle_ns_ += away_ns;
    moves_ = moves;
    return idle_ns_ >= idle_limit_ns || now_ns - since_ns_ >= total_limit_ns;
  }

 private:
  uint64_t progress_ = ~uint64_t{0};
  uint64_t since_ns_ = 0;  // progress has been progress_
  uint64_t moves_ = 0;
  uint64_t idle_ns_ = 0;  // without moves, since Begin
};

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_CREATION_DELAY_H_
