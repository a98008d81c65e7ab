#include "runtime/wq/dependency.h"

#include <atomic>
#include <cstring>

#include "runtime/platform/symbol.h"
#include "runtime/sync/mutex.h"
#include "runtime/wq/workqueue.h"

namespace cmwq::wq {
namespace {

// A wait that goes on: an item, the source, waits for an item or a queue.
struct Wait {
  bool used = false;
  const struct cmwq_work* work = nullptr;  // the source
  cmwq_work_fn fn = nullptr;
  const Workqueue* wq = nullptr;
  uint64_t sequence = 0;  // flush sequence with which the source was queued
  char queue[32] = {};
  int tid = 0;
  WaitTarget target;
};

constexpr int kWaits = 64;      // waits at once that are known; further ones are not checked
constexpr int kMaxCycle = 8;    // waits shown of a cycle

constinit sync::Mutex g_lock{sync::Rank::kLeaf};
constinit Wait g_waits[kWaits] CMWQ_GUARDED_BY(g_lock) = {};
#if defined(CMWQ_DEBUG)
constinit WaitGraph g_graph CMWQ_GUARDED_BY(g_lock);
#endif

// True the first time for each key; the table is small, reports are rare.
bool FirstTime(uint64_t key) {
  static constinit std::atomic<uint64_t> seen[64] = {};
  if (key == 0) key = 1;
  for (auto& slot : seen) {
    uint64_t was = 0;
    if (slot.compare_exchange_strong(was, key, std::memory_order_relaxed)) return true;
    if (was == key) return false;
  }
  return false;
}

uint64_t Mix(uint64_t h, const void* p) {
  return (h ^ reinterpret_cast<uintptr_t>(p)) * 0x9e3779b97f4a7c15u;
}

// "f of queue q", or "queue q".
struct Text {
  Text(cmwq_work_fn fn, const char* queue) {
    if (fn == nullptr) {
      base::RawFormat(text, sizeof(text), "queue %s", queue);
    } else if (queue[0] == '\0') {
      base::RawFormat(text, sizeof(text), "%s", platform::Symbol(fn).text);
    } else {
      base::RawFormat(text, sizeof(text), "%s of queue %s", platform::Symbol(fn).text, queue);
    }
  }
  char text[180];
};

// Check 1 (kernel: check_flush_dependency).
void CheckReclaim(const Workqueue* wq, cmwq_work_fn fn, const WaitTarget& target) {
  if ((wq->flags & CMWQ_MEM_RECLAIM) == 0 || (target.flags & CMWQ_MEM_RECLAIM) != 0) return;
  const void* const what = target.fn != nullptr ? reinterpret_cast<const void*>(target.fn) : target.wq;
  if (!FirstTime(Mix(Mix(Mix(1, wq), reinterpret_cast<const void*>(fn)), what))) return;
  const Text waiter(fn, wq->name), waited(target.fn, target.queue);
  base::RawLog(base::LogLevel::kWarn,
               "CMWQ_MEM_RECLAIM: %s waits for %s, which has no rescuer: without new threads neither "
               "would make progress", waiter.text, waited.text);
}

// An item that waits for another one of its own queue, where that cannot start before it ends.
void CheckOwnQueue(const Workqueue* wq, cmwq_work_fn fn, const WaitTarget& target) {
  // With a slot it runs, or will: the limit was lowered after both had theirs.
  if (target.work == nullptr || target.wq != wq || !target.one_at_a_time || !target.no_slot) return;
  if (!FirstTime(Mix(Mix(Mix(4, wq), reinterpret_cast<const void*>(fn)),
                     reinterpret_cast<const void*>(target.fn)))) {
    return;
  }
  const Text waiter(fn, wq->name), waited(target.fn, "");
  base::RawLog(base::LogLevel::kError,
               "deadlock: %s waits for %s of the same queue, which runs one at a time", waiter.text,
               waited.text);
}

// `wait` is one that `target` waits for.
bool Leads(const WaitTarget& target, const Wait& wait) {
  if (!wait.used) return false;
  if (target.work != nullptr) return target.work == wait.work && target.fn == wait.fn;
  // A flush does not wait for what was queued after it.
  return target.wq == wait.wq && wait.sequence <= target.sequence;
}

// Check 2: follows the waits from `start` until one leads back. The number of waits in the cycle, 0: none.
int FindCycle(int start, int* chain) CMWQ_REQUIRES(g_lock) {
  uint64_t visited = 0;
  int depth = 0, next[kMaxCycle] = {};
  chain[0] = start;
  while (depth >= 0) {
    const WaitTarget& target = g_waits[chain[depth]].target;
    if (Leads(target, g_waits[start])) return depth + 1;
    bool deeper = false;
    while (next[depth] < kWaits && depth + 1 < kMaxCycle) {
      const int i = next[depth]++;
      if ((visited >> i & 1) != 0 || !Leads(target, g_waits[i])) continue;
      visited |= uint64_t{1} << i;
      chain[++depth] = i;
      next[depth] = 0;
      deeper = true;
      break;
    }
    if (!deeper) --depth;
  }
  return 0;
}
static_assert(kWaits == 64);

void ReportCycle(const Wait* waits, int n) {
  uint64_t key = 2;
  for (int i = 0; i < n; ++i) key += Mix(Mix(3, waits[i].wq), reinterpret_cast<void*>(waits[i].fn));
  if (!FirstTime(key)) return;
  base::RawLog(base::LogLevel::kError, "deadlock: %d items wait for each other:", n);
  for (int i = 0; i < n; ++i) {
    const Text waiter(waits[i].fn, waits[i].queue);
    const Text waited(waits[i].target.fn, waits[i].target.queue);
    base::RawLog(base::LogLevel::kError, "  tid %d: %s waits for %s", waits[i].tid, waiter.text,
                 waited.text);
  }
}

#if defined(CMWQ_DEBUG)
WaitGraph::Class QueueClass(const Workqueue* wq, const char* name) {
  WaitGraph::Class c;
  c.key = wq;
  base::RawFormat(c.queue, sizeof(c.queue), "%s", name);
  return c;
}

WaitGraph::Class FunctionClass(cmwq_work_fn fn) {
  WaitGraph::Class c;
  c.key = reinterpret_cast<const void*>(fn);
  return c;
}

void ReportPossible(const WaitGraph::Class* chain, int n) {
  base::RawLog(base::LogLevel::kWarn, "possible deadlock: items can come to wait for each other:");
  for (int i = 0; i < n; ++i) {
    const auto fn = reinterpret_cast<cmwq_work_fn>(const_cast<void*>(chain[i].key));
    const Text text(chain[i].queue[0] == '\0' ? fn : nullptr, chain[i].queue);
    base::RawLog(base::LogLevel::kWarn, "  %s%s", i == 0 ? "" : "is or contains what waited for ",
                 text.text);
  }
}

// Check 3. An item "holds" its function and its queue; waiting for an item touches its function, and its
// queue if that runs one at a time or depends on one rescuer; waiting for a queue touches the queue.
void CheckPossible(const Workqueue* wq, cmwq_work_fn fn, const WaitTarget& target, bool cancel) {
  const WaitGraph::Class held[] = {QueueClass(wq, wq->name), FunctionClass(fn)};
  WaitGraph::Class touched[2];
  int n = 0;
  const bool narrow = target.one_at_a_time || (target.flags & CMWQ_MEM_RECLAIM) != 0;
  if (target.work == nullptr || (narrow && !cancel)) touched[n++] = QueueClass(target.wq, target.queue);
  if (target.work != nullptr) touched[n++] = FunctionClass(target.fn);
  for (const WaitGraph::Class& from : held) {
    for (int i = 0; i < n; ++i) {
      // One function may serve many items that wait for each other in a tree.
      if (from.queue[0] == '\0' && from.key == touched[i].key) continue;
      WaitGraph::Class chain[WaitGraph::kMaxChain];
      int length;
      {
        sync::MutexLock hold(g_lock);
        length = g_graph.Add(from, touched[i], chain);
      }
      if (length > 0) ReportPossible(chain, length);
    }
  }
}
#endif

const Workqueue* QueueOf(const pool::Worker* w) { return static_cast<Pwq*>(w->current_pwq)->wq; }

// The flush sequence of the item that `w` executes. It is in flight, so its colour is not done, and no
// other sequence between done and current has the same colour.
uint64_t SequenceOf(const pool::Worker* w) {
  const uint64_t current = QueueOf(w)->flush.current();
  const auto colour = static_cast<uint64_t>(Pwq::ColourOf(w->current_cookie));
  return current - (current - colour) % kColours;
}

}  // namespace

void WaitTarget::Set(const Workqueue* waited, const struct cmwq_work* item) {
  wq = waited;
  memcpy(queue, waited->name, sizeof(queue));
  flags = waited->flags;
  work = item;
  fn = item != nullptr ? item->fn_ : nullptr;
  sequence = waited->flush.current();
}

bool Waiting::Wanted() {
  const pool::Worker* const w = pool::CurrentWorker();
  return w != nullptr && w->current_pwq != nullptr;
}

Waiting::Waiting(const WaitTarget& target, bool cancel) {
  if (!Wanted() || target.wq == nullptr) return;
  const pool::Worker* const w = pool::CurrentWorker();
  const Workqueue* const wq = QueueOf(w);
  if (!cancel) {
    CheckReclaim(wq, w->current_fn, target);
    CheckOwnQueue(wq, w->current_fn, target);
  }
#if defined(CMWQ_DEBUG)
  CheckPossible(wq, w->current_fn, target, cancel);
#endif
  Wait cycle[kMaxCycle];
  int length = 0;
  {
    sync::MutexLock hold(g_lock);
    for (int i = 0; i < kWaits && slot_ < 0; ++i) {
      if (!g_waits[i].used) slot_ = i;
    }
    if (slot_ < 0) return;
    Wait& mine = g_waits[slot_];
    mine.used = true;
    mine.work = w->current_work;
    mine.fn = w->current_fn;
    mine.wq = wq;
    mine.sequence = SequenceOf(w);
    memcpy(mine.queue, wq->name, sizeof(mine.queue));
    mine.tid = w->tid.load(std::memory_order_relaxed);
    mine.target = target;
    int chain[kMaxCycle];
    length = FindCycle(slot_, chain);
    for (int i = 0; i < length; ++i) cycle[i] = g_waits[chain[i]];
  }
  if (length > 0) ReportCycle(cycle, length);
}

Waiting::~Waiting() {
  if (slot_ < 0) return;
  sync::MutexLock hold(g_lock);
  g_waits[slot_].used = false;
}

void ForgetDependencies(const Workqueue* wq) {
#if defined(CMWQ_DEBUG)
  sync::MutexLock hold(g_lock);
  g_graph.Forget(wq);
#else
  (void)wq;
#endif
}

void ResetDependenciesAfterFork() CMWQ_NO_TSA {
  g_lock.ResetAfterFork();
  for (Wait& wait : g_waits) wait.used = false;
}

int WaitGraph::Find(const Class& of) {
  int free = -1;
  for (int i = 0; i < kClasses; ++i) {
    if (classes_[i].key == of.key) return i;
    if (classes_[i].key == nullptr && free < 0) free = i;
  }
  if (free >= 0) classes_[free] = of;
  return free;
}

// The classes from `from` to `to` along edges, both included; 0: there is no way.
int WaitGraph::Path(int from, int to, int* path) const {
  int16_t parent[kClasses];
  memset(parent, -1, sizeof(parent));
  int queue[kClasses], head = 0, tail = 0;
  queue[tail++] = from;
  parent[from] = static_cast<int16_t>(from);
  while (head < tail) {
    const int at = queue[head++];
    if (at == to) {
      int n = 1;
      for (int i = to; i != from; i = parent[i]) ++n;
      int i = to;
      for (int k = n - 1; k >= 0; --k, i = parent[i]) path[k] = i;
      return n;
    }
    for (int next = 0; next < kClasses; ++next) {
      if (!Edge(at, next) || parent[next] >= 0) continue;
      parent[next] = static_cast<int16_t>(at);
      queue[tail++] = next;
    }
  }
  return 0;
}

int WaitGraph::Add(const Class& from, const Class& to, Class* chain) {
  const int a = Find(from), b = Find(to);
  if (a < 0 || b < 0 || Edge(a, b)) return 0;
  int path[kClasses];
  const int n = Path(b, a, path);
  edges_[a][b / 64] |= uint64_t{1} << (b % 64);
  if (n == 0) return 0;
  // a, then the way from b back to a.
  int length = 0;
  chain[length++] = classes_[a];
  for (int i = 0; i < n && length < kMaxChain; ++i) chain[length++] = classes_[path[i]];
  return length;
}

void WaitGraph::Forget(const void* key) {
  for (int i = 0; i < kClasses; ++i) {
    if (classes_[i].key != key) continue;
    classes_[i].key = nullptr;
    for (auto& word : edges_[i]) word = 0;
    for (int j = 0; j < kClasses; ++j) edges_[j][i / 64] &= ~(uint64_t{1} << (i % 64));
  }
}

}  // namespace cmwq::wq
