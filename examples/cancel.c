/*
 * Taking items back, and making them refuse to be queued.
 *
 * Prints:
 *   cancelled: 1, again: 0, executed: 0
 *   the item that queues itself has stopped: 1
 *   disabled while pending: 1, queued: 0
 *   enabled once: 0, twice: 1
 *   enabled and queued: 1, executed: 1
 *   timer disabled: 1, armed: 0
 *   timer enabled once: 0, twice: 1
 */
#include <cmwq/cmwq.h>
#include <cmwq/io.h>
#include <stdio.h>

struct item {
  struct cmwq_work work;
  struct cmwq_workqueue *wq;
  uint32_t word;
};

static void wait_for_word(struct cmwq_work *work) {
  struct item *i = (struct item *)work;
  while (__atomic_load_n(&i->word, __ATOMIC_ACQUIRE) == 0) {
    cmwq_futex_wait(&i->word, 0, CMWQ_NO_TIMEOUT);
  }
}

static void count(struct cmwq_work *work) { ((struct item *)work)->word++; }

static void again(struct cmwq_work *work) { cmwq_queue_work(((struct item *)work)->wq, work); }

static void nothing(struct cmwq_work *work) { (void)work; }

int main(void) {
  struct cmwq_workqueue *wq = cmwq_alloc_ordered_workqueue("cancel", 0);
  if (wq == NULL) {
    perror("cmwq_alloc_ordered_workqueue");
    return 1;
  }

  /* Behind an item that waits, the next one stays pending. */
  struct item first = {.wq = wq}, second = {.wq = wq};
  cmwq_work_init(&first.work, wait_for_word);
  cmwq_work_init(&second.work, count);
  cmwq_queue_work(wq, &first.work);
  cmwq_queue_work(wq, &second.work);
  bool cancelled = cmwq_cancel_work(&second.work);
  printf("cancelled: %d, again: %d, executed: %u\n", cancelled, cmwq_cancel_work(&second.work),
         second.word);

  struct cmwq_workqueue *other = cmwq_alloc_workqueue("again", 0, 0);
  struct item restless = {.wq = other};
  cmwq_work_init(&restless.work, again);
  cmwq_queue_work(other, &restless.work);
  cmwq_cancel_work_sync(&restless.work); /* waits; queueing itself fails meanwhile */
  printf("the item that queues itself has stopped: %d\n", cmwq_work_busy(&restless.work) == 0);

  cmwq_queue_work(wq, &second.work);
  bool pending = cmwq_disable_work(&second.work);
  printf("disabled while pending: %d, queued: %d\n", pending, cmwq_queue_work(wq, &second.work));
  cmwq_disable_work_sync(&second.work); /* a second time */
  bool once = cmwq_enable_work(&second.work);
  printf("enabled once: %d, twice: %d\n", once, cmwq_enable_work(&second.work));
  cmwq_disable_work(&second.work);
  bool queued = cmwq_enable_and_queue_work(wq, &second.work);
  __atomic_store_n(&first.word, 1, __ATOMIC_RELEASE);
  cmwq_futex_wake(&first.word, 1);
  cmwq_flush_work(&second.work);
  printf("enabled and queued: %d, executed: %u\n", queued, second.word);

  struct cmwq_delayed_work timed;
  cmwq_delayed_work_init(&timed, nothing);
  cmwq_queue_delayed_work(wq, &timed, UINT64_C(3600000000000));
  pending = cmwq_disable_delayed_work(&timed);
  printf("timer disabled: %d, armed: %d\n", pending, cmwq_queue_delayed_work(wq, &timed, 1));
  cmwq_disable_delayed_work_sync(&timed);
  once = cmwq_enable_delayed_work(&timed);
  printf("timer enabled once: %d, twice: %d\n", once, cmwq_enable_delayed_work(&timed));

  cmwq_destroy_workqueue(other);
  cmwq_destroy_workqueue(wq);
  return 0;
}
