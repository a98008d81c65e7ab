// CpuWatch: notices that the grant (cpu_grant.h) has changed, and says so.
//
// A thread of its own sleeps in the socket of the kernel's events, and asks for a look at each. What sends no
// event is found by looking, which is for whoever is awake anyway: Look. An idle process is not woken. The
// thread does not look itself: it has a descriptor table of its own, and threads and descriptors that it
// made would be in that one.
//
// Threads that were placed may be moved without a change of the grant: taskset -a, or kernels before 6.2,
// which forget every mask in a cpuset that changes, be it for a moment. The thread binds itself to one CPU
// and is a specimen: if its mask has changed, so have those of others.

#ifndef CMWQ_RUNTIME_PLATFORM_CPU_WATCH_H_
#define CMWQ_RUNTIME_PLATFORM_CPU_WATCH_H_

#include <atomic>
#include <cstdint>

#include "runtime/platform/cpu_events.h"
#include "runtime/platform/cpu_grant.h"

namespace cmwq::platform {

class CpuWatch {
 public:
  // Called when the grant has changed, or our threads were moved. Not by two threads at once. False: not
  // all could be done, call again at the next look.
  using Changed = bool (*)(const CpuGrant& grant, void* arg);

  // Has a thread that shares the program's descriptors call Look soon. Context: Run, no locks held.
  using Wanted = void (*)(void* arg);

  constexpr CpuWatch(CpuGrantReader* reader, CpuEvents* events, Changed changed, Wanted wanted, void* arg)
      : reader_(reader), events_(events), changed_(changed), wanted_(wanted), arg_(arg) {}

  // Reads everything, and calls Changed if there is something to say; always the first time. Returns at
  // once while another thread does, which then reads once more. Context: as Changed; no locks held; not Run.
  void Look();
  // The thread's body. Returns when there are no events, or no more of them.
  void Run();

  // As of the last look. Context: any.
  uint32_t quota_milli() const { return quota_milli_.load(std::memory_order_relaxed); }
  // Child of fork: the thread is gone, and nothing has been read.
  void ResetAfterFork();

 private:
  void LookOnce();
  bool Moved();

  CpuGrantReader* const reader_;             // S: whoever looks
  CpuEvents* const events_;                  // I
  const Changed changed_;                    // I
  const Wanted wanted_;                      // I
  void* const arg_;                          // I
  std::atomic<uint32_t> looks_{0};           // AT(Look, Look): wanted and not done; 0: nobody looks
  std::atomic<uint32_t> quota_milli_{0};     // AT(LookOnce, quota_milli): relaxed, a number to show
  std::atomic<int> tid_{0};                  // AT(Run, Moved): the thread's; 0: it does not run
  CpuGrant last_;                            // S: whoever looks; what was last said
  bool again_ = true;                        // S: whoever looks; it has to be said again
  CpuSet mark_;                              // S: whoever looks; where the thread was put. Empty: nowhere
  int marked_tid_ = 0;                       // S: whoever looks; the thread that was put there
};

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_CPU_WATCH_H_
