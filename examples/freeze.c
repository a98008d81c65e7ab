/*
 * Freezing: freezable queues begin no item until they are thawed.
 *
 * Prints:
 *   still running: 0
 *   frozen, executed: 0
 *   thawed, executed: 1
 */
#include <cmwq/cmwq.h>
#include <stdio.h>

static int executed;

static void execute(struct cmwq_work *work) {
  (void)work;
  executed++;
}

int main(void) {
  struct cmwq_workqueue *wq = cmwq_alloc_workqueue("freeze", CMWQ_FREEZABLE, 0);
  if (wq == NULL) {
    perror("cmwq_alloc_workqueue");
    return 1;
  }
  struct cmwq_work work;
  cmwq_work_init(&work, execute);

  cmwq_freeze_workqueues_begin();
  /* What runs already goes on: a program polls until this is false. */
  printf("still running: %d\n", cmwq_freeze_workqueues_busy());
  cmwq_queue_work(wq, &work);
  printf("frozen, executed: %d\n", executed);
  cmwq_thaw_workqueues();
  cmwq_flush_work(&work);
  printf("thawed, executed: %d\n", executed);

  cmwq_destroy_workqueue(wq);
  return 0;
}
