// What the victim programs share. A victim prints what its calls return; the driver runs it with
// and without the preload and compares the output, so nothing that may differ between two runs is
// printed.

#ifndef CMWQ_TESTS_PRELOAD_VICTIMS_SUPPORT_H_
#define CMWQ_TESTS_PRELOAD_VICTIMS_SUPPORT_H_

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <functional>

// Set before each call: a call that succeeds must leave it.
constexpr int kErrnoSentinel = 77;

#define SHOW(expr)                                              \
  do {                                                          \
    errno = kErrnoSentinel;                                     \
    const long show_rc = static_cast<long>(expr);               \
    const int show_errno = errno;                               \
    printf("%s -> %ld errno %d\n", #expr, show_rc, show_errno); \
  } while (0)

#define REQUIRE(condition)                                                    \
  do {                                                                        \
    if (!(condition)) {                                                       \
      printf("%s:%d: %s: errno %d\n", __FILE__, __LINE__, #condition, errno); \
      fflush(stdout);                                                         \
      abort();                                                                \
    }                                                                         \
  } while (0)

// A connection of this process with itself: `server` was accepted.
struct Connection {
  int client = -1;
  int server = -1;

  explicit Connection(int family = AF_INET) {
    const int listener = socket(family, SOCK_STREAM, 0);
    struct sockaddr_storage address = {};
    address.ss_family = static_cast<sa_family_t>(family);
    // A UNIX socket bound to nothing but its family gets a name from the kernel.
    socklen_t size = sizeof(address.ss_family);
    if (family == AF_INET) {
      auto* inet = reinterpret_cast<struct sockaddr_in*>(&address);
      inet->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      size = sizeof(*inet);
    }
    auto* raw = reinterpret_cast<struct sockaddr*>(&address);
    REQUIRE(bind(listener, raw, size) == 0 && listen(listener, 1) == 0);
    size = sizeof(address);
    REQUIRE(getsockname(listener, raw, &size) == 0);
    client = socket(family, SOCK_STREAM, 0);
    REQUIRE(connect(client, raw, size) == 0);
    server = accept(listener, nullptr, nullptr);
    REQUIRE(server >= 0);
    close(listener);
  }
  ~Connection() {
    CloseClient();
    CloseServer();
  }
  void CloseClient() {
    if (client >= 0) close(client);
    client = -1;
  }
  void CloseServer() {
    if (server >= 0) close(server);
    server = -1;
  }
};

// Makes the calling thread wait for a request, as a server's thread does: with the preload it is a
// worker from then on.
inline void ServeOneRequest() {
  const Connection connection;
  REQUIRE(send(connection.client, "x", 1, 0) == 1);
  struct pollfd request = {connection.server, POLLIN, 0};
  REQUIRE(poll(&request, 1, -1) == 1);
  char byte;
  REQUIRE(recv(connection.server, &byte, 1, 0) == 1);
}

// A thread running a function.
class Thread {
 public:
  explicit Thread(std::function<void()> body, bool worker = false)
      : body_(std::move(body)), worker_(worker) {
    REQUIRE(pthread_create(&thread_, nullptr, &Thread::Run, this) == 0);
  }
  ~Thread() { Join(); }
  void Join() {
    if (!joined_) REQUIRE(pthread_join(thread_, &result_) == 0);
    joined_ = true;
  }
  pthread_t handle() const { return thread_; }
  // PTHREAD_CANCELED after a cancellation.
  void* result() const { return result_; }

 private:
  static void* Run(void* self) {
    auto* thread = static_cast<Thread*>(self);
    if (thread->worker_) ServeOneRequest();
    thread->body_();
    return nullptr;
  }
  std::function<void()> body_;
  bool worker_;
  bool joined_ = false;
  void* result_ = nullptr;
  pthread_t thread_;
};

inline void Pause(long microseconds) {
  const struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
  nanosleep(&time, nullptr);
}

// Waits until thread `tid` of this process sleeps, for a while that rules out a passing wait.
inline void AwaitAsleep(pid_t tid) {
  char path[64];
  snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
  for (int asleep = 0; asleep < 10; Pause(1000)) {
    char stat[256] = {};
    FILE* file = fopen(path, "r");
    if (file == nullptr) return;
    const size_t n = fread(stat, 1, sizeof(stat) - 1, file);
    fclose(file);
    const char* state = n > 0 ? strrchr(stat, ')') : nullptr;
    asleep = state != nullptr && state[2] == 'S' ? asleep + 1 : 0;
  }
}

// Runs `wake` in another thread once the calling thread sleeps.
class OnceAsleep {
 public:
  explicit OnceAsleep(std::function<void()> wake)
      : thread_([tid = gettid(), wake = std::move(wake)] {
          AwaitAsleep(tid);
          wake();
        }) {}

 private:
  Thread thread_;
};

// A deadline on `clock`, this many milliseconds from now.
inline struct timespec In(long milliseconds, clockid_t clock = CLOCK_REALTIME) {
  struct timespec time;
  clock_gettime(clock, &time);
  time.tv_nsec += milliseconds % 1000 * 1000000;
  time.tv_sec += milliseconds / 1000 + time.tv_nsec / 1000000000;
  time.tv_nsec %= 1000000000;
  return time;
}

// Runs the body in an ordinary thread and in one that has served a request.
inline void InBothKinds(const std::function<void()>& body) {
  printf("ordinary thread\n");
  Thread(body, false).Join();
  printf("serving thread\n");
  Thread(body, true).Join();
}

#endif  // CMWQ_TESTS_PRELOAD_VICTIMS_SUPPORT_H_
