/*
 * cmwq: operations that queue an item when they have ended. No thread waits for them.
 *
 *   struct cmwq_io_work io;                       // embedded in the caller's object
 *   cmwq_io_work_init(&io, got_request);
 *   cmwq_io_recv_work(wq, &io, fd, buf, sizeof(buf), 0, CMWQ_NO_TIMEOUT);
 *
 *   static void got_request(struct cmwq_work *work) {
 *     struct cmwq_io_work *io = cmwq_io_work_of(work);   // io->result: bytes, or a negative errno
 *   }
 *
 * An operation that need not wait is made by the caller, the others by the kernel (io_uring(7)) or,
 * where it has no ring for us, by one thread for all that can be polled and by workers, announced,
 * for the rest. What happens is the same, but for what is said at the functions.
 *
 * Life of an operation: a submission that returns true begins it. When it has ended, io->result is
 * set and the item is queued on `wq`, to the CPU of the submitter; so max_active, order, freezing and
 * priority are the queue's. From the submission until the function has begun the item is pending:
 * further submissions return false. The function may submit the next operation, or free the object;
 * whoever else submits while it runs overwrites io->result.
 *
 * Ownership: the object, buffers, addresses, paths and vectors must stay as they are until the
 *   function is called, or until a cancel with _sync has returned. Nothing is allocated.
 * Errors of the operation are results, never errno. A submission returns false and does nothing if
 *   the item is pending or disabled, or if the queue takes nothing (drained, destroyed).
 * Descriptors: O_NONBLOCK, SO_RCVTIMEO and SO_SNDTIMEO do not matter: an operation waits until it can
 *   be done. A descriptor must not be closed while an operation uses it: cancel first, or end it by
 *   shutdown(2). A write that fails gives -EPIPE and no signal, but for a write to a pipe that is
 *   made at once inside a work function (io.h, Signals).
 *   Numbers of registered files (io_fixed.h) are taken as well.
 * Timeouts are nanoseconds from now, CMWQ_NO_TIMEOUT for none; when one passes, the operation ends
 *   with -ETIMEDOUT. An operation on a file that is at the disk already is waited for even so.
 * Queues: a flush covers items, not operations that have not ended; draining neither. Destroying a
 *   queue ends all its operations first: their functions are called with -ECANCELED.
 * Fork: in the child every item is idle, and no operation of the parent touches its memory.
 * Threads: as cmwq.h. Signals: not from handlers.
 */
#ifndef CMWQ_IO_WORK_H_
#define CMWQ_IO_WORK_H_

#include <cmwq/cmwq.h>
#include <cmwq/io.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 256 bytes. All but `result` is private. */
struct cmwq_io_work {
  struct cmwq_work work;
  int64_t result;               /* of the last operation that has ended */
  struct cmwq_workqueue *wq_;
  struct cmwq_list_node entry_; /* on the list of operations */
  void *buf_;
  void *aux_;
  uint64_t len_;
  int64_t offset_;
  int64_t done_;                /* bytes moved by parts of the operation */
  struct cmwq_timer timer_;     /* of the timeout */
  struct cmwq_io_work *next_;
  int32_t fd_;
  int32_t flags_;
  int32_t cpu_;
  uint32_t state_;              /* odd: an operation is under way; counts them */
  uint8_t kind_;
  uint8_t where_;
  uint8_t bits_;
  uint8_t phase_;
  uint32_t file_;               /* registered (io_fixed.h): number + 1 */
  struct cmwq_work call_;       /* makes the call where the kernel has no ring for it */
};

/* The object of an item: for work functions. */
static inline struct cmwq_io_work *cmwq_io_work_of(struct cmwq_work *work) {
  return (struct cmwq_io_work *)(void *)work;
}

/* Makes `io` idle, with function `fn`. Not while it is pending (reported, does nothing). */
CMWQ_API void cmwq_io_work_init(struct cmwq_io_work *io, cmwq_work_fn fn);

/*
 * Reading, writing, receiving, sending: as the functions of io.h. Writes and sends of one buffer to
 * what can be waited for go on until all bytes are out; after an error, a timeout or a cancel the
 * result is what went out before, if any. With vectors and messages the result may be less.
 */
CMWQ_API bool cmwq_io_read_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int fd, void *buf,
                                size_t len, int64_t offset, uint64_t timeout_ns);
CMWQ_API bool cmwq_io_write_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int fd,
                                 const void *buf, size_t len, int64_t offset, uint64_t timeout_ns);
CMWQ_API bool cmwq_io_readv_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int fd,
                                 const struct iovec *iov, int iovcnt, int64_t offset,
                                 uint64_t timeout_ns);
CMWQ_API bool cmwq_io_writev_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int fd,
                                  const struct iovec *iov, int iovcnt, int64_t offset,
                                  uint64_t timeout_ns);
CMWQ_API bool cmwq_io_recv_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int fd, void *buf,
                                size_t len, int flags, uint64_t timeout_ns);
CMWQ_API bool cmwq_io_send_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int fd,
                                const void *buf, size_t len, int flags, uint64_t timeout_ns);
CMWQ_API bool cmwq_io_recvmsg_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int fd,
                                   struct msghdr *msg, int flags, uint64_t timeout_ns);
CMWQ_API bool cmwq_io_sendmsg_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int fd,
                                   const struct msghdr *msg, int flags, uint64_t timeout_ns);

/*
 * accept4(2), connect(2), poll(2) of one descriptor. Without a ring a listening socket is made
 * O_NONBLOCK, for good: two threads that wait for one connection must not leave one of them behind;
 * and a connect to a local socket that has no room can only be waited for.
 */
CMWQ_API bool cmwq_io_accept_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int fd,
                                  struct sockaddr *addr, socklen_t *addrlen, int flags,
                                  uint64_t timeout_ns);
CMWQ_API bool cmwq_io_connect_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int fd,
                                   const struct sockaddr *addr, socklen_t len, uint64_t timeout_ns);
CMWQ_API bool cmwq_io_poll_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int fd,
                                short events, uint64_t timeout_ns);

/* Files: the results of the system calls. They have no timeout: the kernel cannot take them back. */
CMWQ_API bool cmwq_io_fsync_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int fd,
                                 bool datasync);
CMWQ_API bool cmwq_io_fallocate_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int fd,
                                     int mode, int64_t offset, int64_t len);
CMWQ_API bool cmwq_io_openat_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int dirfd,
                                  const char *path, int flags, mode_t mode);
CMWQ_API bool cmwq_io_close_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int fd);
CMWQ_API bool cmwq_io_statx_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int dirfd,
                                 const char *path, int flags, unsigned mask, struct statx *buf);
CMWQ_API bool cmwq_io_unlinkat_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int dirfd,
                                    const char *path, int flags);
CMWQ_API bool cmwq_io_renameat_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int olddirfd,
                                    const char *oldpath, int newdirfd, const char *newpath,
                                    unsigned flags);
CMWQ_API bool cmwq_io_mkdirat_work(struct cmwq_workqueue *wq, struct cmwq_io_work *io, int dirfd,
                                   const char *path, mode_t mode);

/*
 * Takes back a pending item: the function is not called for this submission. Returns whether it was
 * pending. Without _sync the operation may go on for a while, use the buffers, and set io->result;
 * submissions return false until it has ended. _sync waits for it, and for a running function: on
 * return nothing uses the object or the buffers, and io->result says what the operation did:
 * -ECANCELED, or as much as it had done (a byte that was received is not received again). From the
 * item itself _sync waits for the operation only.
 */
CMWQ_API bool cmwq_cancel_io_work(struct cmwq_io_work *io);
CMWQ_API bool cmwq_cancel_io_work_sync(struct cmwq_io_work *io);

/*
 * Ends the operation early: the function is called as usual, with -ECANCELED or, if the operation was
 * faster, with what it did. Never waits. False: no operation is under way; then, with `next`, the next
 * submission ends at once, for a thread that cannot know whether the submitter has come that far.
 */
CMWQ_API bool cmwq_end_io_work(struct cmwq_io_work *io, bool next);

/*
 * Waits until the operation that is under way has ended and its function has returned. False: the
 * item was idle. Not from the item itself.
 */
CMWQ_API bool cmwq_flush_io_work(struct cmwq_io_work *io);

/* Cancels, and refuses submissions until enabled as often; as cmwq_disable_work, for the operation too. */
CMWQ_API bool cmwq_disable_io_work(struct cmwq_io_work *io);
CMWQ_API bool cmwq_disable_io_work_sync(struct cmwq_io_work *io);
CMWQ_API bool cmwq_enable_io_work(struct cmwq_io_work *io);

#ifdef __cplusplus
}
#endif

#endif /* CMWQ_IO_WORK_H_ */
