// A library whose constructor says that it is running and waits to be told to go on.

#include <stdlib.h>
#include <unistd.h>

namespace {

int Descriptor(const char* variable) {
  const char* const text = getenv(variable);
  return text != nullptr ? atoi(text) : -1;
}

__attribute__((constructor)) void Loading() {
  char byte = 'x';
  if (write(Descriptor("CMWQ_BENCH_LOADING_FD"), &byte, 1) == 1 &&
      read(Descriptor("CMWQ_BENCH_GO_ON_FD"), &byte, 1) != 1) {
    abort();
  }
}

}  // namespace
