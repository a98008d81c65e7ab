// Receiving and sending: flags, time-outs, resets, sends larger than every buffer.

#include <sys/uio.h>

#include <vector>

#include "tests/preload/victims/support.h"

namespace {

void SetTimeout(int fd, int option, long microseconds) {
  const struct timeval time = {0, microseconds};
  REQUIRE(setsockopt(fd, SOL_SOCKET, option, &time, sizeof(time)) == 0);
}

// One message received by each function, on the accepted and on the connecting side.
void Receive(int from, int to) {
  char buf[16];
  struct iovec vec = {buf, sizeof(buf)};
  struct msghdr message = {};
  message.msg_iov = &vec;
  message.msg_iovlen = 1;
  struct sockaddr_storage peer;
  socklen_t size = sizeof(peer);
  for (int round = 0; round < 5; ++round) {
    const OnceAsleep feed([=] { REQUIRE(send(from, "abc", 3, 0) == 3); });
    if (round == 0) SHOW(recv(to, buf, 16, 0));
    if (round == 1) SHOW(recvfrom(to, buf, 16, 0, reinterpret_cast<sockaddr*>(&peer), &size));
    if (round == 2) SHOW(recvmsg(to, &message, 0));
    if (round == 3) SHOW(recv(to, buf, 3, MSG_WAITALL));
    if (round == 4) SHOW(recv(to, buf, 16, MSG_PEEK));
  }
  SHOW(recv(to, buf, 16, MSG_DONTWAIT));
  SHOW(recv(to, buf, 16, MSG_DONTWAIT));
  SHOW(recvmsg(to, &message, MSG_DONTWAIT));
  SetTimeout(to, SO_RCVTIMEO, 5000);
  SHOW(recv(to, buf, 16, 0));
  SHOW(read(to, buf, 16));
  SHOW(recvmsg(to, &message, 0));
  SHOW(recv(to, buf, 16, MSG_WAITALL));
  SetTimeout(to, SO_RCVTIMEO, 0);
  struct mmsghdr many = {};
  many.msg_hdr = message;
  {
    const OnceAsleep feed([=] { REQUIRE(send(from, "abc", 3, 0) == 3); });
    SHOW(recvmmsg(to, &many, 1, 0, nullptr));
  }
  SHOW(recv(-1, buf, 16, 0));
  SHOW(recv(to, buf, 16, MSG_OOB));
  SHOW(recvmsg(to, nullptr, MSG_DONTWAIT));
}

// Sends more than the buffers hold while the peer reads, then while it does not.
void SendLarge(int from, int to) {
  constexpr size_t kLength = 4 << 20;
  const int size = 65536;
  setsockopt(from, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
  setsockopt(to, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
  std::vector<char> data(kLength);
  for (size_t i = 0; i < kLength; ++i) data[i] = static_cast<char>(i * 7 + i / 251);
  std::vector<char> got(kLength);
  for (int round = 0; round < 5; ++round) {
    std::fill(got.begin(), got.end(), '\0');
    Thread reader([&] {
      size_t have = 0;
      while (have < kLength) {
        const ssize_t n = recv(to, got.data() + have, kLength - have, 0);
        REQUIRE(n > 0);
        have += static_cast<size_t>(n);
      }
    });
    struct iovec vec[3] = {{data.data(), 100},
                           {data.data() + 100, kLength / 2},
                           {data.data() + 100 + kLength / 2, kLength / 2 - 100}};
    struct msghdr message = {};
    message.msg_iov = vec;
    message.msg_iovlen = 3;
    if (round == 0) SHOW(send(from, data.data(), kLength, 0));
    if (round == 1) SHOW(sendto(from, data.data(), kLength, MSG_NOSIGNAL, nullptr, 0));
    if (round == 2) SHOW(sendmsg(from, &message, 0));
    if (round == 3) SHOW(writev(from, vec, 3));
    if (round == 4) SHOW(write(from, data.data(), kLength));
    reader.Join();
    printf("same %d\n", data == got);
  }
  SetTimeout(from, SO_SNDTIMEO, 20000);
  const ssize_t part = send(from, data.data(), kLength, 0);
  printf("partial send %d\n", part > 0 && static_cast<size_t>(part) < kLength);
  const ssize_t full = send(from, data.data(), kLength, 0);
  printf("full buffer %zd errno %d\n", full, errno);
  SHOW(send(from, data.data(), kLength, MSG_DONTWAIT));
  fcntl(from, F_SETFL, O_NONBLOCK);
  SHOW(send(from, data.data(), kLength, 0));
  SHOW(write(from, data.data(), kLength));
}

void Reset() {
  Connection connection;
  const struct linger hard = {1, 0};
  setsockopt(connection.client, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
  char buf[4];
  {
    const OnceAsleep reset([&] { connection.CloseClient(); });
    SHOW(recv(connection.server, buf, 4, 0));
  }
  SHOW(recv(connection.server, buf, 4, 0));
  SHOW(send(connection.server, buf, 4, MSG_NOSIGNAL));
}

void Datagrams() {
  int pair[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
  char buf[16];
  SHOW(send(pair[0], "abc", 3, 0));
  SHOW(recv(pair[1], buf, 2, 0));
  SHOW(send(pair[0], "", 0, 0));
  SHOW(recv(pair[1], buf, 16, 0));
  {
    const OnceAsleep feed([&] { REQUIRE(send(pair[0], "abc", 3, 0) == 3); });
    SHOW(recv(pair[1], buf, 16, MSG_TRUNC));
  }
  int sent = 0;
  while (send(pair[0], "abc", 3, MSG_DONTWAIT) == 3) ++sent;
  {
    const OnceAsleep drain([&] {
      for (; sent > 0; --sent) REQUIRE(recv(pair[1], buf, 16, 0) == 3);
    });
    SHOW(send(pair[0], "xyz", 3, 0));
  }
  close(pair[0]);
  close(pair[1]);
}

void Accepting() {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* raw = reinterpret_cast<struct sockaddr*>(&address);
  REQUIRE(bind(listener, raw, size) == 0 && listen(listener, 4) == 0);
  REQUIRE(getsockname(listener, raw, &size) == 0);
  const int client = socket(AF_INET, SOCK_STREAM, 0);
  int server = -1;
  {
    const OnceAsleep knock([&] { REQUIRE(connect(client, raw, size) == 0); });
    SHOW((server = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)) >= 0);
  }
  fcntl(listener, F_SETFL, O_NONBLOCK);
  SHOW(accept(listener, nullptr, nullptr));
  SHOW(accept(-1, nullptr, nullptr));
  SHOW(connect(client, raw, size));
  SHOW(connect(-1, raw, size));
  close(client);
  close(server);
  close(listener);
}

}  // namespace

int main() {
  InBothKinds([] {
    {
      const Connection connection;
      Receive(connection.client, connection.server);
      Receive(connection.server, connection.client);
    }
    {
      const Connection connection(AF_UNIX);
      SendLarge(connection.server, connection.client);
    }
    {
      const Connection connection(AF_UNIX);
      SendLarge(connection.client, connection.server);
    }
    Reset();
    Datagrams();
    Accepting();
  });
  return 0;
}
