#include "tests/model/mini_pool.h"

#include <algorithm>

namespace cmwq::model {

using pool::WorkerFlag;

// What pool/trustee.h asks of a pool.
struct MiniPool::TrusteeHost {
  MiniPool* const pool;
  bool leaves = false;

  void LockAttach() { pool->attach_.Lock(); }
  void UnlockAttach() {
    if (pool->defects_.counts_before_placed && !leaves) PlaceNow(true);
    pool->attach_.Unlock();
  }
  void Lock() { pool->lock_.Lock(); }
  void Unlock() {
    pool->away_.store(pool->trustee_.disassociated() ? 1 : 0);
    pool->lock_.Unlock();
  }
  void ReplaceFlags(uint32_t clear, uint32_t set) {
    for (MiniPool::Worker& w : pool->workers_) {
      if (leaves && pool->defects_.zaps_running) {
        w.word.ReplaceFlags(clear, set);
      } else {
        pool->conc_.ReplaceFlags(w.word, clear, set);
      }
    }
    if (leaves && pool->defects_.zaps_running) pool->conc_.Repair(-pool->conc_.RawRunning());
  }
  bool Managed() const { return pool->managing_; }
  void TakeRole() { pool->managing_ = true; }
  bool HasWorkers() const { return pool->nr_workers_ > 0; }
  bool AllIdle() const {
    const bool all = pool->nr_idle_ == pool->nr_workers_ || pool->defects_.butchers_spares;
    return all && pool->head_ == pool->tail_ && !pool->managing_;
  }
  void LetIdleGo() {
    while (pool->nr_idle_ > 0) pool->LetGo(pool->idle_[0]);
  }
  // Points at something: the protocol only hands it on.
  int* NeedWake() {
    const int worker = leaves && pool->defects_.leaves_without_kick ? -1 : pool->NeedWake();
    return worker >= 0 ? &pool->index_[worker] : nullptr;
  }
  void Wake(const int* worker) {
    if (worker != nullptr) pool->Wake(*worker);
  }
  void CallSoon() {
    pool->calls_.store(1);
    ModelSync::FutexWake(&pool->calls_, 1);
  }
  void PlaceNow(bool back) {
    pool->home_ = back;
    for (MiniPool::Worker& w : pool->workers_) {
      if (w.placed) w.home = back;
      Yield();  // a system call
    }
  }
  bool Place(bool back) {
    if (!back || !pool->defects_.counts_before_placed) PlaceNow(back);
    return true;
  }
  uint64_t Now() const { return pool->time_; }
};

MiniPool::MiniPool(uint32_t flags, PoolDefects defects) : flags_(flags), defects_(defects) {
  for (Worker& w : workers_) w.word.Reset(WorkerFlag::kPrep | flags_);
  for (int i = 0; i < kWorkers; ++i) index_[i] = i;
  workers_[0].alive = true;
  workers_[0].born.store(1);
  nr_workers_ = 1;
  EnterIdle(0);
}

void MiniPool::AddWorkers(World& world) {
  static const char* const kNames[kWorkers] = {"worker-0", "worker-1", "worker-2", "worker-3",
                                               "worker-4", "worker-5"};
  for (int i = 0; i < kWorkers; ++i) world.Daemon(kNames[i], [this, i] { WorkerLoop(i); });
}

pool::PoolCounts MiniPool::Counts() const {
  return {head_ != tail_, conc_.nr_running(), nr_idle_, nr_workers_, managing_};
}

void MiniPool::Queue(Item item) {
  lock_.Lock();
  worklist_[tail_++] = std::move(item);
  ++queued_;
  const bool kick = conc_.SetPending(static_cast<uint32_t>(tail_ - head_));
  if (kick && nr_workers_ == 0 && !managing_ && !defects_.nobody_calls) {
    TrusteeHost host{this};
    trustee_.NoWorkers(host);
  }
  const int wake = kick && !defects_.queuer_never_kicks ? NeedWake() : -1;
  if (!kick) ArmDetector(defects_.no_arm_when_queued);
  lock_.Unlock();
  Wake(wake);
}

int MiniPool::NeedWake() const {
  return NeedMoreWorker(Counts()) && nr_idle_ > 0 ? idle_[nr_idle_ - 1] : -1;
}

void MiniPool::Wake(int worker) {
  if (worker >= 0) workers_[worker].parker.Unpark();
}

void MiniPool::Kick() {
  lock_.Lock();
  const int wake = NeedWake();
  lock_.Unlock();
  Wake(wake);
}

void MiniPool::PublishFirstIdle() { first_idle_.store(nr_idle_ > 0 ? idle_[nr_idle_ - 1] : -1); }

bool MiniPool::WantsWatch() const {
  return conc_.nr_pending() > 0 && away_.load() == 0 && first_idle_.load() >= 0;
}

void MiniPool::ArmDetector(bool skip) {
  if (skip || away_.load() != 0 || detector_.load() != 0) return;
  int32_t dormant = 0;
  if (detector_.compare_exchange_strong(dormant, 1, std::memory_order_relaxed)) {
    ModelSync::FutexWake(&detector_, 1);
  }
}

void MiniPool::EnterIdle(int self) {
  MODEL_CHECK(!workers_[self].idle);
  workers_[self].idle = true;
  idle_[nr_idle_++] = self;
  PublishFirstIdle();
  if (head_ != tail_) ArmDetector(defects_.no_arm_when_idle);
}

void MiniPool::LeaveIdle(int self) {
  MODEL_CHECK(workers_[self].idle);
  workers_[self].idle = false;
  int* const end = idle_ + nr_idle_--;
  std::remove(idle_, end, self);
  PublishFirstIdle();
}

void MiniPool::WorkerLoop(int self) {
  for (;;) {
    while (workers_[self].born.load() == 0) ModelSync::FutexWait(&workers_[self].born, 0);
    WorkerLife(self);
  }
}

void MiniPool::WorkerLife(int self) {
  Worker& w = workers_[self];
  attach_.Lock();
  w.home = home_;
  w.placed = true;
  attach_.Unlock();
  for (;;) {
    w.parker.Park();
    lock_.Lock();
    const bool die = w.die;
    lock_.Unlock();
    if (die) {
      attach_.Lock();
      w.placed = false;
      attach_.Unlock();
    }
    ModelLock hold(&lock_);
    if (die) {
      w.born.store(0);
      w.die = w.alive = false;
      return;
    }
    // The token may have been meant for the thread that had this object before.
    if (!w.idle && !defects_.wake_means_idle) continue;
    LeaveIdle(self);
    WorkUntilDone(self);
    EnterIdle(self);
    TrusteeHost host{this};
    if (!defects_.no_look_when_idle) trustee_.WentIdle(host);
  }
}

void MiniPool::LetGo(int worker) {
  LeaveIdle(worker);
  --nr_workers_;
  workers_[worker].die = true;
  Wake(worker);
}

void MiniPool::Cull(int keep) {
  ModelLock hold(&lock_);
  if (nr_idle_ <= keep) return;
  LetGo(idle_[0]);
}

void MiniPool::LeaveCpu() {
  TrusteeHost host{this, true};
  trustee_.Leave(host);
}

void MiniPool::ReturnCpu() {
  TrusteeHost host{this};
  MODEL_CHECK(trustee_.Return(host));
}

// What the manager role asks of the event thread, and a look of the trustee.
void MiniPool::EventTick() {
  lock_.Lock();
  TrusteeHost host{this};
  const pool::Trustee::Next next = trustee_.Tick(host, {1, 2});
  if (next.manage) event_manages_ = true;
  bool create = false;
  if (event_manages_) {
    create = nr_idle_ == 0 && !defects_.role_without_spare;
    if (!create) managing_ = event_manages_ = false;
  }
  look_again_ = next.at_ns != base::kNever || event_manages_;
  lock_.Unlock();
  ++time_;
  if (create) Create(true);
}

void MiniPool::EventLoop() {
  for (;;) {
    while (calls_.load() == 0) ModelSync::FutexWait(&calls_, 0);
    calls_.store(0);
    do {
      EventTick();
      Yield();
    } while (look_again_);
  }
}

void MiniPool::WorkUntilDone(int self) {
  Word& word = workers_[self].word;
  do {
    if (!NeedMoreWorker(Counts())) return;
    bool go_idle = false;
    if (!defects_.start_without_spare && !MayStartWorking(Counts()) && Manage(&go_idle)) {
      if (go_idle) return;
      continue;
    }
    conc_.Running(word);
    conc_.ClearFlags(word, WorkerFlag::kPrep | WorkerFlag::kRebound);
    if (tail_ - head_ > 1) ArmDetector(defects_.no_arm_when_started);
    do {
      if (head_ == tail_) break;
      Execute(self);
      if ((word.Load() & WorkerFlag::kRebound) != 0) conc_.ClearFlags(word, WorkerFlag::kRebound);
    } while (KeepWorking(Counts()));
    if (conc_.SetFlags(word, WorkerFlag::kPrep) && defects_.no_recheck_before_idle) return;
    if (defects_.no_recheck_before_idle) return;
  } while (NeedMoreWorker(Counts()));
}

uint64_t MiniPool::Moves() const {
  uint64_t sum = 0;
  for (const Worker& w : workers_) sum += w.word.Load();
  return sum;
}

// One look without movement is as good as many: the world lets any number of steps pass in each.
bool MiniPool::NeedLasts(bool* go_idle) {
  uint64_t moves = Moves();
  delay_.Begin(0, static_cast<uint64_t>(head_), moves);
  for (;;) {
    lock_.Unlock();
    Yield();
    lock_.Lock();
    if (!NeedToCreateWorker(Counts())) return false;
    const uint64_t now = Moves();
    *go_idle = defects_.idle_when_others_moved && now != moves;
    if (*go_idle) return false;
    moves = now;
    if (delay_.Lasted(0, now, 1, 1, base::kNever)) return true;
  }
}

// The manager role: makes one worker, without the lock, if the need lasts; false if somebody else is at
// it.
bool MiniPool::Manage(bool* go_idle) {
  if (managing_) return false;
  managing_ = true;
  if (!NeedLasts(go_idle)) {
    managing_ = false;
    return true;
  }
  lock_.Unlock();
  const bool created = Create(false);
  lock_.Lock();
  managing_ = event_manages_ = !created;
  if (created) return true;
  TrusteeHost host{this};
  host.CallSoon();
  return true;
}

// Without the lock, by whoever has the role.
bool MiniPool::Create(bool give_up_role) {
  if (failures_ > 0) {
    --failures_;
    return false;
  }
  lock_.Lock();
  int fresh = 0;
  while (fresh < kWorkers && workers_[fresh].alive) ++fresh;
  if (fresh == kWorkers) Fail("the pool needs more workers than the model has");
  Worker& w = workers_[fresh];
  w.alive = true;
  lock_.Unlock();
  w.word.Reset(WorkerFlag::kPrep | flags_);
  w.parker.Reset();
  w.born.store(1);
  ModelSync::FutexWake(&w.born, 1);
  lock_.Lock();
  if (!defects_.attaches_as_made) {
    conc_.ReplaceFlags(w.word, WorkerFlag::kUnbound, flags_ | trustee_.AttachFlags());
  }
  ++nr_workers_;
  EnterIdle(fresh);
  if (give_up_role) managing_ = event_manages_ = false;
  lock_.Unlock();
  Wake(fresh);
  return true;
}

void MiniPool::Execute(int self) {
  Item item = std::move(worklist_[head_++]);
  conc_.LowerPending(static_cast<uint32_t>(tail_ - head_));
  MODEL_CHECK(!Word::Counted(workers_[self].word.Load()) || workers_[self].home);
  const int wake = NeedWake();
  lock_.Unlock();
  Wake(wake);
  item(this, self);
  lock_.Lock();
  conc_.Running(workers_[self].word);
  ++executed_;
}

void MiniPool::Sleeping(int worker) {
  if (conc_.Sleeping(workers_[worker].word) && !defects_.sleeper_never_kicks) Kick();
}

void MiniPool::AnnouncedWait(int worker, int event) {
  Sleeping(worker);
  while (events_[event].load() == 0) ModelSync::FutexWait(&events_[event], 0);
  Running(worker);
}

void MiniPool::SilentWait(int worker, int event) {
  while (events_[event].load() == 0) {
    workers_[worker].off_cpu = true;
    ModelSync::FutexWait(&events_[event], 0);
    workers_[worker].off_cpu = false;
  }
}

void MiniPool::Signal(int event) {
  events_[event].store(1);
  ModelSync::FutexWake(&events_[event], kWorkers);
}

void MiniPool::Detect() {
  bool counted = false;
  for (Worker& w : workers_) {
    const uint32_t seen = w.word.Load();
    if (!Word::Counted(seen)) continue;
    counted = true;
    if (!w.off_cpu || !conc_.Presume(w.word, seen)) continue;
    if (conc_.nr_running() == 0 && !defects_.detector_never_nudges) {
      Wake(first_idle_.load(std::memory_order_acquire));
    }
  }
  if (!counted && !defects_.detector_never_nudges) {
    Wake(first_idle_.load(std::memory_order_acquire));
  }
}

void MiniPool::DetectorLoop() {
  for (;;) {
    if (WantsWatch()) {
      Detect();
      Yield();
      continue;
    }
    detector_.store(0);
    if (defects_.dormant_without_look || !WantsWatch()) {
      while (detector_.load(std::memory_order_relaxed) == 0) ModelSync::FutexWait(&detector_, 0);
    }
    detector_.store(1, std::memory_order_relaxed);
  }
}

void MiniPool::CheckEnd(int expected) {
  MODEL_CHECK(executed_ == expected);
  MODEL_CHECK(head_ == tail_);
  int counted = 0;
  for (const Worker& w : workers_) {
    counted += Word::Counted(w.word.Load()) ? 1 : 0;
    MODEL_CHECK(w.idle == w.alive);
    const bool uncounted = (w.word.Load() & WorkerFlag::kUnbound) != 0;
    MODEL_CHECK(!w.alive || uncounted == (trustee_.disassociated() || flags_ != 0));
    MODEL_CHECK(!w.alive || w.home == !trustee_.disassociated());
  }
  MODEL_CHECK(trustee_.state() != pool::TrusteeState::kButcher || nr_workers_ == 0);
  MODEL_CHECK(counted == 0);
  MODEL_CHECK(conc_.RawRunning() == 0);
  MODEL_CHECK(nr_idle_ == nr_workers_);
}

}  // namespace cmwq::model
