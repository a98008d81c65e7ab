// Message queues, asynchronous I/O, host lookup.

#include <aio.h>
#include <mqueue.h>
#include <netdb.h>
#include <sys/msg.h>

#include "tests/preload/victims/support.h"

namespace {

struct Message {
  long type;
  char text[8];
};

void SystemV() {
  const int queue = msgget(IPC_PRIVATE, 0600);
  Message message = {1, "hello"};
  SHOW(msgrcv(queue, &message, 8, 0, IPC_NOWAIT));
  SHOW(msgsnd(queue, &message, 8, 0));
  SHOW(msgrcv(queue, &message, 8, 0, 0));
  SHOW(msgsnd(queue, &message, 1 << 30, 0));
  {
    const OnceAsleep feed([&] { msgsnd(queue, &message, 8, 0); });
    Message got = {};
    SHOW(msgrcv(queue, &got, 8, 0, 0));
  }
  {
    const OnceAsleep destroy([&] { msgctl(queue, IPC_RMID, nullptr); });
    SHOW(msgrcv(queue, &message, 8, 0, 0));
  }
}

void Posix() {
  char name[64];
  snprintf(name, sizeof(name), "/cmwq-victim-%d", getpid());
  struct mq_attr attributes = {};
  attributes.mq_maxmsg = 2;
  attributes.mq_msgsize = 8;
  const mqd_t queue = mq_open(name, O_CREAT | O_RDWR, 0600, &attributes);
  if (queue < 0) {
    printf("no message queues\n");
    return;
  }
  mq_unlink(name);
  char text[8] = "abc";
  const struct timespec past = {};
  SHOW(mq_timedreceive(queue, text, 8, nullptr, &past));
  SHOW(mq_send(queue, text, 3, 1));
  SHOW(mq_send(queue, text, 3, 1));
  SHOW(mq_timedsend(queue, text, 3, 1, &past));
  SHOW(mq_receive(queue, text, 8, nullptr));
  SHOW(mq_receive(queue, text, 4, nullptr));
  SHOW(mq_receive(queue, text, 8, nullptr));
  const OnceAsleep feed([&] { mq_send(queue, "x", 1, 0); });
  SHOW(mq_receive(queue, text, 8, nullptr));
  mq_close(queue);
}

void Asynchronous() {
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  char buf[8];
  struct aiocb request = {};
  request.aio_fildes = fds[0];
  request.aio_buf = buf;
  request.aio_nbytes = sizeof(buf);
  request.aio_sigevent.sigev_notify = SIGEV_NONE;
  SHOW(aio_read(&request));
  const struct aiocb* list[] = {&request};
  const struct timespec none = {};
  const struct timespec brief = {0, 2000000};
  SHOW(aio_suspend(list, 1, &none));
  SHOW(aio_suspend(list, 1, &brief));
  {
    const OnceAsleep feed([&] { REQUIRE(write(fds[1], "abc", 3) == 3); });
    SHOW(aio_suspend(list, 1, nullptr));
  }
  SHOW(aio_error(&request));
  SHOW(aio_return(&request));
  struct aiocb write_request = request;
  write_request.aio_fildes = fds[1];
  write_request.aio_nbytes = 3;
  write_request.aio_lio_opcode = LIO_WRITE;
  struct aiocb* writes[] = {&write_request};
  SHOW(lio_listio(LIO_WAIT, writes, 1, nullptr));
  SHOW(lio_listio(12345, writes, 1, nullptr));
  close(fds[0]);
  close(fds[1]);
}

void Hosts() {
  struct addrinfo hints = {};
  hints.ai_flags = AI_NUMERICHOST;
  struct addrinfo* result = nullptr;
  SHOW(getaddrinfo("127.0.0.1", "80", &hints, &result));
  char host[64];
  SHOW(getnameinfo(result->ai_addr, result->ai_addrlen, host, sizeof(host), nullptr, 0,
                   NI_NUMERICHOST));
  printf("host %s\n", host);
  freeaddrinfo(result);
  SHOW(getaddrinfo("not an address", nullptr, &hints, &result));
  SHOW(gethostbyname("127.0.0.1") != nullptr);
}

}  // namespace

int main() {
  InBothKinds([] {
    SystemV();
    Posix();
    Asynchronous();
    Hosts();
  });
  return 0;
}
