// Many threads that submit, cancel, end and feed operations, then an account: every submission that was
// accepted was executed or cancelled, once, and no byte that arrived was lost. Run with a ring and without.
// Lasts CMWQ_STRESS_SECONDS, 2 if unset.

#include <cmwq/io_work.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
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

constexpr int kOps = 64;
constexpr int kThreads = 4;

struct Account {
  std::atomic<uint64_t> accepted{0}, executed{0}, cancelled{0}, timed_out{0};
  std::atomic<uint64_t> sent{0}, received{0};
};

struct Op {
  struct cmwq_io_work io;  // first
  std::mutex mu;           // who submits or cancels
  Account* account;
  struct cmwq_workqueue* wq;
  std::array<int, 2> pair;
  std::atomic<int> executing{0};
  // From the submission until somebody has read the result: the next operation overwrites it.
  std::atomic<bool> taken{false};
  char buf[32];

  void Count(int64_t result) {
    if (result > 0) account->received.fetch_add(static_cast<uint64_t>(result));
    if (result == -ETIMEDOUT) account->timed_out.fetch_add(1);
    EXPECT_TRUE(result >= 0 || result == -ETIMEDOUT || result == -ECANCELED) << result;
  }
};

void Fn(struct cmwq_work* work) {
  Op* const op = reinterpret_cast<Op*>(cmwq_io_work_of(work));
  EXPECT_EQ(op->executing.fetch_add(1), 0);
  op->Count(op->io.result);
  op->account->executed.fetch_add(1);
  // Before somebody may submit it to another queue: an item that changes its queue may begin there before
  // it has returned here (kernel: __queue_work looks for the worker of the same workqueue).
  op->executing.fetch_sub(1);
  op->taken = false;
}

class IoWorkStress : public ::testing::Test {
 protected:
  IoWorkStress() {
    for (auto& op : ops) {
      op = std::make_unique<Op>();
      op->account = &account;
      EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, op->pair.data()), 0);
      cmwq_io_work_init(&op->io, &Fn);
    }
  }
  ~IoWorkStress() override {
    for (auto& op : ops) {
      for (const int fd : op->pair) close(fd);
    }
  }

  void Submit(Op* op, Random* random) {
    std::lock_guard<std::mutex> hold(op->mu);
    const uint64_t timeout = random->Below(4) == 0 ? random->Below(300'000) : CMWQ_NO_TIMEOUT;
    struct cmwq_workqueue* const wq = queues[random->Below(kQueues)];
    if (op->taken.exchange(true)) return;
    if (cmwq_io_recv_work(wq, &op->io, op->pair[0], op->buf, sizeof(op->buf), 0, timeout)) {
      account.accepted.fetch_add(1);
    } else {
      ADD_FAILURE() << "an idle item was refused";
      op->taken = false;
    }
  }
  void Cancel(Op* op) {
    std::lock_guard<std::mutex> hold(op->mu);
    if (!cmwq_cancel_io_work_sync(&op->io)) return;
    account.cancelled.fetch_add(1);
    op->Count(op->io.result);
    op->taken = false;
  }
  void Feed(Op* op, Random* random) {
    const char bytes[16] = {};
    const ssize_t n = send(op->pair[1], bytes, 1 + random->Below(16), MSG_NOSIGNAL);
    if (n > 0) account.sent.fetch_add(static_cast<uint64_t>(n));
  }
  void Run(unsigned stream) {
    Random random(stream);
    while (!stop) {
      Op* const op = ops[random.Below(kOps)].get();
      switch (random.Below(10)) {
        case 0:
          Cancel(op);
          break;
        case 1:
          cmwq_end_io_work(&op->io, false);
          break;
        case 2:
          // Not with a submission in hand: nothing else is certain to end it.
          if (random.Below(16) == 0) SleepUs(100);
          break;
        case 3:
        case 4:
        case 5:
          Feed(op, &random);
          break;
        default:
          Submit(op, &random);
      }
    }
  }

  static constexpr unsigned kQueues = 3;
  Account account;
  std::array<std::unique_ptr<Op>, kOps> ops;
  std::array<struct cmwq_workqueue*, kQueues> queues{};
  std::atomic<bool> stop{false};
};

TEST_F(IoWorkStress, NothingIsLost) {
  Guard(120);
  queues = {cmwq_alloc_workqueue("bound", 0, 0), cmwq_alloc_workqueue("unbound", CMWQ_UNBOUND, 4),
            cmwq_alloc_ordered_workqueue("ordered", 0)};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) threads.emplace_back([this, i] { Run(i); });
  for (uint64_t left = Setting("CMWQ_STRESS_SECONDS", 2) * 100; left > 0; --left) SleepUs(10'000);
  stop = true;
  for (std::thread& t : threads) t.join();
  // A third of the operations is left to the queues' destruction.
  for (int i = 0; i < kOps; ++i) {
    if (i % 3 != 0) Cancel(ops[i].get());
  }
  for (struct cmwq_workqueue* const wq : queues) cmwq_destroy_workqueue(wq);
  for (auto& op : ops) {
    EXPECT_FALSE(cmwq_cancel_io_work_sync(&op->io));
    char left[4096];
    for (ssize_t n; (n = recv(op->pair[0], left, sizeof(left), 0)) > 0;) {
      account.received.fetch_add(static_cast<uint64_t>(n));
    }
  }
  EXPECT_EQ(account.accepted, account.executed + account.cancelled);
  EXPECT_EQ(account.sent, account.received);
  EXPECT_GT(account.executed, 0u);
  printf("accepted %llu = executed %llu (timed out %llu) + cancelled %llu\n",
         static_cast<unsigned long long>(account.accepted),
         static_cast<unsigned long long>(account.executed),
         static_cast<unsigned long long>(account.timed_out),
         static_cast<unsigned long long>(account.cancelled));
}

}  // namespace
}  // namespace cmwq::stress
