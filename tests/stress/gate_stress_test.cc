// Clients and server threads at one boundary, all of them at random: every request is answered exactly
// once, whatever the threads do between and however their waits end.

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "hooks/gate/cpu_gate.h"
#include "hooks/gate/member.h"
#include "runtime/base/conf.h"
#include "tests/stress/stress.h"

namespace cmwq::stress {
namespace {

using gate::CpuGate;
using gate::Member;
using gate::Wait;

constexpr int kConnections = 40;
constexpr int kRows = 3;
constexpr uint64_t kMs = base::kNsPerMs;

struct Connection {
  int server = -1, client = -1;
  std::atomic<Member*> waiter{nullptr};
  std::atomic<bool> served_out{false};
  uint64_t answered = 0;  // by the client, after its thread is joined
};

class Server {
 public:
  Server() {
    for (Connection& c : connections_) {
      int ends[2];
      EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
      c.server = ends[0];
      c.client = ends[1];
    }
    static auto& kept = *new std::vector<CpuGate*>;  // a detector goes on looking
    kept.push_back(gate_ = new CpuGate);
    int err = 0;
    EXPECT_TRUE(gate_->Init(0, platform::CurrentCpu(), &err)) << err;
    gate_->StartWatch();
  }

  void Run();

 private:
  // The life of one server thread: a few requests, or until the client hangs up. False: hung up.
  bool ServeSome(Connection* c, Random* random, std::atomic<uint32_t>* home);
  void Work(Member* m, Random* random);
  void ServeConnection(Connection* c, uint64_t stream);
  void Ask(Connection* c, uint64_t stream);
  void Disturb();
  void TickUntilStopped();

  CpuGate* gate_;
  Connection connections_[kConnections];
  std::mutex rows_[kRows];
  std::atomic<bool> stop_clients_{false}, stop_helpers_{false};
  std::atomic<uint64_t> requests_{0}, replies_{0};
};

// In the middle of a request.
void Server::Work(Member* m, Random* random) {
  switch (random->Below(6)) {
    case 0:
      gate_->Sleeping(m);
      SleepUs(random->Below(200));
      gate_->Running(m);
      break;
    case 1:
      SleepUs(random->Below(100));  // unannounced
      break;
    case 2: {
      std::mutex& row = rows_[random->Below(kRows)];
      if (!row.try_lock()) {
        gate_->Sleeping(m);
        row.lock();
        gate_->Running(m);
      }
      if (random->Below(2) == 0) SleepUs(20);
      row.unlock();
      break;
    }
    case 3:
      gate_->Admit(m);
      break;
    default:
      for (volatile unsigned i = 0; i < random->Below(3000);) i = i + 1;
  }
}

bool Server::ServeSome(Connection* c, Random* random, std::atomic<uint32_t>* home) {
  Member* const m = gate_->Take();
  m->cancellable = false;
  c->waiter = m;
  bool open = true;
  for (unsigned left = 1 + random->Below(50); open && left > 0; --left) {
    // A row lock that is held across the wait, as inside a transaction.
    std::mutex* const row = random->Below(8) == 0 ? &rows_[random->Below(kRows)] : nullptr;
    const bool locked = row != nullptr && row->try_lock();
    const bool hurried = random->Below(4) == 0;
    const uint64_t deadline = locked || hurried
                                  ? base::MonotonicNs() + random->Below(2000) * 1000
                                  : base::kNever;
    const Wait result = gate_->WaitFor(m, c->server, POLLIN, deadline, home, 1);
    EXPECT_NE(result, Wait::kPlain);
    char request;
    const ssize_t n = recv(c->server, &request, 1, MSG_DONTWAIT);
    if (locked) row->unlock();
    if (n == 0) open = false;
    if (n != 1) continue;
    Work(m, random);
    EXPECT_EQ(send(c->server, &request, 1, MSG_NOSIGNAL), 1);
    replies_.fetch_add(1);
  }
  c->waiter = nullptr;
  gate_->Release(m);
  return open;
}

// Threads come and go, the connection stays.
void Server::ServeConnection(Connection* c, uint64_t stream) {
  Random random(stream);
  std::atomic<uint32_t> home{0};
  for (bool open = true; open;) {
    std::thread thread([&] { open = ServeSome(c, &random, &home); });
    thread.join();
  }
  c->served_out = true;
}

void Server::Ask(Connection* c, uint64_t stream) {
  Random random(stream);
  while (!stop_clients_) {
    const char sent = static_cast<char>('a' + random.Below(26));
    ASSERT_EQ(send(c->client, &sent, 1, MSG_NOSIGNAL), 1);
    requests_.fetch_add(1);
    char got = 0;
    ASSERT_EQ(recv(c->client, &got, 1, 0), 1);
    ASSERT_EQ(got, sent);
    ++c->answered;
    if (random.Below(8) == 0) SleepUs(random.Below(500));
  }
  // No answer without a request.
  char extra;
  EXPECT_EQ(recv(c->client, &extra, 1, MSG_DONTWAIT), -1);
  shutdown(c->client, SHUT_WR);
}

// Closes (as the gate sees them) and pokes at random moments, of members that may be gone.
void Server::Disturb() {
  Random random(1000);
  while (!stop_helpers_) {
    Member* const m = connections_[random.Below(kConnections)].waiter.load();
    if (m != nullptr) gate_->Interrupt(m);
    if (random.Below(4) == 0) gate_->Nudge();
    SleepUs(random.Below(300));
  }
}

void Server::TickUntilStopped() {
  while (!stop_helpers_) {
    gate_->Tick();
    SleepUs(10'000);
  }
}

void Server::Run() {
  std::vector<std::thread> servers, clients, helpers;
  for (int i = 0; i < kConnections; ++i) {
    servers.emplace_back([this, i] { ServeConnection(&connections_[i], 2 * i); });
    clients.emplace_back([this, i] { Ask(&connections_[i], 2 * i + 1); });
  }
  helpers.emplace_back([this] { Disturb(); });
  helpers.emplace_back([this] { TickUntilStopped(); });
  for (uint64_t s = 0; s < Seconds(); ++s) sleep(1);
  stop_clients_ = true;
  for (std::thread& t : clients) t.join();
  for (std::thread& t : servers) t.join();
  stop_helpers_ = true;
  for (std::thread& t : helpers) t.join();
  uint64_t answered = 0;
  for (Connection& c : connections_) {
    answered += c.answered;
    EXPECT_TRUE(c.served_out);
    close(c.server);
    close(c.client);
  }
  EXPECT_EQ(answered, requests_);
  EXPECT_EQ(replies_, requests_);
  // Nothing is left behind, and the counter agrees.
  EXPECT_EQ(gate_->population(), 0);
  EXPECT_EQ(gate_->held(), 0);
  pool::Suspect suspect;
  EXPECT_EQ(gate_->ListSuspects(&suspect, 1), 0);
  EXPECT_FALSE(gate_->Tick());
  EXPECT_FALSE(gate_->WantsWatch());
  const gate::GateStats stats = gate_->Stats();
  printf("%llu requests, %llu held, longest %llu us, %llu over the limit, canary %llu\n",
         static_cast<unsigned long long>(requests_), static_cast<unsigned long long>(stats.held),
         static_cast<unsigned long long>(stats.held_max_ns / 1000),
         static_cast<unsigned long long>(stats.over_limit),
         static_cast<unsigned long long>(gate_->presumed()));
  EXPECT_LT(stats.held_max_ns, 20'000 * kMs);
}

TEST(GateStress, EveryRequestIsAnsweredOnce) {
  Guard(static_cast<unsigned>(Seconds()) + 60);
  for (const int64_t limit : {1, 2}) {
    base::g_conf.gate_limit = limit;
    Server server;
    server.Run();
  }
  alarm(0);
}

}  // namespace
}  // namespace cmwq::stress
