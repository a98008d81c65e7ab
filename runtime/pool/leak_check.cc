#include "runtime/pool/leak_check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <atomic>
#include <cstring>

#include "runtime/base/raw_log.h"
#include "runtime/base/sys.h"
#include "runtime/platform/env.h"
#include "runtime/platform/symbol.h"

namespace cmwq::pool {
namespace {

// Setting is the only way to ask.
int CancelState() {
  int state = PTHREAD_CANCEL_ENABLE;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  pthread_setcancelstate(state, nullptr);
  return state;
}
int CancelType() {
  int type = PTHREAD_CANCEL_DEFERRED;
  pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
  pthread_setcanceltype(type, nullptr);
  return type;
}

}  // namespace

void ThreadAttributes::Read() {
  base::Sys(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &signals_, sizeof(signals_));
  cpus_.LoadAffinity(0);
  base::Sys(SYS_prctl, PR_GET_NAME, name_);
  nice_ = platform::SelfNice();
  cancel_state_ = CancelState();
  cancel_type_ = CancelType();
}

const char* ThreadAttributes::Restore() const {
  ThreadAttributes now;
  now.Read();
  const char* what = nullptr;
  if (now.cancel_type_ != cancel_type_) {
    pthread_setcanceltype(cancel_type_, nullptr);
    what = "its cancellation type changed";
  }
  if (now.cancel_state_ != cancel_state_) {
    pthread_setcancelstate(cancel_state_, nullptr);
    what = "its cancellation state changed";
  }
  if (now.nice_ != nice_) {
    // Refused where the item has lowered its priority and may not raise it again.
    base::Sys(SYS_setpriority, PRIO_PROCESS, 0, nice_);
    what = "its thread's nice value changed";
  }
  if (strncmp(now.name_, name_, kNames) != 0) {
    platform::NameSelf(name_);
    what = "its thread's name changed";
  }
  if (now.signals_ != signals_) {
    base::Sys(SYS_rt_sigprocmask, SIG_SETMASK, &signals_, nullptr, sizeof(signals_));
    what = "its thread's signal mask changed";
  }
  return what;
}

bool ThreadAttributes::OnOtherCpus() const {
  platform::CpuSet now;
  return now.LoadAffinity(0) == 0 && !(now == cpus_);
}

void ReportLeak(cmwq_work_fn fn, const char* queue, const char* what) {
  static constinit std::atomic<cmwq_work_fn> reported[128] = {};
  for (auto& slot : reported) {
    cmwq_work_fn seen = nullptr;
    if (slot.compare_exchange_strong(seen, fn, std::memory_order_relaxed)) break;
    if (seen == fn) return;
  }
  const platform::Symbol symbol(fn);
  base::RawLog(base::LogLevel::kWarn, "%s of queue %s left %s; put right", symbol.text, queue, what);
}

}  // namespace cmwq::pool
