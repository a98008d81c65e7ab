// Storms: many threads in every kind of wait while the process forks, exits, is interrupted, cancels,
// jumps, closes and renumbers. What is printed must not depend on any of that.
//
// usage: victim-storm fork|exit|signals|jumps|cancel|stacks|numbers

#include <limits.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/preload/victims/support.h"

extern char** environ;

namespace {

constexpr int kBlocked = 50;
constexpr int kServing = 8;
constexpr int kRequests = 200;

// Waits of the kinds that threads of servers are found in. All end by Release().
class BlockedThreads {
 public:
  explicit BlockedThreads(int n) {
    REQUIRE(pipe(pipe_) == 0);
    pthread_mutex_lock(&mutex_);
    for (int i = 0; i < n; ++i) {
      threads_.push_back(std::make_unique<Thread>([this, i] { Block(i); }, true));
    }
    while (__atomic_load_n(&began_, __ATOMIC_ACQUIRE) != n) Pause(500);
  }
  void Release() {
    __atomic_store_n(&released_, true, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&mutex_);
    pthread_mutex_lock(&told_mutex_);
    pthread_cond_broadcast(&told_);
    pthread_mutex_unlock(&told_mutex_);
    close(pipe_[1]);
    for (size_t i = 0; i < threads_.size(); ++i) sem_post(&sem_);
    for (int i = 0; i < kKinds; ++i) connections_[i].CloseClient();
    threads_.clear();
    close(pipe_[0]);
  }

 private:
  static constexpr int kKinds = 7;
  bool IsReleased() const { return __atomic_load_n(&released_, __ATOMIC_SEQ_CST); }
  void Block(int i) {
    __atomic_add_fetch(&began_, 1, __ATOMIC_ACQ_REL);
    char byte;
    const int server = connections_[i % kKinds].server;
    struct pollfd one = {server, POLLIN, 0};
    switch (i % kKinds) {
      case 0:
        pthread_mutex_lock(&mutex_);
        pthread_mutex_unlock(&mutex_);
        break;
      case 1:
        pthread_mutex_lock(&told_mutex_);
        while (!IsReleased()) pthread_cond_wait(&told_, &told_mutex_);
        pthread_mutex_unlock(&told_mutex_);
        break;
      case 2:
        while (sem_wait(&sem_) != 0) {
        }
        break;
      case 3:
        while (read(pipe_[0], &byte, 1) < 0) {
        }
        break;
      case 4:
        while (poll(&one, 1, -1) < 0) {
        }
        break;
      case 5:
        while (recv(server, &byte, 1, 0) < 0) {
        }
        break;
      default:
        while (!IsReleased()) Pause(2000);
    }
  }
  int pipe_[2];
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_t told_mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t told_ = PTHREAD_COND_INITIALIZER;
  sem_t sem_ = {};
  bool released_ = false;
  int began_ = 0;
  Connection connections_[kKinds];
  std::vector<std::unique_ptr<Thread>> threads_;
};

// Threads that each answer a client's requests until it hangs up, and the clients.
class Serving {
 public:
  // `meanwhile` runs in a serving thread between receiving and answering.
  explicit Serving(std::function<void()> meanwhile = [] {}) {
    for (int i = 0; i < kServing; ++i) {
      connections_.push_back(std::make_unique<Connection>());
      Connection* const c = connections_.back().get();
      servers_.push_back(std::make_unique<Thread>([c, meanwhile] {
        char byte;
        for (;;) {
          struct pollfd one = {c->server, POLLIN, 0};
          if (poll(&one, 1, -1) < 0) continue;
          const ssize_t n = recv(c->server, &byte, 1, 0);
          if (n < 0 && errno == EINTR) continue;
          if (n <= 0) return;
          meanwhile();
          while (send(c->server, &byte, 1, 0) < 0) REQUIRE(errno == EINTR);
        }
      }));
    }
    for (const auto& c : connections_) {
      clients_.push_back(std::make_unique<Thread>([this, c = c.get()] {
        for (int i = 0; i < kRequests; ++i) {
          char byte = static_cast<char>(i);
          REQUIRE(send(c->client, &byte, 1, 0) == 1);
          char got = 0;
          while (recv(c->client, &got, 1, 0) != 1) REQUIRE(errno == EINTR);
          REQUIRE(got == byte);
          __atomic_add_fetch(&answered_, 1, __ATOMIC_RELAXED);
        }
        shutdown(c->client, SHUT_WR);
      }));
    }
  }
  const std::vector<std::unique_ptr<Thread>>& servers() const { return servers_; }
  bool IsDone() const {
    return __atomic_load_n(&answered_, __ATOMIC_RELAXED) == kServing * kRequests;
  }
  int Finish() {
    clients_.clear();
    servers_.clear();
    return answered_;
  }

 private:
  int answered_ = 0;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<std::unique_ptr<Thread>> servers_;
  std::vector<std::unique_ptr<Thread>> clients_;
};

int ExitOf(pid_t child) {
  int status = -1;
  while (waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int Sum(void* argument) { return *static_cast<int*>(argument) + 1; }

void Fork() {
  char name[] = "sh";
  char option[] = "-c";
  char script[] = "exit 3";
  char* argv[] = {name, option, script, nullptr};
  BlockedThreads blocked(kBlocked);
  Serving serving;
  int ok = 0;
  // From a worker: it is pinned, counted, and about to share its memory with children.
  Thread(
      [&] {
        for (int i = 0; i < 5; ++i) {
          pid_t child = fork();
          if (child == 0) {
            ServeOneRequest();
            Thread([] { ServeOneRequest(); }).Join();
            _exit(1);
          }
          ok += ExitOf(child) == 1;
          child = vfork();
          if (child == 0) {
            execl("/bin/sh", "sh", "-c", "exit 2", nullptr);
            _exit(99);
          }
          ok += ExitOf(child) == 2;
          child = vfork();
          if (child == 0) {
            execv("/no/such/program", argv);
            _exit(errno == ENOENT ? 4 : 98);
          }
          ok += ExitOf(child) == 4;
          REQUIRE(posix_spawn(&child, "/bin/sh", nullptr, nullptr, argv, environ) == 0);
          ok += ExitOf(child) == 3;
          ok += WEXITSTATUS(system("exit 5")) == 5;
          FILE* const stream = popen("exit 6", "r");
          ok += WEXITSTATUS(pclose(stream)) == 6;
          child = _Fork();
          if (child == 0) _exit(7);
          ok += ExitOf(child) == 7;
          std::vector<char> stack(64 * 1024);
          int value = 8;
          child = clone(&Sum, stack.data() + stack.size(), SIGCHLD, &value);
          ok += ExitOf(child) == 9;
          child = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
          if (child == 0) _exit(10);
          ok += ExitOf(child) == 10;
        }
      },
      true)
      .Join();
  blocked.Release();
  printf("children %d requests %d\n", ok, serving.Finish());
}


void ExitWhileBlocked() {
  for (int way = 0; way < 4; ++way) {
    const pid_t child = fork();
    if (child == 0) {
      auto* const blocked = new BlockedThreads(kBlocked);
      (void)blocked;
      Thread(
          [way] {
            if (way == 0) exit(30);
            if (way == 1) _exit(31);
            if (way == 2) quick_exit(32);
            kill(getpid(), SIGTERM);
            pause();
          },
          true)
          .Join();
    }
    printf("way %d: %d\n", way, ExitOf(child));
  }
}

thread_local sigjmp_buf t_jump;
thread_local volatile sig_atomic_t t_may_jump = 0;

void OnSignal(int) {
  const int saved = errno;
  char byte = 's';
  int fds[2];
  if (pipe(fds) == 0) {
    if (write(fds[1], &byte, 1) == 1 && read(fds[0], &byte, 1) == 1) close(fds[0]);
    close(fds[1]);
  }
  errno = saved;
}

void Signals() {
  for (const int flags : {0, SA_RESTART}) {
    struct sigaction action = {};
    action.sa_handler = &OnSignal;
    action.sa_flags = flags;
    sigaction(SIGUSR1, &action, nullptr);
    Serving serving([] { Pause(100); });
    while (!serving.IsDone()) {
      // Only while they certainly live: they end after the last answer, and are joined later.
      for (const auto& server : serving.servers()) pthread_kill(server->handle(), SIGUSR1);
      Pause(500);
    }
    printf("flags %d requests %d\n", flags, serving.Finish());
  }
}

// Every request jumps out of a sleep; the thread goes on serving.
void Jumps() {
  struct sigaction action = {};
  action.sa_handler = [](int) {
    if (t_may_jump) siglongjmp(t_jump, 1);
  };
  sigaction(SIGUSR2, &action, nullptr);
  int jumped = 0;
  Serving serving([&] {
    if (sigsetjmp(t_jump, 1) == 0) {
      t_may_jump = 1;
      // Sent before the sleep or into it, as it comes; the jump ends both.
      pthread_kill(pthread_self(), SIGUSR2);
      for (;;) Pause(1000);
    }
    t_may_jump = 0;
    __atomic_add_fetch(&jumped, 1, __ATOMIC_RELAXED);
  });
  const int requests = serving.Finish();
  printf("requests %d jumped %d\n", requests, jumped);
  // Out of waits that have begun.
  for (int round = 0; round < 40; ++round) {
    Connection connection;
    Thread thread(
        [&] {
          char byte;
          const pthread_t self = pthread_self();
          std::unique_ptr<Thread> sender;
          if (sigsetjmp(t_jump, 1) == 0) {
            t_may_jump = 1;
            sender = std::make_unique<Thread>([self, tid = gettid()] {
              AwaitAsleep(tid);
              pthread_kill(self, SIGUSR2);
            });
            if (round % 4 == 0) recv(connection.server, &byte, 1, 0);
            if (round % 4 == 1) recv(connection.client, &byte, 1, 0);
            if (round % 4 == 2) Pause(60'000'000);
            if (round % 4 == 3) pause();
          }
          t_may_jump = 0;
          sender.release();  // it ends by itself; given up with the jump
          for (int i = 0; i < 10; ++i) {
            REQUIRE(send(connection.client, "x", 1, 0) == 1);
            struct pollfd one = {connection.server, POLLIN, 0};
            REQUIRE(poll(&one, 1, -1) == 1 && recv(connection.server, &byte, 1, 0) == 1);
          }
        },
        true);
  }
  printf("rounds\n");
}

void Cancel() {
  Serving serving;
  int canceled = 0;
  for (int round = 0; round < 60; ++round) {
    Connection connection;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    sem_t sem;
    sem_init(&sem, 0, 0);
    Thread thread(
        [&] {
          // Not before: a destructor there closes descriptors, where no cancellation may come.
          int state;
          pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
          ServeOneRequest();
          pthread_setcancelstate(state, nullptr);
          char byte;
          struct pollfd one = {connection.server, POLLIN, 0};
          for (;;) {
            if (round % 6 == 0) poll(&one, 1, -1);
            if (round % 6 == 1) recv(connection.server, &byte, 1, 0);
            if (round % 6 == 2) (void)!read(fds[0], &byte, 1);
            if (round % 6 == 3) sem_wait(&sem);
            if (round % 6 == 4) Pause(1000);
            if (round % 6 == 5) recv(connection.client, &byte, 1, 0);
          }
        });
    // At whatever place it has come to.
    Pause(round * 37 % 1500);
    pthread_cancel(thread.handle());
    thread.Join();
    canceled += thread.result() == PTHREAD_CANCELED;
    close(fds[0]);
    close(fds[1]);
  }
  printf("canceled %d requests %d\n", canceled, serving.Finish());
}

void Stacks() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  REQUIRE(pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN) == 0);
  const pthread_mutex_t unlocked = PTHREAD_MUTEX_INITIALIZER;
  static pthread_mutex_t mutex = unlocked;
  int served = 0;
  for (int round = 0; round < 2; ++round) {
    std::vector<pthread_t> threads(16);
    for (pthread_t& thread : threads) {
      const auto body = [](void* count) -> void* {
        for (int i = 0; i < 5; ++i) {
          ServeOneRequest();
          pthread_mutex_lock(&mutex);
          Pause(10);
          pthread_mutex_unlock(&mutex);
          FILE* const stream = fopen("/dev/null", "w");
          fputs("text", stream);
          fclose(stream);
          __atomic_add_fetch(static_cast<int*>(count), 1, __ATOMIC_RELAXED);
        }
        return nullptr;
      };
      REQUIRE(pthread_create(&thread, &attributes, body, &served) == 0);
    }
    for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  }
  printf("served %d\n", served);
}

// A program that closes everything it does not know, and one that numbers its descriptors itself.
void Numbers() {
  const struct rlimit limit = {1024, 4096};
  setrlimit(RLIMIT_NOFILE, &limit);
  ServeOneRequest();
  Thread([] { ServeOneRequest(); }).Join();
  const int zero = open("/dev/zero", O_RDONLY);
  std::vector<int> wrong;
  {
    Serving serving;
    // Each number above those in use, ours among them, becomes the program's for a while.
    for (int number = 500; number < 1024; ++number) {
      char byte = 1;
      if (dup2(zero, number) != number || read(number, &byte, 1) != 1 || byte != 0) {
        wrong.push_back(number);
      }
      if (number % 8 != 0) close(number);
    }
    printf("wrong %zu requests %d\n", wrong.size(), serving.Finish());
  }
  {
    Serving serving;
    close_range(500, UINT_MAX, 0);
    for (int number = 500; number < 2000; ++number) syscall(SYS_close, number);
    printf("closed, requests %d\n", serving.Finish());
  }
  closefrom(3);
  Serving serving;
  syscall(SYS_close_range, 500, UINT_MAX, 0);
  printf("closed, requests %d\n", serving.Finish());
}

}  // namespace

int main(int, char** argv) {
  const std::string storm = argv[1];
  if (storm == "fork") Fork();
  if (storm == "exit") ExitWhileBlocked();
  if (storm == "signals") Signals();
  if (storm == "jumps") Jumps();
  if (storm == "cancel") Cancel();
  if (storm == "stacks") Stacks();
  if (storm == "numbers") Numbers();
  return 0;
}
