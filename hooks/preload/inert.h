// Reasons to leave a process alone.

#ifndef CMWQ_HOOKS_PRELOAD_INERT_H_
#define CMWQ_HOOKS_PRELOAD_INERT_H_

namespace cmwq::preload {

// Why this process must not be managed, or null. Context: the constructor; allocates nothing.
const char* ReasonToStayInert();

}  // namespace cmwq::preload

#endif  // CMWQ_HOOKS_PRELOAD_INERT_H_
