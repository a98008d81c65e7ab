/*
 * The default queues, and calls on given CPUs.
 *
 * Prints:
 *   percpu executed
 *   highpri executed
 *   long executed
 *   freezable executed
 *   dfl executed
 *   dfl_long executed
 *   called on a CPU: 42
 *   called on all CPUs: 1
 */
#define _GNU_SOURCE /* CPU_COUNT, sched_getcpu */
#include <cmwq/system_wq.h>
#include <sched.h>
#include <stdio.h>

struct named {
  struct cmwq_work work;
  const char *name;
};

static void print(struct cmwq_work *work) { printf("%s executed\n", ((struct named *)work)->name); }

static int try_queue(struct cmwq_workqueue *wq, const char *name) {
  struct named item = {.name = name};
  if (wq == NULL) {
    perror(name);
    return 1;
  }
  cmwq_work_init(&item.work, print);
  cmwq_queue_work(wq, &item.work);
  cmwq_flush_work(&item.work); /* the item, not the queue: others use it as well */
  return 0;
}

static long add_one(void *arg) { return *(long *)arg + 1; }

static int calls;

static void count(struct cmwq_work *work) {
  (void)work;
  __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
}

int main(void) {
  /* Before the runtime starts: these are the CPUs that it uses. */
  cpu_set_t cpus;
  sched_getaffinity(0, sizeof(cpus), &cpus);

  int failed = 0;
  failed += try_queue(cmwq_system_percpu_wq(), "percpu");
  failed += try_queue(cmwq_system_highpri_wq(), "highpri");
  failed += try_queue(cmwq_system_long_wq(), "long");
  failed += try_queue(cmwq_system_freezable_wq(), "freezable");
  failed += try_queue(cmwq_system_dfl_wq(), "dfl");
  failed += try_queue(cmwq_system_dfl_long_wq(), "dfl_long");

  long value = 41;
  printf("called on a CPU: %ld\n", cmwq_work_on_cpu(sched_getcpu(), add_one, &value));
  if (cmwq_schedule_on_each_cpu(count) != 0) failed++;
  printf("called on all CPUs: %d\n", calls == CPU_COUNT(&cpus));
  return failed != 0;
}
