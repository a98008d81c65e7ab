// Creating, joining and ending threads; where they run; what their last destructors may call.

#include <sched.h>
#include <threads.h>

#include <vector>

#include "tests/preload/victims/support.h"

namespace {

pthread_key_t g_key;
int g_rounds = 0;
pthread_mutex_t g_mutex = PTHREAD_MUTEX_INITIALIZER;

// Calls wrapped functions in every destructor round.
void OnExit(void* value) {
  pthread_mutex_lock(&g_mutex);
  ++g_rounds;
  pthread_mutex_unlock(&g_mutex);
  Pause(100);
  ServeOneRequest();
  pthread_setspecific(g_key, value);
}

struct CallsAtExit {
  ~CallsAtExit() {
    Pause(100);
    ServeOneRequest();
  }
};

void Ends() {
  Thread([] {
    static thread_local CallsAtExit last;
    (void)last;
    pthread_setspecific(g_key, &g_key);
    ServeOneRequest();
  }).Join();
  printf("rounds %d\n", g_rounds);
  pthread_t thread;
  void* result = nullptr;
  SHOW(pthread_create(
      &thread, nullptr,
      [](void*) -> void* {
        ServeOneRequest();
        pthread_exit(reinterpret_cast<void*>(5));
      },
      nullptr));
  SHOW(pthread_join(thread, &result));
  printf("result %ld\n", reinterpret_cast<long>(result));
}

void Joins() {
  pthread_t sleeper;
  pthread_barrier_t end;
  pthread_barrier_init(&end, nullptr, 2);
  pthread_create(
      &sleeper, nullptr,
      [](void* barrier) -> void* {
        pthread_barrier_wait(static_cast<pthread_barrier_t*>(barrier));
        return nullptr;
      },
      &end);
  const struct timespec past = {};
  SHOW(pthread_tryjoin_np(sleeper, nullptr));
  SHOW(pthread_timedjoin_np(sleeper, nullptr, &past));
  SHOW(pthread_clockjoin_np(sleeper, nullptr, CLOCK_MONOTONIC, &past));
  SHOW(pthread_join(pthread_self(), nullptr));
  {
    const OnceAsleep release([&] { pthread_barrier_wait(&end); });
    SHOW(pthread_join(sleeper, nullptr));
  }
  thrd_t c11;
  int result = 0;
  SHOW(thrd_create(
      &c11, [](void*) { return 11; }, nullptr));
  SHOW(thrd_join(c11, &result));
  printf("result %d\n", result);
}

// What libc says of a thread, and what a thread that is created like it gets.
void ShowAttributes(const char* whose, pthread_t thread, const cpu_set_t& all) {
  pthread_attr_t attributes;
  SHOW(pthread_getattr_np(thread, &attributes));
  cpu_set_t mask;
  SHOW(pthread_attr_getaffinity_np(&attributes, sizeof(mask), &mask));
  printf("%s attributes %d\n", whose, CPU_EQUAL(&all, &mask));
  // Not its stack, which is in use.
  pthread_attr_t alike;
  pthread_attr_init(&alike);
  SHOW(pthread_attr_setaffinity_np(&alike, sizeof(mask), &mask));
  pthread_t twin;
  cpu_set_t twins;
  SHOW(pthread_create(
      &twin, &alike,
      [](void* out) -> void* {
        ServeOneRequest();
        sched_getaffinity(0, sizeof(cpu_set_t), static_cast<cpu_set_t*>(out));
        return nullptr;
      },
      &twins));
  pthread_join(twin, nullptr);
  printf("%s twin %d\n", whose, CPU_EQUAL(&all, &twins));
  pthread_attr_destroy(&alike);
  pthread_attr_destroy(&attributes);
}

// A thread that is created for a CPU stays there.
void CreatedForOne(const cpu_set_t& one) {
  Thread([&one] {
    ServeOneRequest();
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    SHOW(pthread_attr_setaffinity_np(&attributes, sizeof(one), &one));
    pthread_t thread;
    cpu_set_t mask;
    SHOW(pthread_create(
        &thread, &attributes,
        [](void* out) -> void* {
          ServeOneRequest();
          auto* const seen = static_cast<cpu_set_t*>(out);
          sched_getaffinity(0, sizeof(cpu_set_t), seen);
          return reinterpret_cast<void*>(CPU_ISSET(sched_getcpu(), seen) ? 1L : 0L);
        },
        &mask));
    void* there = nullptr;
    SHOW(pthread_join(thread, &there));
    printf("created for one %d there %ld\n", CPU_EQUAL(&one, &mask), reinterpret_cast<long>(there));
    pthread_attr_destroy(&attributes);
  }).Join();
}

void Placement() {
  cpu_set_t all;
  CPU_ZERO(&all);
  SHOW(sched_getaffinity(0, sizeof(all), &all));
  printf("cpus %d\n", CPU_COUNT(&all));
  cpu_set_t mask;
  CPU_ZERO(&mask);
  SHOW(pthread_getaffinity_np(pthread_self(), sizeof(mask), &mask));
  printf("same %d\n", CPU_EQUAL(&all, &mask));
  SHOW(sched_getaffinity(gettid(), sizeof(mask), &mask) >= 0);
  printf("same %d\n", CPU_EQUAL(&all, &mask));
  SHOW(sched_getaffinity(0, 1, &mask));
  SHOW(sched_getaffinity(999999, sizeof(mask), &mask));
  // A thread made here starts where the program meant it to.
  Thread([&] {
    cpu_set_t inherited;
    sched_getaffinity(0, sizeof(inherited), &inherited);
    printf("inherited %d\n", CPU_EQUAL(&all, &inherited));
    ServeOneRequest();
    const pthread_t self = pthread_self();
    ShowAttributes("own", self, all);
    Thread([&, self] {
      ShowAttributes("another's", self, all);
      cpu_set_t seen;
      SHOW(pthread_getaffinity_np(self, sizeof(seen), &seen));
      printf("seen %d\n", CPU_EQUAL(&all, &seen));
    }).Join();
  }).Join();
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu) {
    if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
  }
  CreatedForOne(one);
  Thread([&] {
    ServeOneRequest();
    SHOW(pthread_setaffinity_np(pthread_self(), sizeof(one), &one));
    ServeOneRequest();
    SHOW(sched_getaffinity(0, sizeof(mask), &mask) >= 0);
    printf("one %d\n", CPU_EQUAL(&one, &mask));
    SHOW(sched_setaffinity(0, sizeof(all), &all));
    ServeOneRequest();
    SHOW(sched_getaffinity(0, sizeof(mask), &mask) >= 0);
    printf("all %d\n", CPU_EQUAL(&all, &mask));
    cpu_set_t empty;
    CPU_ZERO(&empty);
    SHOW(sched_setaffinity(0, sizeof(empty), &empty));
  }).Join();
}

// Serves in a thread with hardly any stack.
void SmallStack() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  SHOW(pthread_attr_setstacksize(&attributes, 16384));
  pthread_t thread;
  SHOW(pthread_create(
      &thread, &attributes,
      [](void*) -> void* {
        ServeOneRequest();
        Pause(100);
        char byte = 'x';
        Connection connection;
        REQUIRE(write(connection.client, &byte, 1) == 1);
        REQUIRE(read(connection.server, &byte, 1) == 1);
        pthread_mutex_lock(&g_mutex);
        pthread_mutex_unlock(&g_mutex);
        return nullptr;
      },
      nullptr));
  SHOW(pthread_join(thread, nullptr));
}

}  // namespace

int main() {
  pthread_key_create(&g_key, &OnExit);
  InBothKinds([] {
    g_rounds = 0;
    Ends();
    Joins();
    Placement();
    SmallStack();
  });
  return 0;
}
