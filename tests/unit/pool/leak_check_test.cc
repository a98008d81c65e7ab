// Items that change their worker's thread: the next item finds it as it was. Real threads, for the
// attributes are the kernel's.

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <cstring>

#include "tests/support/fake_env.h"
#include "tests/support/log_capture.h"

namespace cmwq::test {
namespace {

// A leak has a function of its own, for it is told once per function.
template <int kKind>
void Leak(struct cmwq_work*) {
  switch (kKind) {
    case 0: {
      sigset_t set;
      sigemptyset(&set);
      sigaddset(&set, SIGUSR2);
      pthread_sigmask(SIG_BLOCK, &set, nullptr);
      break;
    }
    case 1: prctl(PR_SET_NAME, "mine"); break;
    case 2: {  // another one than now, whatever the tests run with
      const int nice = getpriority(PRIO_PROCESS, 0);
      setpriority(PRIO_PROCESS, static_cast<id_t>(base::Tid()), nice < 19 ? nice + 1 : nice - 1);
      break;
    }
    case 3: pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr); break;
    case 4: pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, nullptr); break;
    case 5: {
      cpu_set_t all, one;
      sched_getaffinity(0, sizeof(all), &all);
      CPU_ZERO(&one);
      for (int i = 0; i < CPU_SETSIZE; ++i) {
        if (!CPU_ISSET(i, &all)) continue;
        CPU_SET(i, &one);
        break;
      }
      sched_setaffinity(0, sizeof(one), &one);
      break;
    }
    case 6: cmwq_block_begin(); break;
    default: break;
  }
}

struct Seen {
  bool blocked;
  char name[16];
  int nice, state, type, cpus;
};
Seen g_seen;

void Look(struct cmwq_work*) {
  sigset_t set;
  pthread_sigmask(SIG_BLOCK, nullptr, &set);
  g_seen.blocked = sigismember(&set, SIGUSR2) == 1;
  prctl(PR_GET_NAME, g_seen.name);
  g_seen.name[3] = '\0';  // "wq/": the rest tells workers apart
  memset(g_seen.name + 3, 0, sizeof(g_seen.name) - 3);
  g_seen.nice = getpriority(PRIO_PROCESS, static_cast<id_t>(base::Tid()));
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &g_seen.state);
  pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &g_seen.type);
  cpu_set_t all;
  sched_getaffinity(0, sizeof(all), &all);
  g_seen.cpus = CPU_COUNT(&all);
}

class LeakTest : public ::testing::Test {
 protected:
  ~LeakTest() override { e_.Destroy(wq_); }
  void Run(cmwq_work_fn fn) {
    struct cmwq_work work;
    cmwq_work_init(&work, fn);
    ASSERT_TRUE(wq::QueueWork(wq_, 0, &work));
    wq::FlushWork(&work, &e_.table);
  }
  std::string Said(cmwq_work_fn leak) {
    Run(&Look);
    const Seen before = g_seen;
    LogCapture log;
    Run(leak);
    Run(leak);
    Run(&Look);
    EXPECT_EQ(memcmp(&before, &g_seen, sizeof(before)), 0);
    const std::vector<std::string> lines = log.Take();
    EXPECT_EQ(lines.size(), 1u);
    return lines.empty() ? "" : lines[0];
  }
  Engine& e_ = Engine::Make(1, [](base::Conf* conf) { conf->leak_check = 1; });
  wq::Workqueue* const wq_ = e_.Alloc();
};

TEST_F(LeakTest, SignalMask) {
  const std::string said = Said(&Leak<0>);
  EXPECT_NE(said.find("of queue test left its thread's signal mask changed; put right\n"),
            std::string::npos)
      << said;
  EXPECT_NE(said.find("leak_check_test"), std::string::npos) << said;
}
TEST_F(LeakTest, Name) { EXPECT_NE(Said(&Leak<1>).find("name"), std::string::npos); }
TEST_F(LeakTest, Nice) {
  const int nice = getpriority(PRIO_PROCESS, 0);
  const int other = nice < 19 ? nice + 1 : nice - 1;
  if (setpriority(PRIO_PROCESS, static_cast<id_t>(base::Tid()), other) != 0 ||
      setpriority(PRIO_PROCESS, static_cast<id_t>(base::Tid()), nice) != 0) {
    GTEST_SKIP() << "may not raise its priority";
  }
  EXPECT_NE(Said(&Leak<2>).find("nice"), std::string::npos);
}
TEST_F(LeakTest, CancelState) { EXPECT_NE(Said(&Leak<3>).find("state"), std::string::npos); }
TEST_F(LeakTest, CancelType) { EXPECT_NE(Said(&Leak<4>).find("type"), std::string::npos); }
TEST_F(LeakTest, Affinity) {
  cpu_set_t all;
  sched_getaffinity(0, sizeof(all), &all);
  if (CPU_COUNT(&all) < 2) GTEST_SKIP() << "needs two CPUs";
  EXPECT_NE(Said(&Leak<5>).find("affinity"), std::string::npos);
}
TEST_F(LeakTest, BlockingRegion) {
  EXPECT_NE(Said(&Leak<6>).find("blocking region"), std::string::npos);
}

// A plain field: looked at in any case.
TEST(Leak, BlockingRegionsAlways) {
  Engine& e = Engine::Make(1, [](base::Conf* conf) { conf->leak_check = 0; });
  wq::Workqueue* const wq = e.Alloc();
  Item open([] { cmwq_block_begin(); }), after;
  LogCapture log;
  ASSERT_TRUE(Engine::Queue(wq, open));
  wq::FlushWorkqueue(wq);
  ASSERT_TRUE(Engine::Queue(wq, after));
  wq::FlushWorkqueue(wq);
  EXPECT_EQ(after.Runs(), 1);
  EXPECT_EQ(log.Take().size(), 1u);
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

TEST(Leak, NothingIsSaidOfCleanItems) {
  LogCapture log;
  Engine& e = Engine::Make(1, [](base::Conf* conf) { conf->leak_check = 1; });
  wq::Workqueue* const wq = e.Alloc();
  Item clean;
  ASSERT_TRUE(Engine::Queue(wq, clean));
  wq::FlushWorkqueue(wq);
  EXPECT_TRUE(log.Take().empty());
  Engine::WaitIdle(e.Pool());
  e.Destroy(wq);
}

}  // namespace
}  // namespace cmwq::test
