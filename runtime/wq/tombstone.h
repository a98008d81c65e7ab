// Queues whose handles stay recognisable after their destruction.
//
// Memory of queues is never given back: a destroyed one keeps its first word, which says so, and is used
// for a new queue only after kQuarantine others were destroyed. So a stale handle is recognised by one
// load, without a table; a very stale one may name a newer queue, but never memory that is not a queue.
// The price is the memory of kQuarantine queues (without their pwqs), about 150 KiB at most.

#ifndef CMWQ_RUNTIME_WQ_TOMBSTONE_H_
#define CMWQ_RUNTIME_WQ_TOMBSTONE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace cmwq::wq {

class Tombstone {
 public:
  static constexpr int kQuarantine = 256;

  // False: it was destroyed. Any pointer that alloc ever returned may be asked.
  bool alive() const { return tag_.load(std::memory_order_relaxed) == kAlive; }

  // Memory of a queue, whose first member is a Tombstone. Null without memory.
  static void* Allocate(size_t size);
  static void Bury(void* memory);

 private:
  static constexpr uint64_t kAlive = 0x716d77632d657661, kDead = 0x716d776364656164;
  std::atomic<uint64_t> tag_{kAlive};  // AT(Bury, alive): relaxed, misuse only
};

}  // namespace cmwq::wq

#endif  // CMWQ_RUNTIME_WQ_TOMBSTONE_H_
