/*
 * An item that waits for another one of its CPU: said with a blocking region, or built into the call.
 *
 * Prints:
 *   first waits for a semaphore
 *   second posts it
 *   first goes on
 *   third waits for a word
 *   fourth changes it
 *   third goes on
 */
#define _GNU_SOURCE /* sched_getcpu */
#include <cmwq/cmwq.h>
#include <cmwq/futex.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>

static struct cmwq_workqueue *wq;
static struct cmwq_work second, fourth;
static sem_t semaphore;
static uint32_t word;

static void post(struct cmwq_work *work) {
  (void)work;
  printf("second posts it\n");
  sem_post(&semaphore);
}

static void wait_for_post(struct cmwq_work *work) {
  (void)work;
  printf("first waits for a semaphore\n");
  cmwq_queue_work_on(sched_getcpu(), wq, &second);
  cmwq_block_begin(); /* the next item of this CPU may start now */
  sem_wait(&semaphore);
  cmwq_block_end();
  printf("first goes on\n");
}

static void change(struct cmwq_work *work) {
  (void)work;
  printf("fourth changes it\n");
  __atomic_store_n(&word, 1, __ATOMIC_RELEASE);
  cmwq_futex_wake(&word, 1);
}

static void wait_for_change(struct cmwq_work *work) {
  (void)work;
  printf("third waits for a word\n");
  cmwq_queue_work_on(sched_getcpu(), wq, &fourth);
  while (__atomic_load_n(&word, __ATOMIC_ACQUIRE) == 0) {
    cmwq_futex_wait(&word, 0, CMWQ_NO_TIMEOUT); /* no region needed */
  }
  printf("third goes on\n");
}

int main(void) {
  wq = cmwq_alloc_workqueue("blocking", 0, 0);
  if (wq == NULL || sem_init(&semaphore, 0, 0) != 0) {
    perror("blocking");
    return 1;
  }
  struct cmwq_work first, third;
  cmwq_work_init(&first, wait_for_post);
  cmwq_work_init(&second, post);
  cmwq_work_init(&third, wait_for_change);
  cmwq_work_init(&fourth, change);
  cmwq_queue_work(wq, &first);
  cmwq_flush_work(&first);
  cmwq_flush_work(&second);
  cmwq_queue_work(wq, &third);
  cmwq_flush_work(&third);
  cmwq_destroy_workqueue(wq);
  return 0;
}
