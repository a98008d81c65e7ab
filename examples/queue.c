/*
 * A queue, an item in an object of one's own, and waiting for it.
 *
 * Prints:
 *   queued: 1
 *   6 * 7 = 42
 *   idle again: 1
 *   items of the batch: 8
 *   library is not older than the header: 1
 */
#define _GNU_SOURCE /* sched_getcpu */
#include <cmwq/cmwq.h>
#include <sched.h>
#include <stdio.h>

struct product {
  struct cmwq_work work; /* first, so that a cast leads from the item to the object */
  int a, b, result;
};

static void multiply(struct cmwq_work *work) {
  struct product *p = (struct product *)work;
  /* The same item, asked for in another way. */
  if (cmwq_current_work() != work) return;
  p->result = p->a * p->b;
}

int main(void) {
  struct cmwq_workqueue *wq = cmwq_alloc_workqueue("example", 0, 0);
  if (wq == NULL) {
    perror("cmwq_alloc_workqueue");
    return 1;
  }

  struct product p = {.a = 6, .b = 7};
  cmwq_work_init(&p.work, multiply);
  printf("queued: %d\n", cmwq_queue_work(wq, &p.work));
  /* A second cmwq_queue_work would return false for as long as it is pending: one execution is due. */
  cmwq_flush_work(&p.work);
  printf("%d * %d = %d\n", p.a, p.b, p.result);
  printf("idle again: %d\n", cmwq_work_busy(&p.work) == 0);

  /* Many items on one CPU: one of them runs at a time unless it blocks. */
  struct product batch[8];
  int done = 0;
  for (int i = 0; i < 8; i++) {
    batch[i].a = batch[i].b = 1;
    batch[i].result = 0;
    cmwq_work_init(&batch[i].work, multiply);
    cmwq_queue_work_on(sched_getcpu(), wq, &batch[i].work);
  }
  cmwq_flush_workqueue(wq); /* all that were queued before */
  for (int i = 0; i < 8; i++) done += batch[i].result;
  printf("items of the batch: %d\n", done);

  cmwq_destroy_workqueue(wq);
  printf("library is not older than the header: %d\n",
         cmwq_version() >= CMWQ_VERSION_MAJOR * 10000 + CMWQ_VERSION_MINOR * 100);
  return 0;
}
