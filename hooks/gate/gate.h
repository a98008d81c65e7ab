// The boundary gate as the preload's wrappers see it: who waits for what, what may be held.
//
// The nouns: a thread is *adopted* (becomes a worker) when it first waits for input on a descriptor
// that the process accepted. An adopted thread is RUNNING, SLEEPING (inside a bracket: it waits for
// something other than a new request) or WAITING at the boundary (for its next request). Only the
// return from WAITING may be held back; the return from a bracket never is.
//
// Context: every function here may run in any thread of a foreign program, with the program's locks
// held, before main() and inside signal handlers unless it says otherwise. Nothing allocates, throws,
// or touches errno.

#ifndef CMWQ_HOOKS_GATE_GATE_H_
#define CMWQ_HOOKS_GATE_GATE_H_

#include <cstdint>

namespace cmwq::gate {

// What a bracketed call waits for. One row each in the report.
enum class Hook : uint8_t {
  kMutex, kCond, kRwlock, kBarrier, kOnce, kSem, kJoin, kSleep, kYield,
  kRead, kWrite, kSync, kFile, kOpen, kClose, kConnect, kAccept, kRecv, kSend,
  kPoll, kSelect, kEpoll, kFutex, kFlock, kSignal, kProcess, kIpc, kAio,
  kResolve, kStdio, kDl, kMmap, kUring, kOther,
  kCount,
};
const char* HookName(Hook hook);

// Per-thread state. POD, constant-initialised, initial-exec TLS: usable before any constructor.
struct ThreadState {
  void* worker;        // S: the adopted worker, null while not adopted
  const void* bracket;  // S: the outermost open Bracket, null: none
  uint32_t depth;      // S: > 0 inside a bracket or inside our own code: calls pass straight through
  int32_t held_locks;  // S: application locks taken and not released by this thread
  uint8_t dead;        // S: thread is past its last destructor round: never adopt again
  uint8_t own_affinity;  // S: the application placed this thread itself: never adopt it
};
extern thread_local constinit ThreadState t_state __attribute__((tls_model("initial-exec"),
                                                                 visibility("hidden")));

// A worker of libcmwq in the same process: its waits are reported to the library, not to a gate.
// t_state.worker then points at this. Context: the worker, at its start.
struct LibraryWorker {
  void (*sleeping)();  // S
  void (*running)();   // S
};
extern thread_local constinit LibraryWorker t_library __attribute__((tls_model("initial-exec"),
                                                                     visibility("hidden")));
void SetLibraryWorker(void (*sleeping)(), void (*running)());

// Slow halves of Bracket; only called for adopted threads.
void EnterSlow(Hook hook);
void LeaveSlow();

// A bracket is about to be opened at `here`, with depth > 0. Ends an open one that was left by a jump: its
// frame is no caller of this one.
void EndAbandonedBracket(const void* here);
// The calling worker jumps: out of the open bracket, if there is one.
void LeaveByJump();

// Marks the calling thread as sleeping for the length of one call that may block. RAII because
// cancellation leaves the real call by forced unwinding; must therefore be compiled with -fexceptions.
// Costs one TLS load and a branch on a thread that is not adopted. Nests: only the outermost counts.
class Bracket {
 public:
  explicit Bracket(Hook hook) : active_(t_state.worker != nullptr) {
    if (!active_) return;
    if (t_state.depth != 0) EndAbandonedBracket(this);
    if (t_state.depth++ != 0) return;
    t_state.bracket = this;
    EnterSlow(hook);
  }
  ~Bracket() {
    if (!active_) return;
    if (t_state.bracket == this) {
      t_state.bracket = nullptr;
      t_state.depth = 0;  // whatever was left inside by a jump
      LeaveSlow();
    } else if (t_state.depth > (t_state.bracket != nullptr ? 1 : 0)) {
      --t_state.depth;  // nothing to do in one that was ended already, by a jump within a handler
    }
  }
  Bracket(const Bracket&) = delete;
  Bracket& operator=(const Bracket&) = delete;

 private:
  const bool active_;
};

// Result of a wait at the boundary.
enum class Wait : uint8_t {
  kReady,        // the descriptor is (or was a moment ago) ready: now make the real, non-waiting call
  kTimeout,      // the time is over: report the call's time-out
  kInterrupted,  // a signal handler ran: report EINTR where the call would
  kMoved,        // inside the gate only: the CPU is not used any more, wait at another
  kPlain,        // the gate does not manage this wait: make the real call (inside a Bracket)
};

// True when a wait for input on `fd` by the calling thread is a request boundary: the descriptor was
// accepted by this process, no tracked lock is held, the thread is not inside a bracket, a handler of
// ours, or excluded. Cheap: a TLS load and one byte of the descriptor table.
bool IsBoundary(int fd);

// Waits at the boundary until `fd` has any of `events` (POLLIN family only), and until this thread may
// run. Adopts the thread if needed. timeout_ns: < 0 waits for ever, 0 never waits.
// Is a cancellation point only where `cancellable` (the thread's cancelability is honoured).
Wait WaitInput(int fd, uint32_t events, int64_t timeout_ns, bool cancellable);

// After a boundary call that waited in the kernel by itself (several descriptors, select, accept):
// holds the calling thread until the pool has room, bounded. Never called with locks held.
void Admit();

// Descriptor table. All callable for any number; out-of-range numbers are ignored.
void NoteAccepted(int fd);   // accept returned fd
void NoteConnected(int fd);  // connect was called on fd
void NoteFresh(int fd);      // fd is new and of no known origin (socket, open, dup target, ...)
void NoteClosing(int fd);    // about to be closed: wakes whoever waits for it at the boundary
bool IsOwnFd(int fd);        // one of ours: close(), dup2(), close_range() of the program must spare it
int NextOwnFd(int from);     // smallest own descriptor >= from, or -1
bool MoveOwnFd(int fd);      // the program wants this number; false: no other is to be had

// Held-lock count. Never negative.
inline void LockAcquired() { ++t_state.held_locks; }
inline void LockReleased() { if (t_state.held_locks > 0) --t_state.held_locks; }

// Affinity. The program must not see that its thread was pinned.
// Copies the mask the calling thread (tid 0) or `tid` would have without us; false: not one of ours, ask the kernel.
bool VirtualAffinity(int tid, unsigned long* mask, unsigned long bytes);
// The program placed thread `tid` itself (0: the caller): it leaves the gate for good.
void NoteOwnPlacement(int tid);
// Around pthread_create: a child must not inherit our pinning.
class UnpinForCreate {
 public:
  UnpinForCreate();
  ~UnpinForCreate();

 private:
  bool pinned_;
};

// The program makes a thread: a child of fork() is no process of one thread any more.
void NoteThread();
// fork(): child side. The child's only thread starts afresh, not adopted.
void AfterForkInChild();
// End of the process: its statistics page goes. Context: destructor; other threads may still run.
void RemoveStats();
// Called by the thread-exit key destructor in its last round.
void ThreadExit();

// Starts the gate's memory; called once by the preload's constructor, before any wrapper may use the
// gate (until then IsBoundary is false). Returns false, with *why set, if the process must stay inert.
bool Init(const char** why);
// Writes the CMWQ_REPORT table to descriptor `fd`.
void Report(int fd);

}  // namespace cmwq::gate

#endif  // CMWQ_HOOKS_GATE_GATE_H_
