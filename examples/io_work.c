/*
 * Operations that queue an item when they have ended. Nobody waits for them meanwhile; this program does,
 * with flush, to print in order.
 *
 * Prints:
 *   accepted and connected: 1
 *   received: hello
 *   writable: 1
 *   in time: 0
 *   taken back: 1, nothing was called: 1
 *   ended early: 1
 *   through the pipe: vector
 *   message: msg
 *   the file has 8192 bytes, the data at 3: file
 *   cleaned up: 1
 */
#define _GNU_SOURCE
#include <cmwq/cmwq.h>
#include <cmwq/io_work.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct request {
  struct cmwq_io_work io;
  int64_t result;
  int calls;
};

static struct cmwq_workqueue *wq;

static void done(struct cmwq_work *work) {
  struct request *r = (struct request *)(void *)cmwq_io_work_of(work);
  r->result = r->io.result;
  r->calls++;
}

static int64_t wait_for(struct request *r) {
  cmwq_flush_io_work(&r->io);
  return r->result;
}

static void use_sockets(void) {
  struct request a, b;
  struct sockaddr_un address = {0};
  socklen_t len = sizeof(address);
  char buf[16] = "";
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  address.sun_family = AF_UNIX;
  if (bind(listener, (struct sockaddr *)&address, sizeof(address.sun_family)) != 0 ||
      getsockname(listener, (struct sockaddr *)&address, &len) != 0 || listen(listener, 8) != 0) {
    return;
  }
  cmwq_io_work_init(&a.io, done);
  cmwq_io_work_init(&b.io, done);
  a.calls = 0;
  cmwq_io_accept_work(wq, &a.io, listener, NULL, NULL, SOCK_CLOEXEC, CMWQ_NO_TIMEOUT);
  cmwq_io_connect_work(wq, &b.io, client, (struct sockaddr *)&address, len, CMWQ_NO_TIMEOUT);
  const int64_t connected = wait_for(&b);
  const int server = (int)wait_for(&a);
  printf("accepted and connected: %d\n", server >= 0 && connected == 0);
  cmwq_io_recv_work(wq, &a.io, server, buf, sizeof(buf), 0, CMWQ_NO_TIMEOUT);
  cmwq_io_send_work(wq, &b.io, client, "hello", 5, 0, CMWQ_NO_TIMEOUT);
  wait_for(&b);
  printf("received: %.*s\n", (int)wait_for(&a), buf);

  cmwq_io_poll_work(wq, &a.io, server, POLLOUT, CMWQ_NO_TIMEOUT);
  printf("writable: %d\n", wait_for(&a) == POLLOUT);
  cmwq_io_recv_work(wq, &a.io, server, buf, sizeof(buf), 0, 1000000);
  printf("in time: %d\n", wait_for(&a) != -ETIMEDOUT);
  a.calls = 0;
  cmwq_io_recv_work(wq, &a.io, server, buf, sizeof(buf), 0, CMWQ_NO_TIMEOUT);
  bool taken = cmwq_cancel_io_work_sync(&a.io); /* from here on nothing uses buf */
  cmwq_io_recv_work(wq, &a.io, server, buf, sizeof(buf), 0, CMWQ_NO_TIMEOUT);
  taken = cmwq_cancel_io_work(&a.io) && taken;
  cmwq_disable_io_work_sync(&a.io);
  cmwq_disable_io_work(&a.io);
  taken = !cmwq_io_recv_work(wq, &a.io, server, buf, 1, 0, CMWQ_NO_TIMEOUT) && taken;
  cmwq_enable_io_work(&a.io);
  cmwq_enable_io_work(&a.io);
  printf("taken back: %d, nothing was called: %d\n", taken, a.calls == 0);
  cmwq_io_recv_work(wq, &a.io, server, buf, sizeof(buf), 0, CMWQ_NO_TIMEOUT);
  cmwq_end_io_work(&a.io, false);
  printf("ended early: %d\n", wait_for(&a) == -ECANCELED && a.calls == 1);
  close(listener);
  close(client);
  close(server);
}

static void use_vectors(void) {
  struct request r, w;
  int ends[2], pair[2];
  char text[] = "vector", buf[16] = "";
  struct iovec out[2] = {{text, 3}, {text + 3, 3}}, in = {buf, sizeof(buf) - 1};
  struct msghdr sent = {0}, received = {0};
  if (pipe(ends) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return;
  cmwq_io_work_init(&r.io, done);
  cmwq_io_work_init(&w.io, done);
  cmwq_io_readv_work(wq, &r.io, ends[0], &in, 1, -1, CMWQ_NO_TIMEOUT);
  cmwq_io_writev_work(wq, &w.io, ends[1], out, 2, -1, CMWQ_NO_TIMEOUT);
  wait_for(&w);
  wait_for(&r);
  printf("through the pipe: %s\n", buf);
  struct iovec msg = {(char *)"msg", 3};
  sent.msg_iov = &msg;
  sent.msg_iovlen = 1;
  received.msg_iov = &in;
  received.msg_iovlen = 1;
  cmwq_io_recvmsg_work(wq, &r.io, pair[0], &received, 0, CMWQ_NO_TIMEOUT);
  cmwq_io_sendmsg_work(wq, &w.io, pair[1], &sent, 0, CMWQ_NO_TIMEOUT);
  wait_for(&w);
  printf("message: %.*s\n", (int)wait_for(&r), buf);
}

static void use_files(void) {
  struct request r;
  struct statx st;
  char dir[] = "/tmp/cmwq_example.XXXXXX", buf[16] = "";
  if (mkdtemp(dir) == NULL) return;
  const int at = open(dir, O_DIRECTORY | O_CLOEXEC);
  cmwq_io_work_init(&r.io, done);
  cmwq_io_mkdirat_work(wq, &r.io, at, "sub", 0700);
  wait_for(&r);
  cmwq_io_openat_work(wq, &r.io, at, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const int fd = (int)wait_for(&r);
  cmwq_io_fallocate_work(wq, &r.io, fd, 0, 0, 8192);
  wait_for(&r);
  cmwq_io_write_work(wq, &r.io, fd, "file", 4, 3, CMWQ_NO_TIMEOUT);
  wait_for(&r);
  cmwq_io_fsync_work(wq, &r.io, fd, true);
  wait_for(&r);
  cmwq_io_read_work(wq, &r.io, fd, buf, 4, 3, CMWQ_NO_TIMEOUT);
  wait_for(&r);
  cmwq_io_close_work(wq, &r.io, fd);
  wait_for(&r);
  cmwq_io_renameat_work(wq, &r.io, at, "file", at, "sub/moved", 0);
  wait_for(&r);
  cmwq_io_statx_work(wq, &r.io, at, "sub/moved", 0, STATX_SIZE, &st);
  if (wait_for(&r) != 0) return;
  printf("the file has %d bytes, the data at 3: %s\n", (int)st.stx_size, buf);
  cmwq_io_unlinkat_work(wq, &r.io, at, "sub/moved", 0);
  bool clean = wait_for(&r) == 0;
  cmwq_io_unlinkat_work(wq, &r.io, at, "sub", AT_REMOVEDIR);
  clean = wait_for(&r) == 0 && clean;
  close(at);
  printf("cleaned up: %d\n", clean && rmdir(dir) == 0);
}

int main(void) {
  wq = cmwq_alloc_workqueue("operations", 0, 0);
  if (wq == NULL) return 1;
  use_sockets();
  use_vectors();
  use_files();
  cmwq_destroy_workqueue(wq); /* would end what is under way */
  return 0;
}
