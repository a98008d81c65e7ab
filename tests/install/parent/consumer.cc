// A C++17 program whose objects embed their work items.
#include <cmwq/cmwq.h>

#include <atomic>
#include <cstdio>

struct Request {
  cmwq_work work;  // first member: the item's address is the object's
  std::atomic<bool> done;
};

static void Serve(cmwq_work* work) { reinterpret_cast<Request*>(work)->done = true; }

int main() {
  static Request requests[32];
  cmwq_workqueue* const wq = cmwq_alloc_workqueue("consumer-cc", CMWQ_UNBOUND, 0);
  if (wq == nullptr) return 1;
  for (Request& r : requests) {
    cmwq_work_init(&r.work, Serve);
    if (!cmwq_queue_work(wq, &r.work)) return 2;
  }
  int served = 0;
  for (Request& r : requests) {
    cmwq_flush_work(&r.work);
    if (r.done) ++served;
  }
  cmwq_destroy_workqueue(wq);
  std::printf("served %d\n", served);
  return served == 32 ? 0 : 3;
}
