#include "runtime/wq/show.h"

namespace cmwq::wq {
namespace {

void CopyFrom(Pwq* pwq, uint64_t now, PwqShot* shot) CMWQ_REQUIRES(pwq->pool->lock) {
  Workqueue* const wq = pwq->wq;
  base::RawFormat(shot->queue, sizeof(shot->queue), "%s", wq->name);
  shot->flags = wq->flags;
  shot->ordered = wq->ordered;
  pool::PoolName(pwq->pool->attrs(), shot->pool, sizeof(shot->pool));
  shot->nr_active = pwq->nr_active;
  // Of an unbound queue: the node's share, for all its pwqs there.
  shot->max_active = pwq->node != nullptr ? pwq->node->count.max() : pwq->max_active;
  shot->plugged = pwq->plugged;
  shot->mayday = base::ListLinked(&pwq->mayday_entry.node);  // a hint: its lock is another
  shot->pending = shot->inactive = {};
  shot->nr_in_flight = pwq->pool->CopyWork(pwq, now, shot->in_flight, PwqShot::kInFlight,
                                           &shot->more_in_flight, &shot->pending);
  shot->inactive.Collect(pwq->inactive, nullptr);
}

void PrintFlags(unsigned flags, bool ordered, char* buf, size_t size) {
  static constexpr struct {
    unsigned flag;
    const char* name;
  } kNames[] = {{CMWQ_UNBOUND, "UNBOUND"},         {CMWQ_FREEZABLE, "FREEZABLE"},
                {CMWQ_MEM_RECLAIM, "MEM_RECLAIM"}, {CMWQ_HIGHPRI, "HIGHPRI"},
                {CMWQ_CPU_INTENSIVE, "CPU_INTENSIVE"}, {CMWQ_SYSFS, "SYSFS"}};
  size_t n = base::RawFormat(buf, size, "0x%x", flags);
  for (const auto& known : kNames) {
    if ((flags & known.flag) != 0) n += base::RawFormat(buf + n, size - n, " %s", known.name);
  }
  if (ordered) base::RawFormat(buf + n, size - n, " ordered");
}

}  // namespace

bool CapturePwq(Workqueue* wq, int* at, uint64_t now, PwqShot* shot) {
  bool found = false;
  int index = 0;
  wq->ForEachPwq([&](Pwq* pwq) {
    if (index++ < *at || found) return;
    *at = index;
    sync::MutexLock hold(pwq->pool->lock);
    if (pwq->Empty()) return;
    CopyFrom(pwq, now, shot);
    found = true;
  });
  return found;
}

void PrintPwq(const PwqShot& shot, pool::LineWriter* out) {
  char line[256], flags[96];
  if (shot.first) {
    PrintFlags(shot.flags, shot.ordered, flags, sizeof(flags));
    base::RawFormat(line, sizeof(line), "  queue %s: flags %s", shot.queue, flags);
    out->Line(line);
  }
  base::RawFormat(line, sizeof(line), "   pwq on %s: active %d/%d%s%s", shot.pool, shot.nr_active,
                  shot.max_active, shot.mayday ? " MAYDAY" : "", shot.plugged ? " plugged" : "");
  out->Line(line);
  for (int i = 0; i < shot.nr_in_flight; ++i) pool::PrintInFlight(out, shot.in_flight[i]);
  if (shot.more_in_flight) out->Line("    in flight: and more");
  shot.pending.Print(out, "pending");
  shot.inactive.Print(out, "inactive");
}

void ShowWorkqueue(Workqueue* wq, pool::LineWriter* out) {
  PwqShot shot;
  shot.first = true;
  const uint64_t now = base::MonotonicNs();
  for (int at = 0; CapturePwq(wq, &at, now, &shot); shot.first = false) PrintPwq(shot, out);
}

}  // namespace cmwq::wq
