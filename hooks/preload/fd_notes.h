// Keeps the gate's table of descriptor origins in step with the calls that make, copy and close
// descriptors. Each function passes its result through, so that a wrapper stays one expression.

#ifndef CMWQ_HOOKS_PRELOAD_FD_NOTES_H_
#define CMWQ_HOOKS_PRELOAD_FD_NOTES_H_

#include "hooks/preload/hook.h"

namespace cmwq::preload {

// A new descriptor that no client is known to be behind. < 0 is passed through.
int NoteNew(int fd);
// The same for the two that pipe() and socketpair() make, if `rc` is 0.
int NoteNewPair(int rc, const int fds[2]);
// A descriptor that accept() returned.
int NoteFromAccept(int fd);
// `copy` names the open file that `original` names, and inherits its origin.
int NoteCopy(int original, int copy);
// fd is about to be closed or replaced.
void NoteClose(int fd);
// Every descriptor from `first` to `last` is about to be closed.
void NoteCloseRange(unsigned first, unsigned last);
// The smallest descriptor of ours in [from, last], or -1.
int NextOurs(unsigned from, unsigned last);
// close_range() that leaves our descriptors open.
int CloseRangeAround(unsigned first, unsigned last, int flags);
// The number is about to be given to another file: one of ours moves away. False, with errno EBUSY, if
// there is no other number left for it.
bool MakeRoomAt(int fd);

}  // namespace cmwq::preload

#endif  // CMWQ_HOOKS_PRELOAD_FD_NOTES_H_
