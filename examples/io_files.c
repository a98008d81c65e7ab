/*
 * Vectors, messages and files in work functions: the worker announces each call that may wait.
 *
 * Prints:
 *   through the pipe: hello
 *   through the socket: world
 *   size of the file: 4096
 *   cleaned up: 1
 */
#define _GNU_SOURCE
#include <cmwq/cmwq.h>
#include <cmwq/io.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void move(struct cmwq_work *work) {
  (void)work;
  int pipe_ends[2], pair[2];
  char text[] = "helloworld", buf[16] = "";
  struct iovec out[2] = {{text, 2}, {text + 2, 3}}, in = {buf, sizeof(buf) - 1};
  if (pipe(pipe_ends) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return;
  cmwq_io_writev(pipe_ends[1], out, 2, -1, 0);
  cmwq_io_readv(pipe_ends[0], &in, 1, -1, 0);
  printf("through the pipe: %s\n", buf);
  struct iovec rest = {text + 5, 5};
  struct msghdr sent = {0}, received = {0};
  sent.msg_iov = &rest;
  sent.msg_iovlen = 1;
  received.msg_iov = &in;
  received.msg_iovlen = 1;
  cmwq_io_sendmsg(pair[0], &sent, 0);
  cmwq_io_recvmsg(pair[1], &received, 0);
  printf("through the socket: %s\n", buf);
}

static void use_files(struct cmwq_work *work) {
  (void)work;
  char dir[] = "/tmp/cmwq_example.XXXXXX";
  struct statx st;
  if (mkdtemp(dir) == NULL) return;
  const int at = cmwq_io_openat(AT_FDCWD, dir, O_DIRECTORY | O_CLOEXEC, 0);
  cmwq_io_mkdirat(at, "sub", 0700);
  const int fd = cmwq_io_openat(at, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (cmwq_io_fallocate(fd, 0, 0, 4096) != 0) return;
  cmwq_io_close(fd);
  cmwq_io_renameat(at, "file", at, "sub/moved", 0);
  if (cmwq_io_statx(at, "sub/moved", 0, STATX_SIZE, &st) != 0) return;
  printf("size of the file: %d\n", (int)st.stx_size);
  const int file = cmwq_io_unlinkat(at, "sub/moved", 0);
  const int sub = cmwq_io_unlinkat(at, "sub", AT_REMOVEDIR);
  close(at);
  printf("cleaned up: %d\n", file == 0 && sub == 0 && rmdir(dir) == 0);
}

int main(void) {
  struct cmwq_workqueue *wq = cmwq_alloc_workqueue("files", 0, 0);
  struct cmwq_work works[2];
  if (wq == NULL) return 1;
  cmwq_work_init(&works[0], move);
  cmwq_work_init(&works[1], use_files);
  for (int i = 0; i < 2; i++) {
    cmwq_queue_work(wq, &works[i]);
    cmwq_flush_work(&works[i]);
  }
  cmwq_destroy_workqueue(wq);
  return 0;
}
