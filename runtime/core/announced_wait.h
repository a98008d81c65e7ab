// The order of an announced wait: look, announce, wait, come back.
//
// A template, so that the model tests run this very order. `Wait` supplies
//   int Look()      0: a wait is wanted; otherwise the result, and nobody is told
//   void Sleeping() the worker leaves the count of running ones and wakes the next
//   int Block()     compares again and waits, in one step
//   void Running()  it is back
//
// Look first: an announcement that turns out needless has started another worker. Announce before
// the wait: what changes the word may be an item that only the next worker executes. Compare again
// in the wait: that item may have run between the announcement and the wait.

#ifndef CMWQ_RUNTIME_CORE_ANNOUNCED_WAIT_H_
#define CMWQ_RUNTIME_CORE_ANNOUNCED_WAIT_H_

namespace cmwq::core {

// Context: any thread. Nothing in here unwinds: Block makes raw system calls, no cancellation
// points.
template <class Wait>
int AnnouncedWait(Wait& wait) {
  if (const int result = wait.Look()) return result;
  wait.Sleeping();
  const int result = wait.Block();
  wait.Running();
  return result;
}

}  // namespace cmwq::core

#endif  // CMWQ_RUNTIME_CORE_ANNOUNCED_WAIT_H_
