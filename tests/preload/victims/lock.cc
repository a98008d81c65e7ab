// Mutexes of every kind, read-write locks, barriers, once: results of free, held and contended
// calls.

#include <threads.h>

#include "tests/preload/victims/support.h"

namespace {

pthread_mutex_t MakeMutex(int type, int robust, int protocol) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, type);
  pthread_mutexattr_setrobust(&attributes, robust);
  pthread_mutexattr_setprotocol(&attributes, protocol);
  pthread_mutex_t mutex;
  REQUIRE(pthread_mutex_init(&mutex, &attributes) == 0);
  return mutex;
}

// What the owner sees when it locks again; only for kinds that report it.
void ShowRelock(pthread_mutex_t& mutex) {
  SHOW(pthread_mutex_lock(&mutex));
  SHOW(pthread_mutex_lock(&mutex));
  SHOW(pthread_mutex_trylock(&mutex));
  const struct timespec past = {};
  SHOW(pthread_mutex_timedlock(&mutex, &past));
  SHOW(pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &past));
  for (int i = 0; i < 6; ++i) SHOW(pthread_mutex_unlock(&mutex));
}

void ShowContended(pthread_mutex_t& mutex) {
  const struct timespec invalid = {0, -1};
  SHOW(pthread_mutex_timedlock(&mutex, &invalid));
  SHOW(pthread_mutex_unlock(&mutex));
  SHOW(pthread_mutex_clocklock(&mutex, 12345, &invalid));
  SHOW(pthread_mutex_unlock(&mutex));
  for (int round = 0; round < 3; ++round) {
    pthread_barrier_t held;
    pthread_barrier_init(&held, nullptr, 2);
    const pid_t waiter = gettid();
    Thread owner([&] {
      pthread_mutex_lock(&mutex);
      pthread_barrier_wait(&held);
      AwaitAsleep(waiter);
      pthread_mutex_unlock(&mutex);
    });
    pthread_barrier_wait(&held);
    SHOW(pthread_mutex_trylock(&mutex));
    const struct timespec soon = In(5);
    SHOW(pthread_mutex_timedlock(&mutex, &invalid));
    if (round == 0) SHOW(pthread_mutex_lock(&mutex));
    if (round == 1) SHOW((pthread_mutex_timedlock(&mutex, &soon)));
    if (round == 2) {
      const struct timespec later = In(60000, CLOCK_MONOTONIC);
      SHOW((pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &later)));
    }
    if (round == 1) pthread_mutex_lock(&mutex);
    SHOW(pthread_mutex_unlock(&mutex));
    owner.Join();
  }
}

void ShowRobust() {
  for (int round = 0; round < 3; ++round) {
    pthread_mutex_t mutex =
        MakeMutex(PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
    Thread([&] { pthread_mutex_lock(&mutex); }).Join();
    const struct timespec later = In(60000);
    if (round == 0) SHOW(pthread_mutex_lock(&mutex));
    if (round == 1) SHOW(pthread_mutex_trylock(&mutex));
    if (round == 2) SHOW((pthread_mutex_timedlock(&mutex, &later)));
    if (round != 1) SHOW(pthread_mutex_consistent(&mutex));
    SHOW(pthread_mutex_unlock(&mutex));
    SHOW(pthread_mutex_lock(&mutex));
    SHOW(pthread_mutex_destroy(&mutex));
  }
}

void Mutexes() {
  const int types[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK,
                       PTHREAD_MUTEX_ADAPTIVE_NP};
  for (const int type : types) {
    for (const int robust : {PTHREAD_MUTEX_STALLED, PTHREAD_MUTEX_ROBUST}) {
      for (const int protocol : {PTHREAD_PRIO_NONE, PTHREAD_PRIO_INHERIT}) {
        if (type == PTHREAD_MUTEX_ADAPTIVE_NP && robust == PTHREAD_MUTEX_ROBUST) continue;
        printf("mutex type %d robust %d protocol %d\n", type, robust, protocol);
        pthread_mutex_t mutex = MakeMutex(type, robust, protocol);
        if (type == PTHREAD_MUTEX_RECURSIVE || type == PTHREAD_MUTEX_ERRORCHECK) {
          ShowRelock(mutex);
        }
        ShowContended(mutex);
      }
    }
  }
  ShowRobust();
}

void RwLocks() {
  pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
  const struct timespec invalid = {0, 1000000000};
  SHOW(pthread_rwlock_timedrdlock(&lock, &invalid));
  SHOW(pthread_rwlock_timedwrlock(&lock, &invalid));
  const struct timespec good = In(60000);
  SHOW(pthread_rwlock_clockrdlock(&lock, 12345, &good));
  SHOW(pthread_rwlock_wrlock(&lock));
  SHOW(pthread_rwlock_rdlock(&lock));
  SHOW(pthread_rwlock_wrlock(&lock));
  SHOW(pthread_rwlock_tryrdlock(&lock));
  SHOW(pthread_rwlock_unlock(&lock));
  SHOW(pthread_rwlock_rdlock(&lock));
  SHOW(pthread_rwlock_tryrdlock(&lock));
  SHOW(pthread_rwlock_trywrlock(&lock));
  struct timespec soon = In(5);
  SHOW(pthread_rwlock_timedwrlock(&lock, &soon));
  soon = In(5, CLOCK_MONOTONIC);
  SHOW(pthread_rwlock_clockwrlock(&lock, CLOCK_MONOTONIC, &soon));
  SHOW(pthread_rwlock_unlock(&lock));
  SHOW(pthread_rwlock_unlock(&lock));
  for (int round = 0; round < 4; ++round) {
    pthread_barrier_t held;
    pthread_barrier_init(&held, nullptr, 2);
    const pid_t waiter = gettid();
    Thread owner([&] {
      pthread_rwlock_wrlock(&lock);
      pthread_barrier_wait(&held);
      AwaitAsleep(waiter);
      pthread_rwlock_unlock(&lock);
    });
    pthread_barrier_wait(&held);
    const struct timespec later = In(60000);
    if (round == 0) SHOW(pthread_rwlock_rdlock(&lock));
    if (round == 1) SHOW(pthread_rwlock_wrlock(&lock));
    if (round == 2) SHOW(pthread_rwlock_timedrdlock(&lock, &later));
    if (round == 3) SHOW(pthread_rwlock_timedwrlock(&lock, &later));
    SHOW(pthread_rwlock_unlock(&lock));
  }
}

int g_once_runs = 0;

void OnceAndBarrier() {
  pthread_once_t once = PTHREAD_ONCE_INIT;
  const auto routine = [] {
    Pause(20000);
    ++g_once_runs;
  };
  Thread other([&] { pthread_once(&once, routine); });
  SHOW(pthread_once(&once, routine));
  other.Join();
  SHOW(pthread_once(&once, routine));
  once_flag flag = ONCE_FLAG_INIT;
  call_once(&flag, routine);
  call_once(&flag, routine);
  printf("once runs %d\n", g_once_runs);
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, nullptr, 2);
  int serial = 0;
  const auto arrive = [&] {
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) {
      __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED);
    }
  };
  Thread peer([&] { arrive(); });
  arrive();
  peer.Join();
  printf("serial threads %d\n", serial);
}

void C11() {
  for (const int type : {mtx_plain | 0, mtx_timed | mtx_recursive}) {
    mtx_t mutex;
    SHOW(mtx_init(&mutex, type));
    SHOW(mtx_lock(&mutex));
    SHOW(mtx_trylock(&mutex));
    if (type != mtx_plain) SHOW(mtx_lock(&mutex));
    const pid_t waiter = gettid();
    pthread_barrier_t held;
    pthread_barrier_init(&held, nullptr, 2);
    for (int i = 0; i < 3; ++i) mtx_unlock(&mutex);
    mtx_destroy(&mutex);
    mtx_init(&mutex, type);
    Thread owner([&] {
      mtx_lock(&mutex);
      pthread_barrier_wait(&held);
      AwaitAsleep(waiter);
      mtx_unlock(&mutex);
    });
    pthread_barrier_wait(&held);
    const struct timespec past = {};
    SHOW(mtx_timedlock(&mutex, &past));
    SHOW(mtx_lock(&mutex));
    SHOW(mtx_unlock(&mutex));
  }
}

}  // namespace

int main() {
  InBothKinds([] {
    Mutexes();
    RwLocks();
    g_once_runs = 0;
    OnceAndBarrier();
    C11();
  });
  return 0;
}
