#include "runtime/core/cpus.h"

#include <cerrno>

#include "runtime/base/raw_log.h"
#include "runtime/core/runtime.h"
#include "runtime/wq/cpus.h"

namespace cmwq::core {
namespace {

// Those of the runtime. Its list's lock is held for one pass, PoolTable::mu over all of them.
class RuntimeQueues final : public wq::QueueList {
 public:
  void ForEach(void (*visit)(wq::Workqueue* wq, void* arg), void* arg) override {
    Runtime::Get().ForEachQueue([=](wq::Workqueue* wq) { visit(wq, arg); });
  }
};

}  // namespace

int Runtime::ChangeCpus(const platform::CpuSet* allowed, const platform::CpuSet* requested) {
  if (!started()) return 0;
  sync::MutexLock table(table_.mu);
  // Before the first change the set is what Start found.
  if (allowed_.Empty()) allowed_ = table_.cpus();
  if (requested_.Empty()) requested_ = platform::CpuSet::First(table_.nr_cpu_ids);
  const platform::CpuSet possible = platform::CpuSet::First(table_.nr_cpu_ids);
  platform::CpuSet now = allowed != nullptr ? *allowed : allowed_;
  if (!now.SubsetOf(possible)) {
    CMWQ_WARN_ONCE("the system has CPUs that it did not call possible; cmwq uses those below %d",
                   table_.nr_cpu_ids);
    now = now & possible;
  }
  const platform::CpuSet wanted = requested != nullptr ? *requested : requested_;
  // A program may ask only for what it can have; what the system takes away later is no error of its.
  if (now.Empty() || (requested != nullptr && (wanted & now).Empty())) return EINVAL;
  allowed_ = now;
  requested_ = wanted;
  const platform::CpuSet both = now & wanted;
  RuntimeQueues queues;
  const int err = wq::ChangeCpus(&table_, both.Empty() ? now : both, &queues, map_again_);
  map_again_ = err != 0;
  return err;
}

int Runtime::RetryCpus() {
  if (!started()) return 0;
  {
    sync::MutexLock table(table_.mu);
    if (!map_again_) return 0;
  }
  // Should somebody change them in between, then nothing is done twice but the placing.
  return ChangeCpus(nullptr, nullptr);
}

int CpuSetChanged(const platform::CpuSet& allowed) {
  return Runtime::Get().ChangeCpus(&allowed, nullptr);
}

int RequestCpus(const platform::CpuSet& requested) {
  return Runtime::Get().ChangeCpus(nullptr, &requested);
}

int RetryCpus() { return Runtime::Get().RetryCpus(); }

platform::CpuSet UsableCpus() { return Runtime::Get().pools()->cpus(); }

}  // namespace cmwq::core
