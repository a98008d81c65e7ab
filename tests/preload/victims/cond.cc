// Condition variables and semaphores: woken, timed out, wrong.

#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <threads.h>

#include "tests/preload/victims/support.h"

namespace {

void Conditions() {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
  pthread_mutex_lock(&mutex);
  const struct timespec past = {};
  const struct timespec invalid = {0, -1};
  SHOW(pthread_cond_timedwait(&cond, &mutex, &past));
  SHOW(pthread_cond_timedwait(&cond, &mutex, &invalid));
  SHOW(pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &past));
  SHOW(pthread_cond_clockwait(&cond, &mutex, 12345, &past));
  for (int round = 0; round < 3; ++round) {
    bool told = false;
    const OnceAsleep tell([&] {
      pthread_mutex_lock(&mutex);
      told = true;
      pthread_cond_signal(&cond);
      pthread_mutex_unlock(&mutex);
    });
    int rc = 0;
    const struct timespec real = In(60000);
    const struct timespec monotonic = In(60000, CLOCK_MONOTONIC);
    while (!told && rc == 0) {
      if (round == 0) rc = pthread_cond_wait(&cond, &mutex);
      if (round == 1) rc = pthread_cond_timedwait(&cond, &mutex, &real);
      if (round == 2) rc = pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &monotonic);
    }
    printf("condition round %d: %d\n", round, rc);
  }
  SHOW(pthread_mutex_trylock(&mutex));
  SHOW(pthread_mutex_unlock(&mutex));
}

void C11Conditions() {
  mtx_t mutex;
  cnd_t cond;
  mtx_init(&mutex, mtx_timed);
  cnd_init(&cond);
  mtx_lock(&mutex);
  const struct timespec past = {};
  SHOW(cnd_timedwait(&cond, &mutex, &past));
  bool told = false;
  const OnceAsleep tell([&] {
    mtx_lock(&mutex);
    told = true;
    cnd_signal(&cond);
    mtx_unlock(&mutex);
  });
  int rc = thrd_success;
  while (!told && rc == thrd_success) rc = cnd_wait(&cond, &mutex);
  printf("cnd_wait %d\n", rc);
  SHOW(mtx_unlock(&mutex));
}

void Semaphores() {
  sem_t sem;
  sem_init(&sem, 0, 3);
  const struct timespec past = {};
  const struct timespec invalid = {0, -1};
  SHOW(sem_wait(&sem));
  SHOW(sem_timedwait(&sem, &past));
  SHOW(sem_timedwait(&sem, &invalid));
  SHOW(sem_clockwait(&sem, CLOCK_MONOTONIC, &past));
  SHOW(sem_clockwait(&sem, 12345, &past));
  SHOW(sem_trywait(&sem));
  SHOW(sem_timedwait(&sem, &past));
  SHOW(sem_timedwait(&sem, &invalid));
  for (int round = 0; round < 3; ++round) {
    const OnceAsleep post([&] { sem_post(&sem); });
    const struct timespec real = In(60000);
    const struct timespec monotonic = In(60000, CLOCK_MONOTONIC);
    if (round == 0) SHOW(sem_wait(&sem));
    if (round == 1) SHOW(sem_timedwait(&sem, &real));
    if (round == 2) SHOW(sem_clockwait(&sem, CLOCK_MONOTONIC, &monotonic));
  }
}

void SystemV() {
  const int set = semget(IPC_PRIVATE, 1, 0600);
  REQUIRE(set >= 0);
  struct sembuf up = {0, 1, 0};
  struct sembuf down = {0, -1, 0};
  struct sembuf try_down = {0, -1, IPC_NOWAIT};
  SHOW(semop(set, &up, 1));
  SHOW(semop(set, &down, 1));
  SHOW(semop(set, &try_down, 1));
  const struct timespec soon = {0, 5000000};
  const struct timespec none = {};
  SHOW(semtimedop(set, &down, 1, &soon));
  SHOW(semtimedop(set, &down, 1, &none));
  {
    const OnceAsleep post([&] { semop(set, &up, 1); });
    SHOW(semop(set, &down, 1));
  }
  SHOW(semop(set, nullptr, 1));
  {
    const OnceAsleep destroy([&] { semctl(set, 0, IPC_RMID); });
    SHOW(semop(set, &down, 1));
  }
  SHOW(semop(-1, &down, 1));
}

}  // namespace

int main() {
  InBothKinds([] {
    Conditions();
    C11Conditions();
    Semaphores();
    SystemV();
  });
  return 0;
}
