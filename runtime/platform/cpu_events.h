// The kernel's events about CPUs: uevents, by netlink.

#ifndef CMWQ_RUNTIME_PLATFORM_CPU_EVENTS_H_
#define CMWQ_RUNTIME_PLATFORM_CPU_EVENTS_H_

#include <cstddef>

namespace cmwq::platform {

enum class CpuEvent {
  kCpus,   // a CPU came or went
  kOther,  // something else, or a message that the kernel did not send
  kLost,   // events were dropped: look at everything
  kEnd,    // there will be none
};

class CpuEvents {
 public:
  // In the thread that will wait, before it does. False: there are no events here.
  virtual bool Open() = 0;
  // Sleeps until the next one.
  virtual CpuEvent Wait() = 0;

 protected:
  ~CpuEvents() = default;
};

// What a uevent says: "ACTION@DEVPATH", then "KEY=value" strings, each with a NUL.
CpuEvent ParseUevent(const char* message, size_t size);

// A network namespace that no initial user gave gets no uevents: the socket is made, and stays silent.
class Uevents final : public CpuEvents {
 public:
  // Gives the calling thread a descriptor table of its own, with nothing in it but the socket: programs
  // that close everything do not hurt it, and none of their descriptors is kept open.
  bool Open() override;
  CpuEvent Wait() override;

  // Without a table of its own. buffer: of the socket, in bytes; 0: the default. 0 or -errno.
  int OpenHere(int buffer);
  void Close();
  int fd() const { return fd_; }

 private:
  int fd_ = -1;  // S
};

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_CPU_EVENTS_H_
