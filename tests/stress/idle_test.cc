// An idle process makes no wake-ups: whatever it did before, none of its threads is switched in again.

#include <cmwq/cmwq.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "tests/stress/stress.h"
#include "tests/support/gate.h"

namespace cmwq::stress {
namespace {

using test::Gate;
using test::Item;

struct Task {
  std::string name;
  long switches = 0;
};

// Context switches of every thread but the calling one.
std::map<int, Task> Tasks() {
  std::map<int, Task> tasks;
  DIR* const dir = opendir("/proc/self/task");
  while (const dirent* e = readdir(dir)) {
    const int tid = atoi(e->d_name);
    if (tid == 0 || tid == base::Tid()) continue;
    const std::string path = std::string("/proc/self/task/") + e->d_name + "/status";
    FILE* const file = fopen(path.c_str(), "r");
    if (file == nullptr) continue;
    Task& task = tasks[tid];
    char line[256], name[64];
    long n;
    while (fgets(line, sizeof(line), file) != nullptr) {
      if (sscanf(line, "Name: %63s", name) == 1) task.name = name;
      if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1) task.switches += n;
      if (sscanf(line, "nonvoluntary_ctxt_switches: %ld", &n) == 1) task.switches += n;
    }
    fclose(file);
  }
  closedir(dir);
  return tasks;
}

void Use() {
  const unsigned flags[] = {0, CMWQ_UNBOUND, CMWQ_MEM_RECLAIM, CMWQ_HIGHPRI};
  std::vector<Item*> items;
  std::vector<struct cmwq_workqueue*> queues;
  for (unsigned f : flags) queues.push_back(cmwq_alloc_workqueue("idle", f, 0));
  for (int i = 0; i < 40; ++i) {
    items.push_back(new Item([i] {
      if (i % 2 == 0) cmwq_block_begin();
      SleepUs(500);
      if (i % 2 == 0) cmwq_block_end();
    }));
    cmwq_queue_work(queues[static_cast<size_t>(i) % queues.size()], items.back()->work());
  }
  Item later;
  cmwq_queue_delayed_work(queues[0], &later.d, base::kNsPerMs);
  test::Eventually([&] { return later.Runs() == 1; });
  for (struct cmwq_workqueue* wq : queues) cmwq_flush_workqueue(wq);
  for (Item* const item : items) delete item;
  // The queues stay: a process that uses them only now and then.
}

TEST(Idle, NoThreadIsSwitchedIn) {
  Guard(60);
  Use();
  // Whatever lingers, or was preempted on its way to sleep; CPUs are looked at twice more, cpu_watch_ms apart.
  for (int i = 0; i < 25; ++i) SleepUs(100'000);
  const std::map<int, Task> before = Tasks();
  EXPECT_GE(before.size(), 4u);
  for (int i = 0; i < 30; ++i) SleepUs(100'000);
  const std::map<int, Task> after = Tasks();
  for (const auto& [tid, task] : after) {
    const auto found = before.find(tid);
    ASSERT_NE(found, before.end()) << task.name << " is new";
    // A sanitizer's own thread wakes up as it likes.
    if (task.name.rfind("wq/", 0) != 0) continue;
    EXPECT_EQ(task.switches, found->second.switches) << task.name;
  }
}

}  // namespace
}  // namespace cmwq::stress
