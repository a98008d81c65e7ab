#include "tools/demo/load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <vector>

#include "tools/common/text.h"
#include "tools/demo/bench.h"

namespace cmwq::tools {
namespace {

// How long the last answers may take after the window's end before they count as missing.
constexpr uint64_t kDrainNs = 10'000'000'000;

uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

class Load {
 public:
  Load(const LoadPlan& plan, int control) : plan_(plan), control_(control) {}
  ~Load();
  int Run();

 private:
  struct Connection {
    int fd = -1;
    bool waiting = false;
    uint64_t sequence = 0;
    uint64_t sent_ns = 0;
    size_t used = 0;
    char buffer[96];
  };

  bool ConnectAll();
  void Send(Connection* connection);
  void Receive(Connection* connection);
  void TakeAnswer(Connection* connection, uint64_t now);
  void Fail(Connection* connection);
  void PumpUntil(uint64_t deadline_ns);

  const LoadPlan& plan_;
  const int control_;
  int epoll_ = -1;
  std::vector<Connection> connections_;
  int outstanding_ = 0;
  bool sending_ = true;     // false once the window is over
  bool recording_ = false;  // true once the window has begun
  uint64_t random_ = 0x9e3779b97f4a7c15;
  LoadResult result_;
};

Load::~Load() {
  for (const Connection& connection : connections_) {
    if (connection.fd >= 0) close(connection.fd);
  }
  if (epoll_ >= 0) close(epoll_);
}

bool Load::ConnectAll() {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  connections_.resize(static_cast<size_t>(plan_.connections));
  for (Connection& connection : connections_) {
    connection.fd = ConnectUnix(plan_.socket);
    epoll_event event{EPOLLIN, {.ptr = &connection}};
    if (connection.fd < 0 || epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd, &event) != 0) {
      Complain("demo: connection %zd: %s", &connection - connections_.data(), strerror(errno));
      return false;
    }
  }
  return true;
}

void Load::Fail(Connection* connection) {
  ++result_.errors;
  if (connection->waiting) --outstanding_;
  connection->waiting = false;
  close(connection->fd);
  connection->fd = -1;
}

void Load::Send(Connection* connection) {
  random_ ^= random_ << 13;
  random_ ^= random_ >> 7;
  random_ ^= random_ << 17;
  const uint64_t key = random_ >> 40;
  char line[96];
  // One request in five writes.
  const int size = random_ % 5 == 0
                       ? snprintf(line, sizeof line, "PUT %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                                  key, ++connection->sequence, random_ >> 32)
                       : snprintf(line, sizeof line, "GET %" PRIu64 " %" PRIu64 "\n", key,
                                  ++connection->sequence);
  connection->sent_ns = NowNs();
  connection->waiting = true;
  ++outstanding_;
  if (send(connection->fd, line, static_cast<size_t>(size), MSG_NOSIGNAL) != size) Fail(connection);
}

void Load::TakeAnswer(Connection* connection, uint64_t now) {
  connection->waiting = false;
  --outstanding_;
  if (recording_) {
    result_.latency.Record(now - connection->sent_ns);
    if (sending_) ++result_.answered;
  }
  if (sending_) Send(connection);
}

void Load::Receive(Connection* connection) {
  if (connection->fd < 0) return;
  const ssize_t got = recv(connection->fd, connection->buffer + connection->used,
                           sizeof connection->buffer - 1 - connection->used, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return Fail(connection);
  connection->used += static_cast<size_t>(got);
  connection->buffer[connection->used] = '\0';
  const char* const end = strchr(connection->buffer, '\n');
  if (end == nullptr) {
    if (connection->used == sizeof connection->buffer - 1) Fail(connection);
    return;
  }
  char* after_sequence;
  const uint64_t sequence = strtoull(connection->buffer, &after_sequence, 10);
  const bool whole = end == connection->buffer + connection->used - 1;
  if (!whole || !connection->waiting || sequence != connection->sequence ||
      *after_sequence != ' ') {
    return Fail(connection);
  }
  connection->used = 0;
  TakeAnswer(connection, NowNs());
}

// Sends and receives until the deadline, or until nothing is on its way any more.
void Load::PumpUntil(uint64_t deadline_ns) {
  epoll_event events[256];
  for (uint64_t now; outstanding_ > 0 && (now = NowNs()) < deadline_ns;) {
    const int timeout_ms = static_cast<int>((deadline_ns - now + 999'999) / 1'000'000);
    const int count = epoll_wait(epoll_, events, std::size(events), timeout_ms);
    for (int i = 0; i < count; ++i) Receive(static_cast<Connection*>(events[i].data.ptr));
  }
}

int Load::Run() {
  if (!ConnectAll()) return 1;
  for (Connection& connection : connections_) Send(&connection);
  const auto length_ns = [](double seconds) { return static_cast<uint64_t>(seconds * 1e9); };
  PumpUntil(NowNs() + length_ns(plan_.warm_up_seconds));

  const uint64_t begin_ns = NowNs();
  recording_ = true;
  (void)!write(control_, "B", 1);
  PumpUntil(begin_ns + length_ns(plan_.seconds));
  sending_ = false;
  const uint64_t end_ns = NowNs();
  result_.seconds = static_cast<double>(end_ns - begin_ns) / 1e9;

  PumpUntil(end_ns + kDrainNs);
  for (Connection& connection : connections_) {
    if (!connection.waiting) continue;
    result_.latency.Record(NowNs() - connection.sent_ns);
    ++result_.errors;
  }
  const ssize_t written = write(control_, &result_, sizeof result_);
  return written == static_cast<ssize_t>(sizeof result_) ? 0 : 1;
}

}  // namespace

int RunLoad(const LoadPlan& plan, int control) { return Load(plan, control).Run(); }

}  // namespace cmwq::tools
