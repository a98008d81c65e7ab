// IoTable: what is registered under which number (cmwq/io_fixed.h), buffers or files; who uses it, and
// whether the ring knows it.
//
// A registration is a group of successive slots. It changes while the loop's thread tells the ring; then
// nobody finds it.
//
// Not thread-safe: the IoLoop's lock guards all of it.

#ifndef CMWQ_RUNTIME_PLATFORM_IO_TABLE_H_
#define CMWQ_RUNTIME_PLATFORM_IO_TABLE_H_

#include <cstddef>
#include <cstdint>

namespace cmwq::platform {

struct IoSlot {
  enum class State : uint8_t { kFree, kChanging, kRegistered };

  char* data = nullptr;  // a buffer's
  size_t size = 0;
  int fd = -1;           // a file's
  uint32_t users = 0;    // operations that have begun and not ended
  uint32_t nr = 0;       // slots of the group; 0: not its first
  State state = State::kFree;
  bool in_ring = false;
};

class IoTable {
 public:
  static constexpr unsigned kSlots = 4096;

  // The first of `nr` slots, which are changing from then on; -ENOSPC, -ENOMEM. The caller fills them.
  int Reserve(unsigned nr);
  // Any slot that Reserve has returned.
  IoSlot* At(int slot) { return &slots_[slot]; }
  // The slot if it is registered, else null.
  IoSlot* Find(int64_t slot);
  // The first slot of a registered group, else null.
  IoSlot* FindGroup(int64_t first);
  bool InUse(int first) const;
  // The group is registered, or changing.
  void SetState(int first, IoSlot::State state, bool in_ring);
  void Release(int first);
  // The next group after `slot` (-1: the first of all) that is registered, or -1.
  int NextGroup(int slot) const;
  // Child of fork: no ring, no users, and nobody who changes anything.
  void ResetAfterFork();

 private:
  IoSlot* slots_ = nullptr;  // allocated by the first registration, kept
};

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_IO_TABLE_H_
