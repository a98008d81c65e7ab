// A boundary of one CPU with members that tests steer: each is a thread with a socket of its own.

#ifndef CMWQ_TESTS_SUPPORT_BOUNDARY_H_
#define CMWQ_TESTS_SUPPORT_BOUNDARY_H_

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "hooks/detect/task_state.h"
#include "hooks/gate/cpu_gate.h"
#include "hooks/gate/member.h"
#include "runtime/base/conf.h"
#include "tests/support/gate.h"
#include "tests/support/sanitizer.h"

namespace cmwq::test {

// A client's end and a server's end.
class Socket {
 public:
  Socket() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends_), 0); }
  ~Socket() {
    Hangup();
    if (ends_[0] >= 0) close(ends_[0]);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int fd() const { return ends_[0]; }
  void Request(char c = 'r') { EXPECT_EQ(send(ends_[1], &c, 1, MSG_NOSIGNAL), 1); }
  // 0 if there is none.
  char Take() {
    char c = 0;
    return recv(ends_[0], &c, 1, MSG_DONTWAIT) == 1 ? c : 0;
  }
  void Hangup() {
    if (ends_[1] >= 0) close(ends_[1]);
    ends_[1] = -1;
  }
  // The server's end is closed by somebody else.
  int Release() {
    const int fd = ends_[0];
    ends_[0] = -1;
    return fd;
  }

 private:
  int ends_[2] = {-1, -1};
};

// A gate without a tick: tests call Tick() themselves, so that nothing happens by the clock.
class Boundary {
 public:
  explicit Boundary(bool with_canary = false) : saved_(base::g_conf) {
    // Nobody is overdue and nothing repaired unless the test says so.
    base::g_conf.gate_wait_ms = base::g_conf.tick_ms = 1'000'000;
    static auto& kept = *new std::vector<gate::CpuGate*>;  // a detector goes on looking
    kept.push_back(gate_ = new gate::CpuGate);
    int err = 0;
    EXPECT_TRUE(gate_->Init(0, platform::CurrentCpu(), &err)) << err;
    if (with_canary) gate_->StartWatch();
  }
  ~Boundary() {
    if (!lost_) gate_->Close();
    base::g_conf = saved_;
  }
  gate::CpuGate* operator->() { return gate_; }
  gate::CpuGate* get() { return gate_; }
  // Somebody closed the descriptors already.
  void SetLost() { lost_ = true; }
  // Members that count as running.
  int Running() {
    pool::Suspect suspects[64];
    return gate_->ListSuspects(suspects, 64);
  }
  bool SomebodyIsHeld() { return gate_->held() > 0; }

 private:
  gate::CpuGate* gate_;
  base::Conf saved_;
  bool lost_ = false;
};

// A member: a thread that belongs to the gate while its body runs.
class Worker {
 public:
  using Body = std::function<void(Worker&)>;

  Worker(Boundary& boundary, Body body) : gate_(boundary.get()) {
    thread_ = std::thread([this, body = std::move(body)] {
      self = pthread_self();
      member_.store(gate_->Take(), std::memory_order_release);
      body(*this);
      gate_->Release(member());
      done_.Open();
    });
    Eventually([this] { return member() != nullptr; });
  }
  ~Worker() {
    if (thread_.joinable()) thread_.join();
  }

  // By the thread itself.
  gate::Wait Wait(uint64_t deadline_ns = base::kNever) {
    member()->cancellable = false;
    return gate_->WaitFor(member(), socket.fd(), POLLIN, deadline_ns, &home_, 1);
  }
  void Announce(const std::function<void()>& block) {
    gate_->Sleeping(member());
    block();
    gate_->Running(member());
  }

  // By others.
  gate::Member* member() const { return member_.load(std::memory_order_acquire); }
  bool Waiting() const {
    const int32_t wait = member()->wait.load(std::memory_order_acquire);
    return wait == gate::kWaiting || wait == gate::kPoked;
  }
  // It sleeps at the boundary.
  void AwaitWaiting() {
    detect::TaskStateReader reader;
    Eventually([&] {
      return Waiting() && reader.Read(member()->tid) == detect::TaskState::kAsleep && Waiting();
    });
    reader.CloseAll();
  }
  void Join() { thread_.join(); }
  bool done() const { return done_.opened(); }

  Socket socket;
  Gate go;                    // for the body to wait for
  std::atomic<int> served{0};
  std::atomic<pthread_t> self{};

 private:
  gate::CpuGate* const gate_;
  std::atomic<gate::Member*> member_{nullptr};
  std::atomic<uint32_t> home_{0};
  Gate done_;
  std::thread thread_;
};

// Serves one request after another until its client hangs up.
inline void Serve(Worker& w) {
  for (;;) {
    const gate::Wait result = w.Wait();
    if (result != gate::Wait::kReady) continue;
    if (w.socket.Take() == 0) return;
    w.served.fetch_add(1);
  }
}

}  // namespace cmwq::test

#endif  // CMWQ_TESTS_SUPPORT_BOUNDARY_H_
