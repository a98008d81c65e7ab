// cmwq_show_all_workqueues: what stands in it, and that it can be called at any time.

#include <cmwq/cmwq.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/support/gate.h"

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
