/*
 * max_active: how many items of a queue are executed at once. Here all of one CPU.
 *
 * Prints:
 *   2 of 4 have begun, others wait: 1
 *   4 of 4 have begun, others wait: 0
 *   a bound queue has no min_active: 1
 *   an unbound one has: 1
 */
#define _GNU_SOURCE /* sched_getcpu */
#include <cmwq/cmwq.h>
#include <cmwq/io.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>

static uint32_t begun, go_on;

static void add_and_wake(uint32_t *word) {
  __atomic_add_fetch(word, 1, __ATOMIC_ACQ_REL);
  cmwq_futex_wake(word, 100);
}

static void wait_until(uint32_t *word, uint32_t value) {
  uint32_t seen;
  while ((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) < value) {
    cmwq_futex_wait(word, seen, CMWQ_NO_TIMEOUT);
  }
}

/* Waiting in a function of cmwq does not use up the CPU, but it does use up max_active. */
static void hold(struct cmwq_work *work) {
  (void)work;
  add_and_wake(&begun);
  wait_until(&go_on, 1);
}

int main(void) {
  struct cmwq_workqueue *wq = cmwq_alloc_workqueue("limits", 0, 2);
  struct cmwq_workqueue *unbound = cmwq_alloc_workqueue("limits_unbound", CMWQ_UNBOUND, 64);
  if (wq == NULL || unbound == NULL) {
    perror("cmwq_alloc_workqueue");
    return 1;
  }
  const int cpu = sched_getcpu();

  struct cmwq_work works[4];
  for (int i = 0; i < 4; i++) {
    cmwq_work_init(&works[i], hold);
    cmwq_queue_work_on(cpu, wq, &works[i]);
  }
  wait_until(&begun, 2);
  printf("%u of 4 have begun, others wait: %d\n", begun, cmwq_workqueue_congested(cpu, wq));
  cmwq_workqueue_set_max_active(wq, 4);
  wait_until(&begun, 4);
  printf("%u of 4 have begun, others wait: %d\n", begun, cmwq_workqueue_congested(cpu, wq));
  add_and_wake(&go_on);
  cmwq_flush_workqueue(wq);

  bool refused = cmwq_workqueue_set_min_active(wq, 16) == -1 && errno == EINVAL;
  printf("a bound queue has no min_active: %d\n", refused);
  /* Chains of up to 16 items that wait for each other are safe now on any number of nodes. */
  printf("an unbound one has: %d\n", cmwq_workqueue_set_min_active(unbound, 16) == 0);

  cmwq_destroy_workqueue(unbound);
  cmwq_destroy_workqueue(wq);
  return 0;
}
