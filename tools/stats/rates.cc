#include "tools/stats/rates.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace cmwq::tools::stats {
namespace {

constexpr const char* kSortNames[] = {"pid", "items", "pending", "blocked", "delay", "held", "workers"};
constexpr int kSortKeys = sizeof(kSortNames) / sizeof(kSortNames[0]);

const PoolView* Find(const std::vector<ProcessView>& list, pid_t pid, const std::string& pool) {
  for (const ProcessView& process : list) {
    if (process.pid != pid) continue;
    for (const PoolView& view : process.pools) {
      if (view.name == pool) return &view;
    }
  }
  return nullptr;
}

// A row may have been another pool's, or the process another program with the same number.
uint64_t Since(uint64_t now, uint64_t then) { return now >= then ? now - then : now; }

double Share(double part, double whole) {
  return whole > 0 ? part / whole : std::numeric_limits<double>::quiet_NaN();
}

std::vector<uint64_t> Since(const std::vector<uint64_t>& now, const std::vector<uint64_t>& then) {
  std::vector<uint64_t> counts = now;
  for (size_t i = 0; i < counts.size() && i < then.size(); ++i) counts[i] = Since(now[i], then[i]);
  return counts;
}

}  // namespace

const char* NameOf(SortKey key) { return kSortNames[static_cast<int>(key)]; }

bool ParseSortKey(const std::string& word, SortKey* key) {
  for (int i = 0; i < kSortKeys; ++i) {
    if (word != kSortNames[i]) continue;
    *key = static_cast<SortKey>(i);
    return true;
  }
  return false;
}

void Rates::Sample(const std::vector<ProcessView>& now) {
  if (first_.empty()) first_ = now;
  last_ = now;
  for (const ProcessView& process : now) {
    for (const PoolView& pool : process.pools) {
      Sums& sums = sums_[{process.pid, pool.name}];
      ++sums.samples;
      for (int s = 0; s < 4; ++s) sums.state[s] += pool.Count(static_cast<WorkerState>(s));
    }
  }
}

std::vector<TopRow> Rates::Finish(double seconds) {
  std::vector<TopRow> rows;
  for (const ProcessView& process : last_) {
    for (const PoolView& pool : process.pools) {
      // One that came up in between began with nothing.
      const PoolView none;
      const PoolView* then = Find(first_, process.pid, pool.name);
      if (then == nullptr) then = &none;
      TopRow row;
      row.pid = process.pid;
      row.command = process.command;
      row.pool = pool.name;
      row.is_gate = pool.is_gate;
      row.workers = static_cast<int>(pool.workers.size());
      const Sums& sums = sums_[{process.pid, pool.name}];
      for (int s = 0; s < 4; ++s) row.state[s] = sums.state[s] / std::max(sums.samples, 1);
      const double running = row.state[static_cast<int>(WorkerState::kRunning)];
      const double blocked = row.state[static_cast<int>(WorkerState::kBlocked)] +
                             row.state[static_cast<int>(WorkerState::kFound)];
      row.blocked = Share(blocked, running + blocked);
      row.per_second = static_cast<double>(Since(pool.executed, then->executed)) / std::max(seconds, 1e-9);
      const auto announced = static_cast<double>(Since(pool.blocks, then->blocks));
      row.coverage = Share(announced, announced + static_cast<double>(Since(pool.found, then->found)));
      const std::vector<uint64_t> delay = Since(pool.delay, then->delay);
      row.p50_ns = Quantile(delay, 0.5);
      row.p99_ns = Quantile(delay, 0.99);
      (pool.is_gate ? row.held : row.pending) = pool.pending;
      rows.push_back(row);
    }
  }
  first_ = last_;
  sums_.clear();
  return rows;
}

void Sort(std::vector<TopRow>* rows, SortKey key) {
  // The most first; equal ones, and those without a value at the end, stay in the order of processes.
  const auto weight = [key](const TopRow& row) {
    double value = 0;
    switch (key) {
      case SortKey::kPid: value = 0; break;
      case SortKey::kItems: value = row.per_second; break;
      case SortKey::kPending: value = static_cast<double>(row.pending); break;
      case SortKey::kBlocked: value = row.blocked; break;
      case SortKey::kDelay: value = static_cast<double>(row.p99_ns); break;
      case SortKey::kHeld: value = static_cast<double>(row.held); break;
      case SortKey::kWorkers: value = row.workers; break;
    }
    return std::isnan(value) ? -1 : value;
  };
  std::stable_sort(rows->begin(), rows->end(),
                   [&](const TopRow& a, const TopRow& b) { return weight(a) > weight(b); });
}

}  // namespace cmwq::tools::stats
