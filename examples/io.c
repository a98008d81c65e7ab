/*
 * Input and output in work functions: the worker lets the next one start while it waits.
 *
 * Prints:
 *   nothing to read yet: 1
 *   slept: 1
 *   read from the pipe: hello
 *   the server got: ping
 *   the client got: pong
 *   read from the file: file
 */
#define _GNU_SOURCE
#include <cmwq/cmwq.h>
#include <cmwq/io.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static int pipe_ends[2], listener;
static struct sockaddr_un address;
static socklen_t address_len;

static void read_pipe(struct cmwq_work *work) {
  (void)work;
  printf("nothing to read yet: %d\n", cmwq_io_poll(pipe_ends[0], POLLIN, 0) == 0);
  printf("slept: %d\n", cmwq_io_sleep(1000000) == 0);
  cmwq_io_write(pipe_ends[1], "hello", 5, -1);
  char buf[16] = "";
  cmwq_io_read(pipe_ends[0], buf, sizeof(buf) - 1, -1);
  printf("read from the pipe: %s\n", buf);
}

static void serve(struct cmwq_work *work) {
  (void)work;
  char buf[16] = "";
  const int fd = cmwq_io_accept(listener, NULL, NULL, SOCK_CLOEXEC);
  cmwq_io_recv(fd, buf, sizeof(buf) - 1, 0);
  printf("the server got: %s\n", buf);
  cmwq_io_send(fd, "pong", 4, 0);
  close(fd);
}

static void ask(struct cmwq_work *work) {
  (void)work;
  char buf[16] = "";
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (cmwq_io_connect(fd, (struct sockaddr *)&address, address_len) != 0) return;
  cmwq_io_send(fd, "ping", 4, 0);
  cmwq_io_recv(fd, buf, sizeof(buf) - 1, 0);
  printf("the client got: %s\n", buf);
  close(fd);
}

static void use_file(struct cmwq_work *work) {
  (void)work;
  char buf[16] = "";
  FILE *file = tmpfile();
  if (file == NULL) return;
  const int fd = fileno(file);
  cmwq_io_write(fd, "a file", 6, 0); /* at offset 0, as pwrite */
  if (cmwq_io_fsync(fd, true) != 0) return;
  cmwq_io_read(fd, buf, sizeof(buf) - 1, 2);
  printf("read from the file: %s\n", buf);
  fclose(file);
}

int main(void) {
  struct cmwq_workqueue *wq = cmwq_alloc_workqueue("io", 0, 0);
  listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  address.sun_family = AF_UNIX;
  address_len = sizeof(address);
  /* An address without a name: the system chooses one. */
  if (wq == NULL || listener < 0 || pipe(pipe_ends) != 0 ||
      bind(listener, (struct sockaddr *)&address, sizeof(address.sun_family)) != 0 ||
      getsockname(listener, (struct sockaddr *)&address, &address_len) != 0 ||
      listen(listener, 8) != 0) {
    perror("io");
    return 1;
  }

  struct cmwq_work works[4];
  cmwq_work_fn functions[4] = {read_pipe, serve, ask, use_file};
  for (int i = 0; i < 4; i++) cmwq_work_init(&works[i], functions[i]);
  cmwq_queue_work(wq, &works[0]);
  cmwq_flush_work(&works[0]);
  /* Both wait for each other, on the same CPU perhaps. */
  cmwq_queue_work(wq, &works[1]);
  cmwq_queue_work(wq, &works[2]);
  cmwq_flush_work(&works[1]);
  cmwq_flush_work(&works[2]);
  cmwq_queue_work(wq, &works[3]);
  cmwq_flush_work(&works[3]);
  cmwq_destroy_workqueue(wq);
  return 0;
}
