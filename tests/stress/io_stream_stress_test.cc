// Streams that are fed, started, ended and cancelled by many threads, then an account: every connection
// that was made was delivered or is found after the cancel, every byte that was sent arrived, in order. Run
// with a ring and without. Lasts CMWQ_STRESS_SECONDS, 2 if unset.

#include <cmwq/io_stream.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/stress/stress.h"

namespace cmwq::stress {
namespace {

constexpr int kReceivers = 16;
constexpr int kAcceptors = 4;
constexpr int kThreads = 4;

struct Account {
  std::atomic<uint64_t> made{0}, delivered{0}, kept{0};
  std::atomic<uint64_t> sent{0}, received{0}, found{0};
  std::atomic<uint64_t> starts{0}, ends{0}, cancels{0};
};

struct Stream {
  Stream(Account* a, unsigned nr, size_t size) : account(a), accepts(size == 0) {
    EXPECT_TRUE(cmwq_io_stream_init(&s, &Fn, nr, size));
  }
  // Takes at most `most`, 0: all. `after`: by the canceller, not by the function.
  void Take(unsigned most, bool after) {
    struct cmwq_io_result r;
    for (unsigned n = 0; most == 0 || n < most; ++n) {
      if (cmwq_io_stream_next(&s, &r) <= 0) return;
      if (accepts) {
        close(static_cast<int>(r.value));
        (after ? account->kept : account->delivered).fetch_add(1);
      } else {
        for (int64_t i = 0; i < r.value; ++i) {
          EXPECT_EQ(static_cast<unsigned char*>(r.data)[i], expected++);
        }
        (after ? account->found : account->received).fetch_add(static_cast<uint64_t>(r.value));
        cmwq_io_stream_put(&s, r.data);
      }
    }
    cmwq_queue_work(wq, cmwq_io_stream_work(&s));
  }
  static void Fn(struct cmwq_work* work) {
    Stream* const self = reinterpret_cast<Stream*>(cmwq_io_stream_of(work));
    EXPECT_EQ(self->executing.fetch_add(1), 0);
    self->Take(3, false);
    self->executing.fetch_sub(1);
  }

  struct cmwq_io_stream s;  // first
  std::mutex mu;            // who starts or cancels
  std::mutex feeding;
  Account* account;
  bool accepts;
  struct cmwq_workqueue* wq = nullptr;
  std::array<int, 2> fds{-1, -1};  // accepts: listener
  sockaddr_un address{};
  socklen_t size = 0;
  unsigned char expected = 0, next = 0;
  std::atomic<int> executing{0};
};

class IoStreamStress : public ::testing::Test {
 protected:
  IoStreamStress() {
    for (int i = 0; i < kAcceptors + kReceivers; ++i) {
      const bool accepts = i < kAcceptors;
      streams.push_back(std::make_unique<Stream>(&account, 1 + i % 5, accepts ? 0 : 8));
      Stream* const s = streams.back().get();
      s->wq = queues[static_cast<size_t>(i) % queues.size()];
      if (!accepts) {
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s->fds.data()), 0);
        continue;
      }
      s->fds[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (i % 2 == 0 ? SOCK_NONBLOCK : 0), 0);
      s->address.sun_family = AF_UNIX;
      s->size = sizeof(s->address);
      EXPECT_EQ(bind(s->fds[0], Generic(s), sizeof(s->address.sun_family)), 0);
      EXPECT_EQ(getsockname(s->fds[0], Generic(s), &s->size), 0);
      EXPECT_EQ(listen(s->fds[0], 64), 0);
    }
  }
  ~IoStreamStress() override {
    for (auto& s : streams) {
      cmwq_io_stream_destroy(&s->s);
      for (const int fd : s->fds) {
        if (fd >= 0) close(fd);
      }
    }
  }
  static sockaddr* Generic(Stream* s) { return reinterpret_cast<sockaddr*>(&s->address); }

  void Start(Stream* s) {
    std::lock_guard<std::mutex> hold(s->mu);
    const bool ok = s->accepts ? cmwq_io_accept_stream(s->wq, &s->s, s->fds[0], SOCK_CLOEXEC)
                               : cmwq_io_recv_stream(s->wq, &s->s, s->fds[0], 0);
    if (ok) account.starts.fetch_add(1);
  }
  void Cancel(Stream* s, bool take) {
    std::lock_guard<std::mutex> hold(s->mu);
    if (cmwq_cancel_io_stream_sync(&s->s)) account.cancels.fetch_add(1);
    // Under the lock nobody starts it: no function runs.
    if (take) s->Take(0, true);
  }
  void Feed(Stream* s, Random* random) {
    std::lock_guard<std::mutex> hold(s->feeding);
    if (s->accepts) {
      const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      if (connect(client, Generic(s), s->size) == 0) account.made.fetch_add(1);
      close(client);
      return;
    }
    unsigned char bytes[32];
    for (size_t i = 0; i < sizeof(bytes); ++i) bytes[i] = static_cast<unsigned char>(s->next + i);
    const ssize_t n = send(s->fds[1], bytes, 1 + random->Below(sizeof(bytes)), MSG_NOSIGNAL);
    if (n <= 0) return;
    s->next = static_cast<unsigned char>(s->next + n);
    account.sent.fetch_add(static_cast<uint64_t>(n));
  }
  void Run(unsigned id) {
    Random random(id);
    while (!stop) {
      Stream* const s = streams[random.Below(kAcceptors + kReceivers)].get();
      switch (random.Below(16)) {
        case 0:
          Cancel(s, random.Below(2) == 0);
          break;
        case 1:
          if (cmwq_end_io_stream(&s->s)) account.ends.fetch_add(1);
          break;
        case 2:
          cmwq_flush_io_stream(&s->s);
          break;
        case 3:
        case 4:
        case 5:
          Start(s);
          break;
        default:
          Feed(s, &random);
      }
    }
  }

  Account account;
  std::array<struct cmwq_workqueue*, 3> queues{cmwq_alloc_workqueue("bound", 0, 0),
                                               cmwq_alloc_workqueue("unbound", CMWQ_UNBOUND, 4),
                                               cmwq_alloc_ordered_workqueue("ordered", 0)};
  std::vector<std::unique_ptr<Stream>> streams;
  std::atomic<bool> stop{false};
};

unsigned long long Shown(const std::atomic<uint64_t>& n) { return n.load(); }

TEST_F(IoStreamStress, NothingIsLost) {
  Guard(120);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) threads.emplace_back([this, i] { Run(i); });
  for (uint64_t left = Setting("CMWQ_STRESS_SECONDS", 2) * 100; left > 0; --left) SleepUs(10'000);
  stop = true;
  for (std::thread& t : threads) t.join();
  // A third of the streams is left to the queues' destruction.
  for (size_t i = 0; i < streams.size(); ++i) {
    if (i % 3 != 0) Cancel(streams[i].get(), true);
  }
  for (struct cmwq_workqueue* const wq : queues) cmwq_destroy_workqueue(wq);
  for (auto& s : streams) {
    EXPECT_FALSE(cmwq_end_io_stream(&s->s));
    s->Take(0, true);
    // What nobody asked for is where it was.
    if (s->accepts) {
      fcntl(s->fds[0], F_SETFL, O_NONBLOCK);
      for (int fd; (fd = accept4(s->fds[0], nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
        account.kept.fetch_add(1);
        close(fd);
      }
      continue;
    }
    unsigned char left[4096];
    for (ssize_t n; (n = recv(s->fds[0], left, sizeof(left), MSG_DONTWAIT)) > 0;) {
      for (ssize_t i = 0; i < n; ++i) EXPECT_EQ(left[i], s->expected++);
      account.found.fetch_add(static_cast<uint64_t>(n));
    }
  }
  EXPECT_EQ(account.made, account.delivered + account.kept);
  EXPECT_EQ(account.sent, account.received + account.found);
  EXPECT_GT(account.delivered, 0u);
  EXPECT_GT(account.received, 0u);
  printf("connections %llu = delivered %llu + kept %llu; bytes %llu = received %llu + found %llu; "
         "%llu starts, %llu ends, %llu cancels\n",
         Shown(account.made), Shown(account.delivered), Shown(account.kept), Shown(account.sent),
         Shown(account.received), Shown(account.found), Shown(account.starts), Shown(account.ends),
         Shown(account.cancels));
}

}  // namespace
}  // namespace cmwq::stress
