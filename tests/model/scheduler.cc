#include "tests/model/scheduler.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace cmwq::model {

World* World::current_ = nullptr;

Cell::Cell(uint64_t initial) : id(World::current()->NewCellId()) {
  history.push_back({initial, View{}});
}

World::World(uint64_t seed, int max_steps)
    : seed_(seed), max_steps_(max_steps), rng_(seed * 0x9e3779b97f4a7c15u + 0x1234567u) {
  machine_ = (seed & 1) != 0 ? Machine::kWeak : Machine::kTso;
  strategy_ = static_cast<Strategy>((seed >> 1) % 3);
  spurious_ = Random(4) == 0;
  // Where the demotions or preemptions fall; the length of a run is not known in advance.
  const uint32_t span = 16u << Random(5);
  for (uint32_t i = Random(4) + 1; i > 0; --i) {
    change_points_.push_back(static_cast<int>(Random(span)));
  }
  current_ = this;
}

World::~World() {
  for (auto& task : tasks_) task->fiber.Discard();
  while (!objects_.empty()) objects_.pop_back();
  current_ = nullptr;
}

void World::Add(const char* name, std::function<void()> body, bool daemon) {
  const int index = static_cast<int>(tasks_.size());
  if (index >= Fiber::kMax) abort();
  tasks_.push_back(std::make_unique<Task>());
  Task& task = *tasks_.back();
  task.name = name;
  task.body = std::move(body);
  task.daemon = daemon;
  task.world = this;
  task.priority = 1 + static_cast<int>(Random(1000));
  task.fiber.Prepare(index, &World::TaskMain, &task);
}

void World::TaskMain(void* arg) {
  Task* task = static_cast<Task*>(arg);
  task->body();
  task->state = State::kDone;  // what is left in its store buffer reaches memory later
  task->world->SwitchToNext();
  abort();  // a finished thread is never picked
}

World::Outcome World::Run() {
  main_.PrepareMain();
  const auto enter = [this] {
    const int first = Pick();
    if (first < 0) return;
    running_ = first;
    Fiber::Switch(&main_, &tasks_[static_cast<size_t>(first)]->fiber);
  };
  enter();
  if (!outcome_.failed && !at_end_.empty()) {
    for (auto& task : tasks_) task->state = State::kDone;
    Add(
        "end",
        [this] {
          for (auto& check : at_end_) check();
        },
        false);
    tasks_.back()->view.fill(0xffff);  // clamped to the end of each history: sees everything
    enter();
  }
  outcome_.steps = step_count_;
  running_ = -1;
  return outcome_;
}

// ---- Randomness -------------------------------------------------------------------------------

uint64_t World::Next64() {
  rng_ += 0x9e3779b97f4a7c15u;  // splitmix64: any seed is a good one
  uint64_t z = rng_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

uint32_t World::Random(uint32_t below) {
  return static_cast<uint32_t>(((Next64() >> 32) * below) >> 32);
}

// ---- Scheduling -------------------------------------------------------------------------------

int World::NewCellId() {
  if (cells_ >= kMaxCells) abort();
  return cells_++;
}

void World::Point() {
  if (++step_count_ > max_steps_) SetFailure("step bound reached: the program does not end");
  SwitchToNext();
}

void World::SwitchToNext() {
  const int from = running_;
  const int next = Pick();
  if (next == from) return;
  running_ = next;
  Fiber* to = next < 0 ? &main_ : &tasks_[static_cast<size_t>(next)]->fiber;
  Fiber::Switch(&tasks_[static_cast<size_t>(from)]->fiber, to);
}

int World::Pick() {
  if (!outcome_.failed) MaybeEnvironment(false);
  for (;;) {
    if (outcome_.failed) return -1;
    const bool any = std::any_of(tasks_.begin(), tasks_.end(),
                                 [](const auto& t) { return t->state == State::kReady; });
    if (any) return PickReady();
    if (Finished()) return -1;
    if (!MaybeEnvironment(true)) ReportDeadlock();
  }
}

// Something that no thread does: a buffered store reaches memory, a deadline passes, a futex wait
// returns for no reason. Forced: nobody can run; spurious returns do not count as a way out then.
bool World::MaybeEnvironment(bool force) {
  if (!force && Random(4) != 0) return false;
  int chosen = -1, choices = 0;
  for (int i = 0; i < static_cast<int>(tasks_.size()); ++i) {
    const Task& task = *tasks_[static_cast<size_t>(i)];
    const bool waits = task.state == State::kFutex;
    const bool may = !task.buffer.empty() || (waits && task.has_deadline) ||
                     (waits && !force && spurious_ && spurious_left_ > 0);
    if (may && Random(static_cast<uint32_t>(++choices)) == 0) chosen = i;
  }
  if (chosen < 0) return false;
  Task& task = *tasks_[static_cast<size_t>(chosen)];
  if (!task.buffer.empty()) {
    Flush(chosen);
    return true;
  }
  task.timed_out = task.has_deadline && (force || !spurious_ || Random(2) == 0);
  if (!task.timed_out) --spurious_left_;
  steps_.push_back({chosen, task.timed_out ? "~time-out" : "~spurious", task.waits_for, 0, 0});
  task.state = State::kReady;
  return true;
}

int World::PickReady() {
  const bool change =
      std::find(change_points_.begin(), change_points_.end(), step_count_) != change_points_.end();
  const bool can_stay =
      running_ >= 0 && tasks_[static_cast<size_t>(running_)]->state == State::kReady;
  if (change && can_stay) self().priority = --lowest_priority_;
  if (strategy_ == Strategy::kFewPreemptions && can_stay && !change && !yielding_) return running_;
  int chosen = -1;
  uint32_t choices = 0;
  for (int i = 0; i < static_cast<int>(tasks_.size()); ++i) {
    const Task& task = *tasks_[static_cast<size_t>(i)];
    if (task.state != State::kReady) continue;
    if (strategy_ == Strategy::kPriority) {
      if (chosen < 0 || task.priority > tasks_[static_cast<size_t>(chosen)]->priority) chosen = i;
    } else if (Random(++choices) == 0) {
      chosen = i;
    }
  }
  return chosen;
}

bool World::Finished() {
  for (const auto& task : tasks_) {
    if (!task->daemon && task->state != State::kDone) return false;
  }
  for (auto& task : tasks_) Drain(*task);
  return true;
}

void World::YieldNow() {
  self().priority = --lowest_priority_;
  yielding_ = true;
  Point();
  yielding_ = false;
}

void World::ReportDeadlock() {
  std::string text = "deadlock:";
  for (const auto& task : tasks_) {
    if (task->state == State::kFutex) text += std::string(" ") + task->name + " waits at futex";
    if (task->state == State::kLock) text += std::string(" ") + task->name + " waits for lock";
    if (task->state == State::kFutex || task->state == State::kLock) {
      text += " " + Describe(task->waits_for) + ";";
    }
  }
  SetFailure(text);
}

void World::FailNow(const char* text) {
  SetFailure(text);
  SwitchToNext();
  abort();  // nobody is picked after a failure
}

// ---- Futex and lock ---------------------------------------------------------------------------

bool World::FutexWait(Cell* cell, uint64_t expected, bool has_deadline) {
  Point();
  Task& task = self();
  Drain(task);  // a system call is a full barrier
  Note("futex_wait", cell, expected, cell->memory());
  if (cell->memory() != expected) return true;
  task.state = State::kFutex;
  task.waits_for = cell;
  task.has_deadline = has_deadline;
  task.timed_out = false;
  task.wait_order = next_wait_++;
  SwitchToNext();
  return !task.timed_out;
}

void World::FutexWake(Cell* cell, int count) {
  Point();
  Drain(self());
  for (int woken = 0; woken < count; ++woken) {
    Task* first = nullptr;
    for (auto& task : tasks_) {
      if (task->state != State::kFutex || task->waits_for != cell) continue;
      if (first == nullptr || task->wait_order < first->wait_order) first = task.get();
    }
    Note(first != nullptr ? "futex_wake" : "futex_wake (nobody)", cell, 0, 0);
    if (first == nullptr) return;
    first->state = State::kReady;
  }
}

void World::LockMutex(const void* mutex, int* owner, View* view) {
  Point();
  if (*owner == running_) FailNow("lock taken twice by one thread");
  while (*owner >= 0) {
    self().state = State::kLock;
    self().waits_for = mutex;
    SwitchToNext();
  }
  *owner = running_;
  Drain(self());
  for (size_t i = 0; i < view->size(); ++i) {
    self().view[i] = std::max(self().view[i], (*view)[i]);
  }
  Note("lock", mutex, 0, 0);
}

void World::UnlockMutex(const void* mutex, int* owner, View* view) {
  Point();
  if (*owner != running_) FailNow("lock released by a thread that does not hold it");
  Drain(self());
  *view = self().view;
  *owner = -1;
  Note("unlock", mutex, 0, 0);
  for (auto& task : tasks_) {
    if (task->state == State::kLock && task->waits_for == mutex) task->state = State::kReady;
  }
}

// ---- Reports ----------------------------------------------------------------------------------

void World::SetFailure(const std::string& text) {
  if (outcome_.failed) return;
  outcome_.failed = true;
  static const char* const kStrategies[] = {"uniform", "priorities", "few preemptions"};
  outcome_.message = text + "\n  seed " + std::to_string(seed_) + " (" +
                     (machine_ == Machine::kTso ? "TSO" : "weak") + ", " +
                     kStrategies[static_cast<int>(strategy_)] + "), step " +
                     std::to_string(step_count_) +
                     "; rerun with CMWQ_MODEL_SEED=" + std::to_string(seed_) + "\n" + Trace();
}

void World::Note(const char* what, const void* where, uint64_t a, uint64_t b) {
  steps_.push_back({running_, what, where, a, b});
}

std::string World::Describe(const void* where) const {
  char text[80];
  for (const Object& object : objects_) {
    const ptrdiff_t offset =
        static_cast<const char*>(where) - static_cast<const char*>(object.start);
    if (offset < 0 || static_cast<size_t>(offset) >= object.size) continue;
    snprintf(text, sizeof(text), "%s+%td", object.name, offset);
    return text;
  }
  snprintf(text, sizeof(text), "%p", where);
  return text;
}

std::string World::Trace() const {
  constexpr size_t kShown = 60;
  std::string out;
  const size_t first = steps_.size() > kShown ? steps_.size() - kShown : 0;
  for (size_t i = first; i < steps_.size(); ++i) {
    const Step& s = steps_[i];
    char text[160];
    snprintf(text, sizeof(text), "    %-10s %-22s %-18s %#llx %#llx\n",
             s.task < 0 ? "?" : tasks_[static_cast<size_t>(s.task)]->name, s.what,
             Describe(s.where).c_str(), static_cast<unsigned long long>(s.a),
             static_cast<unsigned long long>(s.b));
    out += text;
  }
  return out;
}

void Fail(const char* format, ...) {
  char text[256];
  va_list ap;
  va_start(ap, format);
  vsnprintf(text, sizeof(text), format, ap);
  va_end(ap);
  World::current()->FailNow(text);
}

void Yield() { World::current()->YieldNow(); }

}  // namespace cmwq::model
