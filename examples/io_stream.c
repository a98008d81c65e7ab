/*
 * A server without a thread per connection and without a submission per request: one stream accepts,
 * one stream for each connection receives, and an item runs only when there is something.
 *
 * Prints:
 *   connections: 3, bytes: 15
 *   the next call finds what was left: 1
 *   ended: 1
 *   taken back: 1, kept: late
 */
#include <cmwq/cmwq.h>
#include <cmwq/io_stream.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECTIONS 3

struct connection {
  struct cmwq_io_stream stream; /* first */
  int fd;
};

static struct cmwq_workqueue *wq;
static struct connection connections[CONNECTIONS];
static int accepted;
static int received, closed, stopped; /* by the __atomic functions of the compiler */

static void got_bytes(struct cmwq_work *work) {
  struct connection *c = (struct connection *)(void *)cmwq_io_stream_of(work);
  struct cmwq_io_result r;
  int more;
  while ((more = cmwq_io_stream_next(&c->stream, &r)) > 0) {
    __atomic_add_fetch(&received, (int)r.value, __ATOMIC_RELAXED);
    cmwq_io_stream_put(&c->stream, r.data); /* from here on the kernel may fill it again */
  }
  if (more < 0) { /* end of file, or an error */
    cmwq_io_stream_destroy(&c->stream);
    close(c->fd);
    __atomic_add_fetch(&closed, 1, __ATOMIC_RELEASE);
  }
}

/* One connection a call, for the sake of fairness: the item queues itself for the others. */
static void got_connection(struct cmwq_work *work) {
  struct cmwq_io_stream *s = cmwq_io_stream_of(work);
  struct cmwq_io_result r;
  switch (cmwq_io_stream_next(s, &r)) {
    case 1:
      connections[accepted].fd = (int)r.value;
      cmwq_io_stream_init(&connections[accepted].stream, got_bytes, 4, 1024);
      cmwq_io_recv_stream(wq, &connections[accepted].stream, (int)r.value, 0);
      accepted++;
      cmwq_queue_work(wq, cmwq_io_stream_work(s));
      break;
    case -1:
      __atomic_store_n(&stopped, r.value == -ECANCELED, __ATOMIC_RELEASE);
  }
}

static void leave(struct cmwq_work *work) { (void)work; }

static void keep_what_came(void) {
  struct cmwq_io_stream s;
  struct cmwq_io_result r = {0, NULL};
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return;
  cmwq_io_stream_init(&s, leave, 2, 16);
  cmwq_io_recv_stream(wq, &s, pair[0], 0);
  bool taken = cmwq_cancel_io_stream(&s);
  cmwq_flush_io_stream(&s); /* until the kernel has given it back */
  if (send(pair[1], "late", 4, 0) != 4) return;
  cmwq_io_recv_stream(wq, &s, pair[0], 0);
  while (cmwq_io_stream_next(&s, &r) == 0) cmwq_io_sleep(1000000);
  taken = cmwq_cancel_io_stream_sync(&s) && taken;
  printf("taken back: %d, kept: %.*s\n", taken, (int)r.value, (char *)r.data);
  cmwq_io_stream_destroy(&s);
  close(pair[0]);
  close(pair[1]);
}

int main(void) {
  struct cmwq_io_stream listening;
  struct sockaddr_un address = {0};
  socklen_t len = sizeof(address);
  const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  address.sun_family = AF_UNIX;
  if (bind(listener, (struct sockaddr *)&address, sizeof(address.sun_family)) != 0 ||
      getsockname(listener, (struct sockaddr *)&address, &len) != 0 || listen(listener, 8) != 0) {
    return 1;
  }
  wq = cmwq_alloc_workqueue("streams", 0, 0);
  if (wq == NULL || !cmwq_io_stream_init(&listening, got_connection, 16, 0)) return 1;
  cmwq_io_accept_stream(wq, &listening, listener, SOCK_CLOEXEC);
  for (int i = 0; i < CONNECTIONS; i++) {
    const int client = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(client, (struct sockaddr *)&address, len) != 0) return 1;
    if (send(client, "hello", 5, 0) != 5) return 1;
    close(client);
  }
  while (__atomic_load_n(&closed, __ATOMIC_ACQUIRE) < CONNECTIONS) cmwq_io_sleep(1000000);
  printf("connections: %d, bytes: %d\n", accepted, __atomic_load_n(&received, __ATOMIC_RELAXED));
  printf("the next call finds what was left: %d\n", accepted == CONNECTIONS);
  cmwq_end_io_stream(&listening);
  cmwq_flush_io_stream(&listening);
  printf("ended: %d\n", __atomic_load_n(&stopped, __ATOMIC_ACQUIRE));
  cmwq_io_stream_destroy(&listening);
  keep_what_came();
  close(listener);
  cmwq_destroy_workqueue(wq);
  return 0;
}
