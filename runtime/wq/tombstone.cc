#include "runtime/wq/tombstone.h"

#include <new>

#include "runtime/base/check.h"

namespace cmwq::wq {
namespace {

// What a destroyed queue's memory looks like. The first word is Tombstone's.
struct Dead {
  uint64_t tag;
  Dead* next;
};

// A ring and a stack without locks: a fork at any moment leaves them usable.
constinit std::atomic<Dead*> g_quarantine[Tombstone::kQuarantine] = {};  // AT(Bury)
constinit std::atomic<uint32_t> g_next{0};                               // AT(Bury)
// Out of quarantine. Taken off as a whole, so that no node can be gone and back (ABA).
constinit std::atomic<Dead*> g_reusable{nullptr};  // AT(Push, Allocate)
// All objects have one size, or they could not take each other's places.
constinit std::atomic<size_t> g_size{0};           // AT(Allocate)

// Puts the chain from `first` on the stack.
void Push(Dead* first) {
  Dead* last = first;
  while (last->next != nullptr) last = last->next;
  Dead* seen = g_reusable.load(std::memory_order_relaxed);
  do {
    last->next = seen;
    // release: pairs with the exchange in Allocate.
  } while (!g_reusable.compare_exchange_weak(seen, first, std::memory_order_release,
                                             std::memory_order_relaxed));
}

}  // namespace

void* Tombstone::Allocate(size_t size) {
  size_t known = 0;
  g_size.compare_exchange_strong(known, size, std::memory_order_relaxed);
  CMWQ_ASSERT(known == 0 || known == size);
  // acquire: pairs with the exchange in Push.
  if (Dead* const dead = g_reusable.exchange(nullptr, std::memory_order_acquire)) {
    if (dead->next != nullptr) Push(dead->next);
    return dead;
  }
  return ::operator new(size, std::nothrow);
}

void Tombstone::Bury(void* memory) {
  if (memory == nullptr) return;
  // The object is over; this is raw memory now, whose first word is still read by holders of handles.
  Dead* const dead = static_cast<Dead*>(memory);
  __atomic_store_n(&dead->tag, kDead, __ATOMIC_RELAXED);
  const uint32_t at = g_next.fetch_add(1, std::memory_order_relaxed) % kQuarantine;
  Dead* const old = g_quarantine[at].exchange(dead, std::memory_order_acq_rel);
  if (old == nullptr) return;
  old->next = nullptr;
  Push(old);
}

}  // namespace cmwq::wq
