// A process for stats_test.py to look at: says "ready", then does what it reads from standard input, a word a
// line, and answers each when it is done. Ends at the end of the input.
//   items N   queues N empty items, one after the other, and waits for them
//   block     starts an item that stays in an announced block
//   pile N    queues N items behind one that computes, on one CPU: they are pending; `release` lets them run
//   release   lets the items of block and pile end
//   fork      makes a child that does the same as this process does, with the same input, until `end`
//   kill      is killed

#include <cmwq/cmwq.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>

namespace {

std::atomic<int> g_blocked{0}, g_computing{0};
std::atomic<bool> g_released{false};

void Nothing(cmwq_work*) {}

void Block(cmwq_work*) {
  cmwq_block_begin();
  g_blocked = 1;
  while (!g_released) usleep(1000);
  cmwq_block_end();
}

void Compute(cmwq_work*) {
  g_computing = 1;
  while (!g_released) {
  }
}

struct Item : cmwq_work {
  explicit Item(cmwq_work_fn fn) { cmwq_work_init(this, fn); }
};

void RunItems(cmwq_workqueue* wq, int n) {
  Item item(&Nothing);
  for (int i = 0; i < n; ++i) {
    cmwq_queue_work(wq, &item);
    cmwq_flush_work(&item);
  }
}

}  // namespace

int main() {
  cmwq_workqueue* wq = cmwq_alloc_workqueue("looked-at", 0, 0);
  cmwq_workqueue* pile = cmwq_alloc_workqueue("piled", 0, 0);
  if (wq == nullptr || pile == nullptr) return 1;
  std::deque<Item> items;
  char line[64];
  puts("ready");
  fflush(stdout);
  while (fgets(line, sizeof(line), stdin) != nullptr) {
    int n = 0;
    if (sscanf(line, "items %d", &n) == 1) {
      RunItems(wq, n);
    } else if (strcmp(line, "block\n") == 0) {
      cmwq_queue_work(wq, &items.emplace_back(&Block));
      while (g_blocked == 0) usleep(1000);
    } else if (sscanf(line, "pile %d", &n) == 1) {
      const int cpu = sched_getcpu();
      cmwq_queue_work_on(cpu, pile, &items.emplace_back(&Compute));
      while (g_computing == 0) usleep(1000);
      for (int i = 0; i < n; ++i) cmwq_queue_work_on(cpu, pile, &items.emplace_back(&Nothing));
    } else if (strcmp(line, "release\n") == 0) {
      g_released = true;
      cmwq_flush_workqueue(wq);
      cmwq_flush_workqueue(pile);
    } else if (strcmp(line, "fork\n") == 0) {
      const pid_t pid = fork();
      if (pid == 0) {
        RunItems(wq, 1);
        printf("%d\n", getpid());
        fflush(stdout);
        for (;;) pause();
      }
      continue;  // the child answers
    } else if (strcmp(line, "kill\n") == 0) {
      kill(getpid(), SIGKILL);
    }
    puts("done");
    fflush(stdout);
  }
  return 0;
}
