/*
 * A queue that makes progress even when no thread can be created, and telling reports what is done.
 *
 * Prints:
 *   page 1 written
 *   page 2 written
 *   page 3 written
 */
#include <cmwq/cmwq.h>
#include <stdio.h>

struct page {
  struct cmwq_work work;
  int number;
};

/* Must not wait for another item of its queue: the rescuer executes them one by one. */
static void write_page(struct cmwq_work *work) {
  struct page *page = (struct page *)work;
  char desc[32];
  snprintf(desc, sizeof(desc), "page %d", page->number);
  cmwq_set_worker_desc(desc);
  /* The rescuer is there for everybody: what can wait is better left for another time. */
  if (!cmwq_current_is_workqueue_rescuer()) {
    /* ... read ahead, compress ... */
  }
  printf("page %d written\n", page->number);
}

int main(void) {
  struct cmwq_workqueue *wq = cmwq_alloc_workqueue("writeback", CMWQ_MEM_RECLAIM, 1);
  if (wq == NULL) {
    perror("cmwq_alloc_workqueue");
    return 1;
  }
  struct page pages[3];
  for (int i = 0; i < 3; i++) {
    pages[i].number = i + 1;
    cmwq_work_init(&pages[i].work, write_page);
    cmwq_queue_work(wq, &pages[i].work);
    cmwq_flush_work(&pages[i].work);
  }
  cmwq_destroy_workqueue(wq);
  return 0;
}
