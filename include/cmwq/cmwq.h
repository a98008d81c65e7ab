/*
 * cmwq: concurrency-managed workqueues for ordinary processes. C interface.
 *
 * A workqueue runs work items on pinned per-CPU workers. While one worker of a CPU runs, no other is
 * started there; when the last running one blocks, the next starts at once. The functions have the
 * semantics of the kernel functions of the same name (Documentation/core-api/workqueue.rst) unless
 * their comment says otherwise.
 *
 * Threads: every function may be called from any thread, work functions included, unless noted.
 * Signals: nothing here may be called from a signal handler, except cmwq_block_begin/_end.
 * Fork: the child starts afresh: it has no workers, every queue is empty, every item that was pending
 * or running in the parent is idle. Forking from inside a work function is allowed if the child then
 * calls exec or _exit.
 * Exceptions, longjmp, pthread_exit or cancellation must not leave a work function.
 * Errors: pointers are null and ints negative with errno set; bool results are the kernel's.
 */
#ifndef CMWQ_CMWQ_H_
#define CMWQ_CMWQ_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define CMWQ_API __attribute__((visibility("default")))
#else
#define CMWQ_API
#endif

#define CMWQ_VERSION_MAJOR 0
#define CMWQ_VERSION_MINOR 1
#define CMWQ_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

struct cmwq_workqueue; /* opaque */
struct cmwq_work;

/* Called by a worker. May block, may re-queue `work`, may free it. */
typedef void (*cmwq_work_fn)(struct cmwq_work *work);

/* Private to cmwq, as are all members whose names end in an underscore. */
struct cmwq_list_node {
  struct cmwq_list_node *next;
  struct cmwq_list_node *prev;
};

/*
 * One deferred call, embedded in the caller's object. Pending at most once: between queueing and the
 * start of the execution it is on a queue and must not be freed, moved or initialised again.
 * Queueing, cancelling and flushing never allocate.
 */
struct cmwq_work {
  uint64_t word_;               /* PENDING, disable depth, pool: see runtime/wq/work_word.h */
  struct cmwq_list_node entry_; /* on a pool's or a queue's list */
  cmwq_work_fn fn_;
  void *pwq_;                   /* while queued: the queue's half in that pool */
  void *on_worker_;             /* non-null: on that worker's own list instead of the pool's */
  uint64_t queued_ns_;          /* while queued: since when, of a sample; else 0 */
};

/* One entry of the event thread's timer heap. */
struct cmwq_timer {
  uint64_t deadline; /* CLOCK_MONOTONIC, nanoseconds */
  struct cmwq_timer *child, *next, *prev;
  void (*fire)(struct cmwq_timer *timer);
};

/* A work item behind a timer. */
struct cmwq_delayed_work {
  struct cmwq_work work;
  struct cmwq_timer timer_;
  struct cmwq_workqueue *wq_;
  int32_t cpu_;
  uint32_t reserved_;
};

enum {
  CMWQ_UNBOUND = 1 << 1,       /* workers are not bound to a CPU and not concurrency-managed */
  CMWQ_FREEZABLE = 1 << 2,     /* takes part in cmwq_freeze_workqueues_begin */
  CMWQ_MEM_RECLAIM = 1 << 3,   /* has a rescuer: one item makes progress even without new threads */
  CMWQ_HIGHPRI = 1 << 4,       /* served by the high-priority pool of each CPU */
  CMWQ_CPU_INTENSIVE = 1 << 5, /* items do not hold back others of the same CPU while they run */
  CMWQ_SYSFS = 1 << 6          /* visible to the tools by name, see cmwq_find_workqueue in attrs.h */
};

enum {
  CMWQ_MAX_ACTIVE = 2048, /* upper bound of max_active */
  CMWQ_DFL_ACTIVE = 1024, /* what 0 means */
  CMWQ_CPU_ANY = -1       /* queue_work_on: the calling CPU for bound queues */
};

enum {
  CMWQ_WORK_PENDING = 1 << 0, /* cmwq_work_busy: queued or timer armed */
  CMWQ_WORK_RUNNING = 1 << 1  /* cmwq_work_busy: a worker is executing it */
};

/*
 * Workqueues (kernel: alloc_workqueue and friends). Attributes of unbound queues and access by name:
 * cmwq/attrs.h. Default queues: cmwq/system_wq.h.
 */

/*
 * Creates a queue. `name` (at most 31 bytes, cut with one warning) names it in reports. `max_active`
 * bounds how many of its items are executed at once per CPU (for CMWQ_UNBOUND: in the whole process,
 * shared out to NUMA nodes by their CPUs, see cmwq_workqueue_set_min_active);
 * 0 means CMWQ_DFL_ACTIVE, larger values are clamped to CMWQ_MAX_ACTIVE. The first queue starts the
 * runtime. Returns null with errno EINVAL (null name, unknown flag, negative max_active), ENOMEM, or
 * EAGAIN (the rescuer, the event thread or the first worker could not be created).
 */
CMWQ_API struct cmwq_workqueue *cmwq_alloc_workqueue(const char *name, unsigned flags,
                                                     int max_active);

/* A queue that executes one item at a time, in queueing order, anywhere. CMWQ_UNBOUND is implied. */
CMWQ_API struct cmwq_workqueue *cmwq_alloc_ordered_workqueue(const char *name, unsigned flags);

/*
 * Drains and frees the queue. The caller must have stopped all producers, delayed items included.
 * Called from an item of the same queue it does nothing but report. A null queue is ignored. Using
 * the handle afterwards is reported and does nothing, until some 250 more queues were destroyed.
 */
CMWQ_API void cmwq_destroy_workqueue(struct cmwq_workqueue *wq);

/* Waits until every item queued before the call has finished. Not from an item of the same queue. */
CMWQ_API void cmwq_flush_workqueue(struct cmwq_workqueue *wq);

/*
 * Waits until the queue is empty. Meanwhile only items of the queue itself may queue more
 * (chained queueing); other attempts are refused with a warning. Nests.
 */
CMWQ_API void cmwq_drain_workqueue(struct cmwq_workqueue *wq);

/*
 * Changes max_active; 0 and too large values as at creation. Raising it starts waiting items at once.
 * Returns 0, or -1 with errno EINVAL (null, negative, ordered queue).
 */
CMWQ_API int cmwq_workqueue_set_max_active(struct cmwq_workqueue *wq, int max_active);

/*
 * Least share of max_active that each NUMA node of an unbound queue gets (kernel:
 * workqueue_set_min_active); the default is 8. Chains of items that wait for each other must not be
 * longer, or they may wait for ever. Values above max_active count as max_active. Returns 0, or -1 with
 * errno EINVAL (null, negative, bound or ordered queue).
 */
CMWQ_API int cmwq_workqueue_set_min_active(struct cmwq_workqueue *wq, int min_active);

/* True if items of the queue wait for max_active on that CPU (CMWQ_CPU_ANY: the calling one). A hint. */
CMWQ_API bool cmwq_workqueue_congested(int cpu, struct cmwq_workqueue *wq);

/*
 * What happens to items when no thread can be made to run them. By default they wait, and those of
 * CMWQ_MEM_RECLAIM queues are served by the rescuer. With a callback, items of this queue that are
 * pending for want of a worker when a second attempt to create one has failed (after
 * create_cooldown_ms) are taken off the queue instead and handed to fn(work, EAGAIN). Reaching
 * max_workers is no failure. Null: wait again. Returns 0, or -1 with errno EINVAL (null queue).
 *
 * fn is called by cmwq's event thread, with no lock of cmwq held, once per item. It must not block: all
 * timers of the process wait for it. For flushes, cancels and cmwq_current_work the call counts as the
 * item's execution; like a work function it may queue the item again or free it. Items that wait for
 * max_active fail when they would have become active.
 */
typedef void (*cmwq_work_fail_fn)(struct cmwq_work *work, int err);
CMWQ_API int cmwq_workqueue_set_fail(struct cmwq_workqueue *wq, cmwq_work_fail_fn fn);

/*
 * Items.
 */

/*
 * Makes `work` idle with function `fn`. Must not be called on an item that is pending (reported, does
 * nothing) or disabled. An item is never executed twice at once, but for initialising it again inside
 * its own function: that makes another item of it, as does memory that was freed there and is in use
 * again.
 */
CMWQ_API void cmwq_work_init(struct cmwq_work *work, cmwq_work_fn fn);

/*
 * Queues `work` on the calling CPU (bound queues) or anywhere (unbound ones). Returns false if it was
 * pending already or is disabled; then the earlier queueing will run it. All stores before the call
 * are visible to the execution, also when the result is false because it was pending.
 */
CMWQ_API bool cmwq_queue_work(struct cmwq_workqueue *wq, struct cmwq_work *work);

/*
 * The same on a given CPU. An unknown CPU number is reported once and treated as CMWQ_CPU_ANY, one that has
 * left the process (cmwq_workqueue_set_cpumask in attrs.h) likewise without a report.
 */
CMWQ_API bool cmwq_queue_work_on(int cpu, struct cmwq_workqueue *wq, struct cmwq_work *work);

/*
 * Waits until the last queueing of `work` that preceded the call has been executed. Returns false if
 * the item was idle. Not from the item itself (reported, returns false).
 */
CMWQ_API bool cmwq_flush_work(struct cmwq_work *work);

/* Takes a pending `work` off its queue. Does not wait for a running one. Returns whether it was pending. */
CMWQ_API bool cmwq_cancel_work(struct cmwq_work *work);

/*
 * The same, and waits for a running execution; re-queueing by the function fails meanwhile. On return
 * the item is idle unless another thread queued it again. From the item itself it is reported, and does
 * not wait.
 */
CMWQ_API bool cmwq_cancel_work_sync(struct cmwq_work *work);

/*
 * Disables `work`: queueing fails until as many cmwq_enable_work calls were made (depth up to 65535).
 * A pending queueing is cancelled; _sync also waits for a running one. Returns whether it was pending.
 */
CMWQ_API bool cmwq_disable_work(struct cmwq_work *work);
CMWQ_API bool cmwq_disable_work_sync(struct cmwq_work *work);
/* Undoes one disable. Returns true when the item can be queued again. */
CMWQ_API bool cmwq_enable_work(struct cmwq_work *work);

/*
 * The same, and if the item can be queued again, queues it on `wq` whether a queueing was refused
 * meanwhile or not (kernel: enable_and_queue_work).
 */
CMWQ_API bool cmwq_enable_and_queue_work(struct cmwq_workqueue *wq, struct cmwq_work *work);

/* CMWQ_WORK_PENDING and CMWQ_WORK_RUNNING, as of a moment ago: for reports, not for decisions. */
CMWQ_API unsigned cmwq_work_busy(const struct cmwq_work *work);

/* The item that the calling thread is executing, or null. */
CMWQ_API struct cmwq_work *cmwq_current_work(void);

/* True if the calling thread is the rescuer of a CMWQ_MEM_RECLAIM queue. */
CMWQ_API bool cmwq_current_is_workqueue_rescuer(void);

/*
 * Says in reports what the item that the calling worker executes is about, until it returns; at most 31
 * bytes, copied. Ignored outside a worker.
 */
CMWQ_API void cmwq_set_worker_desc(const char *desc);

/*
 * Queues on an unbound queue near NUMA node `node` (kernel: queue_work_node). A bound queue, or a node
 * without a usable CPU, is treated as by cmwq_queue_work.
 */
CMWQ_API bool cmwq_queue_work_node(int node, struct cmwq_workqueue *wq, struct cmwq_work *work);

/*
 * Delayed items. The timer belongs to the item: a queue is not drained of un-expired timers.
 */
CMWQ_API void cmwq_delayed_work_init(struct cmwq_delayed_work *dwork, cmwq_work_fn fn);
/* Queues after delay_ns nanoseconds; 0 queues now. Returns false if it was pending already. */
CMWQ_API bool cmwq_queue_delayed_work(struct cmwq_workqueue *wq, struct cmwq_delayed_work *dwork,
                                      uint64_t delay_ns);
/* Sets a new delay whether pending or not. Returns whether it was pending. */
CMWQ_API bool cmwq_mod_delayed_work(struct cmwq_workqueue *wq, struct cmwq_delayed_work *dwork,
                                    uint64_t delay_ns);
/* The same on a given CPU, as cmwq_queue_work_on. */
CMWQ_API bool cmwq_queue_delayed_work_on(int cpu, struct cmwq_workqueue *wq,
                                         struct cmwq_delayed_work *dwork, uint64_t delay_ns);
CMWQ_API bool cmwq_mod_delayed_work_on(int cpu, struct cmwq_workqueue *wq,
                                       struct cmwq_delayed_work *dwork, uint64_t delay_ns);
/* As the functions of the same name for items without a timer. */
CMWQ_API bool cmwq_disable_delayed_work(struct cmwq_delayed_work *dwork);
CMWQ_API bool cmwq_disable_delayed_work_sync(struct cmwq_delayed_work *dwork);
CMWQ_API bool cmwq_enable_delayed_work(struct cmwq_delayed_work *dwork);
CMWQ_API bool cmwq_cancel_delayed_work(struct cmwq_delayed_work *dwork);
CMWQ_API bool cmwq_cancel_delayed_work_sync(struct cmwq_delayed_work *dwork);
/* Queues a waiting item at once, then flushes it. */
CMWQ_API bool cmwq_flush_delayed_work(struct cmwq_delayed_work *dwork);

/*
 * Freezing: items of CMWQ_FREEZABLE queues that are not running yet stay queued until thawed.
 */
CMWQ_API void cmwq_freeze_workqueues_begin(void);
CMWQ_API bool cmwq_freeze_workqueues_busy(void); /* an item of a freezable queue still runs */
CMWQ_API void cmwq_thaw_workqueues(void);

/*
 * Blocking regions: "I am about to wait in a way that cmwq cannot see". Between begin and end the
 * calling worker does not count as running, so the next one may start. Nest; no-ops outside a worker.
 * Async-signal-safe. About 50 ns each when nothing is pending.
 */
CMWQ_API void cmwq_block_begin(void);
CMWQ_API void cmwq_block_end(void);

/*
 * Writes to descriptor `fd`, as text: every busy queue with its flags, and for each of its CPUs how many
 * items are active of how many that may be, who executes what and for how long ("for at least": since
 * a report or the watchdog first saw it), what is pending and what waits for max_active; and every
 * pool with its workers, its manager and for how long nothing has begun. Equal functions in a row are
 * written as N*function; long lists are cut. Thread-safe, not for signal handlers; no lock of cmwq is
 * held while it writes, so `fd` may be a pipe that nobody reads.
 */
CMWQ_API void cmwq_show_all_workqueues(int fd);

/* Version of the library that is running: major * 10000 + minor * 100 + patch. */
CMWQ_API int cmwq_version(void);

#ifdef __cplusplus
}
#endif

#endif /* CMWQ_CMWQ_H_ */
