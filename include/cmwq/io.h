/*
 * cmwq: input, output and sleeping for work functions. C interface.
 *
 * Each function does what the system call of the same name does, with the same results and errno.
 * Inside a work function it first tries without waiting; only when it would have to wait does the
 * worker leave the count of running ones, so that the next worker of its CPU starts, and come back
 * when the wait is over. On a thread that is no worker it is the plain blocking call.
 *
 * How it waits: for times, and in cmwq_io_poll, in an io_uring of the worker's own, where the kernel
 * has one to give (6.1 or later, io_uring(7); kernel.io_uring_disabled, seccomp filters and
 * CMWQ_CONF=io_uring=0 refuse it), otherwise in the plain call, which is faster for all else
 * (CMWQ_CONF=io_uring=2: in the ring wherever it can). Results do not depend on it. The ring keeps no
 * descriptor open, so nothing a program does to its descriptors breaks it.
 *
 * Threads: all may be called from any thread. Not from signal handlers.
 * Signals: workers run with all signals blocked. Where a work function unblocks one, a plain wait
 *   ends with EINTR as usual; a wait in the ring goes on after the handler, as with SA_RESTART.
 *   SIGPIPE and SIGXFSZ are raised in the calling thread as by write(2).
 * Cancellation: pthread_cancel of a worker is not supported (cmwq.h). Elsewhere these functions are
 *   cancellation points as the plain calls are.
 * Fork: a child of fork waits on nothing of its parent's; it may use all functions.
 * Descriptors: O_NONBLOCK is honoured: where the plain call fails with EAGAIN, so does this one. So
 *   are SO_RCVTIMEO and SO_SNDTIMEO (socket(7)): EAGAIN, or EINPROGRESS for connect, when they
 *   pass. Closing a descriptor in another thread does not end a wait for it; shutdown(2) does.
 * Ownership: buffers and addresses belong to the caller again when the function returns, not
 *   before. A worker's first wait allocates its ring; nothing else is allocated.
 * Times are nanoseconds of CLOCK_MONOTONIC.
 */
#ifndef CMWQ_IO_H_
#define CMWQ_IO_H_

#include <cmwq/cmwq.h>
#include <cmwq/futex.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

struct msghdr; /* sys/socket.h */
struct statx;  /* sys/stat.h with _GNU_SOURCE, or linux/stat.h */

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Reads up to `len` bytes. offset -1: read(2), at the current position, which moves; otherwise
 * pread(2). Returns the number of bytes (0: end of file), or -1 with errno. A regular file that is
 * in the page cache only in part is read in two steps; a reader of the same file position in
 * another thread may come between them.
 */
CMWQ_API ssize_t cmwq_io_read(int fd, void *buf, size_t len, int64_t offset);

/*
 * Writes. offset -1: write(2), otherwise pwrite(2). As those it returns only when all bytes are
 * written unless an error or O_NONBLOCK ends it; then the number of bytes written, or -1 with errno
 * if none. Up to PIPE_BUF bytes into a pipe go in one piece (pipe(7)).
 */
CMWQ_API ssize_t cmwq_io_write(int fd, const void *buf, size_t len, int64_t offset);

/* recv(2). With MSG_DONTWAIT it never waits; with MSG_WAITALL it always waits in the plain call. */
CMWQ_API ssize_t cmwq_io_recv(int fd, void *buf, size_t len, int flags);

/* send(2). A stream socket takes all bytes, as in cmwq_io_write. */
CMWQ_API ssize_t cmwq_io_send(int fd, const void *buf, size_t len, int flags);

/*
 * accept4(2): flags SOCK_CLOEXEC and SOCK_NONBLOCK; addr and addrlen may be null. Returns the new
 * descriptor, or -1 with errno.
 */
CMWQ_API int cmwq_io_accept(int fd, struct sockaddr *addr, socklen_t *addrlen, int flags);

/* connect(2). Returns 0, or -1 with errno. */
CMWQ_API int cmwq_io_connect(int fd, const struct sockaddr *addr, socklen_t len);

/* fdatasync(2) if `datasync`, else fsync(2). Always waits in the plain call. */
CMWQ_API int cmwq_io_fsync(int fd, bool datasync);

/*
 * readv(2) and writev(2) with offset -1, otherwise preadv(2) and pwritev(2); flags RWF_* of preadv2(2).
 * A read of what can be waited for first tries without waiting, all else waits in the plain call.
 */
CMWQ_API ssize_t cmwq_io_readv(int fd, const struct iovec *iov, int iovcnt, int64_t offset, int flags);
CMWQ_API ssize_t cmwq_io_writev(int fd, const struct iovec *iov, int iovcnt, int64_t offset,
                                int flags);

/* recvmsg(2), which first tries without waiting, and sendmsg(2). */
CMWQ_API ssize_t cmwq_io_recvmsg(int fd, struct msghdr *msg, int flags);
CMWQ_API ssize_t cmwq_io_sendmsg(int fd, const struct msghdr *msg, int flags);

/* The calls on files of the same names, in the plain call: a disk does not say beforehand. */
CMWQ_API int cmwq_io_openat(int dirfd, const char *path, int flags, mode_t mode);
CMWQ_API int cmwq_io_close(int fd);
CMWQ_API int cmwq_io_statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *buf);
CMWQ_API int cmwq_io_fallocate(int fd, int mode, int64_t offset, int64_t len);
CMWQ_API int cmwq_io_unlinkat(int dirfd, const char *path, int flags);
CMWQ_API int cmwq_io_renameat(int olddirfd, const char *oldpath, int newdirfd, const char *newpath,
                              unsigned flags); /* renameat2(2) */
CMWQ_API int cmwq_io_mkdirat(int dirfd, const char *path, mode_t mode);

/*
 * Waits until one of `events` (poll(2): POLLIN, POLLOUT, ...) holds. Returns the events that hold,
 * with POLLERR, POLLHUP and POLLNVAL in addition; 0 when timeout_ns passed first; -1 with errno. A
 * negative fd never has events. timeout_ns 0 only asks.
 */
CMWQ_API int cmwq_io_poll(int fd, short events, uint64_t timeout_ns);

/* Waits at least `ns`; 0 returns at once. Returns 0, or -1 with errno EINTR (Signals, above). */
CMWQ_API int cmwq_io_sleep(uint64_t ns);

#ifdef __cplusplus
}
#endif

#endif /* CMWQ_IO_H_ */
