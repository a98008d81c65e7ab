// A queue's half in one pool: slots of max_active, the line for them, leaving.

#include "runtime/wq/ownership.h"
#include "runtime/wq/workqueue.h"

namespace cmwq::wq {
namespace {

constexpr uint32_t kCookieBarrier = 1u << 8;  // the item had no max_active slot

using pool::work::WorkOf;

}  // namespace

const char* Pwq::name() const { return wq->name; }

// acquire: pairs with the store in cmwq_workqueue_set_fail.
cmwq_work_fail_fn Pwq::fail() const { return wq->fail.load(std::memory_order_acquire); }

bool Pwq::IsBarrier(const struct cmwq_work* work) const { return wq::IsBarrier(work->fn_); }

// Context: worker or rescuer, under the pool's lock, right before the function.
uint32_t Pwq::Started(struct cmwq_work* work) {
  const uint64_t old = wq::Leave(WordOf(work));
  return static_cast<uint32_t>(Word::Colour(old)) |
         ((old & Word::kInactive) != 0 ? kCookieBarrier : 0);
}

void Pwq::Finished(uint32_t cookie) {
  Leave(ColourOf(cookie), (cookie & kCookieBarrier) == 0);
}

bool Pwq::TryGetSlot(bool fill) {
  if (plugged) return false;
  if (node == nullptr) {
    if (nr_active >= max_active) return false;
    ++nr_active;
    return true;
  }
  // Who waits in line is served when a slot becomes free. A raised limit frees none: that is what fill is
  // for. In line with nothing waiting (cancelled, or started by a raised limit): perhaps nobody will ever
  // give a slot back, so the item takes its own.
  if (in_line && !fill && !inactive.empty()) return false;
  if (!node->count.TryGet()) {
    sync::MutexLock hold(node->lock);
    if (!in_line) {
      in_line = true;
      node->line.PushBack(&line_entry.node);
      node->count.SetWaiting(node->count.waiting() + 1);
    }
    // Once more: whoever gave a slot back before we were in line has seen nobody there.
    if (!node->count.TryGet()) return false;
  }
  ++nr_active;
  LeaveLineIfEmpty();
  return true;
}

void Pwq::LeaveLine() {
  base::ListUnlink(&line_entry.node);
  in_line = false;
  node->count.SetWaiting(node->count.waiting() - 1);
}

void Pwq::LeaveLineIfEmpty() {
  if (!in_line || !inactive.empty()) return;
  sync::MutexLock hold(node->lock);
  LeaveLine();
}

// The first waiting item and the barriers linked behind it move as one; only the item has a slot.
void Pwq::MoveFirst() {
  base::ListNode* moving = inactive.front();
  bool first = true;
  for (bool linked = true; linked && moving != nullptr; first = false) {
    base::ListNode* const following = inactive.next(moving);
    linked = pool::work::IsLinked(WorkOf(moving));
    base::ListUnlink(moving);
    if (first) WordOf(WorkOf(moving)).fetch_and(~Word::kInactive, std::memory_order_relaxed);
    pool::WorkerPool::Wake(pool->Insert(moving, pool->worklist_head()));
    moving = following;
  }
}

bool Pwq::ActivateFirst(bool fill) {
  if (inactive.empty() || !TryGetSlot(fill)) return false;
  MoveFirst();
  LeaveLineIfEmpty();
  return true;
}

namespace {

// A slot of `node` became free: the first in line that has something waiting gets it, and goes to the
// end of the line if it has more (kernel: node_activate_pending_pwq).
// Locks: `held` is locked on entry and exit, other pools' locks are taken in its place.
void ActivateInLine(NodeLimit* node, pool::WorkerPool* held) CMWQ_NO_TSA {
  pool::WorkerPool* locked = held;
  node->lock.Lock();
  while (base::ListNode* const entry = node->line.front()) {
    Pwq* const pwq = reinterpret_cast<LineEntry*>(entry)->pwq;
    if (pwq->pool != locked) {
      // Pool locks come before the node's, and one at a time. The pwq stays: pwqs live as long as their
      // queue, and the item that gave the slot back still counts as in flight.
      node->lock.Unlock();
      if (locked == held) held->LeaveBoundary();
      locked->lock.Unlock();
      locked = pwq->pool;
      locked->lock.Lock();
      node->lock.Lock();
      continue;
    }
    if (pwq->inactive.empty() || pwq->plugged) {  // cancelled meanwhile; UnplugOldest brings it back
      pwq->LeaveLine();
      continue;
    }
    if (node->count.TryGet()) {
      ++pwq->nr_active;
      pwq->MoveFirst();
      base::ListUnlink(entry);
      node->line.PushBack(entry);
      if (pwq->inactive.empty()) pwq->LeaveLine();
    }
    break;
  }
  node->lock.Unlock();
  if (locked == held) return;
  locked->lock.Unlock();
  held->lock.Lock();
}

}  // namespace

void Pwq::PutSlot() {
  --nr_active;
  CMWQ_ASSERT(nr_active >= 0);
  if (node == nullptr) {
    while (ActivateFirst(false)) {
    }
  } else if (node->count.Put()) {
    ActivateInLine(node, pool);
  }
}

void Pwq::Leave(int item_colour, bool slot) {
  // The item counts as in flight until the end: that keeps the queue alive while other locks are taken.
  if (slot) PutSlot();
  // Again after the lock was dropped: meanwhile the pwq may have been taken into use and retired anew,
  // and whoever retired it has left the rest to us, because we still count.
  while (wq->ordered && !current && !drained && InFlight() == 1) {
    drained = true;
    pool->LeaveBoundary();
    pool->lock.Unlock();
    UnplugOldest(wq);
    pool->lock.Lock();
  }
  CMWQ_ASSERT(nr_in_flight[item_colour] > 0);
  // The current colour is open: reaching zero means nothing to anybody.
  if (--nr_in_flight[item_colour] == 0 && item_colour != colour) wq->flush.Done(item_colour);
  if (!current && uses_pool && Empty()) {
    uses_pool = false;
    pool->DropUser();
  }
}

int Pwq::InFlight() const {
  int n = 0;
  for (int of_colour : nr_in_flight) n += of_colour;
  return n;
}

bool Pwq::Empty() const { return nr_active == 0 && InFlight() == 0 && inactive.empty(); }

void UnplugOldest(Workqueue* wq) {
  Pwq* oldest = nullptr;
  uint64_t lowest = UINT64_MAX;
  // One after the other is enough: what was seen drained stays so, or comes back as the newest.
  wq->ForEachPwq([&](Pwq* pwq) {
    sync::MutexLock hold(pwq->pool->lock);
    if (pwq->drained || pwq->generation >= lowest) return;
    lowest = pwq->generation;
    oldest = pwq;
  });
  if (oldest == nullptr) return;
  sync::MutexLock hold(oldest->pool->lock);
  if (oldest->generation != lowest || !oldest->plugged) return;
  oldest->plugged = false;
  // To the end: what gets no slot must be in line, and a plugged pwq never got in.
  while (oldest->ActivateFirst(true)) {
  }
}

}  // namespace cmwq::wq
