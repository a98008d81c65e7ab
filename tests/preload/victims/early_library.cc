// Calls wrapped functions before main() and after exit handlers: in a library's constructor and
// destructor.

#include "tests/preload/victims/support.h"

namespace {

void UseEverything(const char* when) {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  const bool locked = pthread_mutex_lock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0;
  Pause(100);
  ServeOneRequest();
  Thread([] { ServeOneRequest(); }).Join();
  printf("%s %d\n", when, locked);
}

__attribute__((constructor)) void OnLoad() { UseEverything("library constructor"); }
__attribute__((destructor)) void OnUnload() {
  UseEverything("library destructor");
  fflush(stdout);
}

}  // namespace

void UseLibrary() { UseEverything("library"); }
