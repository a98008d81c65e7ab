// One row per function that can wait: what it returns when it need not wait, when it waits, when a
// handler interrupts the wait (with and without SA_RESTART) and when the thread is cancelled in it.

#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <linux/futex.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/preload/victims/support.h"

namespace {

constexpr size_t kStreamBuffer = 64;
constexpr size_t kLarge = 1 << 20;  // more than a pipe or a socket takes

// What the rows wait for; made anew for each call.
struct Things {
  Connection connection;
  int listener = -1;
  struct sockaddr_in address = {};
  int pipe[2];
  int full[2];  // a pipe that takes no more
  FILE* input = nullptr;
  FILE* output = nullptr;
  sem_t sem;
  int event = -1;
  int epoll = -1;
  int queue = -1;
  int full_queue = -1;
  int set = -1;
  int futex = 0;
  int locked = -1;  // another open file of a file that is locked
  int locker = -1;
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
  bool told = false;
  char buf[256] = {};
  struct iovec vec = {buf, 1};
  std::vector<char> large = std::vector<char>(kLarge);
  pid_t child = -1;

  Things() {
    listener = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t size = sizeof(address);
    REQUIRE(listen(listener, 4) == 0);
    REQUIRE(getsockname(listener, reinterpret_cast<struct sockaddr*>(&address), &size) == 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::pipe(pipe) == 0 && ::pipe(full) == 0);
    REQUIRE(fcntl(full[1], F_SETFL, O_NONBLOCK) == 0);
    while (write(full[1], large.data(), 4096) > 0) {
    }
    REQUIRE(fcntl(full[1], F_SETFL, 0) == 0);
    input = fdopen(dup(pipe[0]), "r");
    output = fdopen(dup(full[1]), "w");
    setvbuf(output, new char[kStreamBuffer], _IOFBF, kStreamBuffer);  // given up with the stream
    sem_init(&sem, 0, 0);
    event = eventfd(0, 0);
    epoll = epoll_create1(0);
    struct epoll_event wanted = {};
    wanted.events = EPOLLIN;
    REQUIRE(epoll_ctl(epoll, EPOLL_CTL_ADD, pipe[0], &wanted) == 0);
    queue = msgget(IPC_PRIVATE, 0600);
    full_queue = msgget(IPC_PRIVATE, 0600);
    struct {
      long type;
      char text[1024];
    } message = {1, {}};
    while (msgsnd(full_queue, &message, sizeof(message.text), IPC_NOWAIT) == 0) {
    }
    set = semget(IPC_PRIVATE, 1, 0600);
    char path[] = "/tmp/cmwq-table-XXXXXX";
    locker = mkstemp(path);
    locked = open(path, O_RDWR);
    REQUIRE(locker >= 0 && locked >= 0 && unlink(path) == 0);
    REQUIRE(flock(locker, LOCK_EX) == 0);
  }
  ~Things() {
    for (const int fd : {listener, pipe[0], pipe[1], full[0], full[1], event, epoll, locked, locker}) {
      if (fd >= 0) close(fd);
    }
    msgctl(queue, IPC_RMID, nullptr);
    msgctl(full_queue, IPC_RMID, nullptr);
    semctl(set, 0, IPC_RMID);
    // The streams are given up: a cancelled thread may have left them in any state.
    close(fileno(input));
    close(fileno(output));
  }
  void Feed() { REQUIRE(write(pipe[1], "12\n", 3) == 3); }
  void Send() { REQUIRE(send(connection.client, "x", 1, 0) == 1); }
  void Drain() {
    std::vector<char> rest(kLarge);
    REQUIRE(read(full[0], rest.data(), rest.size()) > 0);
  }
};

struct Row {
  const char* name;
  std::function<long(Things&)> call;
  std::function<void(Things&)> make_ready;
};

void FeedPipe(Things& t) { t.Feed(); }
void FeedSocket(Things& t) { t.Send(); }
void DrainPipe(Things& t) { t.Drain(); }

struct pollfd Input(int fd) { return {fd, POLLIN, 0}; }

const struct timespec kMinute = {60, 0};

std::vector<Row> DescriptorRows() {
  return {
      {"read", [](Things& t) { return read(t.pipe[0], t.buf, 1); }, FeedPipe},
      {"readv", [](Things& t) { return readv(t.pipe[0], &t.vec, 1); }, FeedPipe},
      {"read accepted", [](Things& t) { return read(t.connection.server, t.buf, 9); }, FeedSocket},
      {"readv accepted", [](Things& t) { return readv(t.connection.server, &t.vec, 1); }, FeedSocket},
      {"recv", [](Things& t) { return recv(t.connection.server, t.buf, 9, 0); }, FeedSocket},
      {"recv peek", [](Things& t) { return recv(t.connection.server, t.buf, 9, MSG_PEEK); }, FeedSocket},
      {"recvfrom",
       [](Things& t) { return recvfrom(t.connection.server, t.buf, 9, 0, nullptr, nullptr); }, FeedSocket},
      {"recvmsg",
       [](Things& t) {
         struct msghdr message = {};
         message.msg_iov = &t.vec;
         message.msg_iovlen = 1;
         return recvmsg(t.connection.server, &message, 0);
       },
       FeedSocket},
      {"recvmmsg",
       [](Things& t) {
         struct mmsghdr message = {};
         message.msg_hdr.msg_iov = &t.vec;
         message.msg_hdr.msg_iovlen = 1;
         return recvmmsg(t.connection.server, &message, 1, 0, nullptr);
       },
       FeedSocket},
      {"write", [](Things& t) { return write(t.full[1], t.buf, 1); }, DrainPipe},
      {"writev", [](Things& t) { return writev(t.full[1], &t.vec, 1); }, DrainPipe},
      {"splice", [](Things& t) { return splice(t.pipe[0], nullptr, t.full[1], nullptr, 1, 0); },
       [](Things& t) {
         t.Drain();
         t.Feed();
       }},
      {"tee", [](Things& t) { return tee(t.pipe[0], t.full[1], 1, 0); },
       [](Things& t) {
         t.Drain();
         t.Feed();
       }},
      {"vmsplice", [](Things& t) { return vmsplice(t.full[1], &t.vec, 1, 0); }, DrainPipe},
      {"eventfd_read",
       [](Things& t) {
         eventfd_t value;
         return eventfd_read(t.event, &value);
       },
       [](Things& t) { eventfd_write(t.event, 3); }},
      {"accept", [](Things& t) { return accept(t.listener, nullptr, nullptr) >= 0; },
       [](Things& t) {
         const int fd = socket(AF_INET, SOCK_STREAM, 0);
         connect(fd, reinterpret_cast<struct sockaddr*>(&t.address), sizeof(t.address));
       }},
      {"flock", [](Things& t) { return flock(t.locked, LOCK_EX); },
       [](Things& t) { flock(t.locker, LOCK_UN); }},
  };
}

std::vector<Row> MultiplexRows() {
  return {
      {"poll",
       [](Things& t) {
         struct pollfd one = Input(t.pipe[0]);
         return poll(&one, 1, -1);
       },
       FeedPipe},
      {"poll accepted",
       [](Things& t) {
         struct pollfd one = Input(t.connection.server);
         return poll(&one, 1, 60000);
       },
       FeedSocket},
      {"poll two",
       [](Things& t) {
         struct pollfd two[2] = {Input(t.connection.server), Input(t.pipe[0])};
         return poll(two, 2, -1);
       },
       FeedSocket},
      {"ppoll",
       [](Things& t) {
         struct pollfd one = Input(t.connection.server);
         return ppoll(&one, 1, &kMinute, nullptr);
       },
       FeedSocket},
      {"select",
       [](Things& t) {
         fd_set set;
         FD_ZERO(&set);
         FD_SET(t.pipe[0], &set);
         return select(t.pipe[0] + 1, &set, nullptr, nullptr, nullptr);
       },
       FeedPipe},
      {"pselect",
       [](Things& t) {
         fd_set set;
         FD_ZERO(&set);
         FD_SET(t.connection.server, &set);
         return pselect(t.connection.server + 1, &set, nullptr, nullptr, &kMinute, nullptr);
       },
       FeedSocket},
      {"epoll_wait",
       [](Things& t) {
         struct epoll_event got;
         return epoll_wait(t.epoll, &got, 1, -1);
       },
       FeedPipe},
      {"epoll_pwait",
       [](Things& t) {
         struct epoll_event got;
         return epoll_pwait(t.epoll, &got, 1, 60000, nullptr);
       },
       FeedPipe},
  };
}

std::vector<Row> StreamRows() {
  return {
      {"fread", [](Things& t) { return fread(t.buf, 1, 2, t.input); }, FeedPipe},
      {"fgets", [](Things& t) { return fgets(t.buf, 9, t.input) != nullptr; }, FeedPipe},
      {"fgetc", [](Things& t) { return fgetc(t.input); }, FeedPipe},
      {"getc_unlocked", [](Things& t) { return getc_unlocked(t.input); }, FeedPipe},
      {"getline",
       [](Things& t) {
         char* line = nullptr;
         size_t size = 0;
         const long n = getline(&line, &size, t.input);
         free(line);
         return n;
       },
       FeedPipe},
      {"fscanf",
       [](Things& t) {
         int value = 0;
         const int n = fscanf(t.input, "%d", &value);
         return n * 100 + value;
       },
       FeedPipe},
      {"fwrite",
       [](Things& t) {
         const size_t n = fwrite(t.buf, 1, 200, t.output);
         return static_cast<long>(n) * 10 + (ferror(t.output) != 0);
       },
       DrainPipe},
      {"fprintf", [](Things& t) { return fprintf(t.output, "%0200d", 7); }, DrainPipe},
      {"fputs and fflush",
       [](Things& t) {
         const int put = fputs("text", t.output);
         return put * 10 + fflush(t.output);
       },
       DrainPipe},
      {"dprintf", [](Things& t) { return dprintf(t.full[1], "%d", 42); }, DrainPipe},
  };
}

std::vector<Row> LockRows() {
  return {
      {"sem_wait", [](Things& t) { return sem_wait(&t.sem); }, [](Things& t) { sem_post(&t.sem); }},
      {"sem_timedwait",
       [](Things& t) {
         const struct timespec end = In(60000);
         return sem_timedwait(&t.sem, &end);
       },
       [](Things& t) { sem_post(&t.sem); }},
      {"cond_wait",
       [](Things& t) {
         pthread_mutex_lock(&t.mutex);
         pthread_cleanup_push([](void* m) { pthread_mutex_unlock(static_cast<pthread_mutex_t*>(m)); },
                              &t.mutex);
         while (!t.told) pthread_cond_wait(&t.cond, &t.mutex);
         pthread_cleanup_pop(1);
         return 0;
       },
       [](Things& t) {
         pthread_mutex_lock(&t.mutex);
         t.told = true;
         pthread_cond_signal(&t.cond);
         pthread_mutex_unlock(&t.mutex);
       }},
  };
}

std::vector<Row> KernelRows() {
  return {
      {"msgrcv",
       [](Things& t) {
         char message[32];
         return msgrcv(t.queue, message, 8, 0, 0);
       },
       [](Things& t) {
         const long message[2] = {1, 2};
         msgsnd(t.queue, message, 4, 0);
       }},
      {"msgsnd",
       [](Things& t) {
         const long message[200] = {1};
         return msgsnd(t.full_queue, message, 1024, 0);
       },
       [](Things& t) {
         char message[2048];
         msgrcv(t.full_queue, message, 1024, 0, 0);
       }},
      {"semop",
       [](Things& t) {
         struct sembuf take = {0, -1, 0};
         return semop(t.set, &take, 1);
       },
       [](Things& t) {
         struct sembuf give = {0, 1, 0};
         semop(t.set, &give, 1);
       }},
      {"futex",
       [](Things& t) {
         return syscall(SYS_futex, &t.futex, FUTEX_WAIT, 0, nullptr, nullptr, 0);
       },
       [](Things& t) {
         __atomic_store_n(&t.futex, 1, __ATOMIC_SEQ_CST);
         syscall(SYS_futex, &t.futex, FUTEX_WAKE, 1, nullptr, nullptr, 0);
       }},
      {"waitpid",
       [](Things& t) {
         int status = 0;
         return waitpid(t.child, &status, 0) == t.child ? WEXITSTATUS(status) : -1;
       },
       [](Things& t) { REQUIRE(close(t.connection.client) == 0 && (t.connection.client = -1)); }},
  };
}

volatile sig_atomic_t g_handled = 0;

// The child that waitpid() waits for: ends once the connection does.
void MakeChild(Things* t) {
  t->child = fork();
  if (t->child != 0) return;
  close(t->connection.client);
  char byte;
  while (read(t->connection.server, &byte, 1) < 0) {
  }
  _exit(9);
}

void EndChild(Things* t) {
  if (t->child <= 0) return;
  kill(t->child, SIGKILL);
  waitpid(t->child, nullptr, 0);
}

void ShowCall(const Row& row, const char* scenario, bool worker, bool ready,
              const std::function<void(pthread_t, pid_t, Things*)>& meanwhile) {
  auto t = std::make_unique<Things>();
  if (strcmp(row.name, "waitpid") == 0) MakeChild(t.get());
  if (ready) row.make_ready(*t);
  long rc = 0;
  int error = 0;
  bool returned = false;
  pid_t tid = 0;
  Thread thread(
      [&] {
        __atomic_store_n(&tid, gettid(), __ATOMIC_RELEASE);
        errno = kErrnoSentinel;
        rc = row.call(*t);
        error = errno;
        returned = true;
      },
      worker);
  while (__atomic_load_n(&tid, __ATOMIC_ACQUIRE) == 0) Pause(100);
  meanwhile(thread.handle(), tid, t.get());
  thread.Join();
  printf("%s, %s, worker %d: %ld errno %d returned %d canceled %d\n", row.name, scenario, worker, rc,
         error, returned, thread.result() == PTHREAD_CANCELED);
  EndChild(t.get());
}

void Install(int flags) {
  struct sigaction action = {};
  action.sa_handler = [](int) { g_handled = g_handled + 1; };
  action.sa_flags = flags;
  sigaction(SIGUSR1, &action, nullptr);
}

void ShowRow(const Row& row, bool worker) {
  ShowCall(row, "ready", worker, true, [](pthread_t, pid_t, Things*) {});
  ShowCall(row, "waits", worker, false, [&](pthread_t, pid_t tid, Things* t) {
    AwaitAsleep(tid);
    row.make_ready(*t);
  });
  for (const int flags : {0, SA_RESTART}) {
    Install(flags);
    const char* const scenario = flags == 0 ? "interrupted" : "restarted";
    ShowCall(row, scenario, worker, false, [&](pthread_t thread, pid_t tid, Things* t) {
      AwaitAsleep(tid);
      const int before = g_handled;
      pthread_kill(thread, SIGUSR1);
      while (g_handled == before) Pause(200);
      AwaitAsleep(tid);
      row.make_ready(*t);
    });
  }
  ShowCall(row, "cancelled", worker, false, [&](pthread_t thread, pid_t tid, Things* t) {
    AwaitAsleep(tid);
    pthread_cancel(thread);
    AwaitAsleep(tid);       // it has ended, or the wait is no cancellation point
    row.make_ready(*t);
  });
}

}  // namespace

int main(int argc, char** argv) {
  const std::string part = argc > 1 ? argv[1] : "";
  const auto rows = part == "descriptors" ? DescriptorRows()
                    : part == "multiplex" ? MultiplexRows()
                    : part == "streams"   ? StreamRows()
                    : part == "locks"     ? LockRows()
                                          : KernelRows();
  for (const Row& row : rows) {
    for (const bool worker : {false, true}) ShowRow(row, worker);
  }
  // Not by exit(): it would try to flush the streams that were given up.
  fflush(stdout);
  _exit(0);
}
