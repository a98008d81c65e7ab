#include "runtime/pool/dump.h"

#include <cerrno>
#include <cstring>

#include "runtime/platform/symbol.h"
#include "runtime/pool/pwq_base.h"
#include "runtime/pool/work_link.h"

namespace cmwq::pool {
namespace {

using work::WorkOf;

const char* ActivityName(uint32_t word) {
  switch (StateWord::ActivityOf(word)) {
    case Activity::kSleeping: return ", blocked";
    case Activity::kPresumed: return ", found asleep";
    case Activity::kRunning: break;
  }
  return (word & WorkerFlag::kCpuIntensive) != 0 ? ", cpu intensive" : "";
}

}  // namespace

void LogWriter::Line(const char* line) { base::RawLog(base::LogLevel::kError, "%s", line); }

void FdWriter::Line(const char* line) {
  char text[512];
  const size_t n = base::RawFormat(text, sizeof(text), "%s\n", line);
  for (size_t at = 0; at < n;) {
    const long wrote = base::Sys(SYS_write, fd_, text + at, n - at);
    if (wrote == -EINTR) continue;
    if (wrote <= 0) return;
    at += static_cast<size_t>(wrote);
  }
}

void PoolName(const WorkerPool::Attrs& attrs, char* buf, size_t size) {
  const char* const high = attrs.nice < 0 ? "/high" : "";
  if (attrs.cpu >= 0) {
    base::RawFormat(buf, size, "cpu%d%s", attrs.cpu, high);
  } else {
    base::RawFormat(buf, size, "unbound%u%s", attrs.id, high);
  }
}

void Runs::Collect(base::List& list, const PwqBase* pwq) {
  int looked = 0;
  bool linked = false;
  for (base::ListNode* n = list.front(); n != nullptr; n = list.next(n)) {
    if (looked++ == kNodes) {
      more = true;
      return;
    }
    struct cmwq_work* const work = WorkOf(n);
    const bool barrier = linked;  // a barrier follows its item, or another barrier of it
    linked = work::IsLinked(work);
    if (pwq != nullptr && work->pwq_ != pwq) continue;
    if (nr > 0 && run[nr - 1].fn == work->fn_ && left_out == 0) {
      ++run[nr - 1].n;
    } else if (nr < kRuns) {
      run[nr++] = {work->fn_, 1, barrier};
    } else {
      ++left_out;
    }
  }
}

void Runs::Print(LineWriter* out, const char* label) const {
  for (int i = 0; i < nr; ++i) {
    const platform::Symbol symbol(run[i].fn);
    char line[256];
    const char* const name = run[i].barrier ? "BAR" : symbol.text;
    if (run[i].n == 1) {
      base::RawFormat(line, sizeof(line), "    %s: %s", label, name);
    } else {
      base::RawFormat(line, sizeof(line), "    %s: %u*%s", label, run[i].n, name);
    }
    out->Line(line);
  }
  char line[96];
  if (left_out > 0 || more) {
    base::RawFormat(line, sizeof(line), "    %s: %u more%s", label, left_out,
                    more ? " and those behind" : "");
    out->Line(line);
  }
}

void PrintInFlight(LineWriter* out, const InFlight& f) {
  const platform::Symbol symbol(f.fn);
  char line[360], worker[16];
  if (f.slot < 0) {
    base::RawFormat(worker, sizeof(worker), "%s", f.fails ? "event thread" : "rescuer");
  } else {
    base::RawFormat(worker, sizeof(worker), "worker %d", f.slot);
  }
  base::RawFormat(line, sizeof(line), "    in flight: %s tid %d: %s of %s %s %lus%s", worker, f.tid,
                  symbol.text, f.queue, f.exact ? "for" : "for at least",
                  static_cast<unsigned long>(f.for_ns / base::kNsPerSec), ActivityName(f.word));
  size_t n = strlen(line);
  if (f.desc[0] != '\0') n += base::RawFormat(line + n, sizeof(line) - n, ", %s", f.desc);
  if (f.scheduled > 0) {
    base::RawFormat(line + n, sizeof(line) - n, ", %u behind it", f.scheduled);
  }
  out->Line(line);
}

// Remembers which execution each worker was seen in: no clock is read when an item starts.
// Context: any. Locks: `lock` held.
void WorkerPool::NoteInFlight(uint64_t now) {
  for (Worker* head : busy_) {
    for (Worker* w = head; w != nullptr; w = w->hash_next) {
      const uint64_t executed = w->nr_executed.load(std::memory_order_relaxed);
      if (w->seen_ns != 0 && w->seen_executed == executed) continue;
      w->seen_executed = executed;
      w->seen_ns = now;
    }
  }
}

void WorkerPool::DescribeInFlight(Worker* w, uint64_t now, InFlight* f) {
  const uint64_t executed = w->nr_executed.load(std::memory_order_relaxed);
  f->tid = w->tid.load(std::memory_order_relaxed);
  f->slot = w->is_rescuer ? -1 : w->slot;
  f->fails = w->fails;
  f->fn = w->current_fn;
  f->pwq = w->current_pwq;
  base::RawFormat(f->queue, sizeof(f->queue), "%s", w->current_pwq->name());
  base::RawFormat(f->desc, sizeof(f->desc), "%s", w->described ? w->desc : "");
  // A clock was read when the worker left the idle list; later items of the batch are known since the
  // first look at them.
  f->exact = !w->is_rescuer && executed == w->batch_executed;
  uint64_t since = now;
  if (f->exact) {
    since = w->batch_ns;
  } else if (w->seen_ns != 0 && w->seen_executed == executed) {
    since = w->seen_ns;
  }
  f->for_ns = now > since ? now - since : 0;
  f->word = w->word->Load();
  f->scheduled = 0;
  for (base::ListNode* n = w->scheduled.front(); n != nullptr && f->scheduled < 64;
       n = w->scheduled.next(n)) {
    ++f->scheduled;
  }
}

// Copies busy workers, those of `pwq` (null: all), from the *from-th on, which it moves on. Workers come
// and go between two calls; each that is busy all the time is seen unless one before it left.
int WorkerPool::ListInFlight(InFlight* out, int max, int* from, const PwqBase* pwq, uint64_t now) {
  int n = 0, at = 0;
  for (Worker* head : busy_) {
    for (Worker* w = head; w != nullptr; w = w->hash_next, ++at) {
      if (at < *from || (pwq != nullptr && w->current_pwq != pwq)) continue;
      if (n == max) {
        *from = at;
        return n;
      }
      DescribeInFlight(w, now, &out[n++]);
    }
  }
  *from = at;
  return n;
}

void WorkerPool::ShowInFlight(LineWriter* out, const PwqBase* pwq) {
  constexpr int kChunk = 16;
  const uint64_t now = env_->NowNs();
  for (int from = 0, n = kChunk; n == kChunk;) {
    InFlight list[kChunk];
    {
      sync::MutexLock hold(lock);
      n = ListInFlight(list, kChunk, &from, pwq, now);
    }
    for (int i = 0; i < n; ++i) PrintInFlight(out, list[i]);
  }
}

int WorkerPool::CopyWork(const PwqBase* pwq, uint64_t now, InFlight* out, int max, bool* more,
                         Runs* pending) {
  int from = 0;
  const int n = ListInFlight(out, max, &from, pwq, now);
  InFlight next;
  *more = n == max && ListInFlight(&next, 1, &from, pwq, now) > 0;
  pending->Collect(worklist_, pwq);
  return n;
}

void WorkerPool::ShowPool(LineWriter* out) {
  const uint64_t now = env_->NowNs();
  PoolCounts counts;
  uint32_t pending;
  uint64_t hung_ns = 0;
  char manager[32] = "none", name[32];
  const BlockingSource* const detector = detector_.load(std::memory_order_acquire);  // pairs: FindDetector
  uint64_t drift;
  const char* cpu_state = "";
  Runs runs;
  {
    sync::MutexLock hold(lock);
    drift = stats_.drift;
    NoteInFlight(now);
    PoolName(attrs_, name, sizeof(name));  // an unbound pool may be used anew any time
    counts = Counts();
    if (trustee_.disassociated()) cpu_state = ", its CPU has left";
    pending = nr_pending_;
    if (pending > 0 && stall_armed_ && progress_ == watch_.stall_progress) {
      hung_ns = now - watch_.stall_since_ns;
    }
    if (managing_) {
      if (manager_ != nullptr) {
        base::RawFormat(manager, sizeof(manager), "worker %d", manager_->slot);
      } else {
        base::RawFormat(manager, sizeof(manager), "event thread");
      }
    }
    runs.Collect(worklist_, nullptr);
  }
  char line[240];
  const size_t n = base::RawFormat(
      line, sizeof(line),
      "  pool %s: workers %d, idle %d, running %d, pending %u, manager %s, hung %lus%s", name,
      counts.nr_workers, counts.nr_idle, counts.nr_running, pending, manager,
      static_cast<unsigned long>(hung_ns / base::kNsPerSec), cpu_state);
  if (bound()) {
    base::RawFormat(line + n, sizeof(line) - n, ", detector %s, found %lu, drift %lu",
                    detector != nullptr ? detector->name() : "none",
                    static_cast<unsigned long>(nr_presumed_.load(std::memory_order_relaxed)),
                    static_cast<unsigned long>(drift));
  }
  out->Line(line);
  ShowInFlight(out, nullptr);
  runs.Print(out, "pending");
}

}  // namespace cmwq::pool
