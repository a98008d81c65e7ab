// Cancellation inside each wait that is a cancellation point: the thread must end, its clean-up
// handlers and destructors must run, and locks given up by a condition wait must be held again.

#include <mqueue.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/msg.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "tests/preload/victims/support.h"

namespace {

int g_handlers = 0;
int g_destructors = 0;

struct Counted {
  ~Counted() { ++g_destructors; }
};

void OnCancel(void*) { ++g_handlers; }

void Show(const char* what, const std::function<void()>& wait) {
  for (const bool worker : {false, true}) {
    for (const bool pending : {false, true}) {
      g_handlers = g_destructors = 0;
      pid_t tid = 0;
      bool returned = false;
      Thread thread(
          [&] {
            const Counted counted;
            pthread_cleanup_push(&OnCancel, nullptr);
            if (pending) pthread_cancel(pthread_self());
            __atomic_store_n(&tid, gettid(), __ATOMIC_RELEASE);
            wait();
            returned = true;
            pthread_cleanup_pop(0);
          },
          worker);
      while (__atomic_load_n(&tid, __ATOMIC_ACQUIRE) == 0) Pause(100);
      AwaitAsleep(tid);
      if (!pending) pthread_cancel(thread.handle());
      thread.Join();
      printf("%s worker %d pending %d: canceled %d returned %d handlers %d destructors %d\n", what,
             worker, pending, thread.result() == PTHREAD_CANCELED, returned, g_handlers,
             g_destructors);
    }
  }
}

void Unlock(void* mutex) {
  printf("held %d\n", pthread_mutex_unlock(static_cast<pthread_mutex_t*>(mutex)) == 0);
}

void ShowCondition() {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
  pthread_mutex_t mutex;
  pthread_mutex_init(&mutex, &attributes);
  pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
  Show("cond", [&] {
    pthread_mutex_lock(&mutex);
    pthread_cleanup_push(&Unlock, &mutex);
    for (;;) pthread_cond_wait(&cond, &mutex);
    pthread_cleanup_pop(1);
  });
}

// Waits for input, on an accepted and on a connected descriptor and on others.
void ShowInput() {
  const Connection connection;
  const int server = connection.server;
  const int client = connection.client;
  static char buf[16];
  static struct iovec vec = {buf, sizeof(buf)};
  static struct msghdr message = {};
  message.msg_iov = &vec;
  message.msg_iovlen = 1;
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  Show("recv", [=] { recv(server, buf, 16, 0); });
  Show("recv connected", [=] { recv(client, buf, 16, 0); });
  Show("recvmsg", [=] { recvmsg(server, &message, 0); });
  Show("read", [=] { (void)!read(server, buf, 16); });
  Show("readv", [=] { (void)!readv(server, &vec, 1); });
  Show("read pipe", [=] { (void)!read(fds[0], buf, 16); });
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(listen(listener, 1) == 0);
  Show("accept", [=] { accept(listener, nullptr, nullptr); });
}

void ShowPolls() {
  const Connection connection;
  const int server = connection.server;
  struct pollfd two[2] = {{server, POLLIN, 0}, {connection.client, POLLIN, 0}};
  const int epfd = epoll_create1(0);
  Show("poll", [=] {
    struct pollfd one = {server, POLLIN, 0};
    poll(&one, 1, -1);
  });
  Show("poll two", [&] { poll(two, 2, -1); });
  Show("ppoll", [=] {
    struct pollfd one = {server, POLLIN, 0};
    ppoll(&one, 1, nullptr, nullptr);
  });
  Show("select", [] { select(0, nullptr, nullptr, nullptr, nullptr); });
  Show("epoll_wait", [=] {
    struct epoll_event event;
    epoll_wait(epfd, &event, 1, -1);
  });
}

void ShowSleeps() {
  sem_t sem;
  sem_init(&sem, 0, 0);
  Show("nanosleep", [] {
    const struct timespec hour = {3600, 0};
    nanosleep(&hour, nullptr);
  });
  Show("sleep", [] { sleep(3600); });
  Show("pause", [] { pause(); });
  Show("sem_wait", [&] { sem_wait(&sem); });
  Show("sigwait", [] {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    int signal;
    sigwait(&set, &signal);
  });
}

void ShowProcesses() {
  const int queue = msgget(IPC_PRIVATE, 0600);
  Show("msgrcv", [=] {
    char buf[16];
    (void)!msgrcv(queue, buf, 8, 0, 0);
  });
  msgctl(queue, IPC_RMID, nullptr);
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  Show("waitpid", [=] { waitpid(child, nullptr, 0); });
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  Thread forever([] { pause(); });
  Show("join", [&] { pthread_join(forever.handle(), nullptr); });
  pthread_cancel(forever.handle());
}

}  // namespace

int main() {
  ShowInput();
  ShowPolls();
  ShowSleeps();
  ShowProcesses();
  ShowCondition();
  return 0;
}
