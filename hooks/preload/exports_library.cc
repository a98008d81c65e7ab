// The preload's one name of its own: libcmwq in the same process looks it up and has its workers'
// waits reported to it, through the same wrappers.

#include "hooks/preload/hook.h"

CMWQ_EXPORT(void, cmwq_preload_library_worker, (void (*sleeping)(), void (*running)())) {
  cmwq::gate::SetLibraryWorker(sleeping, running);
}
