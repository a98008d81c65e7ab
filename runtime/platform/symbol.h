// The name of a function, for reports.

#ifndef CMWQ_RUNTIME_PLATFORM_SYMBOL_H_
#define CMWQ_RUNTIME_PLATFORM_SYMBOL_H_

#include <cstddef>

namespace cmwq::platform {

// A function's address as text: "name (module)" where its module exports the name, else
// "module+0xoffset" for addr2line, else the bare address.
// Context: any thread, never under one of our locks (the dynamic linker's lock is taken), not in
// signal handlers. Allocates nothing.
struct Symbol {
  explicit Symbol(const void* address);
  template <class F>
  explicit Symbol(F* function) : Symbol(reinterpret_cast<const void*>(function)) {}
  char text[128];
};

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_SYMBOL_H_
