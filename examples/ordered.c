/*
 * An ordered queue, and draining: items that queue further items of their queue.
 *
 * Prints:
 *   a 0
 *   b 1
 *   c 2
 *   chain of 5 is done
 */
#include <cmwq/cmwq.h>
#include <stdio.h>

struct step {
  struct cmwq_work work;
  struct cmwq_workqueue *wq;
  char name;
  int *counter; /* without a lock: one item at a time */
};

static void print(struct cmwq_work *work) {
  struct step *s = (struct step *)work;
  printf("%c %d\n", s->name, (*s->counter)++);
}

static void count_down(struct cmwq_work *work) {
  struct step *s = (struct step *)work;
  if (--*s->counter > 0) cmwq_queue_work(s->wq, work); /* allowed while the queue is drained */
}

int main(void) {
  struct cmwq_workqueue *wq = cmwq_alloc_ordered_workqueue("ordered", 0);
  if (wq == NULL) {
    perror("cmwq_alloc_ordered_workqueue");
    return 1;
  }

  int counter = 0;
  struct step steps[3];
  for (int i = 0; i < 3; i++) {
    steps[i] = (struct step){.wq = wq, .name = (char)('a' + i), .counter = &counter};
    cmwq_work_init(&steps[i].work, print);
    cmwq_queue_work(wq, &steps[i].work);
  }
  cmwq_flush_workqueue(wq);

  int left = 5;
  struct step chain = {.wq = wq, .counter = &left};
  cmwq_work_init(&chain.work, count_down);
  cmwq_queue_work(wq, &chain.work);
  cmwq_drain_workqueue(wq); /* a flush would wait for the first link only */
  printf("chain of 5 is %s\n", left == 0 ? "done" : "broken");

  cmwq_destroy_workqueue(wq);
  return 0;
}
