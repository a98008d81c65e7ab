#include "runtime/platform/timer.h"

#include <sys/prctl.h>

#include "runtime/base/check.h"
#include "runtime/base/test_point.h"

namespace cmwq::platform {

// prev is the parent for a first child, the left sibling otherwise, and the node itself for the root.

Timer* TimerHeap::Meld(Timer* a, Timer* b) {
  if (a == nullptr) return b;
  if (b == nullptr) return a;
  if (b->deadline < a->deadline) {
    Timer* const t = a;
    a = b;
    b = t;
  }
  b->prev = a;
  b->next = a->child;
  if (a->child != nullptr) a->child->prev = b;
  a->child = b;
  a->next = nullptr;
  return a;
}

// Two passes: pairs from left to right, then the results from right to left.
Timer* TimerHeap::MeldSiblings(Timer* first) {
  Timer* pairs = nullptr;
  while (first != nullptr) {
    Timer* const a = first;
    Timer* const b = a->next;
    first = b != nullptr ? b->next : nullptr;
    a->next = nullptr;
    if (b != nullptr) b->next = nullptr;
    Timer* const melded = Meld(a, b);
    melded->next = pairs;
    pairs = melded;
  }
  Timer* root = nullptr;
  while (pairs != nullptr) {
    Timer* const next = pairs->next;
    pairs->next = nullptr;
    root = Meld(root, pairs);
    pairs = next;
  }
  return root;
}

void TimerHeap::Insert(Timer* t) {
  CMWQ_ASSERT(!Armed(t));
  t->child = t->next = nullptr;
  root_ = Meld(root_, t);
  root_->prev = root_;
}

void TimerHeap::Remove(Timer* t) {
  CMWQ_ASSERT(Armed(t));
  Timer* const children = MeldSiblings(t->child);
  if (t == root_) {
    root_ = children;
  } else {
    if (t->prev->child == t) {
      t->prev->child = t->next;
    } else {
      t->prev->next = t->next;
    }
    if (t->next != nullptr) t->next->prev = t->prev;
    root_ = Meld(root_, children);
  }
  if (root_ != nullptr) root_->prev = root_;
  t->child = t->next = t->prev = nullptr;
}

bool TimerHeap::Contains(const Timer* t) const {
  for (const Timer* at = root_; at != nullptr;) {
    if (at == t) return true;
    if (at->child != nullptr) {
      at = at->child;
      continue;
    }
    // Up to the nearest ancestor that has a right sibling.
    while (at != root_ && at->next == nullptr) {
      while (at->prev->child != at) at = at->prev;  // leftmost of the siblings
      at = at->prev;
    }
    at = at != root_ ? at->next : nullptr;
  }
  return false;
}

int EventThread::Start() {
  const int err = env_->CreateThread(&Main, this, 0, &thread_);
  started_ = err == 0;
  return err;
}

void EventThread::Stop() {
  if (!started_) return;
  {
    sync::MutexLock lock(mu);
    stop_ = true;
  }
  Poke();
  env_->JoinThread(thread_);
  started_ = false;
}

// Context: any thread that may take kTimer. Locks: mu held.
void EventThread::ArmLocked(Timer* t, uint64_t deadline_ns) {
  t->deadline = deadline_ns;
  heap_.Insert(t);
  // The thread looks at the heap under mu before it sleeps; it needs a wake-up only if it sleeps past
  // the new deadline.
  if (deadline_ns < sleeping_until_) Poke();
}

bool EventThread::DisarmLocked(Timer* t) {
  if (!TimerHeap::Armed(t)) return false;
  heap_.Remove(t);
  return true;
}

void EventThread::ArmSoon(SoonTimer* t, uint64_t delay_ns) {
  t->delay_ns = delay_ns;
  SoonTimer* seen = requests_.load(std::memory_order_relaxed);
  do {
    t->next = seen;
    // Release pairs with the exchange in TakeRequests.
  } while (!requests_.compare_exchange_weak(seen, t, std::memory_order_release,
                                            std::memory_order_relaxed));
  // Whoever put the first one on the list pokes; the token is kept if the thread is not asleep yet.
  if (seen == nullptr) Poke();
}

void EventThread::TakeRequests(uint64_t now) {
  // Acquire pairs with the release in ArmSoon.
  SoonTimer* t = requests_.exchange(nullptr, std::memory_order_acquire);
  while (t != nullptr) {
    SoonTimer* const next = t->next;
    const uint64_t deadline = now + t->delay_ns + t->align_ns - 1;
    if (!TimerHeap::Armed(&t->timer)) ArmLocked(&t->timer, deadline - deadline % t->align_ns);
    t = next;
  }
}

// The lock is not fair: dropped and taken again at once, it would never be seen free by a sleeper that
// has just been woken. Context: RunDue. Locks: drops and retakes mu.
void EventThread::LetOthersIn() {
  std::atomic<int32_t> never{0};
  mu.Unlock();
  sync::RealSync::FutexWait(&never, 0, base::MonotonicNs() + 50'000);  // about one cross-CPU wake-up
  mu.Lock();
}

uint64_t EventThread::RunDue(uint64_t now) {
  // A million timers may be due at once, which takes seconds; who arms one more must not wait for all.
  constexpr int kBatch = 64;
  sync::MutexLock lock(mu);
  TakeRequests(now);
  for (int fired = 0;; ++fired) {
    if (fired == kBatch) {
      fired = 0;
      if (mu.contended()) LetOthersIn();
    }
    Timer* const t = heap_.first();
    if (t == nullptr) return base::kNever;
    if (t->deadline > now) return t->deadline;
    heap_.Remove(t);
    CMWQ_JITTER(true);
    t->fire(t);  // may drop and retake mu: everything is re-read
  }
}

void* EventThread::Main(void* self) {
  NameSelf("wq/event");
  // Delayed work is due when it is due: without this every sleep ends up to 50 us late.
  base::Sys(SYS_prctl, PR_SET_TIMERSLACK, 1);
  static_cast<EventThread*>(self)->Loop();
  return nullptr;
}

void EventThread::Loop() {
  for (;;) {
    RunDue(env_->NowNs());
    uint64_t deadline;
    {
      sync::MutexLock lock(mu);
      if (stop_) return;
      const Timer* const t = heap_.first();
      deadline = t != nullptr ? t->deadline : base::kNever;
      sleeping_until_ = deadline;
    }
    env_->ParkUntil(parker_, deadline);
    sync::MutexLock lock(mu);
    sleeping_until_ = 0;
  }
}

// Context: child of fork, single-threaded. The parent's timers are not ours.
void EventThread::ResetAfterFork(void (*drop)(Timer* t)) {
  mu.ResetAfterFork();
  while (Timer* const t = heap_.first()) {
    heap_.Remove(t);
    drop(t);
  }
  requests_.store(nullptr, std::memory_order_relaxed);
  sleeping_until_ = 0;
  stop_ = false;
  started_ = false;
  parker_.Reset();
}

}  // namespace cmwq::platform
