// cmwq::ScopedBlocking: a blocking region as an object. C++17.
//
//   queue.submit([&] {
//     const cmwq::ScopedBlocking blocking;
//     lock_of_a_library();   // waits where cmwq cannot see it
//   }).wait();
#ifndef CMWQ_BLOCKING_HPP_
#define CMWQ_BLOCKING_HPP_

#include <cmwq/cmwq.h>

#if __cplusplus < 201703L
#error "cmwq's C++ headers need C++17; cmwq/cmwq.h is plain C"
#endif

namespace cmwq {

// While it exists the calling worker does not count as running, so that the next one of its CPU may
// start: put it around a call that waits in a way that cmwq cannot see. Nests; does nothing on a
// thread that is no worker. Must end on the thread, and in the work function, that made it.
class ScopedBlocking {
 public:
  ScopedBlocking() noexcept { cmwq_block_begin(); }
  ~ScopedBlocking() { cmwq_block_end(); }
  ScopedBlocking(const ScopedBlocking&) = delete;
  ScopedBlocking& operator=(const ScopedBlocking&) = delete;
};

}  // namespace cmwq

#endif  // CMWQ_BLOCKING_HPP_
