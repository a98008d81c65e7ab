// A small database server with one thread per connection and one lock that outlives a request, as row
// locks do. The holder waits at the boundary for its client's next statement while the others wait for
// the lock. A pool that lets nobody else in while its workers wait never lets the holder in either
// (MDEV-5533).
//
// usage: victim-lock_cycle cond|futex|spin|held
//
//   cond    the others wait for a condition
//   futex   in a system call that no library sees
//   spin    they do not wait at all
//   held    the holder waits for its client inside a mutex; the others spin for that

#include <linux/futex.h>
#include <sys/syscall.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/preload/victims/support.h"

namespace {

constexpr int kClients = 9;
constexpr int kRounds = 3;

std::string g_kind;
int g_row = 0;  // 1: locked
pthread_mutex_t g_mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t g_free = PTHREAD_COND_INITIALIZER;

void SilentFutex(int* word, int operation, int value) {
#if defined(__x86_64__)
  register long timeout __asm__("r10") = 0;
  long result = SYS_futex;
  __asm__ volatile("syscall"
                   : "+a"(result)
                   : "D"(word), "S"(operation), "d"(value), "r"(timeout)
                   : "rcx", "r11", "memory");
#else
  syscall(SYS_futex, word, operation, value, nullptr);
#endif
}

bool TryRow() { return __atomic_exchange_n(&g_row, 1, __ATOMIC_ACQ_REL) == 0; }

void LockRow() {
  if (g_kind == "cond") {
    pthread_mutex_lock(&g_mutex);
    while (!TryRow()) pthread_cond_wait(&g_free, &g_mutex);
    pthread_mutex_unlock(&g_mutex);
  } else if (g_kind == "futex") {
    while (!TryRow()) SilentFutex(&g_row, FUTEX_WAIT, 1);
  } else if (g_kind == "spin") {
    while (!TryRow()) {
    }
  } else {
    while (pthread_mutex_trylock(&g_mutex) != 0) {
    }
  }
}

void UnlockRow() {
  if (g_kind == "held") {
    pthread_mutex_unlock(&g_mutex);
    return;
  }
  pthread_mutex_lock(&g_mutex);
  __atomic_store_n(&g_row, 0, __ATOMIC_RELEASE);
  pthread_cond_broadcast(&g_free);
  pthread_mutex_unlock(&g_mutex);
  if (g_kind == "futex") SilentFutex(&g_row, FUTEX_WAKE, kClients);
}

void Serve(int fd) {
  char command;
  for (;;) {
    struct pollfd one = {fd, POLLIN, 0};
    REQUIRE(poll(&one, 1, -1) == 1);
    if (recv(fd, &command, 1, 0) != 1) return;
    if (command == 'L') LockRow();
    if (command == 'U') UnlockRow();
    REQUIRE(send(fd, &command, 1, 0) == 1);
  }
}

void Ask(int fd, char command) { REQUIRE(send(fd, &command, 1, 0) == 1); }

void AwaitAnswer(int fd, char command) {
  char got = 0;
  REQUIRE(recv(fd, &got, 1, 0) == 1 && got == command);
}

}  // namespace

int main(int, char** argv) {
  g_kind = argv[1];
  std::vector<std::unique_ptr<Connection>> connections;
  std::vector<std::unique_ptr<Thread>> servers;
  std::vector<struct pollfd> clients;
  for (int i = 0; i < kClients; ++i) {
    connections.push_back(std::make_unique<Connection>());
    const int fd = connections.back()->server;
    servers.push_back(std::make_unique<Thread>([fd] { Serve(fd); }));
    clients.push_back({connections.back()->client, POLLIN, 0});
  }
  int unlocked = 0;
  for (int round = 0; round < kRounds; ++round) {
    const int holder = clients[0].fd;
    Ask(holder, 'L');
    AwaitAnswer(holder, 'L');
    for (int i = 1; i < kClients; ++i) Ask(clients[i].fd, 'L');
    Pause(30000);  // some of them have come to the lock
    Ask(holder, 'U');
    AwaitAnswer(holder, 'U');
    ++unlocked;
    // Each of the others gets the lock in its turn, and holds it from one statement to the next.
    for (int left = kClients - 1; left > 0;) {
      REQUIRE(poll(clients.data() + 1, kClients - 1, -1) > 0);
      for (int i = 1; i < kClients; ++i) {
        if (clients[i].revents == 0) continue;
        AwaitAnswer(clients[i].fd, 'L');
        Ask(clients[i].fd, 'U');
        AwaitAnswer(clients[i].fd, 'U');
        ++unlocked;
        --left;
      }
    }
  }
  for (const auto& connection : connections) connection->CloseClient();
  servers.clear();
  printf("%s: unlocked %d\n", g_kind.c_str(), unlocked);
  return 0;
}
