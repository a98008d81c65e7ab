// What must hold of a queue's half in one pool whenever the pool's lock is free.

#include "runtime/pool/invariants.h"
#include "runtime/wq/work_word.h"
#include "runtime/wq/workqueue.h"

namespace cmwq::wq {
namespace {

// An item that is on some list of the pool `id`.
const char* BrokenWord(const pool::HeldItem& item, uint16_t id, bool on_inactive) {
  const uint64_t word = WordOf(item.work).load(std::memory_order_relaxed);
  const bool barrier = IsBarrier(item.fn);
  if ((word & Word::kPending) == 0 || (word & Word::kTimer) != 0) return "L1: queued, but not PENDING";
  if ((word & Word::kQueued) == 0 || Word::Pool(word) != id) return "L2: queued, but not QUEUED here";
  if (((word & Word::kInactive) != 0) != (on_inactive || barrier)) {
    return "I13: INACTIVE and the inactive list";
  }
  if ((word & Word::kLinked) != 0 && (item.next == nullptr || !IsBarrier(item.next->fn_))) {
    return "I15: no barrier behind a linked item";
  }
  return nullptr;
}

// Not counting an item initialised again, or new in freed memory, while the old function still runs: that
// one is fresh.
bool RunsTwice(pool::WorkerPool* pool, const pool::HeldItem& item) CMWQ_REQUIRES(pool->lock) {
  int n = 0;
  pool::Inspector::ForEachItem(pool, [&n, &item](const pool::HeldItem& other) {
    n += other.running && !other.fresh && other.work == item.work && other.fn == item.fn ? 1 : 0;
  });
  return n > 1;
}

// Somebody will activate what waits: whoever ends next, whoever unplugs, the first release of the node.
bool Owed(const Pwq* pwq) CMWQ_REQUIRES(pwq->pool->lock) {
  if (pwq->plugged) return true;
  return pwq->node != nullptr ? pwq->in_line : pwq->nr_active >= pwq->max_active;
}

struct Census {
  int slots = 0;    // have a max_active slot: on the worklist or running, no barriers
  int queued = 0;   // on any list
  int running = 0;  // barriers included
  int running_items = 0;
  int of_colour[kColours] = {};  // queued ones
};

}  // namespace

const char* Pwq::BrokenInvariant() {
  Census n;
  const char* broken = nullptr;
  const uint16_t id = pool->attrs().id;
  pool::Inspector::ForEachItem(pool, [&](const pool::HeldItem& item) {
    if (item.pwq != this) return;
    const bool barrier = wq::IsBarrier(item.fn);
    n.slots += barrier ? 0 : 1;
    n.queued += item.running ? 0 : 1;
    n.running += item.running ? 1 : 0;
    if (item.running) {
      pool->lock.AssertHeld();
      // Barriers are at rest once they have woken their waiter, whose stack may hold another one by then.
      if (!barrier && RunsTwice(pool, item)) broken = "L4: one item is executed twice at once";
      n.running_items += barrier ? 0 : 1;
      return;
    }
    ++n.of_colour[Word::Colour(WordOf(item.work).load(std::memory_order_relaxed))];
    if (const char* const word = BrokenWord(item, id, false)) broken = word;
  });
  pool::Inspector::VisitList(&inactive, [&](const pool::HeldItem& item) {
    ++n.queued;
    ++n.of_colour[Word::Colour(WordOf(item.work).load(std::memory_order_relaxed))];
    if (item.pwq != this) broken = "L2: on the inactive list of another queue";
    if (const char* const word = BrokenWord(item, id, true)) broken = word;
  });
  if (broken != nullptr) return broken;
  if (nr_active != n.slots) return "I11: nr_active";
  if (!inactive.empty() && !Owed(this)) return "I12: an item waits and nobody owes it a slot";
  int in_flight = 0;
  for (int c = 0; c < kColours; ++c) {
    // The colour of what runs is not kept.
    if (nr_in_flight[c] < n.of_colour[c]) return "I14: nr_in_flight of a colour";
    in_flight += nr_in_flight[c];
  }
  // One that leaves counts until the end, and lets go of the lock meanwhile where slots are a node's.
  const int known = n.queued + n.running;
  if (node == nullptr ? in_flight != known : in_flight < known) return "I14: nr_in_flight";
  if (wq->ordered && n.running_items > 1) return "I16: two items of an ordered queue run";
  if (plugged && n.slots > 0) return "I16: a plugged generation runs";
  if (node != nullptr) {
    sync::MutexLock hold(node->lock);  // its neighbours in line belong to other pools
    if (in_line != base::ListLinked(&line_entry.node)) return "I12: in line, or not";
  }
  return nullptr;
}

const char* BrokenInvariant(Workqueue* wq) {
  const char* broken = nullptr;
  wq->ForEachPwq([&broken](Pwq* pwq) {
    sync::MutexLock hold(pwq->pool->lock);
    if (broken == nullptr) broken = pwq->BrokenInvariant();
  });
  if (broken == nullptr && wq->flush.done() > wq->flush.current()) broken = "I14: flush done early";
  return broken;
}

}  // namespace cmwq::wq
