// What the kernel, or whoever confines the process, may refuse to a thread. The engine asks in earnest,
// `cmwq doctor` in a child that it throws away: both by these functions, so that they cannot disagree.
//
// Context: any thread; no allocation, no lock, no libc wrapper, errno untouched.

#ifndef CMWQ_RUNTIME_PLATFORM_FACILITY_H_
#define CMWQ_RUNTIME_PLATFORM_FACILITY_H_

namespace cmwq::platform {

// Puts the calling thread into SCHED_IDLE, with the shortest slice that the scheduler takes. 0 or
// -errno. *slice (may be null): 0, or the -errno with which the slice was refused. Unprivileged threads
// do not get back out.
int EnterIdleClass(int* slice);

// Gives the calling thread a descriptor table of its own with nothing in it. Nothing of the program's is
// kept open by this thread then, and nothing of this thread's is closed or counted with the program's;
// nor can it write to standard error any more. 0 or -errno, with the table still shared and nothing
// closed.
int UnshareDescriptors();

// Opens /proc/self/task/<tid>/<file>. A descriptor or -errno.
int OpenTaskFile(int tid, const char* file);

}  // namespace cmwq::platform

#endif  // CMWQ_RUNTIME_PLATFORM_FACILITY_H_
