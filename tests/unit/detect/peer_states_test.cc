// What a worker sees of its peers, on the program's descriptor table.

#include "hooks/detect/peer_states.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <deque>
#include <thread>

#include "tests/support/child.h"
#include "tests/support/gate.h"
#include "tests/support/refuse.h"

namespace cmwq::test {
namespace {

using detect::PeerStates;
using detect::TaskState;

class Sleeper {
 public:
  Sleeper()
      : thread_([this] {
          tid = base::Tid();
          gate_.Wait();
        }) {
    PeerStates once;
    Eventually([&] { return tid != 0 && once.Read(tid) == TaskState::kAsleep; });
    once.DropAll();
  }
  ~Sleeper() {
    gate_.Open();
    thread_.join();
  }
  std::atomic<int> tid{0};

 private:
  Gate gate_;
  std::thread thread_;
};

// The number that the next descriptor gets.
int NextDescriptor() {
  const int fd = dup(2);
  close(fd);
  return fd;
}

bool Open(int fd) { return fcntl(fd, F_GETFD) != -1; }

int NrOpenFrom(int first) {
  int n = 0;
  for (int fd = first; fd < first + 64; ++fd) n += Open(fd) ? 1 : 0;
  return n;
}

// In children where they count descriptors.
TEST(PeerStates, TellsSleepersFromRunners) {
  PeerStates states;
  Sleeper sleeper;
  std::atomic<bool> stop{false};
  std::atomic<int> tid{0};
  std::thread runs([&] {
    tid = base::Tid();
    while (!stop) sync::CpuRelax();
  });
  Eventually([&] { return tid != 0; });
  for (int look = 0; look < 3; ++look) {
    EXPECT_EQ(states.Read(sleeper.tid), TaskState::kAsleep);
    EXPECT_EQ(states.Read(tid), TaskState::kRunnable);
  }
  stop = true;
  runs.join();
  // Asleep for ever is not asleep; the number may be another thread's by now, but not a sleeper's.
  Eventually([&] { return states.Read(tid) == TaskState::kUnknown; });
  states.DropAll();
}

TEST(PeerStates, KeepsOneDescriptorPerThreadUntilItEnds) {
  EXPECT_EQ(InChild([] {
              Sleeper one, two;
              PeerStates states;
              const int first = NextDescriptor();
              for (int look = 0; look < 3; ++look) states.Read(one.tid);
              CHILD_CHECK(Open(first));
              CHILD_CHECK(NextDescriptor() == first + 1);
              for (int look = 0; look < 3; ++look) states.Read(two.tid);
              CHILD_CHECK(NextDescriptor() == first + 2);
              states.Drop(one.tid);
              CHILD_CHECK(!Open(first) && Open(first + 1));
              states.DropAll();
              CHILD_CHECK(!Open(first + 1));
            }),
            0);
}

// A program that closes everything, and what gets the number afterwards.
TEST(PeerStates, WhatBecameTheProgramsIsNotTouched) {
  EXPECT_EQ(InChild([] {
              Sleeper sleeper;
              PeerStates states;
              const int kept = NextDescriptor();
              CHILD_CHECK(states.Read(sleeper.tid) == TaskState::kAsleep && Open(kept));
              close(kept);
              char name[] = "/tmp/cmwq_peers.XXXXXX";
              const int fd = mkstemp(name);
              CHILD_CHECK(fd == kept && unlink(name) == 0);
              // What a runner's file says.
              CHILD_CHECK(write(fd, "running\n", 8) == 8);
              CHILD_CHECK(states.Read(sleeper.tid) == TaskState::kAsleep);
              states.DropAll();
              CHILD_CHECK(Open(fd) && lseek(fd, 0, SEEK_END) == 8);
              CHILD_CHECK(NextDescriptor() == fd + 1);
            }),
            0);
}

// Somebody who closes standard input and opens a file expects to get 0.
TEST(PeerStates, LeavesTheStandardDescriptorsToTheProgram) {
  EXPECT_EQ(InChild([] {
              Sleeper sleeper;
              PeerStates states;
              close(0);
              for (int look = 0; look < 3; ++look) {
                CHILD_CHECK(states.Read(sleeper.tid) == TaskState::kAsleep);
              }
              CHILD_CHECK(!Open(0));
            }),
            0);
}

TEST(PeerStates, TakesASmallShareOfTheDescriptors) {
  EXPECT_EQ(InChild([] {
              std::deque<Sleeper> sleepers(40);
              const int first = NextDescriptor(), others = NrOpenFrom(first);
              for (const rlim_t limit : {64u, 1024u}) {
                const struct rlimit soft = {limit, 1024};
                if (setrlimit(RLIMIT_NOFILE, &soft) != 0) _exit(77);
                PeerStates states;
                for (const Sleeper& s : sleepers) {
                  CHILD_CHECK(states.Read(s.tid) == TaskState::kAsleep);
                }
                // A sixteenth, and never more than a table's worth.
                CHILD_CHECK(NrOpenFrom(first) == others + (limit == 64 ? 4 : 32));
                states.DropAll();
                CHILD_CHECK(NrOpenFrom(first) == others);
              }
            }),
            0);
}

TEST(PeerStates, UnknownWithoutProc) {
  EXPECT_EQ(InChild([] {
              CHILD_CHECK(RefuseCalls({SYS_openat}, EMFILE));
              PeerStates states;
              CHILD_CHECK(states.Read(base::Tid()) == TaskState::kUnknown);
            }),
            0);
}

}  // namespace
}  // namespace cmwq::test
