// Poller: an epoll set with one-shot interest for operations that wait until their descriptor is ready.
// The way of core/io_loop.h where there is no ring.
//
// Several operations may wait for one descriptor, epoll knows it once: they hang in a table by descriptor,
// and the set asks for what any of them needs. A descriptor stays in the set, disarmed, until it is
// closed; EPOLL_CTL_MOD fails if the number belongs to another file by then.

#ifndef CMWQ_RUNTIME_PLATFORM_POLLER_H_
#define CMWQ_RUNTIME_PLATFORM_POLLER_H_

#include <cstdint>

#include "runtime/platform/completion_ring.h"
#include "runtime/platform/io_kind.h"

namespace cmwq::platform {

// Not thread-safe but for Wait, which looks at nothing but the set.
class Poller {
 public:
  struct Ready {
    int fd;
    short events;
  };
  static constexpr int kBatch = 64;

  // 0 or -errno. Adds the waker's eventfd.
  int Create(Waker* waker);
  // Waits until something is ready, `until_ns`, or the waker. Number of entries in `ready`, of which
  // there are kBatch.
  int Wait(uint64_t until_ns, Ready* ready);

  // 0, or -errno: -EPERM if the file cannot be waited for.
  int Add(Io* io);
  void Remove(Io* io);
  // Takes the operations that `ready` is for off the table, as a list by next_; the others are armed again.
  Io* Take(const Ready& ready);

  void ResetAfterFork();

 private:
  static constexpr unsigned kBuckets = 1024;  // descriptors are dense: chains are short
  Io*& Bucket(int fd) { return table_[static_cast<unsigned>(fd) % kBuckets]; }
  int Arm(int fd);

  int set_ = -1;
  Waker* waker_ = nullptr;
  Io* table_[kBuckets] = {};
};

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_POLLER_H_
