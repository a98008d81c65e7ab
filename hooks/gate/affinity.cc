// The program's own view of where its threads may run: it must not see that they were pinned.

#include <cerrno>
#include <cstring>

#include "hooks/gate/gate.h"
#include "hooks/gate/gates.h"
#include "runtime/base/sys.h"
#include "runtime/platform/cpu_grant.h"

namespace cmwq::gate {
namespace {

// tid 0: the caller.
Member* MemberByTid(int tid) {
  if (tid == 0 || tid == base::Tid()) return Self();
  Gates* const gates = CurrentGates();
  Member* found = nullptr;
  for (int i = 0; gates != nullptr && i < gates->n; ++i) {
    gates->gate[i]->ForEachMember([&found, tid](Member* m) {
      if (m->tid.load(std::memory_order_relaxed) == tid) found = m;
    });
  }
  return found;
}

}  // namespace

bool IsPinned(const Member* m) {
  return m != nullptr && m->pinned && !m->placed.load(std::memory_order_relaxed);
}

int ProgramAffinity(platform::CpuSet* set) {
  const Member* const m = MemberByTid(base::Pid());
  if (!IsPinned(m)) return platform::ProcessAffinity(set);
  if (m->follows) return -EPERM;
  *set = m->own_mask;
  return 0;
}

bool VirtualAffinity(int tid, unsigned long* mask, unsigned long bytes) {
  const Member* const m = MemberByTid(tid);
  if (!IsPinned(m)) return false;
  const unsigned long have = platform::CpuSet::kBytes;
  const platform::CpuSet own = OwnMask(m);
  memcpy(mask, own.words(), bytes < have ? bytes : have);
  if (bytes > have) memset(reinterpret_cast<char*>(mask) + have, 0, bytes - have);
  return true;
}

void NoteOwnPlacement(int tid) {
  Member* const m = MemberByTid(tid);
  // The program's call may be refused: then the thread is to be where the program last put it.
  if (IsPinned(m)) OwnMask(m).StoreAffinity(tid);
  if (tid == 0 || tid == base::Tid()) {
    t_state.own_affinity = 1;
    // In the middle of a wait (a handler places its thread) it leaves after the wait.
    if (m != nullptr && m->frame == nullptr) return Leave(m);
  }
  // Another thread's membership ends when it next waits.
  if (m != nullptr) m->placed.store(true, std::memory_order_relaxed);
}

UnpinForCreate::UnpinForCreate() : pinned_(IsPinned(Self())) {
  if (pinned_) OwnMask(Self()).StoreAffinity(0);
}

UnpinForCreate::~UnpinForCreate() {
  if (pinned_ && IsPinned(Self())) platform::CpuSet::Of(Self()->gate->cpu()).StoreAffinity(0);
}

}  // namespace cmwq::gate
