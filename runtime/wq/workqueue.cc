// Creation, limits and the accounting of queues.

#include "runtime/wq/workqueue.h"

#include <cerrno>
#include <cstring>
#include <new>

#include "runtime/wq/work_word.h"

namespace cmwq::wq {
namespace {

constexpr uint32_t kCookieBarrier = 1u << 8;  // the item had no max_active slot

struct cmwq_work* WorkOf(base::ListNode* node) {
  return base::ListOwner<struct cmwq_work>(node, offsetof(struct cmwq_work, entry_));
}

}  // namespace

int ClampMaxActive(int max_active) {
  if (max_active == 0) return CMWQ_DFL_ACTIVE;
  return max_active > CMWQ_MAX_ACTIVE ? CMWQ_MAX_ACTIVE : max_active;
}

Workqueue::Workqueue(const char* queue_name, unsigned queue_flags, int limit, bool is_ordered,
                     PoolTable* table)
    : flags(queue_flags), ordered(is_ordered), pools(table), saved_max_active(limit) {
  strncpy(name, queue_name, sizeof(name) - 1);
  name[sizeof(name) - 1] = '\0';
  if (strlen(queue_name) >= sizeof(name)) {
    CMWQ_WARN_ONCE("queue name '%s' is longer than 31 bytes and was cut", queue_name);
  }
  base::ListInit(&all_entry);
}

void FreeWorkqueue(Workqueue* wq) {
  if (wq == nullptr) return;
  for (int i = 0; i < wq->nr_pwqs; ++i) delete wq->pwqs[i];
  delete[] wq->pwqs;
  delete wq->rescuer;
  delete wq;
}

namespace {

// Builds the pwqs. False without memory.
bool MakePwqs(Workqueue* wq, int max_active) {
  const bool unbound = (wq->flags & CMWQ_UNBOUND) != 0;
  const int high = (wq->flags & CMWQ_HIGHPRI) != 0 ? 1 : 0;
  const int n = unbound ? 1 : wq->pools->nr_cpu_ids;
  wq->pwqs = new (std::nothrow) Pwq*[n]();
  if (wq->pwqs == nullptr) return false;
  wq->nr_pwqs = n;
  for (int i = 0; i < n; ++i) {
    pool::WorkerPool* const pool =
        unbound ? wq->pools->unbound[high] : wq->pools->per_cpu[high][i];
    if (pool == nullptr) continue;
    Pwq* const pwq = new (std::nothrow) Pwq(wq, pool, max_active);
    if (pwq == nullptr) return false;
    pwq->cpu_intensive = (wq->flags & CMWQ_CPU_INTENSIVE) != 0;
    wq->pwqs[i] = pwq;
  }
  return true;
}

}  // namespace

Workqueue* CreateWorkqueue(const char* name, unsigned flags, int max_active, bool ordered,
                           PoolTable* table, platform::Env* env, int* err) {
  const int limit = ordered ? 1 : ClampMaxActive(max_active);
  Workqueue* const wq = new (std::nothrow) Workqueue(name, flags, limit, ordered, table);
  if (wq == nullptr || !MakePwqs(wq, limit)) {
    *err = ENOMEM;
    FreeWorkqueue(wq);
    return nullptr;
  }
  if ((flags & CMWQ_MEM_RECLAIM) == 0) return wq;
  wq->rescuer = new (std::nothrow) pool::Rescuer(env, wq->name);
  *err = wq->rescuer != nullptr ? wq->rescuer->Start() : ENOMEM;
  if (*err != 0) {
    base::RawLog(base::LogLevel::kWarn, "queue %s: its rescuer cannot be created (errno %d)", name,
                 *err);
    FreeWorkqueue(wq);
    return nullptr;
  }
  wq->ForEachPwq([wq](Pwq* pwq) { pwq->rescuer = wq->rescuer; });
  return wq;
}

void ApplyMaxActive(Workqueue* wq) {
  const int limit =
      (wq->flags & CMWQ_FREEZABLE) != 0 && wq->frozen ? 0 : wq->saved_max_active;
  wq->ForEachPwq([limit](Pwq* pwq) {
    sync::MutexLock hold(pwq->pool->lock);
    pwq->max_active = limit;
    pwq->ActivateInactive();
  });
}

void ResetAfterFork(Workqueue* wq, void (*drop)(struct cmwq_work* work)) {
  wq->mutex.ResetAfterFork();
  wq->flush.done.store(wq->flush.current.load(std::memory_order_relaxed),
                       std::memory_order_relaxed);
  for (auto& n : wq->flush.nr_pwqs) n.store(0, std::memory_order_relaxed);
  wq->nr_drainers.store(0, std::memory_order_relaxed);
  if (wq->rescuer != nullptr) wq->rescuer->ResetAfterFork(drop);
  wq->ForEachPwq([drop](Pwq* pwq) CMWQ_NO_TSA {
    while (base::ListNode* const node = pwq->inactive.PopFront()) drop(WorkOf(node));
    base::ListInit(&pwq->mayday_entry.node);
    pwq->nr_active = 0;
    for (int& n : pwq->nr_in_flight) n = 0;
  });
}

const char* Pwq::name() const { return wq->name; }

// Context: worker or rescuer, under the pool's lock, right before the function.
uint32_t Pwq::Started(struct cmwq_work* work) {
  // seq_cst, twice needed: what the caller did before is visible before PENDING is seen clear, and the
  // function's loads come after it, so that a queuer who was told "pending already" is not missed.
  // Pairs with the read-modify-write in QueueWork.
  const uint64_t old = WordOf(work).fetch_and(Word::kLeaveMask, std::memory_order_seq_cst);
  return static_cast<uint32_t>(Word::Colour(old)) |
         ((old & Word::kInactive) != 0 ? kCookieBarrier : 0);
}

void Pwq::Finished(uint32_t cookie) {
  Leave(static_cast<int>(cookie & 0xf), (cookie & kCookieBarrier) == 0);
}

void Pwq::Leave(int item_colour, bool slot) {
  if (slot) {
    --nr_active;
    CMWQ_ASSERT(nr_active >= 0);
    ActivateInactive();
  }
  CMWQ_ASSERT(nr_in_flight[item_colour] > 0);
  // The current colour is open: reaching zero means nothing to anybody.
  if (--nr_in_flight[item_colour] == 0 && item_colour != colour) ColourDone(wq, item_colour);
}

void Pwq::ActivateInactive() {
  while (nr_active < max_active) {
    base::ListNode* node = inactive.front();
    if (node == nullptr) return;
    ++nr_active;
    // The item and the barriers linked behind it move as one; only the item takes a slot.
    bool first = true;
    for (bool linked = true; linked && node != nullptr; first = false) {
      base::ListNode* const next = inactive.next(node);
      linked = pool::work::IsLinked(WorkOf(node));
      base::ListUnlink(node);
      if (first) WordOf(WorkOf(node)).fetch_and(~Word::kInactive, std::memory_order_relaxed);
      pool::WorkerPool::Wake(pool->Insert(node, pool->worklist_head()));
      node = next;
    }
  }
}

bool Pwq::Empty() const {
  int in_flight = 0;
  for (int n : nr_in_flight) in_flight += n;
  return nr_active == 0 && in_flight == 0 && inactive.empty();
}

}  // namespace cmwq::wq
