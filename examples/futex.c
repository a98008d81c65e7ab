/*
 * Waiting for words of memory: how a wait ends, times, parts of a word's waiters, several words.
 *
 * Prints:
 *   changed already: 1
 *   timed out: 1
 *   past deadline: 1
 *   readers woken: 1
 *   one of two words: 1
 */
#include <cmwq/cmwq.h>
#include <cmwq/futex.h>
#include <stdio.h>

static struct cmwq_workqueue *wq;
static struct cmwq_work reader, two_words;
static uint32_t word, other;

enum { READERS = 1, WRITERS = 2 };

static uint32_t load(const uint32_t *w) { return __atomic_load_n(w, __ATOMIC_ACQUIRE); }

static void look(struct cmwq_work *work) {
  (void)work;
  int result = cmwq_futex_wait(&word, 7, CMWQ_NO_TIMEOUT);
  printf("changed already: %d\n", result == -1 && errno == CMWQ_FUTEX_CHANGED);
  result = cmwq_futex_wait(&word, 0, 1000000); /* 1 ms; the next item of this CPU runs meanwhile */
  printf("timed out: %d\n", result == -1 && errno == CMWQ_FUTEX_TIMEOUT);
  result = cmwq_futex_wait_bitset(&word, 0, CMWQ_FUTEX_ANY, 1, CMWQ_FUTEX_AT_MONOTONIC);
  printf("past deadline: %d\n", result == -1 && errno == CMWQ_FUTEX_TIMEOUT);
}

/* Waits as one of the word's readers; wakes that are meant for writers pass by. */
static void read_word(struct cmwq_work *work) {
  (void)work;
  while (load(&word) == 0) cmwq_futex_wait_bitset(&word, 0, READERS, CMWQ_NO_TIMEOUT, 0);
  printf("readers woken: %d\n", load(&word) == 1);
}

static void wait_for_two(struct cmwq_work *work) {
  (void)work;
  const struct cmwq_futex_waiter both[2] = {{&word, 1, 0}, {&other, 0, 0}};
  while (load(&word) == 1 && load(&other) == 0) {
    if (cmwq_futex_waitv(both, 2, CMWQ_NO_TIMEOUT, 0) == -1 && errno == ENOSYS) {
      cmwq_futex_wait(&other, 0, CMWQ_NO_TIMEOUT); /* an old kernel: the one that is changed here */
    }
  }
  printf("one of two words: %d\n", load(&other) == 1);
}

static void change(uint32_t *w, uint32_t bits) {
  __atomic_store_n(w, 1, __ATOMIC_RELEASE);
  cmwq_futex_wake_bitset(w, bits, INT32_MAX, 0);
}

int main(void) {
  wq = cmwq_alloc_workqueue("futex", 0, 0);
  if (wq == NULL) {
    perror("futex");
    return 1;
  }
  struct cmwq_work looker;
  cmwq_work_init(&looker, look);
  cmwq_work_init(&reader, read_word);
  cmwq_work_init(&two_words, wait_for_two);
  cmwq_queue_work(wq, &looker);
  cmwq_flush_work(&looker);
  cmwq_queue_work(wq, &reader);
  change(&word, READERS | WRITERS);
  cmwq_flush_work(&reader);
  cmwq_queue_work(wq, &two_words);
  change(&other, CMWQ_FUTEX_ANY);
  cmwq_flush_work(&two_words);
  cmwq_destroy_workqueue(wq);
  return 0;
}
