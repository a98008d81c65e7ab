// Small files of /proc and /sys, read without libc and without allocation.

#ifndef CMWQ_RUNTIME_PLATFORM_TEXT_FILE_H_
#define CMWQ_RUNTIME_PLATFORM_TEXT_FILE_H_

#include <cstddef>

#include "runtime/platform/cpu_set.h"

namespace cmwq::platform {

// The start of a file, at most size - 1 bytes, with a NUL behind it. Returns the bytes read, or -errno.
long ReadText(const char* path, char* text, size_t size);
// A CPU list. False: not readable, empty, or no list. One that does not fit ends at its last whole entry.
bool ReadCpuList(const char* path, CpuSet* set);

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_TEXT_FILE_H_
