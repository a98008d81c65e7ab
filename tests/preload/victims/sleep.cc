// Sleeping, yielding, waiting for signals.

#include <sched.h>
#include <threads.h>

#include "tests/preload/victims/support.h"

namespace {

void Sleeps() {
  const struct timespec brief = {0, 1000000};
  const struct timespec invalid = {0, -1};
  const struct timespec none = {};
  struct timespec left = {};
  SHOW(nanosleep(&brief, &left));
  SHOW(nanosleep(&invalid, &left));
  SHOW(nanosleep(&none, nullptr));
  SHOW(clock_nanosleep(CLOCK_MONOTONIC, 0, &brief, &left));
  SHOW(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &brief, nullptr));
  SHOW(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &brief, nullptr));
  SHOW(clock_nanosleep(12345, 0, &brief, nullptr));
  SHOW(usleep(1000));
  SHOW(sleep(0));
  SHOW(thrd_sleep(&brief, nullptr));
  SHOW(thrd_sleep(&invalid, nullptr));
  SHOW(sched_yield());
  thrd_yield();
}

void SignalWaits() {
  sigset_t set;
  sigset_t old;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &set, &old);
  const pthread_t self = pthread_self();
  siginfo_t info = {};
  const struct timespec none = {};
  const struct timespec brief = {0, 2000000};
  SHOW(sigtimedwait(&set, &info, &none));
  SHOW(sigtimedwait(&set, &info, &brief));
  int signal = 0;
  for (int round = 0; round < 3; ++round) {
    const OnceAsleep send([=] { pthread_kill(self, SIGUSR1); });
    const struct timespec minute = {60, 0};
    if (round == 0) SHOW(sigwait(&set, &signal));
    if (round == 1) SHOW(sigwaitinfo(&set, &info));
    if (round == 2) SHOW(sigtimedwait(&set, &info, &minute));
    printf("signal %d\n", round == 0 ? signal : info.si_signo);
  }
  {
    const OnceAsleep send([=] { pthread_kill(self, SIGUSR1); });
    SHOW(sigsuspend(&old));
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  {
    const OnceAsleep send([=] { pthread_kill(self, SIGUSR1); });
    SHOW(pause());
  }
  {
    const OnceAsleep send([=] { pthread_kill(self, SIGUSR1); });
    SHOW(sigpause(SIGUSR1));
  }
  {
    const OnceAsleep send([=] { pthread_kill(self, SIGUSR1); });
    SHOW(sleep(60) > 0);
  }
  {
    const OnceAsleep send([=] { pthread_kill(self, SIGUSR1); });
    const struct timespec minute = {60, 0};
    struct timespec left = {};
    SHOW(nanosleep(&minute, &left));
    printf("left %d\n", left.tv_sec > 0);
  }
}

}  // namespace

int main() {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  sigaction(SIGUSR1, &action, nullptr);
  InBothKinds([] {
    Sleeps();
    SignalWaits();
  });
  return 0;
}
