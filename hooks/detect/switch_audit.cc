#include "hooks/detect/switch_audit.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <new>

#include "hooks/detect/block_sites.h"
#include "hooks/detect/bpf_link.h"
#include "runtime/base/check.h"
#include "runtime/base/conf.h"
#include "runtime/base/sys.h"
#include "runtime/sync/mutex.h"

namespace cmwq::detect {
namespace {

using pool::Phase;

constexpr int kTries = 1000;                        // looks for busy_ before a report does without
constexpr uint64_t kNoteEveryNs = base::kNsPerMs;  // a sample costs some 20 us

constinit std::atomic<ThreadAudit*> g_audits{nullptr};   // AT(BeginAudit, ForEach): only grows
constinit SiteTable g_sites;
constinit std::atomic<uint64_t> g_next_note_ns{0};  // AT(NoteBlockSite, NoteBlockSite): relaxed

template <class F>
void ForEach(F visit) {
  // Acquire: pairs with the exchange in BeginAudit.
  for (ThreadAudit* a = g_audits.load(std::memory_order_acquire); a != nullptr; a = a->next)
    visit(*a);
}

struct rusage OwnUsage() {
  struct rusage usage = {};
  base::Sys(SYS_getrusage, RUSAGE_THREAD, &usage);
  return usage;
}

void Add(std::atomic<uint64_t>* count, uint64_t n) {
  if (n != 0) count->fetch_add(n, std::memory_order_relaxed);
}

const char* SourceName(ThreadAudit::Source source) {
  switch (source) {
    case ThreadAudit::Source::kPerf:
      return "perf";
    case ThreadAudit::Source::kBpf:
      return "bpf";
    default:
      return "getrusage";
  }
}

void ReportRefusal(const char* what, int err) {
  if (err == EPERM && what[0] == 'm') {
    CMWQ_WARN_ONCE(
        "switches=perf: %s refused: more locked memory is needed than "
        "kernel.perf_event_mlock_kb and ulimit -l allow; getrusage counts for the rest",
        what);
    return;
  }
  CMWQ_WARN_ONCE(
      "switches=perf: %s refused (errno %d): kernel.perf_event_paranoid must be at most 2, and "
      "containers forbid it by default; getrusage counts instead",
      what, err);
}

}  // namespace

void ThreadAudit::Lock() {
  // Yielding is no voluntary switch in the kernel's books. Acquire: pairs with Unlock.
  while (busy_.exchange(true, std::memory_order_acquire)) base::SchedYield();
}

bool ThreadAudit::TryLock() {
  for (int tries = 0; tries < kTries; ++tries) {
    if (!busy_.exchange(true, std::memory_order_acquire)) return true;
    base::SchedYield();
  }
  return false;
}

void ThreadAudit::Begin(Source wanted, int cpu) {
  ++sync::t_locks_held;  // hooks of a signal handler must not use a half-made object
  const BpfMemory* const memory = wanted == Source::kBpf ? ConnectBpf() : nullptr;
  Lock();
  Source got = Source::kRusage;
  const char* what = "";
  int err = 0;
  if (wanted == Source::kPerf) {
    err = ring_.Open(&what);
    if (err == 0) got = Source::kPerf;
  } else if (memory != nullptr) {
    slot_ = ClaimSlot(*memory, base::Tid(), cpu);
    if (slot_ != nullptr) got = Source::kBpf;
  }
  struct rusage usage;
  // All begin at one moment, in which the thread did not sleep.
  do {
    usage = OwnUsage();
    SwitchCounts none;
    ring_.Read(&none);
    if (slot_ != nullptr) slot_before_ = *slot_;
  } while (OwnUsage().ru_nvcsw != usage.ru_nvcsw);
  nvcsw_seen_ = static_cast<uint64_t>(usage.ru_nvcsw);
  nivcsw_seen_ = static_cast<uint64_t>(usage.ru_nivcsw);
  nvcsw_begin_ = nvcsw_seen_;
  source_.store(got, std::memory_order_relaxed);
  phase_ = Phase::kEngine;
  fn_.store(nullptr, std::memory_order_relaxed);
  Add(&threads_, 1);
  tid_.store(base::Tid(), std::memory_order_relaxed);
  Unlock();
  --sync::t_locks_held;
  if (err != 0) ReportRefusal(what, err);
  if (memory != nullptr && got != Source::kBpf) {
    CMWQ_WARN_ONCE("switches=bpf: no place for a thread in the map; getrusage counts for it");
  }
}

// What has happened up to now happened in `phase`. Locks: busy_, or the thread itself without a
// ring.
void ThreadAudit::ReadRing(Phase phase) {
  SwitchCounts counts;
  ring_.Read(&counts);
  Add(&slept_[static_cast<int>(phase)], counts.slept);
  Add(&preempted_, counts.preempted);
  Add(&lost_, counts.lost);
}

void ThreadAudit::Account(Phase phase, const struct rusage& usage) {
  Add(&slept_[static_cast<int>(phase)], static_cast<uint64_t>(usage.ru_nvcsw) - nvcsw_seen_);
  Add(&preempted_, static_cast<uint64_t>(usage.ru_nivcsw) - nivcsw_seen_);
  nvcsw_seen_ = static_cast<uint64_t>(usage.ru_nvcsw);
  nivcsw_seen_ = static_cast<uint64_t>(usage.ru_nivcsw);
}

// Context: the audited thread; the engine's hooks, so perhaps a signal handler: not inside another
// Enter, which t_locks_held prevents.
void ThreadAudit::Enter(Phase phase, cmwq_work_fn fn) {
  ++sync::t_locks_held;
  if (phase == Phase::kAnnounced) Add(&announced_, 1);
  if (fn != nullptr || phase == Phase::kEngine) fn_.store(fn, std::memory_order_relaxed);
  switch (source()) {
    case Source::kPerf:
      Lock();
      ReadRing(phase_);
      phase_ = phase;
      Unlock();
      break;
    case Source::kBpf:
      // The program reads it on this CPU, or after the switch to another one: program order is
      // enough.
      __atomic_store_n(&slot_->phase, static_cast<unsigned>(phase), __ATOMIC_RELEASE);
      // We run, whatever the program may have missed.
      if (__atomic_load_n(&slot_->blocked, __ATOMIC_RELAXED) != 0) {
        __atomic_store_n(&slot_->blocked, 0u, __ATOMIC_RELAXED);
      }
      break;
    case Source::kRusage:
      Account(phase_, OwnUsage());
      phase_ = phase;
      break;
  }
  --sync::t_locks_held;
}

void ThreadAudit::End() {
  ++sync::t_locks_held;
  Enter(Phase::kEngine, nullptr);
  Lock();
  cmwq_bpf_slot counts = {};
  struct rusage usage;
  do {  // as in Begin
    usage = OwnUsage();
    ReadRing(Phase::kEngine);
    if (slot_ != nullptr) counts = *slot_;
  } while (OwnUsage().ru_nvcsw != usage.ru_nvcsw);
  if (source() == Source::kRusage) Account(Phase::kEngine, usage);
  ring_.Close();
  if (slot_ != nullptr) {
    for (int i = 0; i < pool::kPhases; ++i) {
      Add(&slept_[i], counts.slept[i] - slot_before_.slept[i]);
    }
    Add(&preempted_, counts.preempted - slot_before_.preempted);
    ReleaseSlot(slot_);  // last: the next thread's counts follow
    slot_ = nullptr;
  }
  tid_.store(0, std::memory_order_relaxed);
  Add(&nvcsw_, static_cast<uint64_t>(usage.ru_nvcsw) - nvcsw_begin_);
  Unlock();
  used_.store(false, std::memory_order_release);  // pairs with Claim
  --sync::t_locks_held;
}

void ThreadAudit::Drain() {
  if (source() != Source::kPerf) return;
  ++sync::t_locks_held;
  // Else the thread itself is at it.
  if (!busy_.exchange(true, std::memory_order_acquire)) {
    if (ring_.open() && ring_.HalfFull()) ReadRing(phase_);
    Unlock();
  }
  --sync::t_locks_held;
}

void ThreadAudit::AddTo(pool::SwitchTotals* totals) {
  const uint64_t threads = threads_.load(std::memory_order_relaxed);
  if (threads == 0) return;
  ++sync::t_locks_held;
  // A process may end in a signal handler inside Enter: then without what is not settled yet.
  const bool locked = TryLock();
  const Source source = this->source();
  if (totals->threads == 0 || source == Source::kRusage) totals->source = SourceName(source);
  totals->threads += threads;
  totals->nvcsw += nvcsw_.load(std::memory_order_relaxed);
  if (locked) AddLive(totals);
  for (int i = 0; i < pool::kPhases; ++i) {
    totals->slept[i] += slept_[i].load(std::memory_order_relaxed);
  }
  totals->preempted += preempted_.load(std::memory_order_relaxed);
  totals->lost += lost_.load(std::memory_order_relaxed);
  totals->announced += announced_.load(std::memory_order_relaxed);
  if (locked) Unlock();
  --sync::t_locks_held;
}

// What the present thread has done and is not in the counts yet. Locks: busy_.
void ThreadAudit::AddLive(pool::SwitchTotals* totals) {
  const int tid = tid_.load(std::memory_order_relaxed);
  if (tid == 0) return;
  uint64_t nvcsw;
  if (ReadNvcsw(tid, &nvcsw) && nvcsw > nvcsw_begin_) totals->nvcsw += nvcsw - nvcsw_begin_;
  if (source() == Source::kPerf) ReadRing(phase_);
  if (slot_ == nullptr) return;
  for (int i = 0; i < pool::kPhases; ++i) {
    totals->slept[i] += __atomic_load_n(&slot_->slept[i], __ATOMIC_RELAXED) - slot_before_.slept[i];
  }
  totals->preempted +=
      __atomic_load_n(&slot_->preempted, __ATOMIC_RELAXED) - slot_before_.preempted;
}

cmwq_work_fn ThreadAudit::Executing(int tid) const {
  return tid_.load(std::memory_order_relaxed) == tid ? fn_.load(std::memory_order_relaxed)
                                                     : nullptr;
}

void ThreadAudit::Forget() {
  ring_.Forget();
  slot_ = nullptr;
  busy_.store(false, std::memory_order_relaxed);
  tid_.store(0, std::memory_order_relaxed);
  for (auto& n : slept_) n.store(0, std::memory_order_relaxed);
  for (auto* n : {&preempted_, &lost_, &announced_, &threads_, &nvcsw_}) {
    n->store(0, std::memory_order_relaxed);
  }
  used_.store(false, std::memory_order_relaxed);
}

ThreadAudit* BeginAudit(ThreadAudit::Source source, int cpu) {
  ThreadAudit* mine = nullptr;
  ForEach([&mine](ThreadAudit& a) {
    if (mine == nullptr && a.Claim()) mine = &a;
  });
  if (mine == nullptr) {
    const long p = base::Sys(SYS_mmap, 0, sizeof(ThreadAudit), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p < 0) return nullptr;
    mine = new (reinterpret_cast<void*>(p)) ThreadAudit;
    mine->Claim();
    ThreadAudit* first = g_audits.load(std::memory_order_relaxed);
    do {
      mine->next = first;
      // Release: pairs with the load in ForEach.
    } while (!g_audits.compare_exchange_weak(first, mine, std::memory_order_release,
                                             std::memory_order_relaxed));
  }
  mine->Begin(source, cpu);
  return mine;
}

void NoteBlockSite(int tid) {
  if (base::g_conf.switches == base::kSwitchesOff) return;
  const uint64_t now = base::MonotonicNs();
  uint64_t due = g_next_note_ns.load(std::memory_order_relaxed);
  if (now < due || !g_next_note_ns.compare_exchange_strong(due, now + kNoteEveryNs,
                                                           std::memory_order_relaxed)) {
    return;
  }
  pool::BlockSite site = {};
  if (!ReadBlockSite(tid, &site)) return;
  ForEach([&site, tid](const ThreadAudit& a) {
    if (site.fn == nullptr) site.fn = a.Executing(tid);
  });
  g_sites.Count(site);
}

}  // namespace cmwq::detect

namespace cmwq::pool {

SwitchAudit* OpenSwitchAudit(int cpu) {
  using detect::ThreadAudit;
  switch (base::g_conf.switches) {
    case base::kSwitchesOff:
      return nullptr;
    case base::kSwitchesRusage:
      return detect::BeginAudit(ThreadAudit::Source::kRusage, cpu);
    case base::kSwitchesPerf:
      return detect::BeginAudit(ThreadAudit::Source::kPerf, cpu);
    default:
      return detect::BeginAudit(ThreadAudit::Source::kBpf, cpu);
  }
}

void DrainSwitchAudits() {
  if (base::g_conf.switches != base::kSwitchesPerf) return;
  detect::ForEach([](detect::ThreadAudit& a) { a.Drain(); });
}

void ForgetSwitchAudits() {
  detect::ForgetBpf();
  detect::ForEach([](detect::ThreadAudit& a) { a.Forget(); });
  detect::g_sites.Reset();
}

bool ReadSwitchTotals(SwitchTotals* totals) {
  *totals = {};
  detect::ForEach([totals](detect::ThreadAudit& a) { a.AddTo(totals); });
  return totals->threads > 0;
}

int ReadBlockSites(BlockSite* out, int max) { return detect::g_sites.Copy(out, max); }

}  // namespace cmwq::pool
