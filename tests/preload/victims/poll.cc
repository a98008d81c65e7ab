// Waiting for descriptors: poll, select, epoll and their variants.

#include <sys/epoll.h>
#include <sys/select.h>

#include "tests/preload/victims/support.h"

namespace {

void ShowPoll(int fd, int peer, short events) {
  struct pollfd one = {fd, events, 0};
  SHOW(poll(&one, 1, 0));
  SHOW(poll(&one, 1, 5));
  printf("revents %d\n", one.revents);
  const struct timespec brief = {0, 3000000};
  const struct timespec invalid = {0, -1};
  SHOW(ppoll(&one, 1, &brief, nullptr));
  SHOW(ppoll(&one, 1, &invalid, nullptr));
  sigset_t none;
  sigemptyset(&none);
  SHOW(ppoll(&one, 1, &brief, &none));
  for (int round = 0; round < 4; ++round) {
    const OnceAsleep feed([=] { REQUIRE(send(peer, "x", 1, 0) == 1); });
    if (round == 0) SHOW(poll(&one, 1, -1));
    if (round == 1) SHOW(poll(&one, 1, 60000));
    if (round == 2) SHOW(ppoll(&one, 1, nullptr, nullptr));
    if (round == 3) SHOW(ppoll(&one, 1, nullptr, &none));
    printf("revents %d\n", one.revents);
    char byte;
    SHOW(recv(fd, &byte, 1, 0));
  }
  struct pollfd two[2] = {{fd, events, 0}, {-1, POLLIN, 0}};
  SHOW(poll(two, 2, 3));
  {
    const OnceAsleep feed([=] { REQUIRE(send(peer, "x", 1, 0) == 1); });
    SHOW(poll(two, 2, -1));
  }
  printf("revents %d %d\n", two[0].revents, two[1].revents);
  char byte;
  SHOW(recv(fd, &byte, 1, 0));
}

void ShowSelect(int fd, int peer) {
  fd_set input;
  FD_ZERO(&input);
  FD_SET(fd, &input);
  struct timeval brief = {0, 3000};
  SHOW(select(fd + 1, &input, nullptr, nullptr, &brief));
  printf("left %ld set %d\n", static_cast<long>(brief.tv_usec), FD_ISSET(fd, &input));
  const struct timespec brief_ts = {0, 3000000};
  FD_SET(fd, &input);
  SHOW(pselect(fd + 1, &input, nullptr, nullptr, &brief_ts, nullptr));
  for (int round = 0; round < 2; ++round) {
    FD_ZERO(&input);
    FD_SET(fd, &input);
    {
      const OnceAsleep feed([=] { REQUIRE(send(peer, "x", 1, 0) == 1); });
      if (round == 0) SHOW(select(fd + 1, &input, nullptr, nullptr, nullptr));
      if (round == 1) SHOW(pselect(fd + 1, &input, nullptr, nullptr, nullptr, nullptr));
    }
    printf("set %d\n", FD_ISSET(fd, &input));
    char byte;
    SHOW(recv(fd, &byte, 1, 0));
  }
  SHOW(select(-1, nullptr, nullptr, nullptr, nullptr));
}

void ShowEpoll(int fd, int peer) {
  const int epfd = epoll_create1(0);
  struct epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = 99;
  REQUIRE(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0);
  const struct timespec brief = {0, 3000000};
  SHOW(epoll_wait(epfd, &event, 1, 0));
  SHOW(epoll_wait(epfd, &event, 1, 3));
  SHOW(epoll_pwait2(epfd, &event, 1, &brief, nullptr));
  for (int round = 0; round < 3; ++round) {
    {
      const OnceAsleep feed([=] { REQUIRE(send(peer, "x", 1, 0) == 1); });
      if (round == 0) SHOW(epoll_wait(epfd, &event, 1, -1));
      if (round == 1) SHOW(epoll_pwait(epfd, &event, 1, -1, nullptr));
      if (round == 2) SHOW(epoll_pwait2(epfd, &event, 1, nullptr, nullptr));
    }
    printf("data %lu\n", static_cast<unsigned long>(event.data.u64));
    char byte;
    SHOW(recv(fd, &byte, 1, 0));
  }
  SHOW(epoll_wait(-1, &event, 1, 1));
  close(epfd);
}

}  // namespace

int main() {
  InBothKinds([] {
    Connection connection;
    ShowPoll(connection.server, connection.client, POLLIN);
    ShowPoll(connection.server, connection.client, POLLIN | POLLPRI | POLLRDHUP);
    ShowPoll(connection.client, connection.server, POLLIN);
    ShowSelect(connection.server, connection.client);
    ShowEpoll(connection.server, connection.client);
    ShowEpoll(connection.client, connection.server);
    struct pollfd bad = {9999, POLLIN, 0};
    SHOW(poll(&bad, 1, 1));
    SHOW(poll(nullptr, 0, 2));
    struct pollfd hup = {connection.server, POLLIN, 0};
    const OnceAsleep end([&] { connection.CloseClient(); });
    SHOW(poll(&hup, 1, -1));
    printf("revents %d\n", hup.revents);
  });
  return 0;
}
