// Run with another preload beside ours: prints how often the other one was reached.

#include <dlfcn.h>

#include "tests/preload/victims/support.h"

namespace {

int Reached(const char* name) {
  const auto count = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, name));
  return count == nullptr ? -1 : count();
}

}  // namespace

int main() {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  const int reads = Reached("OtherReads");
  const int locks = Reached("OtherLocks");
  char byte;
  const int fd = open("/dev/zero", O_RDONLY);
  SHOW(read(fd, &byte, 1));
  SHOW(pthread_mutex_lock(&mutex));
  SHOW(pthread_mutex_unlock(&mutex));
  ServeOneRequest();
  printf("other preload reached %d %d\n", Reached("OtherReads") - reads,
         Reached("OtherLocks") - locks);
  return 0;
}
