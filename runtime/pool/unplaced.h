// Threads of a bound pool that the system does not let us place.

#ifndef CMWQ_RUNTIME_POOL_UNPLACED_H_
#define CMWQ_RUNTIME_POOL_UNPLACED_H_

namespace cmwq::pool {

// Says so, once for the process, whether a new worker finds it or the trustee. err: of errno. Context: any.
void SayUnplaced(int cpu, int err);

}  // namespace cmwq::pool

#endif  // CMWQ_RUNTIME_POOL_UNPLACED_H_
