// What the runtime has to know of the io functions.

#ifndef CMWQ_RUNTIME_CORE_IO_H_
#define CMWQ_RUNTIME_CORE_IO_H_

namespace cmwq::core {

// Child of fork, single-threaded: forgets the ring of the thread that forked. Rings take no lock,
// so there is nothing to do before the fork.
void ResetIoAfterFork();

}  // namespace cmwq::core

#endif  // CMWQ_RUNTIME_CORE_IO_H_
