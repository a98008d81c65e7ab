/* A C99 program that queues some items and waits for them. */
#include <cmwq/cmwq.h>
#include <stdio.h>

enum { ITEMS = 64 };

static struct cmwq_work works[ITEMS];
static int executed;

static void Count(struct cmwq_work *work) {
  (void)work;
  __atomic_fetch_add(&executed, 1, __ATOMIC_RELAXED);
}

int main(void) {
  struct cmwq_workqueue *wq = cmwq_alloc_workqueue("consumer-c", 0, 0);
  int i;
  if (wq == NULL) return 1;
  for (i = 0; i < ITEMS; ++i) cmwq_work_init(&works[i], Count);
  for (i = 0; i < ITEMS; ++i) {
    if (!cmwq_queue_work(wq, &works[i])) return 2;
  }
  cmwq_flush_workqueue(wq);
  printf("executed %d version %d\n", executed, cmwq_version());
  cmwq_destroy_workqueue(wq);
  return executed == ITEMS ? 0 : 3;
}
