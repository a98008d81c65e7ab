/*
 * cmwq: streams: operations that go on, and queue an item for what they bring. Accepting connections
 * and receiving, until told to stop, without a submission for each.
 *
 *   struct cmwq_io_stream s;                      // embedded in the caller's object
 *   cmwq_io_stream_init(&s, got_some, 64, 4096);  // at most 64 results wait, in buffers of 4096 bytes
 *   cmwq_io_recv_stream(wq, &s, fd, 0);
 *
 *   static void got_some(struct cmwq_work *work) {
 *     struct cmwq_io_stream *s = cmwq_io_stream_of(work);
 *     struct cmwq_io_result r;
 *     int more;
 *     while ((more = cmwq_io_stream_next(s, &r)) > 0) {
 *       use(r.data, r.value);
 *       cmwq_io_stream_put(s, r.data);
 *     }
 *     if (more < 0) it_has_ended(r.value);        // 0: end of file, else a negative errno
 *   }
 *
 * The kernel does it (io_uring(7), multishot requests with provided buffers; 5.19 to accept, 6.0 to
 * receive) or, where it has no such ring for us, one thread that polls. What happens is the same.
 *
 * Results: each completion is one result, kept in order until somebody takes it; none is merged with
 *   another. The item is queued when a result comes and it is not queued yet, to the CPU of whoever
 *   started the stream; so one call of the function finds one or many. It should take results until
 *   there is none; if it leaves some it is called again for the next one that comes, or when it has
 *   queued the item itself.
 * Limit: when as many results wait as cmwq_io_stream_init said, or all buffers are in use, the stream
 *   pauses, and the kernel's own queues fill. It goes on when half of the results have been taken, or
 *   a buffer was put back. Of connections some more than the limit may come, those that the kernel
 *   had accepted when it was told.
 * End: end of file, an error, cmwq_end_io_stream, or the destruction of the queue. The item is queued
 *   for the end too; results from before come first. Then the stream may be started again. A
 *   connection that broke before it was accepted is no error; having no descriptor left (-EMFILE) is.
 * Ownership: the object must stay until the stream has ended, or a cancel with _sync has returned. The
 *   buffers are the library's; one belongs to the caller from next until put, in any thread.
 * Descriptors: as in io_work.h. Where there is no such ring a listening socket is made O_NONBLOCK,
 *   for good.
 * Fork: in the child the stream is idle; results that waited are there, connections in both processes.
 * Threads: as cmwq.h. Only one thread at a time should call next, or the order is lost. Signals: not
 *   from handlers.
 */
#ifndef CMWQ_IO_STREAM_H_
#define CMWQ_IO_STREAM_H_

#include <cmwq/cmwq.h>
#include <cmwq/io_work.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 320 bytes, all private. */
struct cmwq_io_stream {
  struct cmwq_io_work io_;
  void *state_;
  uint64_t reserved_[7];
};

struct cmwq_io_result {
  int64_t value; /* a connection's descriptor, or the number of bytes; at the end 0 or a negative errno */
  void *data;    /* the bytes that were received, in a buffer to be put back; otherwise null */
};

/* The stream of an item: for work functions. */
static inline struct cmwq_io_stream *cmwq_io_stream_of(struct cmwq_work *work) {
  return (struct cmwq_io_stream *)(void *)work;
}
/* The item of a stream: to be queued by a function that leaves results for its next call. */
static inline struct cmwq_work *cmwq_io_stream_work(struct cmwq_io_stream *s) { return &s->io_.work; }

/*
 * Makes `s` an idle stream with function `fn`, for at most `nr` (1 to 32768) results that wait; `size`:
 * bytes of each buffer, 0 for a stream that accepts. False with errno: EINVAL, ENOMEM, EBUSY (it is
 * pending). Allocates: what cmwq_io_stream_destroy frees.
 */
CMWQ_API bool cmwq_io_stream_init(struct cmwq_io_stream *s, cmwq_work_fn fn, unsigned nr, size_t size);

/*
 * Cancels with _sync, closes connections that nobody has taken, and frees the buffers, those that
 * were not put back as well. Also from the item's own function. Does nothing to a destroyed stream.
 */
CMWQ_API void cmwq_io_stream_destroy(struct cmwq_io_stream *s);

/*
 * Starts the stream. flags: SOCK_CLOEXEC and SOCK_NONBLOCK of accept4(2); those of recv(2) that have a
 * meaning for a receiver that always waits, others end the stream with -EINVAL. False, and nothing
 * happens, if it is under way or its item pending, or if the queue takes nothing. A datagram is one
 * result, an empty one too; of a byte stream a result is what was there, up to a buffer.
 */
CMWQ_API bool cmwq_io_accept_stream(struct cmwq_workqueue *wq, struct cmwq_io_stream *s, int fd,
                                    int flags);
CMWQ_API bool cmwq_io_recv_stream(struct cmwq_workqueue *wq, struct cmwq_io_stream *s, int fd, int flags);

/*
 * Takes the next result. 1: *r is it. 0: there is none at the moment; the item will be queued. -1: the
 * stream is idle, r->value says how it ended; the item is not pending, and the function that asks may
 * destroy and free the stream.
 */
CMWQ_API int cmwq_io_stream_next(struct cmwq_io_stream *s, struct cmwq_io_result *r);

/* Gives back the buffer of a result. Null: does nothing. */
CMWQ_API void cmwq_io_stream_put(struct cmwq_io_stream *s, void *data);

/* Ends the stream with -ECANCELED, the function is called. Never waits. False: it is not under way. */
CMWQ_API bool cmwq_end_io_stream(struct cmwq_io_stream *s);

/*
 * Ends the stream, and takes the item back: the function is not called any more. Returns whether there
 * was anything to take back. _sync waits until nothing uses the object and the function has returned
 * (from the function itself: for the operation only). Results that came before, or meanwhile, are not
 * lost: cmwq_io_stream_next gives them, as does the next start.
 */
CMWQ_API bool cmwq_cancel_io_stream(struct cmwq_io_stream *s);
CMWQ_API bool cmwq_cancel_io_stream_sync(struct cmwq_io_stream *s);

/*
 * Waits until the function has returned that was called for what has come so far; if the stream is
 * being ended, for its end. False: there was nothing to wait for. Not from the item itself.
 */
CMWQ_API bool cmwq_flush_io_stream(struct cmwq_io_stream *s);

#ifdef __cplusplus
}
#endif

#endif /* CMWQ_IO_STREAM_H_ */
