// A handler interrupts each kind of wait, with and without SA_RESTART; the handler itself calls
// wrapped functions. Then a handler leaves a wait by siglongjmp().

#include <semaphore.h>
#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "tests/preload/victims/support.h"

namespace {

volatile sig_atomic_t g_handled = 0;
int g_pipe[2];
sigjmp_buf g_jump;

void Handler(int) {
  const int saved = errno;
  char byte = 'h';
  if (write(g_pipe[1], &byte, 1) == 1 && read(g_pipe[0], &byte, 1) == 1) g_handled = g_handled + 1;
  struct pollfd none = {g_pipe[0], POLLIN, 0};
  poll(&none, 1, 1);
  errno = saved;
}

void Install(int flags) {
  struct sigaction action = {};
  action.sa_handler = &Handler;
  action.sa_flags = flags;
  sigaction(SIGUSR1, &action, nullptr);
}

// Interrupts the caller's wait; then, in case the wait goes on, ends it by `finish`.
class Interrupt {
 public:
  explicit Interrupt(std::function<void()> finish)
      : thread_([target = pthread_self(), tid = gettid(), finish = std::move(finish)] {
          AwaitAsleep(tid);
          const int before = g_handled;
          pthread_kill(target, SIGUSR1);
          while (g_handled == before) Pause(200);
          AwaitAsleep(tid);
          finish();
        }) {}

 private:
  Thread thread_;
};

template <typename Call>
void Show(const char* what, Call call, std::function<void()> finish) {
  errno = kErrnoSentinel;
  long rc;
  int error;
  {
    const Interrupt interrupt(std::move(finish));
    rc = call();
    error = errno;
    // Joined only after the wait: what `finish` provides stays for the clean-up below.
  }
  printf("%s -> %ld errno %d handled %d\n", what, rc, error, static_cast<int>(g_handled));
}

void Sockets(bool with_timeout) {
  Connection connection;
  const int fd = connection.server;
  const auto feed = [&] { REQUIRE(send(connection.client, "x", 1, 0) == 1); };
  const auto drain = [&] {
    char rest[8];
    recv(fd, rest, sizeof(rest), MSG_DONTWAIT);
  };
  if (with_timeout) {
    const struct timeval minute = {60, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof(minute));
  }
  char byte;
  Show(
      "recv", [&] { return recv(fd, &byte, 1, 0); }, feed);
  drain();
  Show(
      "read", [&] { return read(fd, &byte, 1); }, feed);
  drain();
  Show(
      "recvfrom", [&] { return recvfrom(fd, &byte, 1, 0, nullptr, nullptr); }, feed);
  drain();
  struct pollfd one = {fd, POLLIN, 0};
  Show(
      "poll", [&] { return poll(&one, 1, -1); }, feed);
  drain();
  Show(
      "poll time", [&] { return poll(&one, 1, 60000); }, feed);
  drain();
  struct pollfd two[2] = {{fd, POLLIN, 0}, {-1, 0, 0}};
  Show(
      "poll two", [&] { return poll(two, 2, -1); }, feed);
  drain();
  const int epfd = epoll_create1(0);
  struct epoll_event event = {};
  event.events = EPOLLIN;
  epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event);
  Show(
      "epoll", [&] { return epoll_wait(epfd, &event, 1, -1); }, feed);
  drain();
  close(epfd);
}

void Others() {
  sem_t sem;
  sem_init(&sem, 0, 0);
  Show(
      "sem_wait", [&] { return sem_wait(&sem); }, [&] { sem_post(&sem); });
  while (sem_trywait(&sem) == 0) {
  }
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  char byte;
  Show(
      "read pipe", [&] { return read(fds[0], &byte, 1); },
      [&] { REQUIRE(write(fds[1], "x", 1) == 1); });
  close(fds[0]);
  close(fds[1]);
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
  bool told = false;
  pthread_mutex_lock(&mutex);
  Show(
      "cond",
      [&] {
        int rc = 0;
        while (!told && rc == 0) rc = pthread_cond_wait(&cond, &mutex);
        pthread_mutex_unlock(&mutex);
        return rc;
      },
      [&] {
        pthread_mutex_lock(&mutex);
        told = true;
        pthread_cond_signal(&cond);
        pthread_mutex_unlock(&mutex);
      });
  sem_t locked;
  sem_init(&locked, 0, 0);
  sem_t release;
  sem_init(&release, 0, 0);
  Thread owner([&] {
    pthread_mutex_lock(&held);
    sem_post(&locked);
    while (sem_wait(&release) != 0) {
    }
    pthread_mutex_unlock(&held);
  });
  sem_wait(&locked);
  Show(
      "mutex", [&] { return pthread_mutex_lock(&held); }, [&] { sem_post(&release); });
}

// The jump skips everything between the wait and here. The thread must still be able to wait.
void Jump() {
  struct sigaction action = {};
  action.sa_handler = [](int) { siglongjmp(g_jump, 1); };
  sigaction(SIGUSR2, &action, nullptr);
  Connection connection;
  for (int round = 0; round < 3; ++round) {
    const pthread_t self = pthread_self();
    Thread* sender = nullptr;
    if (sigsetjmp(g_jump, 1) == 0) {
      sender = new Thread([self, tid = gettid()] {
        AwaitAsleep(tid);
        pthread_kill(self, SIGUSR2);
      });
      char byte;
      if (round == 0) pause();
      if (round == 1) recv(connection.server, &byte, 1, 0);
      if (round == 2) recv(connection.client, &byte, 1, 0);
    }
    printf("jumped %d\n", round);
    Pause(20000);  // the sender ends by itself; its object is given up with the jump
    (void)sender;
  }
  char byte;
  const OnceAsleep feed([&] { REQUIRE(send(connection.client, "x", 1, 0) == 1); });
  SHOW(recv(connection.server, &byte, 1, 0));
}

}  // namespace

int main() {
  REQUIRE(pipe(g_pipe) == 0);
  InBothKinds([] {
    for (const int flags : {0, SA_RESTART}) {
      printf("flags %d\n", flags);
      g_handled = 0;
      Install(flags);
      Sockets(false);
      Sockets(true);
      Others();
    }
  });
  Jump();
  ServeOneRequest();
  Jump();
  return 0;
}
