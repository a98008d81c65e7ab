// FlushState: how far the flushes of one queue have come.
//
// A flush closes the colour that items are queued with; the colour is done when no pwq has items of it.
// Sequence numbers never wrap; a colour is its sequence modulo kColours. One colour is open, at most
// kColours - 1 are closed and unfinished; who would close one more waits for the oldest.

#ifndef CMWQ_RUNTIME_WQ_FLUSH_STATE_H_
#define CMWQ_RUNTIME_WQ_FLUSH_STATE_H_

#include <cstdint>

#include "runtime/sync/sync.h"

namespace cmwq::wq {

template <class Sync, int kColours>
class BasicFlushState {
 public:
  // Waits for everything queued before the call. Not live-lockable: items queued later have another
  // colour. Context: may block. Locks: the host's mutex, not while waiting. The host supplies
  //   Lock, Unlock          the queue's mutex
  //   Close(old, next)      for each pwq, under its pool's lock: items get colour `next` from now on, and
  //                         Join(old) if the pwq has items of `old`
  //   Sleeping, Running     around a wait
  template <class Host>
  void Flush(Host& host) {
    uint64_t sequence;
    for (;;) {
      host.Lock();
      sequence = current_.load(std::memory_order_relaxed);
      if (sequence - done_.load(std::memory_order_acquire) < kColours - 1) break;
      host.Unlock();
      Wait(host, sequence - (kColours - 1));
    }
    const int old = ColourOf(sequence);
    // Own bias: the colour is not done before every pwq was asked.
    nr_pwqs_[old].store(1, std::memory_order_relaxed);
    // seq_cst: pairs with the load in Done. This flusher may be the last of its colour and find the one
    // before unfinished; whoever finishes that one must then see that there is another to advance past.
    current_.store(sequence + 1, std::memory_order_seq_cst);
    host.Close(old, ColourOf(sequence + 1));
    host.Unlock();
    Done(old);
    Wait(host, sequence);
  }

  // One pwq has items of `colour`, which is being closed. Context: Host::Close.
  void Join(int colour) { nr_pwqs_[colour].fetch_add(1, std::memory_order_relaxed); }

  // One pwq (or a flusher's own bias) is through with `colour`.
  // Context: worker, canceller, flusher. Locks: any pool's may be held; takes none.
  void Done(int colour) {
    // seq_cst, here and below: the last ones of two colours may come at once, each changing its own count
    // and then reading the other's. One of them must see both closed and at zero, or nobody advances past
    // the second.
    if (nr_pwqs_[colour].fetch_sub(1, std::memory_order_seq_cst) != 1) return;
    // Colours complete in order: a flush also waits for the items of the flushes before it. Several
    // callers may advance at once; each step is taken by one.
    bool advanced = false;
    uint64_t done = done_.load(std::memory_order_seq_cst);
    while (done < current_.load(std::memory_order_seq_cst) &&
           nr_pwqs_[ColourOf(done)].load(std::memory_order_seq_cst) == 0) {
      if (done_.compare_exchange_strong(done, done + 1, std::memory_order_seq_cst)) {
        ++done;
        advanced = true;
      }
    }
    if (!advanced) return;
    wake_.fetch_add(1, std::memory_order_release);  // pairs with the acquire in Wait
    Sync::FutexWake(&wake_, INT32_MAX);
  }

  // Child of fork: nobody flushes.
  void Reset() {
    done_.store(current_.load(std::memory_order_relaxed), std::memory_order_relaxed);
    for (auto& n : nr_pwqs_) n.store(0, std::memory_order_relaxed);
  }

  // Of items queued now; all flushes below done() are through.
  uint64_t current() const { return current_.load(std::memory_order_seq_cst); }
  uint64_t done() const { return done_.load(std::memory_order_seq_cst); }

 protected:
  static int ColourOf(uint64_t sequence) { return static_cast<int>(sequence % kColours); }

  template <class Host>
  void Wait(Host& host, uint64_t sequence) {
    host.Sleeping();
    for (;;) {
      // Acquire pairs with the release in Done. The futex word is read before done_, so that a change
      // in between makes the wait return.
      const int32_t seen = wake_.load(std::memory_order_acquire);
      if (done_.load(std::memory_order_acquire) > sequence) break;
      Sync::FutexWait(&wake_, seen);
    }
    host.Running();
  }

  template <class T>
  using Atomic = typename Sync::template Atomic<T>;

  Atomic<int32_t> nr_pwqs_[kColours] = {};  // AT(Flush, Done): pwqs not through yet
  Atomic<uint64_t> current_{0};             // AT(Flush, Done): sequence of items queued now
  Atomic<uint64_t> done_{0};                // AT(Done, Wait): all below are through
  Atomic<int32_t> wake_{0};                 // AT(Done, Wait): futex, bumped with done_
};

}  // namespace cmwq::wq

#endif  // CMWQ_RUNTIME_WQ_FLUSH_STATE_H_
