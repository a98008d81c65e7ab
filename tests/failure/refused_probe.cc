// refused_probe LIST: uses the library without these facilities and prints as JSON how it worked. Exit
// code 0: every item was executed exactly once and every silent block was noticed.

#include <cmwq/cmwq.h>
#include <cmwq/io.h>
#include <cmwq/io_stream.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <set>

#include "hooks/detect/spawn.h"
#include "runtime/base/sys.h"
#include "runtime/platform/cpu_set.h"
#include "runtime/platform/uring.h"
#include "runtime/pool/switch_audit.h"
#include "tests/support/child.h"
#include "tests/support/gate.h"
#include "tests/support/refuse.h"

namespace cmwq::test {
namespace {

constexpr int kItems = 200;
constexpr int kRounds = 5;

// What was queued was executed, once.
void Conserve() {
  struct cmwq_workqueue* const queues[] = {
      cmwq_alloc_workqueue("plain", 0, 0),
      cmwq_alloc_workqueue("narrow", 0, 2),
      cmwq_alloc_workqueue("reclaim", CMWQ_MEM_RECLAIM, 0),
      cmwq_alloc_workqueue("unbound", CMWQ_UNBOUND, 0),
      cmwq_alloc_ordered_workqueue("ordered", 0),
  };
  std::vector<std::unique_ptr<Item>> items;
  std::atomic<int> executed{0};
  for (struct cmwq_workqueue* const wq : queues) {
    CHILD_CHECK(wq != nullptr);
    for (int i = 0; i < kItems; ++i) {
      items.push_back(std::make_unique<Item>([i, &executed] {
        if (i % 3 == 0) cmwq_block_begin();
        base::SchedYield();
        if (i % 3 == 0) cmwq_block_end();
        executed.fetch_add(1);
      }));
      CHILD_CHECK(i % 5 == 0 ? cmwq_queue_delayed_work(wq, &items.back()->d, base::kNsPerMs)
                             : cmwq_queue_work(wq, items.back()->work()));
    }
  }
  for (const auto& item : items) {
    Eventually([&item] { return item->Runs() >= 1; });
  }
  // Waits for what might still run a second time.
  for (struct cmwq_workqueue* const wq : queues) cmwq_destroy_workqueue(wq);
  for (const auto& item : items) CHILD_CHECK(item->Runs() == 1);
  CHILD_CHECK(executed.load() == static_cast<int>(std::size(queues)) * kItems);
}

// An item queues another on its CPU while it counts as running, and then waits for it without saying so:
// only a detector can get that one started. Returns the number of such waits.
int BlockSilently(const platform::CpuSet& cpus) {
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("silent", 0, 0);
  CHILD_CHECK(wq != nullptr);
  int waits = 0;
  for (int cpu = cpus.Next(0); cpu >= 0 && waits < 8 * kRounds; cpu = cpus.Next(cpu + 1)) {
    for (int round = 0; round < kRounds; ++round, ++waits) {
      Gate gate;
      Item opens([&gate] { gate.Open(); });
      Item waiter([&] {
        CHILD_CHECK(cmwq_queue_work_on(cpu, wq, opens.work()));
        gate.Wait();
      });
      CHILD_CHECK(cmwq_queue_work_on(cpu, wq, waiter.work()));
      Eventually([&] { return waiter.Runs() == 1 && opens.Runs() == 1; });
    }
  }
  cmwq_destroy_workqueue(wq);
  return waits;
}

struct Detectors {
  uint64_t found = 0;
  std::set<std::string> names;  // of those that found something: they know what they were granted
};

Detectors Ask() {
  Detectors all;
  detect::ForEachDetector(
      [](int, const pool::BlockingSource& source, void* arg) {
        auto* const detectors = static_cast<Detectors*>(arg);
        detectors->found += source.blocks_found();
        if (source.blocks_found() > 0) detectors->names.insert(source.name());
      },
      &all);
  return all;
}

// Where a worker of `cpu` may run; "unknown" if there is nothing to choose from.
const char* Placement(const platform::CpuSet& cpus) {
  const int cpu = cpus.Next(0);
  bool placed = false;
  Item item([&] {
    platform::CpuSet mine;
    placed = mine.LoadAffinity(0) == 0 && mine == platform::CpuSet::Of(cpu);
  });
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("where", 0, 0);
  CHILD_CHECK(cmwq_queue_work_on(cpu, wq, item.work()));
  cmwq_destroy_workqueue(wq);
  return cpus.Count() < 2 ? "unknown" : placed ? "placed" : "anywhere";
}

void WaitByWrapper() {
  Item item([] { CHILD_CHECK(cmwq_io_sleep(base::kNsPerMs) == 0); });
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("waits", 0, 0);
  CHILD_CHECK(cmwq_queue_work(wq, item.work()));
  cmwq_destroy_workqueue(wq);
  CHILD_CHECK(item.Runs() == 1);
}

std::atomic<int> g_streamed{0};

void TakeBytes(struct cmwq_work* work) {
  struct cmwq_io_stream* const s = cmwq_io_stream_of(work);
  struct cmwq_io_result r;
  while (cmwq_io_stream_next(s, &r) > 0) {
    g_streamed.fetch_add(static_cast<int>(r.value));
    cmwq_io_stream_put(s, r.data);
  }
}

// Every byte comes, with fewer buffers than messages.
void Stream() {
  constexpr int kMessages = 100;
  int pair[2];
  CHILD_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
  struct cmwq_workqueue* const wq = cmwq_alloc_workqueue("stream", 0, 0);
  struct cmwq_io_stream stream;
  CHILD_CHECK(cmwq_io_stream_init(&stream, &TakeBytes, 4, 8));
  CHILD_CHECK(cmwq_io_recv_stream(wq, &stream, pair[0], 0));
  for (int i = 0; i < kMessages; ++i) CHILD_CHECK(send(pair[1], "12345", 5, 0) == 5);
  Eventually([] { return g_streamed.load() == 5 * kMessages; });
  CHILD_CHECK(cmwq_cancel_io_stream_sync(&stream));
  cmwq_io_stream_destroy(&stream);
  cmwq_destroy_workqueue(wq);
  for (const int fd : pair) close(fd);
}

int Main(const char* list) {
  std::string why;
  if (!RefuseFacilities(list, &why)) {
    fprintf(stderr, "refuse: %s\n", why.c_str());
    return 77;
  }
  alarm(kChildSeconds);
  platform::CpuSet cpus;
  CHILD_CHECK(cpus.LoadAffinity(0) == 0);
  Conserve();
  const auto waits = static_cast<uint64_t>(BlockSilently(cpus));
  WaitByWrapper();
  Stream();
  // A detector counts a block after it has started the next worker.
  Eventually([waits] { return Ask().found >= waits; });
  std::string names;
  for (const std::string& name : Ask().names) names += (names.empty() ? "" : "+") + name;
  const bool ring = platform::ThreadRing::NrCreated() > 0;
  CHILD_CHECK(ring == platform::ThreadRing::Usable());
  pool::SwitchTotals totals = {};
  const char* const counter = pool::ReadSwitchTotals(&totals) ? totals.source : "not counted";
  printf("{\"detector\": \"%s\", \"waits\": \"%s\", \"workers\": \"%s\", \"switches\": \"%s\"}\n",
         names.c_str(), ring ? "io_uring" : "plain calls", Placement(cpus), counter);
  return 0;
}

}  // namespace
}  // namespace cmwq::test

int main(int argc, char** argv) { return argc == 2 ? cmwq::test::Main(argv[1]) : 2; }
