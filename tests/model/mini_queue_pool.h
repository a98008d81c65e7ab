// What MiniQueue (mini_queue.h) queues: items, and pools with a worklist.

#ifndef CMWQ_TESTS_MODEL_MINI_QUEUE_POOL_H_
#define CMWQ_TESTS_MODEL_MINI_QUEUE_POOL_H_

#include <algorithm>
#include <cstdint>

#include "runtime/sync/parker.h"
#include "runtime/wq/work_word.h"
#include "tests/model/model_sync.h"

namespace cmwq::model {

using wq::Word;
using MiniBarrier = sync::BasicParker<ModelSync>;

struct MiniItem {
  static constexpr int kWriters = 3;

  ModelAtomic<uint64_t> word{Word::kIdle};
  // What the queuers write before they queue, each its own; plain in the product.
  ModelAtomic<int32_t> data[kWriters];
  int32_t seen[kWriters] = {};
  int requeue = 0;        // times that the function queues its own item
  int timer_target = -1;  // armed: the pool to go to. Guarded by the timer lock
  int running = 0;
  int queued = 0, executed = 0, cancelled = 0;
  bool quiet = false;  // no execution may start
};

struct MiniQueuePool {
  struct Entry {
    MiniItem* item;  // null: a barrier
    MiniBarrier* barrier;
  };

  int id;
  ModelMutex lock;
  MiniBarrier parker;
  // Guarded by lock.
  Entry list[16];
  int length = 0;
  MiniItem* executing = nullptr;
  bool retired = false;
  MiniBarrier* after[4];  // wait for the end of the current execution
  int nr_after = 0;

  int Find(const MiniItem* item) const {
    for (int i = 0; i < length; ++i) {
      if (list[i].item == item) return i;
    }
    return -1;
  }
  void Insert(int where, Entry entry) {
    MODEL_CHECK(length < 16);
    std::copy_backward(list + where, list + length, list + length + 1);
    list[where] = entry;
    ++length;
  }
  Entry Take(int where) {
    const Entry entry = list[where];
    std::copy(list + where + 1, list + length, list + where);
    --length;
    return entry;
  }
};

}  // namespace cmwq::model

#endif  // CMWQ_TESTS_MODEL_MINI_QUEUE_POOL_H_
