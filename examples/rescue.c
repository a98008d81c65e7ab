/*
 * A queue that makes progress even when no thread can be created, and telling reports what is done.
 *
 * The other choice: items that come back when there is no thread. And a report of all queues.
 *
 * Prints:
 *   page 1 written
 *   page 2 written
 *   page 3 written
 *   items that cannot be run come back: 1
 *   the report is not empty: 1
 */
#define _POSIX_C_SOURCE 200809L
#include <cmwq/cmwq.h>
#include <stdio.h>
#include <unistd.h>

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

/* Called instead of the function, by a thread that must not be held up. */
static void give_up(struct cmwq_work *work, int err) {
  fprintf(stderr, "page %d was not written: error %d\n", ((struct page *)work)->number, err);
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
  printf("items that cannot be run come back: %d\n", cmwq_workqueue_set_fail(wq, give_up) == 0);

  FILE *report = tmpfile();
  if (report == NULL) return 1;
  cmwq_show_all_workqueues(fileno(report)); /* for a debug command, or a signalfd */
  printf("the report is not empty: %d\n", lseek(fileno(report), 0, SEEK_END) > 0);
  fclose(report);

  cmwq_destroy_workqueue(wq);
  return 0;
}
