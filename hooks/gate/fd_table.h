// FdTable: where each descriptor came from, in which gate it is registered, who waits for it.
//
// One entry per descriptor number, in reserved zero pages. Entries outlive the descriptor they
// described: everything read here is checked again by the kernel when it is used.

#ifndef CMWQ_HOOKS_GATE_FD_TABLE_H_
#define CMWQ_HOOKS_GATE_FD_TABLE_H_

#include <atomic>
#include <cstdint>

namespace cmwq::gate {

enum class Origin : uint8_t { kUnknown = 0, kAccepted = 1, kConnected = 2, kOwn = 3 };

struct FdEntry {
  std::atomic<Origin> origin;      // AT(Note*, IsBoundary): relaxed, a stale value is a wrong guess
  std::atomic<uint32_t> home;      // S: of the waiter: epoch and gate that it is registered in; 0: none
  std::atomic<uint32_t> waiter;    // AT(Claim, Unclaim): epoch and member that waits; 0: nobody
};

class FdTable {
 public:
  static constexpr int kMax = 1 << 20;

  // False without address space.
  bool Init();
  FdEntry* At(int fd) const {
    return fd >= 0 && fd < kMax && entries_ != nullptr ? &entries_[fd] : nullptr;
  }

 private:
  FdEntry* entries_ = nullptr;  // I: after Init
};

extern constinit FdTable g_fds;

}  // namespace cmwq::gate

#endif  // CMWQ_HOOKS_GATE_FD_TABLE_H_
