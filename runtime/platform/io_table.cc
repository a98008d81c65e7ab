#include "runtime/platform/io_table.h"

#include <cerrno>
#include <new>

namespace cmwq::platform {

using State = IoSlot::State;

int IoTable::Reserve(unsigned nr) {
  if (slots_ == nullptr) slots_ = new (std::nothrow) IoSlot[kSlots];
  if (slots_ == nullptr) return -ENOMEM;
  unsigned found = 0;
  for (unsigned i = 0; i < kSlots; ++i) {
    found = slots_[i].state == State::kFree ? found + 1 : 0;
    if (found < nr) continue;
    const unsigned first = i + 1 - nr;
    for (unsigned k = first; k <= i; ++k) {
      slots_[k] = IoSlot();
      slots_[k].state = State::kChanging;
    }
    slots_[first].nr = nr;
    return static_cast<int>(first);
  }
  return -ENOSPC;
}

IoSlot* IoTable::Find(int64_t slot) {
  if (slots_ == nullptr || slot < 0 || slot >= static_cast<int64_t>(kSlots)) return nullptr;
  return slots_[slot].state == State::kRegistered ? &slots_[slot] : nullptr;
}

IoSlot* IoTable::FindGroup(int64_t first) {
  IoSlot* const slot = Find(first);
  return slot != nullptr && slot->nr > 0 ? slot : nullptr;
}

bool IoTable::InUse(int first) const {
  for (unsigned i = 0; i < slots_[first].nr; ++i) {
    if (slots_[static_cast<unsigned>(first) + i].users > 0) return true;
  }
  return false;
}

void IoTable::SetState(int first, State state, bool in_ring) {
  for (unsigned i = 0; i < slots_[first].nr; ++i) {
    IoSlot& slot = slots_[static_cast<unsigned>(first) + i];
    slot.state = state;
    slot.in_ring = in_ring;
  }
}

void IoTable::Release(int first) {
  const unsigned nr = slots_[first].nr;
  for (unsigned i = 0; i < nr; ++i) slots_[static_cast<unsigned>(first) + i] = IoSlot();
}

int IoTable::NextGroup(int slot) const {
  if (slots_ == nullptr) return -1;
  for (unsigned i = static_cast<unsigned>(slot + 1); i < kSlots; ++i) {
    if (slots_[i].nr > 0 && slots_[i].state == State::kRegistered) return static_cast<int>(i);
  }
  return -1;
}

void IoTable::ResetAfterFork() {
  if (slots_ == nullptr) return;
  for (unsigned i = 0; i < kSlots; ++i) {
    if (slots_[i].state == State::kChanging) slots_[i] = IoSlot();
    slots_[i].users = 0;
    slots_[i].in_ring = false;
  }
}

}  // namespace cmwq::platform
