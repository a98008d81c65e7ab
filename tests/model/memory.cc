// The two memory machines of a World: see scheduler.h.

#include <algorithm>

#include "tests/model/scheduler.h"

namespace cmwq::model {
namespace {

bool Acquires(std::memory_order order) {
  return order == std::memory_order_acquire || order == std::memory_order_consume ||
         order == std::memory_order_acq_rel || order == std::memory_order_seq_cst;
}

bool Releases(std::memory_order order) {
  return order == std::memory_order_release || order == std::memory_order_acq_rel ||
         order == std::memory_order_seq_cst;
}

void Join(View* into, const View& from) {
  for (size_t i = 0; i < into->size(); ++i) (*into)[i] = std::max((*into)[i], from[i]);
}

uint16_t Newest(const Cell* cell) { return static_cast<uint16_t>(cell->history.size() - 1); }

}  // namespace

void World::Flush(int index) {
  Task& task = *tasks_[static_cast<size_t>(index)];
  const Pending oldest = task.buffer.front();
  task.buffer.pop_front();
  oldest.cell->history.back().value = oldest.value;
  steps_.push_back({index, "~reaches memory", oldest.cell, oldest.value, 0});
}

void World::Drain(Task& task) {
  for (const Pending& p : task.buffer) p.cell->history.back().value = p.value;
  task.buffer.clear();
}

uint16_t World::OldestAllowed(const Task& task, const Cell* cell, std::memory_order order) const {
  uint16_t oldest = std::min(task.view[static_cast<size_t>(cell->id)], Newest(cell));
  if (order == std::memory_order_seq_cst) oldest = std::max(oldest, cell->last_seq_cst);
  return oldest;
}

// The thread has read the message at `position`.
void World::Learn(Task& task, Cell* cell, uint16_t position, std::memory_order order) {
  uint16_t& known = task.view[static_cast<size_t>(cell->id)];
  known = std::max(known, position);
  if (Acquires(order)) Join(&task.view, cell->history[position].view);
}

// New stores go to the end of the history. `modify`: continues the release sequence it read from.
void World::Append(Task& task, Cell* cell, uint64_t value, std::memory_order order, bool modify) {
  View view = modify ? cell->history.back().view : View{};
  const uint16_t position = static_cast<uint16_t>(cell->history.size());
  task.view[static_cast<size_t>(cell->id)] = position;
  if (Releases(order)) Join(&view, task.view);
  cell->history.push_back({value, view});
  if (order == std::memory_order_seq_cst) cell->last_seq_cst = position;
}

uint64_t World::Load(Cell* cell, std::memory_order order) {
  if (!InThread()) return cell->memory();
  Point();
  Task& task = self();
  uint64_t value = cell->memory();
  if (machine_ == Machine::kTso) {
    for (const Pending& p : task.buffer) {
      if (p.cell == cell) value = p.value;  // the youngest own store wins
    }
  } else {
    const uint16_t newest = Newest(cell), oldest = OldestAllowed(task, cell, order);
    uint16_t position = newest;
    if (oldest < newest && Random(2) == 0) {
      const uint16_t span = static_cast<uint16_t>(std::min(newest - oldest, 6));
      position = static_cast<uint16_t>(newest - Random(span + 1u));
    }
    value = cell->history[position].value;
    Learn(task, cell, position, order);
  }
  Note("load", cell, value, 0);
  return value;
}

void World::Store(Cell* cell, uint64_t value, std::memory_order order) {
  if (!InThread()) {
    cell->history.back().value = value;
    return;
  }
  Point();
  Task& task = self();
  Note("store", cell, value, static_cast<uint64_t>(order));
  if (machine_ == Machine::kWeak) {
    Append(task, cell, value, order, false);
    return;
  }
  task.buffer.push_back({cell, value});
  if (order == std::memory_order_seq_cst) Drain(task);
}

uint64_t World::Modify(Cell* cell, uint64_t (*op)(uint64_t, uint64_t), uint64_t arg,
                       std::memory_order order) {
  if (InThread()) Point();
  const uint64_t old_on_entry = cell->memory();
  if (!InThread()) {
    cell->history.back().value = op(old_on_entry, arg);
    return old_on_entry;
  }
  Task& task = self();
  Drain(task);
  const uint64_t old = cell->memory();
  const uint64_t value = op(old, arg);
  Note("modify", cell, old, value);
  if (machine_ == Machine::kTso) {
    cell->history.back().value = value;
  } else {
    Learn(task, cell, Newest(cell), order);
    Append(task, cell, value, order, true);
  }
  return old;
}

bool World::CompareExchange(Cell* cell, uint64_t* expected, uint64_t desired,
                            std::memory_order success, std::memory_order failure, bool weak) {
  if (!InThread()) {
    const bool equal = cell->memory() == *expected;
    if (equal)
      cell->history.back().value = desired;
    else
      *expected = cell->memory();
    return equal;
  }
  Point();
  Task& task = self();
  Drain(task);
  uint16_t position = Newest(cell);
  if (machine_ == Machine::kWeak && Random(8) == 0) {
    // A failing exchange is only a load: it may see an outdated value.
    const uint16_t stale = OldestAllowed(task, cell, failure);
    if (cell->history[stale].value != *expected) position = stale;
  }
  const uint64_t seen = cell->history[position].value;
  const bool spurious = weak && Random(16) == 0;
  const bool done = seen == *expected && !spurious;
  Note(done ? "exchange" : "exchange failed", cell, seen, desired);
  if (machine_ == Machine::kWeak) Learn(task, cell, position, done ? success : failure);
  if (!done) {
    *expected = seen;
    return false;
  }
  if (machine_ == Machine::kWeak) {
    Append(task, cell, desired, success, true);
  } else {
    cell->history.back().value = desired;
  }
  return true;
}

}  // namespace cmwq::model
