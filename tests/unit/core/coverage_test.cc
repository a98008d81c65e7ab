// The coverage lines of the report and of cmwq_show_all_workqueues. Runs with switches=getrusage.

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "hooks/detect/task_state.h"
#include "runtime/core/runtime.h"
#include "runtime/pool/switch_audit.h"
#include "tests/support/gate.h"

namespace cmwq::test {
namespace {

template <class Write>
std::string TextOf(Write write) {
  int ends[2];
  if (pipe(ends) != 0) return "";
  write(ends[1]);
  close(ends[1]);
  std::string text(65536, '\0');
  size_t used = 0;
  for (ssize_t n; (n = read(ends[0], &text[used], text.size() - used)) > 0;)
    used += static_cast<size_t>(n);
  close(ends[0]);
  text.resize(used);
  return text;
}

TEST(Coverage, StandsInReportAndDump) {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("q", 0, 0);
  ASSERT_NE(wq, nullptr);
  Gate gate;
  std::atomic<int> tid{0};
  Item blocks([&] {
    cmwq_block_begin();
    tid = base::Tid();  // whoever sees it asleep from here on sees an announced sleep
    gate.Wait();
    cmwq_block_end();
  });
  cmwq_queue_work(wq, blocks.work());
  detect::TaskStateReader reader;
  Eventually([&] { return tid != 0 && reader.Read(tid) == detect::TaskState::kAsleep; });
  reader.CloseAll();
  gate.Open();
  cmwq_flush_workqueue(wq);
  // The worker says what it did when it comes back from the item.
  Eventually([] {
    pool::SwitchTotals t;
    return pool::ReadSwitchTotals(&t) && t.slept[static_cast<int>(pool::Phase::kAnnounced)] > 0;
  });
  const std::string report = TextOf([](int fd) { core::Runtime::Get().Report(fd); });
  const std::string dump = TextOf([](int fd) { cmwq_show_all_workqueues(fd); });
  for (const std::string& text : {report, dump}) {
    const size_t at = text.find("  coverage: ");
    ASSERT_NE(at, std::string::npos) << text;
    EXPECT_NE(text.find("announced, by getrusage; 1 regions", at), std::string::npos) << text;
  }
  cmwq_destroy_workqueue(wq);
}

}  // namespace
}  // namespace cmwq::test
