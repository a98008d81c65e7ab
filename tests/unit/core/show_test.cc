// cmwq_show_all_workqueues: what stands in it, and that it can be called at any time.

#include <cmwq/cmwq.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/gate.h"
#include "tests/support/sanitizer.h"

namespace cmwq::test {
namespace {

std::string Show() {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  std::string text;
  std::thread reader([&] {
    char buf[4096];
    for (ssize_t n; (n = read(ends[0], buf, sizeof(buf))) > 0;) text.append(buf, static_cast<size_t>(n));
  });
  cmwq_show_all_workqueues(ends[1]);
  close(ends[1]);
  reader.join();
  close(ends[0]);
  return text;
}

bool Has(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

// First: before anything started the engine.
TEST(Show, BeforeTheFirstQueue) {
  const std::string text = Show();
  EXPECT_TRUE(Has(text, "busy workqueues and worker pools")) << text;
  EXPECT_FALSE(Has(text, "queue ")) << text;
}

std::atomic<int> g_signals{0};

// The state letter of a thread.
char StateOf(int tid) {
  const std::string path = "/proc/self/task/" + std::to_string(tid) + "/stat";
  char buf[512] = {};
  const int fd = open(path.c_str(), O_RDONLY);
  if (fd < 0) return '?';
  const ssize_t n = read(fd, buf, sizeof(buf) - 1);
  close(fd);
  const char* const paren = n > 0 ? strrchr(buf, ')') : nullptr;
  return paren != nullptr ? paren[2] : '?';
}

// A handler that interrupts the write, without SA_RESTART.
TEST(Show, ASignalLosesNoLine) {
  if (kTsan) GTEST_SKIP() << "the sanitizer delays handlers to calls that it knows";
  struct sigaction action = {};
  action.sa_handler = [](int) { g_signals.fetch_add(1); };
  struct sigaction before;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_NONBLOCK), 0);
  while (write(ends[1], "xxxxxxxxxxxxxxxx", 16) > 0) {
  }
  ASSERT_EQ(fcntl(ends[1], F_SETFL, 0), 0);
  ASSERT_EQ(fcntl(ends[0], F_SETFL, 0), 0);
  std::atomic<int> tid{0};
  std::thread writer([&] {
    tid = gettid();
    cmwq_show_all_workqueues(ends[1]);
    close(ends[1]);
  });
  Eventually([&] { return tid != 0 && StateOf(tid) == 'S'; });  // in the write: the pipe is full
  pthread_kill(writer.native_handle(), SIGUSR1);
  Eventually([&] { return g_signals == 1; });
  std::string text;
  char buf[4096];
  for (ssize_t n; (n = read(ends[0], buf, sizeof(buf))) > 0;) text.append(buf, static_cast<size_t>(n));
  writer.join();
  close(ends[0]);
  EXPECT_TRUE(Has(text, "busy workqueues and worker pools"));
  sigaction(SIGUSR1, &before, nullptr);
}

TEST(Show, BusyQueuesAndTheirItems) {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("shown", CMWQ_HIGHPRI | CMWQ_FREEZABLE, 1);
  struct cmwq_workqueue* const other = cmwq_alloc_workqueue("unused", 0, 0);
  Gate started, stop;
  Item runs([&] {
    cmwq_set_worker_desc("request 17");
    started.Open();
    stop.WaitAnnounced();
  });
  Item waits[3];
  cmwq_queue_work_on(0, wq, runs.work());
  started.Wait();
  for (Item& item : waits) cmwq_queue_work_on(0, wq, item.work());
  const std::string text = Show();
  EXPECT_TRUE(Has(text, "queue shown: flags 0x14 FREEZABLE HIGHPRI\n")) << text;
  EXPECT_TRUE(Has(text, "/high: active 1/1\n")) << text;
  EXPECT_TRUE(Has(text, " of shown for ")) << text;
  EXPECT_TRUE(Has(text, ", request 17\n")) << text;
  EXPECT_TRUE(Has(text, "inactive: 3*")) << text;
  EXPECT_TRUE(Has(text, "show_test")) << text;
  EXPECT_FALSE(Has(text, "unused")) << text;
  EXPECT_TRUE(Has(text, "/high: workers ")) << text;
  EXPECT_TRUE(Has(text, "manager ")) << text;
  stop.Open();
  cmwq_flush_workqueue(wq);
  EXPECT_FALSE(Has(Show(), "queue shown")) << Show();
  cmwq_destroy_workqueue(wq);
  cmwq_destroy_workqueue(other);
}

// Somebody waits for an item: the barrier is shown as such.
TEST(Show, Barriers) {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("barrier", 0, 1);
  Gate started, stop;
  Item runs([&] {
    started.Open();
    stop.WaitAnnounced();
  });
  Item waits;
  cmwq_queue_work_on(0, wq, runs.work());
  started.Wait();
  cmwq_queue_work_on(0, wq, waits.work());
  std::thread flusher([&] { cmwq_flush_work(waits.work()); });
  Eventually([] { return Has(Show(), "inactive: BAR"); });
  stop.Open();
  flusher.join();
  cmwq_destroy_workqueue(wq);
}

// Queues come and go while somebody looks.
TEST(Show, BesideEverythingElse) {
  std::atomic<bool> end{false};
  std::thread churn([&] {
    for (int i = 0; i < 50; ++i) {
      struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("churn", i % 2 ? CMWQ_UNBOUND : 0, 2);
      Item items[8];
      for (Item& item : items) cmwq_queue_work(wq, item.work());
      cmwq_destroy_workqueue(wq);
    }
    end = true;
  });
  while (!end) EXPECT_TRUE(Has(Show(), "pool cpu"));
  churn.join();
}

TEST(Show, ABadDescriptorIsIgnored) { cmwq_show_all_workqueues(-1); }

}  // namespace
}  // namespace cmwq::test
