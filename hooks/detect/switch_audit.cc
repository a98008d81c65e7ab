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

void ThreadAudit::Begin(Source wanted, int cpu) {
  ++sync::t_locks_held;  // hooks of a signal handler must not use a half-made object
  Source got = Source::kRusage;
  if (wanted == Source::kPerf) {
    const char* what;
    const int err = ring_.Open(&what);
    if (err == 0) {
      got = Source::kPerf;
    } else {
      ReportRefusal(what, err);
    }
  } else if (wanted == Source::kBpf) {
    const BpfMemory* const memory = ConnectBpf();
    cmwq_bpf_slot* const slot = memory != nullptr ? ClaimSlot(*memory, base::Tid(), cpu) : nullptr;
    if (slot != nullptr) {
      got = Source::kBpf;
      slot_before_ = *slot;
      slot_.store(slot, std::memory_order_release);  // pairs with the load in AddTo
    } else if (memory != nullptr) {
      CMWQ_WARN_ONCE("switches=bpf: no place for a thread in the map; getrusage counts for it");
    }
  }
  struct rusage usage;
  // All begin at one moment, in which the thread did not sleep.
  do {
    usage = OwnUsage();
    SwitchCounts none;
    ring_.Read(&none);
    if (const cmwq_bpf_slot* const slot = slot_.load(std::memory_order_relaxed))
      slot_before_ = *slot;
  } while (OwnUsage().ru_nvcsw != usage.ru_nvcsw);
  nvcsw_seen_ = static_cast<uint64_t>(usage.ru_nvcsw);
  nivcsw_seen_ = static_cast<uint64_t>(usage.ru_nivcsw);
  nvcsw_begin_.store(nvcsw_seen_, std::memory_order_relaxed);
  source_.store(got, std::memory_order_relaxed);
  phase_.store(Phase::kEngine, std::memory_order_relaxed);
  fn_.store(nullptr, std::memory_order_relaxed);
  Add(&threads_, 1);
  tid_.store(base::Tid(), std::memory_order_release);  // pairs with the load in AddTo
  --sync::t_locks_held;
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
  const Phase before = phase_.load(std::memory_order_relaxed);
  cmwq_bpf_slot* slot;
  switch (source()) {
    case Source::kPerf:
      // Yielding is no voluntary switch in the kernel's books.
      while (busy_.exchange(true, std::memory_order_acquire)) base::SchedYield();
      ReadRing(before);
      phase_.store(phase, std::memory_order_relaxed);
      busy_.store(false, std::memory_order_release);
      break;
    case Source::kBpf:
      slot = slot_.load(std::memory_order_relaxed);
      // The program reads it on this CPU, or after the switch to another one: program order is
      // enough.
      __atomic_store_n(&slot->phase, static_cast<unsigned>(phase), __ATOMIC_RELEASE);
      // We run, whatever the program may have missed.
      if (__atomic_load_n(&slot->blocked, __ATOMIC_RELAXED) != 0) {
        __atomic_store_n(&slot->blocked, 0u, __ATOMIC_RELAXED);
      }
      break;
    case Source::kRusage:
      Account(before, OwnUsage());
      phase_.store(phase, std::memory_order_relaxed);
      break;
  }
  --sync::t_locks_held;
}

// counts: a copy of the slot, taken by the thread.
void ThreadAudit::FoldSlot(const cmwq_bpf_slot& counts) {
  cmwq_bpf_slot* const slot =
      slot_.exchange(nullptr, std::memory_order_acq_rel);  // pairs with AddTo
  for (int i = 0; i < pool::kPhases; ++i) Add(&slept_[i], counts.slept[i] - slot_before_.slept[i]);
  Add(&preempted_, counts.preempted - slot_before_.preempted);
  ReleaseSlot(slot);  // last: the next thread's counts follow
}

void ThreadAudit::End() {
  ++sync::t_locks_held;
  Enter(Phase::kEngine, nullptr);
  while (busy_.exchange(true, std::memory_order_acquire)) base::SchedYield();
  const cmwq_bpf_slot* const slot = slot_.load(std::memory_order_relaxed);
  cmwq_bpf_slot counts = {};
  struct rusage usage;
  do {  // as in Begin
    usage = OwnUsage();
    ReadRing(Phase::kEngine);
    if (slot != nullptr) counts = *slot;
  } while (OwnUsage().ru_nvcsw != usage.ru_nvcsw);
  if (source() == Source::kRusage) Account(Phase::kEngine, usage);
  ring_.Close();
  busy_.store(false, std::memory_order_release);
  if (slot != nullptr) FoldSlot(counts);
  tid_.store(0, std::memory_order_relaxed);
  Add(&nvcsw_,
      static_cast<uint64_t>(usage.ru_nvcsw) - nvcsw_begin_.load(std::memory_order_relaxed));
  used_.store(false, std::memory_order_release);  // pairs with Claim
  --sync::t_locks_held;
}

void ThreadAudit::Drain(bool always) {
  if (source() != Source::kPerf) return;
  ++sync::t_locks_held;
  // The thread itself is at it.
  if (!busy_.exchange(true, std::memory_order_acquire)) {
    if (ring_.open() && (always || ring_.HalfFull()))
      ReadRing(phase_.load(std::memory_order_relaxed));
    busy_.store(false, std::memory_order_release);
  }
  --sync::t_locks_held;
}

// The voluntary switches of a live thread, by number; what it had at the beginning if that fails.
uint64_t ThreadAudit::NvcswOf(int tid) const {
  const uint64_t begin = nvcsw_begin_.load(std::memory_order_relaxed);
  uint64_t now;
  return ReadNvcsw(tid, &now) && now > begin ? now - begin : 0;
}

void ThreadAudit::AddTo(pool::SwitchTotals* totals) {
  const uint64_t threads = threads_.load(std::memory_order_relaxed);
  if (threads == 0) return;
  Drain(true);
  const Source source = this->source();
  if (totals->threads == 0 || strcmp(SourceName(source), "getrusage") == 0) {
    totals->source = SourceName(source);
  }
  totals->threads += threads;
  totals->nvcsw += nvcsw_.load(std::memory_order_relaxed);
  // Acquire: pairs with the stores in Begin.
  if (const int tid = tid_.load(std::memory_order_acquire)) totals->nvcsw += NvcswOf(tid);
  for (int i = 0; i < pool::kPhases; ++i) {
    totals->slept[i] += slept_[i].load(std::memory_order_relaxed);
  }
  totals->preempted += preempted_.load(std::memory_order_relaxed);
  totals->lost += lost_.load(std::memory_order_relaxed);
  totals->announced += announced_.load(std::memory_order_relaxed);
  if (const cmwq_bpf_slot* const slot = slot_.load(std::memory_order_acquire)) {
    for (int i = 0; i < pool::kPhases; ++i) {
      totals->slept[i] +=
          __atomic_load_n(&slot->slept[i], __ATOMIC_RELAXED) - slot_before_.slept[i];
    }
    totals->preempted +=
        __atomic_load_n(&slot->preempted, __ATOMIC_RELAXED) - slot_before_.preempted;
  }
}

cmwq_work_fn ThreadAudit::Executing(int tid) const {
  return tid_.load(std::memory_order_relaxed) == tid ? fn_.load(std::memory_order_relaxed)
                                                     : nullptr;
}

void ThreadAudit::Forget() {
  ring_.Forget();
  slot_.store(nullptr, std::memory_order_relaxed);
  busy_.store(false, std::memory_order_relaxed);
  tid_.store(0, std::memory_order_relaxed);
  for (auto& n : slept_) n.store(0, std::memory_order_relaxed);
  for (auto* n : {&preempted_, &lost_, &announced_, &threads_, &nvcsw_, &nvcsw_begin_}) {
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
  detect::ForEach([](detect::ThreadAudit& a) { a.Drain(false); });
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
