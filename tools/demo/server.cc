// cmwq-demo-server: a server as they are commonly written, with a thread for each connection and
// blocking calls throughout. It knows nothing of cmwq; the demo runs it with and without the
// preload.
//
// A request is a line, "GET KEY SEQUENCE" or "PUT KEY SEQUENCE VALUE"; the answer is "SEQUENCE
// VALUE". Each request computes for a while, looks into a table that all threads share under one
// mutex, and every so many requests wait for the disk.

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <mutex>
#include <string>
#include <vector>

#include "tools/demo/work.h"

namespace cmwq::tools {
namespace {

struct ServerOptions {
  std::string socket;
  std::string journal;
  uint64_t rounds = 20000;
  uint64_t disk_every = 8;
};

class Server {
 public:
  explicit Server(const ServerOptions& options) : options_(options) {}

  // Returns the exit code.
  int Run();

 private:
  struct Connection {
    Server* server;
    int fd;
  };

  static void* ConnectionThread(void* argument);
  void Serve(int fd);
  // The answer to one line, or an empty string if it is no request.
  std::string Answer(const char* line);
  uint64_t LookUp(uint64_t key, const uint64_t* new_value);
  void WriteJournal(uint64_t request, uint64_t value);
  bool Listen();
  void StartConnection(int fd);

  const ServerOptions options_;
  int listener_ = -1;
  int journal_ = -1;
  std::atomic<uint64_t> requests_ = 0;
  std::atomic<int> connections_ = 0;
  std::mutex table_mutex_;
  std::vector<uint64_t> table_ = std::vector<uint64_t>(1 << 16);  // guarded by table_mutex_
};

uint64_t Server::LookUp(uint64_t key, const uint64_t* new_value) {
  // Neighbours are summed up to make the section as long as a walk over a hash chain.
  constexpr size_t kChain = 64;
  const std::lock_guard<std::mutex> lock(table_mutex_);
  uint64_t sum = 0;
  for (size_t i = 0; i < kChain; ++i) sum += table_[(key + i * 127) % table_.size()];
  if (new_value != nullptr) table_[key % table_.size()] = *new_value;
  return sum;
}

void Server::WriteJournal(uint64_t request, uint64_t value) {
  char record[256] = {};
  snprintf(record, sizeof record, "%" PRIu64 " %" PRIu64 "\n", request, value);
  const off_t place = static_cast<off_t>(request % 1024 * sizeof record);
  if (pwrite(journal_, record, sizeof record, place) < 0 || fdatasync(journal_) != 0) {
    perror("cmwq-demo-server: journal");
  }
}

std::string Server::Answer(const char* line) {
  char verb[4];
  uint64_t key, sequence, value = 0;
  const int fields =
      sscanf(line, "%3s %" SCNu64 " %" SCNu64 " %" SCNu64, verb, &key, &sequence, &value);
  const bool put = fields == 4 && strcmp(verb, "PUT") == 0;
  if (!put && (fields != 3 || strcmp(verb, "GET") != 0)) return {};
  value ^= Compute(key + sequence, options_.rounds);
  const uint64_t found = LookUp(key, put ? &value : nullptr);
  const uint64_t request = requests_.fetch_add(1, std::memory_order_relaxed);
  if (options_.disk_every > 0 && request % options_.disk_every == 0) WriteJournal(request, value);
  char answer[64];
  snprintf(answer, sizeof answer, "%" PRIu64 " %" PRIu64 "\n", sequence, found);
  return answer;
}

void Server::Serve(int fd) {
  char buffer[512];
  size_t used = 0;
  for (;;) {
    const ssize_t got = read(fd, buffer + used, sizeof buffer - 1 - used);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    used += static_cast<size_t>(got);
    buffer[used] = '\0';
    char* begin = buffer;
    for (char* end; (end = strchr(begin, '\n')) != nullptr; begin = end + 1) {
      *end = '\0';
      const std::string answer = Answer(begin);
      if (answer.empty()) return;
      if (send(fd, answer.data(), answer.size(), MSG_NOSIGNAL) < 0) return;
    }
    used = static_cast<size_t>(buffer + used - begin);
    memmove(buffer, begin, used);
    if (used == sizeof buffer - 1) return;  // a line of this length is no request
  }
}

void* Server::ConnectionThread(void* argument) {
  Connection* const connection = static_cast<Connection*>(argument);
  Server* const server = connection->server;
  server->Serve(connection->fd);
  close(connection->fd);
  delete connection;
  server->connections_.fetch_sub(1, std::memory_order_release);
  return nullptr;
}

void Server::StartConnection(int fd) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  connections_.fetch_add(1, std::memory_order_relaxed);
  pthread_t thread;
  Connection* const connection = new Connection{this, fd};
  const int error = pthread_create(&thread, &attributes, ConnectionThread, connection);
  pthread_attr_destroy(&attributes);
  if (error == 0) return;
  fprintf(stderr, "cmwq-demo-server: pthread_create: %s\n", strerror(error));
  connections_.fetch_sub(1, std::memory_order_relaxed);
  delete connection;
  close(fd);
}

bool Server::Listen() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (options_.socket.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return false;
  }
  memcpy(address.sun_path, options_.socket.c_str(), options_.socket.size());
  listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  return listener_ >= 0 &&
         bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
         listen(listener_, 4096) == 0;
}

int Server::Run() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
  journal_ = open(options_.journal.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (signal_fd < 0 || journal_ < 0 || !Listen()) {
    perror("cmwq-demo-server");
    return 1;
  }
  pollfd waits[2] = {{listener_, POLLIN, 0}, {signal_fd, POLLIN, 0}};
  for (;;) {
    if (poll(waits, 2, -1) < 0 && errno != EINTR) break;
    if (waits[1].revents != 0) break;
    if (waits[0].revents == 0) continue;
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) StartConnection(fd);
  }
  // The clients have gone by now; their threads need a moment to see it.
  for (int i = 0; i < 400 && connections_.load(std::memory_order_acquire) > 0; ++i) usleep(5000);
  return connections_.load(std::memory_order_acquire) == 0 ? 0 : 3;
}

int ServerMain(int argc, char** argv) {
  constexpr option kOptions[] = {{"disk-every", required_argument, nullptr, 'd'},
                                 {"journal", required_argument, nullptr, 'j'},
                                 {"rounds", required_argument, nullptr, 'r'},
                                 {"socket", required_argument, nullptr, 's'},
                                 {}};
  ServerOptions options;
  for (int got; (got = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    switch (got) {
      case 'd':
        options.disk_every = strtoull(optarg, nullptr, 10);
        break;
      case 'j':
        options.journal = optarg;
        break;
      case 'r':
        options.rounds = strtoull(optarg, nullptr, 10);
        break;
      case 's':
        options.socket = optarg;
        break;
      default:
        return 2;
    }
  }
  if (options.socket.empty() || options.journal.empty()) {
    fputs("usage: cmwq-demo-server --socket=PATH --journal=PATH [--rounds=N] [--disk-every=N]\n",
          stderr);
    return 2;
  }
  Server* const server = new Server(options);
  const int code = server->Run();
  // Otherwise threads are still busy and use it.
  if (code == 0) delete server;
  return code;
}

}  // namespace
}  // namespace cmwq::tools

int main(int argc, char** argv) { return cmwq::tools::ServerMain(argc, argv); }
