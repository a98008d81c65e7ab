// A program that links cmwq-absl: a wait in a lock of abseil's lets the next item of the CPU run, which
// ends it. Without the announcement (and without a canary, see the environment) nothing would.

#include <absl/synchronization/notification.h>
#include <cmwq/cmwq.h>

#include <cstdio>

namespace {

absl::Notification g_there;

void Wait(struct cmwq_work*) { g_there.WaitForNotification(); }
void Notify(struct cmwq_work*) { g_there.Notify(); }

}  // namespace

int main() {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("absl", 0, 0);
  if (wq == nullptr) return 1;
  struct cmwq_work waits, notifies;
  cmwq_work_init(&waits, &Wait);
  cmwq_work_init(&notifies, &Notify);
  // One after the other on one CPU: its worker begins with the first.
  cmwq_queue_work_on(0, wq, &waits);
  cmwq_queue_work_on(0, wq, &notifies);
  cmwq_flush_work(&notifies);
  cmwq_flush_work(&waits);
  cmwq_destroy_workqueue(wq);
  std::puts("the wait was announced");
}
