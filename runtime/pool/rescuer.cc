#include "runtime/pool/rescuer.h"

#include "runtime/base/test_point.h"
#include "runtime/pool/pool.h"
#include "runtime/pool/pwq_base.h"
#include "runtime/pool/work_link.h"

namespace cmwq::pool {
namespace {

constexpr int kRescuerNice = -20;  // kernel RESCUER_NICE_LEVEL

// The first item may run while no page can be had: make the stack real now.
void TouchStack() {
  constexpr size_t kBytes = 64 * 1024;
  char pages[kBytes];
  for (size_t i = 0; i < kBytes; i += 4096) *const_cast<volatile char*>(&pages[i]) = 1;
}

}  // namespace

Rescuer::Rescuer(platform::Env* env, const char* queue_name) : env_(env) {
  base::RawFormat(name_, sizeof(name_), "wq/R-%s", queue_name);
  word_.Reset(WorkerFlag::kPrep);
  worker_.word = &word_;
  worker_.is_rescuer = true;
}

int Rescuer::Start() {
  if (started_) return 0;
  const int err = env_->CreateThread(&Main, this, 0, &thread_);
  started_ = err == 0;
  return err;
}

void Rescuer::Stop() {
  // In the child of a fork that has not used the engine yet there is no thread to join.
  if (!started_) return;
  started_ = false;
  {
    sync::MutexLock hold(mayday_lock_);
    stop_ = true;
  }
  worker_.parker.Unpark();
  env_->JoinThread(thread_);
}

bool Rescuer::Mayday(PwqBase* pwq) {
  {
    sync::MutexLock hold(mayday_lock_);
    if (base::ListLinked(&pwq->mayday_entry.node)) return false;
    maydays_.PushBack(&pwq->mayday_entry.node);
  }
  worker_.parker.Unpark();
  return true;
}

void* Rescuer::Main(void* arg) {
  Rescuer* const self = static_cast<Rescuer*>(arg);
  platform::NameSelf(self->name_);
  platform::NiceSelf(kRescuerNice);
  TouchStack();
  SetCurrentWorker(&self->worker_);
  self->worker_.tid.store(base::Tid(), std::memory_order_relaxed);
  self->Loop();
  SetCurrentWorker(nullptr);
  return nullptr;
}

void Rescuer::Loop() {
  for (;;) {
    PwqBase* pwq = nullptr;
    bool stop;
    {
      sync::MutexLock hold(mayday_lock_);
      // Read together: a distress call that came before the stop is still served.
      stop = stop_;
      if (base::ListNode* const node = maydays_.PopFront()) {
        pwq = reinterpret_cast<MaydayEntry*>(node)->pwq;
      }
    }
    if (pwq != nullptr) {
      ServePwq(pwq);
    } else if (stop) {
      return;
    } else {
      worker_.parker.Park();
    }
  }
}

bool Rescuer::OthersWait() {
  sync::MutexLock hold(mayday_lock_);
  return !maydays_.empty();
}

void Rescuer::ResetAfterFork(void (*drop)(struct cmwq_work* work)) {
  mayday_lock_.ResetAfterFork();
  // Not node by node: mayday_lock_ was not held at the fork, the list may be half linked.
  base::ListInit(maydays_.head());
  while (base::ListNode* const node = worker_.scheduled.PopFront()) drop(work::WorkOf(node));
  started_ = false;
  stop_ = false;
  worker_.block_depth = 0;
  worker_.described = false;
  worker_.pool = nullptr;
  worker_.current_fn = nullptr;
  worker_.current_work = nullptr;
  worker_.current_pwq = nullptr;
  worker_.parker.Reset();
  word_.Reset(WorkerFlag::kPrep);
}

// Runs items of `pwq` one at a time, each only while its pool still cannot help itself.
// Context: rescuer. Locks: takes the pool's, dropped around each function.
void Rescuer::ServePwq(PwqBase* pwq) {
  WorkerPool* const pool = pwq->pool;
  pool->AttachRescuer(&worker_);
  pool->lock.Lock();
  worker_.pool = pool;
  int served = 0;
  bool again = false;
  // A manager that still struggles keeps the rescuer here even while its need flickers.
  while (NeedToCreateWorker(pool->Counts()) || (pool->managing_ && !OthersWait())) {
    struct cmwq_work* work = nullptr;
    for (base::ListNode* n = pool->worklist_.front(); n != nullptr; n = pool->worklist_.next(n)) {
      struct cmwq_work* const candidate = work::WorkOf(n);
      if (candidate->pwq_ == pwq) {
        work = candidate;
        break;
      }
    }
    if (work == nullptr) break;
    if (served >= kBatch && OthersWait()) {
      again = true;
      break;
    }
    ++pool->progress_;
    if (!pool->AssignWork(work, &worker_)) continue;
    ++served;
    pool->ProcessScheduled(&worker_);
    nr_rescued_.fetch_add(1, std::memory_order_relaxed);
  }
  // Never leave a pool with work and nobody awake.
  Worker* const wake = pool->NeedWake();
  worker_.pool = nullptr;
  pool->lock.Unlock();
  WorkerPool::Wake(wake);
  // Before the pool may go to others.
  pool->DetachRescuer(&worker_);
  // Whoever put the call on the list made it a user of the pool; that ends here, after the last look.
  sync::MutexLock hold(pool->lock);
  if (!again || !Mayday(pwq)) {
    --pwq->mayday_users;
    pool->DropUser();
  }
}

}  // namespace cmwq::pool
