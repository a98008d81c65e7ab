// A library whose constructor waits: whoever loads it holds the loader's lock meanwhile.

#include <stdlib.h>
#include <unistd.h>

namespace {

__attribute__((constructor)) void Construct() {
  const char* const entered = getenv("CMWQ_TEST_ENTERED_FD");
  const char* const release = getenv("CMWQ_TEST_RELEASE_FD");
  if (entered == nullptr || release == nullptr) return;
  char byte = 'e';
  if (write(atoi(entered), &byte, 1) != 1 || read(atoi(release), &byte, 1) != 1) abort();
}

}  // namespace
