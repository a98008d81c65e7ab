// Every time at which a program can call: constructors, main(), exit handlers, destructors.

#include "tests/preload/victims/support.h"

void UseLibrary();

namespace {

struct Global {
  Global() {
    ServeOneRequest();
    printf("global constructor\n");
  }
  ~Global() {
    ServeOneRequest();
    printf("global destructor\n");
  }
} g_global;

}  // namespace

int main() {
  atexit([] {
    ServeOneRequest();
    Pause(100);
    printf("exit handler\n");
  });
  UseLibrary();
  ServeOneRequest();
  return 0;
}
