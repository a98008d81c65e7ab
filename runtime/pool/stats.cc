// What a pool tells the statistics page (platform/stats_layout.h).
//
// Queueing and executing write nothing that other CPUs write: a worker's row is its own, the pool's is
// filled in from outside, by whoever publishes.

#include <cstring>

#include "runtime/pool/pool.h"
#include "runtime/pool/pwq_base.h"

namespace cmwq::pool {
namespace {

constexpr uint64_t kSampleNs = base::kNsPerMs;         // aimed at: two clock reads in that time cost nothing
constexpr uint64_t kMaxStep = 1024;
constexpr uint64_t kRestNs = 50 * base::kNsPerMs;      // without a sample: the rate is another now

// Release: behind the odd value of seq, which a reader must see first.
template <class T, class V>
void Set(std::atomic<T>& field, V value) {
  field.store(static_cast<T>(value), std::memory_order_release);
}

void SetText(std::atomic<uint64_t> (&field)[4], const char* text) {
  uint64_t words[4] = {};
  memcpy(words, text, strnlen(text, sizeof(words) - 1));
  for (int i = 0; i < 4; ++i) field[i].store(words[i], std::memory_order_relaxed);
}

}  // namespace

// The delay of about one item per millisecond is measured, however many there are: reading the clock
// for each would cost more than all other counting.
uint64_t WorkerPool::TakeSample() {
  const uint64_t now = env_->NowNs();
  const uint64_t since = now - sampled_ns_;
  if (since < kSampleNs / 2 && sample_step_ < kMaxStep) {
    sample_step_ *= 2;
  } else if (since > kSampleNs * 2 && sample_step_ > 1) {
    sample_step_ /= 2;
  }
  sampled_ns_ = now;
  next_sample_ = nr_queued_ + sample_step_;
  return now;
}

void WorkerPool::NoteDelay(uint64_t queued_ns) {
  const uint64_t now = env_->NowNs();
  row_->delay.Add(now > queued_ns ? now - queued_ns : 0);
}

void WorkerPool::PublishWorkers(uint64_t now) {
  const int used = slots_used_.load(std::memory_order_acquire);  // pairs with the store in TakeSlot
  for (int i = 0; i < used; ++i) {
    Worker* const w = slots_[i].load(std::memory_order_acquire);
    if (w == nullptr) continue;
    const bool presumed = StateWord::ActivityOf(w->word->Load()) == Activity::kPresumed;
    w->stats->presumed.store(presumed, std::memory_order_relaxed);
    if (w->current_pwq == nullptr) {
      w->stats->since_ns.store(0, std::memory_order_relaxed);
      continue;
    }
    const uint64_t executed = w->nr_executed.load(std::memory_order_relaxed);
    if (w->stats->since_ns.load(std::memory_order_relaxed) != 0 && w->shown_executed == executed) continue;
    w->shown_executed = executed;
    SetText(w->stats->queue, w->current_pwq->name());
    w->stats->since_ns.store(now, std::memory_order_release);
  }
}

// Locks: takes `lock` for microseconds; nothing is called under it.
void WorkerPool::PublishStats() {
  sync::MutexLock hold(lock);
  platform::StatsPool& row = *row_;
  if (!served() && row.used.load(std::memory_order_relaxed) == 0) return;
  const uint64_t now = env_->NowNs();
  if (next_sample_ != 0 && now - sampled_ns_ > kRestNs) {
    sample_step_ = 1;
    next_sample_ = nr_queued_ + 1;
  }
  const uint32_t seq = row.seq.load(std::memory_order_relaxed);
  row.seq.store(seq + 1, std::memory_order_relaxed);  // Set and the last store order it
  Set(row.used, 1u);
  Set(row.published_ns, now);
  Set(row.cpu, attrs_.cpu);
  Set(row.nice, attrs_.nice);
  Set(row.workers, nr_workers_);
  Set(row.idle, nr_idle_);
  Set(row.running, conc_.nr_running());
  Set(row.pending, nr_pending_);
  Set(row.queued, nr_queued_);
  Set(row.created, stats_.created);
  Set(row.destroyed, stats_.destroyed);
  Set(row.create_failures, stats_.create_failures);
  Set(row.peak_workers, stats_.peak_workers);
  Set(row.found, nr_presumed_.load(std::memory_order_relaxed));
  Set(row.maydays, stats_.maydays);
  Set(row.hogs, stats_.hogs);
  Set(row.stalls, stats_.stalls);
  Set(row.drift, stats_.drift);
  Set(row.failed, stats_.failed);
  Set(row.repatriated, nr_repatriated_.load(std::memory_order_relaxed));
  row.seq.store(seq + 2, std::memory_order_release);  // pairs with the readers' first load
  PublishWorkers(now);
}

}  // namespace cmwq::pool
