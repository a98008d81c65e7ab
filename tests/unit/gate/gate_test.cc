// The gate as the wrappers see it: adoption, descriptors, affinity, jumps, fork.

#include "hooks/gate/gate.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include <thread>

#include "hooks/gate/gates.h"
#include "hooks/gate/host.h"
#include "hooks/gate/member.h"
#include "tests/support/boundary.h"

namespace cmwq::test {
namespace {

using gate::t_state;
using gate::Wait;

// As the preload's constructor does; no tick and no canary, so that nothing happens by the clock.
void Start() {
  static const bool started = [] {
    base::g_conf.canary = 0;
    base::g_conf.gate_wait_ms = 1'000'000;
    const char* why = nullptr;
    return gate::Init(&why);
  }();
  ASSERT_TRUE(started);
}

// A thread of the program. Its end is reported as the preload's key destructor does.
class Thread {
 public:
  explicit Thread(std::function<void()> body)
      : thread_([body = std::move(body)] {
          body();
          gate::ThreadExit();
        }) {}
  ~Thread() { thread_.join(); }
  pthread_t handle() { return thread_.native_handle(); }

 private:
  std::thread thread_;
};

class Accepted : public Socket {
 public:
  Accepted() { gate::NoteAccepted(fd()); }
  ~Accepted() { gate::NoteClosing(fd()); }
};

gate::Member* Self() { return static_cast<gate::Member*>(t_state.worker); }

Wait WaitFor(const Socket& socket, int64_t timeout_ns = -1) {
  return gate::WaitInput(socket.fd(), POLLIN, timeout_ns, false);
}

int Population() {
  int n = 0;
  gate::Gates* const gates = gate::CurrentGates();
  for (int i = 0; gates != nullptr && i < gates->n; ++i) n += gates->gate[i]->population();
  return n;
}

void AwaitWaiting(const std::atomic<gate::Member*>& m) {
  Eventually([&] { return m != nullptr && m.load()->wait == gate::kWaiting; });
}

// It sleeps there: no lock of ours is held any more.
void AwaitAsleep(const std::atomic<gate::Member*>& m) {
  detect::TaskStateReader reader;
  Eventually([&] {
    return m != nullptr && m.load()->wait == gate::kWaiting &&
           reader.Read(m.load()->tid) == detect::TaskState::kAsleep &&
           m.load()->wait == gate::kWaiting;
  });
  reader.CloseAll();
}

TEST(Gate, BoundaryIsAnAcceptedDescriptorOutsideOfLocksAndBrackets) {
  Start();
  Accepted accepted;
  Socket other;
  EXPECT_TRUE(gate::IsBoundary(accepted.fd()));
  EXPECT_FALSE(gate::IsBoundary(other.fd()));
  EXPECT_FALSE(gate::IsBoundary(-1));
  EXPECT_FALSE(gate::IsBoundary(1 << 30));
  gate::LockAcquired();
  EXPECT_FALSE(gate::IsBoundary(accepted.fd()));
  gate::LockReleased();
  gate::LockReleased();  // one too many
  EXPECT_TRUE(gate::IsBoundary(accepted.fd()));
  ++t_state.depth;
  EXPECT_FALSE(gate::IsBoundary(accepted.fd()));
  --t_state.depth;
  gate::NoteConnected(accepted.fd());
  EXPECT_FALSE(gate::IsBoundary(accepted.fd()));
}

TEST(Gate, WaitAdoptsAndExitReleases) {
  Start();
  const int before = Population();
  Thread([&] {
    Accepted socket;
    EXPECT_EQ(WaitFor(socket, 0), Wait::kPlain);  // never waits
    EXPECT_EQ(t_state.worker, nullptr);
    socket.Request();
    EXPECT_EQ(WaitFor(socket), Wait::kReady);
    ASSERT_NE(t_state.worker, nullptr);
    EXPECT_EQ(Population(), before + 1);
    EXPECT_EQ(t_state.depth, 0u);
    EXPECT_EQ(socket.Take(), 'r');
    EXPECT_EQ(WaitFor(socket, 1'000'000), Wait::kTimeout);
  });
  EXPECT_EQ(Population(), before);
}

TEST(Gate, OwnDescriptorsAreKnown) {
  Start();
  Thread([] {
    Accepted socket;
    WaitFor(socket, 1);
    int n = 0;
    for (int fd = gate::NextOwnFd(0); fd >= 0; fd = gate::NextOwnFd(fd + 1)) {
      EXPECT_TRUE(gate::IsOwnFd(fd));
      gate::NoteClosing(fd);  // does not make them the program's
      EXPECT_TRUE(gate::IsOwnFd(fd));
      ++n;
    }
    EXPECT_EQ(n, 2 * gate::CurrentGates()->n);
    EXPECT_FALSE(gate::IsOwnFd(socket.fd()));
  });
}

TEST(Gate, ClosingWakesWhoeverWaits) {
  Start();
  Accepted socket;
  std::atomic<gate::Member*> waiter{nullptr};
  Thread thread([&] {
    WaitFor(socket, 1);
    waiter = Self();
    EXPECT_EQ(WaitFor(socket), Wait::kReady);
  });
  AwaitWaiting(waiter);
  gate::NoteClosing(socket.fd());
}

TEST(Gate, SecondWaiterOfADescriptorIsPlain) {
  Start();
  Accepted socket;
  std::atomic<gate::Member*> first{nullptr};
  Thread thread([&] {
    WaitFor(socket, 1);
    first = Self();
    EXPECT_EQ(WaitFor(socket), Wait::kReady);
  });
  AwaitWaiting(first);
  Thread([&] { EXPECT_EQ(WaitFor(socket), Wait::kPlain); });
  socket.Request();
}

TEST(Gate, PinningIsHidden) {
  Start();
  platform::CpuSet before;
  before.LoadAffinity(0);
  Thread([&] {
    Accepted socket;
    WaitFor(socket, 1);
    ASSERT_NE(Self(), nullptr);
    platform::CpuSet real;
    real.LoadAffinity(0);
    EXPECT_EQ(real.Count(), 1);
    unsigned long seen[platform::CpuSet::kBytes / sizeof(unsigned long)];
    ASSERT_TRUE(gate::VirtualAffinity(0, seen, sizeof(seen)));
    EXPECT_EQ(memcmp(seen, before.words(), sizeof(seen)), 0);
    {
      const gate::UnpinForCreate unpin;
      real.LoadAffinity(0);
      EXPECT_EQ(memcmp(real.words(), before.words(), sizeof(seen)), 0);
    }
    real.LoadAffinity(0);
    EXPECT_EQ(real.Count(), 1);
  });
}

TEST(Gate, ThreadThatPlacesItselfLeaves) {
  Start();
  platform::CpuSet before;
  before.LoadAffinity(0);
  Thread([&] {
    Accepted socket;
    WaitFor(socket, 1);
    ASSERT_NE(Self(), nullptr);
    const int with = Population();
    {
      gate::Bracket bracket(gate::Hook::kDl);  // a library's constructor may do it
      gate::NoteOwnPlacement(0);
    }
    EXPECT_EQ(Population(), with - 1);
    platform::CpuSet real;
    real.LoadAffinity(0);
    EXPECT_EQ(real.Count(), before.Count());
    socket.Request();
    EXPECT_EQ(WaitFor(socket), Wait::kPlain);
  });
}

TEST(Gate, ThreadThatAnotherPlacesLeavesWhenItNextWaits) {
  Start();
  platform::CpuSet before;
  before.LoadAffinity(0);
  Accepted socket;
  Gate placed;
  std::atomic<int> tid{0};
  Thread thread([&] {
    WaitFor(socket, 1);
    tid = base::Tid();
    placed.Wait();
    platform::CpuSet real;
    real.LoadAffinity(0);
    EXPECT_EQ(real.Count(), before.Count());
    EXPECT_EQ(WaitFor(socket), Wait::kPlain);
    EXPECT_EQ(Self(), nullptr);
  });
  Eventually([&] { return tid != 0; });
  gate::NoteOwnPlacement(tid);
  unsigned long mask[platform::CpuSet::kBytes / sizeof(unsigned long)];
  EXPECT_FALSE(gate::VirtualAffinity(tid, mask, sizeof(mask)));
  placed.Open();
}

TEST(Gate, ThreadsStayWithinTheCpusTheyMayUse) {
  Start();
  platform::CpuSet all;
  all.LoadAffinity(0);
  for (int cpu = all.Next(0); cpu >= 0; cpu = all.Next(cpu + 1)) {
    Thread([&] {
      // Inherited in this way from a creator that placed itself.
      ASSERT_EQ(platform::CpuSet::Of(cpu).StoreAffinity(0), 0);
      Accepted socket;
      WaitFor(socket, 1);
      ASSERT_NE(Self(), nullptr);
      EXPECT_EQ(Self()->gate->cpu(), cpu);
    });
  }
}

sigjmp_buf g_out;
void JumpOut(int) { siglongjmp(g_out, 1); }

TEST(Gate, JumpOutOfAWaitIsRepaired) {
  Start();
  if (kSanitized) GTEST_SKIP() << "handlers run later, and jumps leave poison behind";
  struct sigaction action = {};
  action.sa_handler = &JumpOut;
  ASSERT_EQ(sigaction(SIGUSR2, &action, nullptr), 0);
  Accepted socket;
  std::atomic<gate::Member*> waiter{nullptr};
  Thread thread([&] {
    WaitFor(socket, 1);
    waiter = Self();
    if (sigsetjmp(g_out, 1) == 0) WaitFor(socket);
    EXPECT_EQ(Self()->wait, gate::kWaiting);
    // The next call from the place where the wait was called from.
    EXPECT_TRUE(gate::IsBoundary(socket.fd()));
    EXPECT_EQ(Self()->wait, gate::kAway);
    EXPECT_EQ(t_state.depth, 0u);
    socket.Request();
    EXPECT_EQ(WaitFor(socket), Wait::kReady);
  });
  AwaitAsleep(waiter);  // a jump out of a locked section could not be repaired
  pthread_kill(thread.handle(), SIGUSR2);
}

std::atomic<int> g_seen{-1};
int g_boundary_fd = -1;
void AskInHandler(int) { g_seen = gate::IsBoundary(g_boundary_fd) ? 1 : 0; }

// A bracket that a jump leaves behind, as longjmp() does: it is not closed.
struct LeftOpen {
  alignas(gate::Bracket) char storage[sizeof(gate::Bracket)];
  void Open() { new (storage) gate::Bracket(gate::Hook::kSleep); }
  void Close() { reinterpret_cast<gate::Bracket*>(storage)->~Bracket(); }
};

bool CountsAsRunning() { return pool::StateWord::Counted(Self()->word->Load()); }

// Runs the body in a worker.
void InWorker(const std::function<void()>& body) {
  Start();
  Thread([&] {
    Accepted socket;
    socket.Request();
    EXPECT_EQ(WaitFor(socket), Wait::kReady);
    ASSERT_NE(Self(), nullptr);
    body();
  });
}

TEST(Gate, JumpOutOfABracketEndsIt) {
  InWorker([] {
    LeftOpen left;
    left.Open();
    EXPECT_FALSE(CountsAsRunning());
    gate::LeaveByJump();
    EXPECT_TRUE(CountsAsRunning());
    EXPECT_EQ(t_state.depth, 0u);
    gate::LeaveByJump();  // none is open
    EXPECT_TRUE(CountsAsRunning());
  });
}

// Where the jump was none of libc's: told by the place of the next one.
TEST(Gate, BracketLeftOpenIsEndedByACallFromFurtherUp) {
  InWorker([] {
    struct {
      LeftOpen inner;
      LeftOpen outer;
    } frames;
    frames.inner.Open();
    ASSERT_EQ(t_state.bracket, &frames.inner.storage);
    frames.outer.Open();  // at a higher address: its caller called the first one's no more
    EXPECT_EQ(t_state.bracket, &frames.outer.storage);
    EXPECT_EQ(t_state.depth, 1u);
    EXPECT_FALSE(CountsAsRunning());
    frames.outer.Close();
    EXPECT_EQ(t_state.depth, 0u);
    EXPECT_TRUE(CountsAsRunning());
  });
}

TEST(Gate, BracketInsideABracketIsPartOfIt) {
  InWorker([] {
    struct {
      LeftOpen inner;
      LeftOpen outer;
    } frames;
    frames.outer.Open();
    frames.inner.Open();
    EXPECT_EQ(t_state.bracket, &frames.outer.storage);
    EXPECT_EQ(t_state.depth, 2u);
    frames.inner.Close();
    EXPECT_FALSE(CountsAsRunning());
    EXPECT_EQ(t_state.depth, 1u);
    frames.outer.Close();
    EXPECT_TRUE(CountsAsRunning());
  });
}

// A handler inside a wait jumps within itself: the wait's own bracket finds itself ended.
TEST(Gate, BracketThatWasEndedByMistakeClosesQuietly) {
  InWorker([] {
    LeftOpen waiting;
    waiting.Open();
    gate::LeaveByJump();
    waiting.Close();
    EXPECT_EQ(t_state.depth, 0u);
    EXPECT_TRUE(CountsAsRunning());
    gate::Bracket next(gate::Hook::kSleep);
    EXPECT_FALSE(CountsAsRunning());
  });
}

TEST(Gate, OwnDescriptorMovesWhenItsNumberIsWanted) {
  InWorker([] {
    const int wanted = gate::NextOwnFd(0);
    ASSERT_GE(wanted, 0);
    const int pipe_end = ::eventfd(0, EFD_CLOEXEC);
    ASSERT_TRUE(gate::MoveOwnFd(wanted));
    EXPECT_FALSE(gate::IsOwnFd(wanted));
    ASSERT_EQ(dup2(pipe_end, wanted), wanted);
    EXPECT_FALSE(gate::MoveOwnFd(wanted));  // the program's by now
    int own = 0;
    for (int fd = gate::NextOwnFd(0); fd >= 0; fd = gate::NextOwnFd(fd + 1)) {
      EXPECT_TRUE(gate::IsOwnFd(fd));
      ++own;
    }
    EXPECT_EQ(own, 2 * gate::CurrentGates()->n);
    Accepted socket;
    std::thread client([&] { socket.Request(); });
    EXPECT_EQ(WaitFor(socket), Wait::kReady);
    client.join();
    close(wanted);
    close(pipe_end);
  });
}

TEST(Gate, HandlerInsideAWaitIsNotAtTheBoundary) {
  Start();
  Accepted socket;
  g_boundary_fd = socket.fd();
  for (const int flags : {0, static_cast<int>(SA_ONSTACK)}) {
    struct sigaction action = {};
    action.sa_handler = &AskInHandler;
    action.sa_flags = flags;
    ASSERT_EQ(sigaction(SIGUSR2, &action, nullptr), 0);
    g_seen = -1;
    std::atomic<gate::Member*> waiter{nullptr};
    Thread thread([&] {
      // Below this thread's stack or above it.
      static char memory[64 * 1024];
      stack_t stack = {}, before = {};
      stack.ss_sp = memory;
      stack.ss_size = sizeof(memory);
      EXPECT_EQ(sigaltstack(&stack, &before), 0);
      WaitFor(socket, 1);
      waiter = Self();
      EXPECT_EQ(WaitFor(socket), Wait::kInterrupted);
      sigaltstack(&before, nullptr);
    });
    AwaitAsleep(waiter);  // a signal before that interrupts nothing
    pthread_kill(thread.handle(), SIGUSR2);
    Eventually([] { return g_seen != -1; });
    EXPECT_EQ(g_seen, 0);
  }
}

TEST(Gate, CancelledThreadStaysPlainAndIsReleased) {
  if (kSanitized) GTEST_SKIP() << "the sanitizer takes the unwound stack for an overflow";
  Start();
  const int before = Population();
  Accepted socket;
  std::atomic<gate::Member*> waiter{nullptr};
  struct Args {
    Accepted* socket;
    std::atomic<gate::Member*>* waiter;
  } args = {&socket, &waiter};
  pthread_t thread;
  ASSERT_EQ(pthread_create(&thread, nullptr,
                           [](void* p) -> void* {
                             auto* const a = static_cast<Args*>(p);
                             WaitFor(*a->socket, 1);
                             *a->waiter = Self();
                             pthread_cleanup_push([](void*) { gate::ThreadExit(); }, nullptr);
                             gate::WaitInput(a->socket->fd(), POLLIN, -1, true);
                             pthread_cleanup_pop(0);
                             return nullptr;
                           },
                           &args),
            0);
  AwaitWaiting(waiter);
  ASSERT_EQ(pthread_cancel(thread), 0);
  ASSERT_EQ(pthread_join(thread, nullptr), 0);
  EXPECT_EQ(Population(), before);
  // And the descriptor can be waited for again.
  Thread([&] {
    socket.Request();
    EXPECT_EQ(WaitFor(socket), Wait::kReady);
  });
}

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

// In the child of fork, by its only thread. 0, or what is wrong.
int LookAround(const Accepted& socket, const std::vector<int>& own, int cpus) {
  if (t_state.worker != nullptr || t_state.depth != 0) return 1;
  if (gate::CurrentGates() != nullptr) return 2;
  for (const int fd : own) {
    if (IsOpen(fd)) return 3;
    if (gate::IsOwnFd(fd)) return 4;
  }
  platform::CpuSet real;
  real.LoadAffinity(0);
  if (real.Count() != cpus) return 5;
  Socket request;
  gate::NoteAccepted(request.fd());
  request.Request();
  // Alone in its process it has nothing to be managed with; not so once it makes threads.
  if (WaitFor(request) != Wait::kPlain || t_state.worker != nullptr) return 9;
  gate::NoteThread();
  if (WaitFor(request) != Wait::kReady) return 6;
  if (t_state.worker == nullptr || Population() != 1) return 7;
  // Somebody waits for this one in the parent.
  if (WaitFor(socket, 1) != Wait::kTimeout) return 8;
  return 0;
}

TEST(Gate, ChildOfForkStartsAfresh) {
  Start();
  Accepted socket;
  std::atomic<gate::Member*> waiter{nullptr};
  Thread thread([&] {
    WaitFor(socket, 1);
    waiter = Self();
    EXPECT_EQ(WaitFor(socket), Wait::kReady);
  });
  AwaitWaiting(waiter);
  platform::CpuSet all;
  all.LoadAffinity(0);
  std::vector<int> own;
  for (int fd = gate::NextOwnFd(0); fd >= 0; fd = gate::NextOwnFd(fd + 1)) own.push_back(fd);
  Thread([&] {
    Accepted mine;
    WaitFor(mine, 1);
    const pid_t child = fork();
    if (child == 0) {
      gate::AfterForkInChild();
      _exit(LookAround(socket, own, all.Count()));
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << WEXITSTATUS(status);
    // The parent's sets are as they were.
    mine.Request();
    EXPECT_EQ(WaitFor(mine), Wait::kReady);
  });
  socket.Request();
}

}  // namespace
}  // namespace cmwq::test
