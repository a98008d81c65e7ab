// Children: waited for, spawned, forked from a process of many threads, which both go on working.

#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <vector>

#include "tests/preload/victims/support.h"

extern char** environ;

namespace {

// A status as the child meant it.
int Exit(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status); }

pid_t Child(int status) {
  const pid_t child = fork();
  if (child == 0) {
    ServeOneRequest();
    Pause(3000);
    _exit(status);
  }
  return child;
}

void Waits() {
  int status = 0;
  pid_t child = Child(1);
  SHOW(waitpid(child, &status, WNOHANG));
  SHOW(waitpid(child, &status, 0) == child);
  printf("exit %d\n", Exit(status));
  child = Child(2);
  struct rusage usage;
  SHOW(wait4(child, &status, 0, &usage) == child);
  printf("exit %d\n", Exit(status));
  child = Child(3);
  siginfo_t info = {};
  SHOW(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED));
  printf("exit %d\n", info.si_status);
  child = Child(4);
  SHOW(wait(&status) == child);
  printf("exit %d\n", Exit(status));
  child = Child(5);
  SHOW(wait3(&status, 0, &usage) == child);
  printf("exit %d\n", Exit(status));
  SHOW(wait(&status));
  SHOW(waitpid(-1, &status, 0));
  SHOW(waitid(P_ALL, 0, &info, WEXITED | WNOHANG));
}

void Programs() {
  SHOW(Exit(system("exit 7")));
  SHOW(system(nullptr));
  FILE* stream = popen("echo hello; exit 3", "r");
  char line[32] = {};
  SHOW(fgets(line, sizeof(line), stream) != nullptr);
  printf("read %s", line);
  SHOW(Exit(pclose(stream)));
  pid_t child = 0;
  char name[] = "sh";
  char option[] = "-c";
  char script[] = "exit 9";
  char* argv[] = {name, option, script, nullptr};
  int status = 0;
  SHOW(posix_spawn(&child, "/bin/sh", nullptr, nullptr, argv, environ));
  SHOW(waitpid(child, &status, 0) == child);
  printf("exit %d\n", Exit(status));
  SHOW(posix_spawnp(&child, "sh", nullptr, nullptr, argv, environ));
  SHOW(waitpid(child, &status, 0) == child);
  printf("exit %d\n", Exit(status));
  SHOW(posix_spawnp(&child, "no-such-program", nullptr, nullptr, argv, environ));
  child = vfork();
  if (child == 0) {
    // Closes what the parent's threads use, in its memory but not in its table.
    for (int fd = 3; fd < 64; ++fd) close(fd);
    execve("/bin/sh", argv, environ);
    _exit(127);
  }
  SHOW(waitpid(child, &status, 0) == child);
  printf("exit %d\n", Exit(status));
}

// Threads serve requests while the process forks; children and parent serve on.
void ForkWhileServing() {
  constexpr int kThreads = 8;
  bool stop = false;
  std::vector<Thread*> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.push_back(new Thread([&] {
      while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        ServeOneRequest();
        Pause(2000);  // leaves the children a share of a small machine
      }
    }));
  }
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      ServeOneRequest();
      Thread([] { ServeOneRequest(); }).Join();
      const pid_t grandchild = fork();
      if (grandchild == 0) {
        ServeOneRequest();
        _exit(21);
      }
      int status = 0;
      waitpid(grandchild, &status, 0);
      _exit(Exit(status) == 21 ? 42 : 1);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    if (Exit(status) != 42) printf("child %d: %d\n", i, Exit(status));
  }
  __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
  for (Thread* thread : threads) delete thread;
  printf("forked\n");
}

}  // namespace

int main() {
  InBothKinds([] {
    Waits();
    Programs();
    ForkWhileServing();
  });
  // _exit() must keep its status and skip the exit handlers.
  atexit([] { printf("not printed\n"); });
  fflush(stdout);
  _exit(0);
}
