/*
 * Items behind a timer: queueing later, changing the delay, cancelling, a periodic item.
 *
 * Prints:
 *   armed: 1, again: 0
 *   its timer was changed: 1
 *   executed: 1
 *   flushed instead of waiting an hour: 2
 *   cancelled: 1, again: 0
 *   pinned to a CPU: 1, changed: 1, cancelled: 1
 *   periodic, ticks: 3
 */
#define _GNU_SOURCE /* sched_getcpu */
#include <cmwq/cmwq.h>
#include <cmwq/io.h>
#include <sched.h>
#include <stdio.h>

#define MS UINT64_C(1000000)
#define HOUR (UINT64_C(3600000) * MS)

struct timed {
  struct cmwq_delayed_work dwork; /* first; its item is its own first member */
  struct cmwq_workqueue *wq;
  uint32_t count;
};

static void count(struct cmwq_work *work) { ((struct timed *)work)->count++; }

static void tick(struct cmwq_work *work) {
  struct timed *t = (struct timed *)work;
  if (__atomic_add_fetch(&t->count, 1, __ATOMIC_RELEASE) < 3) {
    cmwq_queue_delayed_work(t->wq, &t->dwork, MS);
  } else {
    cmwq_futex_wake(&t->count, 1);
  }
}

int main(void) {
  struct cmwq_workqueue *wq = cmwq_alloc_workqueue("delayed", 0, 0);
  if (wq == NULL) {
    perror("cmwq_alloc_workqueue");
    return 1;
  }
  const int cpu = sched_getcpu();

  struct timed t = {.wq = wq};
  cmwq_delayed_work_init(&t.dwork, count);
  bool armed = cmwq_queue_delayed_work(wq, &t.dwork, HOUR);
  printf("armed: %d, again: %d\n", armed, cmwq_queue_delayed_work(wq, &t.dwork, MS));
  printf("its timer was changed: %d\n", cmwq_mod_delayed_work(wq, &t.dwork, 0));
  cmwq_flush_work(&t.dwork.work);
  printf("executed: %u\n", t.count);

  cmwq_queue_delayed_work(wq, &t.dwork, HOUR);
  cmwq_flush_delayed_work(&t.dwork);
  printf("flushed instead of waiting an hour: %u\n", t.count);

  cmwq_queue_delayed_work(wq, &t.dwork, HOUR);
  bool cancelled = cmwq_cancel_delayed_work(&t.dwork);
  printf("cancelled: %d, again: %d\n", cancelled, cmwq_cancel_delayed_work(&t.dwork));

  armed = cmwq_queue_delayed_work_on(cpu, wq, &t.dwork, HOUR);
  bool changed = cmwq_mod_delayed_work_on(cpu, wq, &t.dwork, 2 * HOUR);
  cancelled = cmwq_cancel_delayed_work_sync(&t.dwork);
  printf("pinned to a CPU: %d, changed: %d, cancelled: %d\n", armed, changed, cancelled);

  struct timed periodic = {.wq = wq};
  cmwq_delayed_work_init(&periodic.dwork, tick);
  cmwq_queue_delayed_work(wq, &periodic.dwork, MS);
  uint32_t seen;
  while ((seen = __atomic_load_n(&periodic.count, __ATOMIC_ACQUIRE)) < 3) {
    cmwq_futex_wait(&periodic.count, seen, CMWQ_NO_TIMEOUT);
  }
  /* Before the queue goes: it does not know timers that have not expired. */
  cmwq_cancel_delayed_work_sync(&periodic.dwork);
  printf("periodic, ticks: %u\n", periodic.count);

  cmwq_destroy_workqueue(wq);
  return 0;
}
