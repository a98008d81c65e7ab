/*
 * cmwq: registered buffers and files: what operations use again and again, made known to the kernel once.
 *
 *   const struct iovec memory = {pages, 64 * 4096};
 *   const int buffer = cmwq_io_register_buffers(&memory, 1);   // -1 with errno
 *   const int file = cmwq_io_register_files(&fd, 1);           // a number in the place of fd
 *   ...
 *   cmwq_io_read_fixed_work(wq, &io, file, pages, 4096, offset, buffer, CMWQ_NO_TIMEOUT);
 *
 * The kernel (io_uring(7)) then has the memory's pages and the open file in a table, and does not look
 * them up for each operation. Where it has no ring for us, or none with tables (5.19), the operations
 * are those of io_work.h on the same memory and descriptor, with the same results; so they are when the
 * operation can be made without waiting, which does not use the ring.
 *
 * Numbers: a registration of nr entries returns the first of nr successive numbers, which hold in the
 *   whole process until the registration is taken back. At most 4096 buffers and 4096 files. The same
 *   memory, or file, may be registered several times; each registration counts.
 * Buffers are memory of the process that can be written to, at most 1 GB each. While they are registered
 *   their pages are locked, and count against RLIMIT_MEMLOCK of the user, unless he has CAP_IPC_LOCK.
 * Ownership: the memory must stay mapped, and the descriptor open, until they are unregistered. What is
 *   mapped anew at the same place is not what the kernel has: operations may act on either. A file
 *   whose descriptor is closed all the same stays open until it is unregistered; and operations may
 *   fail with -EBADF or, if the number is used again, act on the other file.
 * Fork: registrations and numbers hold in the child as well, for its own memory and descriptors. What
 *   the child's ring cannot register, for want of RLIMIT_MEMLOCK, is used without it.
 * Threads: any. Registering and unregistering wait for the thread of the operations, announced.
 *   Signals: not from handlers.
 */
#ifndef CMWQ_IO_FIXED_H_
#define CMWQ_IO_FIXED_H_

#include <cmwq/cmwq.h>
#include <cmwq/io_work.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Registers all or nothing. Returns the first number, or -1 with errno: EINVAL (no entry, too many, an
 * entry that is null, empty or above 1 GB), EFAULT (memory that is not mapped, or cannot be written to),
 * ENOMEM (RLIMIT_MEMLOCK, or no memory), ENOSPC (all numbers are in use), EAGAIN (no thread can be made).
 */
CMWQ_API int cmwq_io_register_buffers(const struct iovec *buffers, unsigned nr);

/*
 * Takes a registration back: `first` is what it returned. False with errno: EINVAL (no registration
 * begins there), EBUSY (an operation uses it, nothing is changed).
 */
CMWQ_API bool cmwq_io_unregister_buffers(int first);

/*
 * The same for files; EBADF: an entry is not open. The functions of io_work.h and io_stream.h take the
 * numbers for descriptors, but cmwq_io_close_work; others do not know them (EBADF). For a directory's
 * descriptor a number is of no use.
 */
CMWQ_API int cmwq_io_register_files(const int *fds, unsigned nr);
CMWQ_API bool cmwq_io_unregister_files(int first);

/*
 * cmwq_io_read_work and cmwq_io_write_work with memory that lies in the registered buffer `buffer`.
 * Results in addition: -EINVAL (there is no such buffer), -EFAULT (the memory is not all in it).
 */
CMWQ_API bool cmwq_io_read_fixed_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int fd,
                                      void *buf, size_t len, int64_t offset, int buffer,
                                      uint64_t timeout_ns);
CMWQ_API bool cmwq_io_write_fixed_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int fd,
                                       const void *buf, size_t len, int64_t offset, int buffer,
                                       uint64_t timeout_ns);

#ifdef __cplusplus
}
#endif

#endif /* CMWQ_IO_FIXED_H_ */
