// refuse LIST COMMAND [ARGUMENT]...: starts a program without these facilities. Exit code 77 with a line
// on standard error if they cannot be taken away here, else the program's.

#include <stdio.h>
#include <unistd.h>

#include "tests/support/refuse.h"

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  std::string why;
  if (!cmwq::test::RefuseFacilities(argv[1], &why)) {
    fprintf(stderr, "refuse: %s\n", why.c_str());
    return 77;
  }
  execvp(argv[2], argv + 2);
  perror(argv[2]);
  return 127;
}
