#include "runtime/platform/text_file.h"

#include <fcntl.h>

#include "runtime/base/sys.h"

namespace cmwq::platform {

long ReadText(const char* path, char* text, size_t size) {
  text[0] = '\0';
  const long fd = base::Sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  size_t used = 0;
  long n = 0;
  while (used < size - 1) {
    n = base::Sys(SYS_read, fd, text + used, size - 1 - used);
    if (n <= 0) break;
    used += static_cast<size_t>(n);
  }
  base::SysClose(static_cast<int>(fd));
  text[used] = '\0';
  return n < 0 && used == 0 ? n : static_cast<long>(used);
}

bool ReadCpuList(const char* path, CpuSet* set) {
  char text[16384];
  const long n = ReadText(path, text, sizeof(text));
  if (n <= 0) return false;
  auto used = static_cast<size_t>(n);
  if (used == sizeof(text) - 1) {
    while (used > 0 && text[used - 1] != ',') --used;
    if (used > 0) --used;
    text[used] = '\0';
  }
  return set->Parse(text) && !set->Empty();
}

}  // namespace cmwq::platform
