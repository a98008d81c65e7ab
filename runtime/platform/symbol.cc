#include "runtime/platform/symbol.h"

#include <dlfcn.h>

#include <cstdint>
#include <cstring>

#include "runtime/base/raw_log.h"

namespace cmwq::platform {

Symbol::Symbol(const void* address) {
  Dl_info info;
  if (address == nullptr || dladdr(address, &info) == 0 || info.dli_fname == nullptr) {
    base::RawFormat(text, sizeof(text), "%p", const_cast<void*>(address));
    return;
  }
  const char* const slash = strrchr(info.dli_fname, '/');
  const char* const module = slash != nullptr ? slash + 1 : info.dli_fname;
  // Only an exact match is this function: a static one would get the name of its neighbour.
  if (info.dli_sname != nullptr && info.dli_saddr == address) {
    base::RawFormat(text, sizeof(text), "%s (%s)", info.dli_sname, module);
  } else {
    base::RawFormat(text, sizeof(text), "%s+0x%lx", module,
                    static_cast<unsigned long>(reinterpret_cast<uintptr_t>(address) -
                                               reinterpret_cast<uintptr_t>(info.dli_fbase)));
  }
}

}  // namespace cmwq::platform
