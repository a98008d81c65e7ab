/*
 * Registered buffers and files: what is used again and again is made known to the kernel once.
 *
 * Prints:
 *   copied: 65536 bytes, the same: 1
 *   while in use: EBUSY 1
 *   beyond the buffer: EFAULT 1
 *   taken back: 1
 */
#define _GNU_SOURCE
#include <cmwq/cmwq.h>
#include <cmwq/futex.h>
#include <cmwq/io_fixed.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 16 };

struct copier {
  struct cmwq_io_work io;
  struct cmwq_workqueue *wq;
  char *memory; /* one block */
  int buffer, from, to;
  bool writing;
  int64_t at, result;
  uint32_t done;
};

static void next(struct copier *c, size_t len) {
  if (c->writing) {
    cmwq_io_write_fixed_work(c->wq, &c->io, c->to, c->memory, len, c->at, c->buffer, CMWQ_NO_TIMEOUT);
  } else {
    cmwq_io_read_fixed_work(c->wq, &c->io, c->from, c->memory, BLOCK, c->at, c->buffer,
                            CMWQ_NO_TIMEOUT);
  }
}

static void moved(struct cmwq_work *work) {
  struct copier *c = (struct copier *)(void *)cmwq_io_work_of(work);
  c->result = c->io.result;
  if (c->result <= 0) { /* the end, or an error */
    __atomic_store_n(&c->done, 1, __ATOMIC_RELEASE);
    cmwq_futex_wake(&c->done, 1);
    return;
  }
  if (c->writing) c->at += c->result;
  c->writing = !c->writing;
  next(c, (size_t)c->result);
}

static bool same(FILE *a, FILE *b) {
  char x[BLOCK], y[BLOCK];
  for (int i = 0; i < BLOCKS; i++) {
    if (pread(fileno(a), x, BLOCK, i * BLOCK) != BLOCK) return false;
    if (pread(fileno(b), y, BLOCK, i * BLOCK) != BLOCK || memcmp(x, y, BLOCK) != 0) return false;
  }
  return true;
}

int main(void) {
  struct copier c = {0};
  FILE *const from = tmpfile(), *const to = tmpfile();
  int ends[2];
  c.wq = cmwq_alloc_workqueue("fixed", 0, 0);
  c.memory = aligned_alloc(BLOCK, BLOCK);
  if (c.wq == NULL || c.memory == NULL || from == NULL || to == NULL || pipe(ends) != 0) return 1;
  for (int i = 0; i < BLOCKS; i++) {
    memset(c.memory, 'a' + i, BLOCK);
    if (pwrite(fileno(from), c.memory, BLOCK, i * BLOCK) != BLOCK) return 1;
  }

  const struct iovec memory = {c.memory, BLOCK};
  const int fds[2] = {fileno(from), fileno(to)};
  c.buffer = cmwq_io_register_buffers(&memory, 1);
  c.from = cmwq_io_register_files(fds, 2);
  if (c.buffer < 0 || c.from < 0) {
    perror("registering");
    return 1;
  }
  c.to = c.from + 1;
  cmwq_io_work_init(&c.io, moved);
  next(&c, BLOCK);
  while (__atomic_load_n(&c.done, __ATOMIC_ACQUIRE) == 0) cmwq_futex_wait(&c.done, 0, CMWQ_NO_TIMEOUT);
  cmwq_flush_io_work(&c.io); /* the last function has returned */
  printf("copied: %d bytes, the same: %d\n", (int)c.at, same(from, to));

  struct copier idle = {.wq = c.wq};
  cmwq_io_work_init(&idle.io, moved);
  cmwq_io_read_fixed_work(c.wq, &idle.io, ends[0], c.memory, 1, -1, c.buffer, CMWQ_NO_TIMEOUT);
  printf("while in use: EBUSY %d\n", !cmwq_io_unregister_buffers(c.buffer) && errno == EBUSY);
  cmwq_cancel_io_work_sync(&idle.io); /* from here on nothing uses the memory */
  cmwq_io_read_fixed_work(c.wq, &idle.io, ends[0], c.memory, BLOCK + 1, -1, c.buffer,
                          CMWQ_NO_TIMEOUT);
  cmwq_flush_io_work(&idle.io);
  printf("beyond the buffer: EFAULT %d\n", idle.result == -EFAULT);
  const bool back = cmwq_io_unregister_buffers(c.buffer) && cmwq_io_unregister_files(c.from);
  printf("taken back: %d\n", back);
  cmwq_destroy_workqueue(c.wq);
  fclose(from);
  fclose(to);
  close(ends[0]);
  close(ends[1]);
  free(c.memory);
  return 0;
}
