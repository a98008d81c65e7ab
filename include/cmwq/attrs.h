/*
 * Attributes of workqueues: which CPUs and which workers serve an unbound queue, and all attributes by
 * name, as in the kernel's sysfs files.
 *
 * The rules of cmwq.h for threads, signals, fork and errors hold.
 */
#ifndef CMWQ_ATTRS_H_
#define CMWQ_ATTRS_H_

#include <cmwq/cmwq.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Attributes of unbound queues (kernel: struct workqueue_attrs, apply_workqueue_attrs).
 */

/* CPUs of one pod share a pool of workers; an item goes to the pod of the CPU that queued it. */
enum cmwq_affinity_scope {
  CMWQ_AFFN_DFL,         /* setting default_affinity_scope, cache_shard at first */
  CMWQ_AFFN_CPU,         /* each CPU alone */
  CMWQ_AFFN_SMT,         /* hardware threads of one core */
  CMWQ_AFFN_CACHE_SHARD, /* about 8 cores of one last-level cache */
  CMWQ_AFFN_CACHE,       /* one last-level cache */
  CMWQ_AFFN_NUMA,        /* one NUMA node */
  CMWQ_AFFN_SYSTEM       /* all CPUs */
};

struct cmwq_workqueue_attrs {
  int nice;                                 /* of the workers, -20 to 19 */
  int affinity_scope;                       /* enum cmwq_affinity_scope */
  bool affinity_strict;                     /* workers never leave their pod; else they start in it */
  const void *cpumask;                      /* as for sched_setaffinity(2); null: every CPU */
  size_t cpumask_size;                      /* bytes */
};

/*
 * Changes the attributes as a whole: what is queued from now on is executed by workers of the new kind,
 * what was queued before stays with the old ones; an item that re-queues itself without a pause stays
 * there too. CPUs outside of cmwq_workqueue_set_unbound_cpumask are left out; if none is left, all of
 * those count. Queues with equal attributes share their workers. An ordered queue stays in order over
 * the change; of its attributes only nice and cpumask matter. Copies `attrs`. May create threads.
 * Returns 0, or -1 with errno EINVAL (null, bound queue, value out of range, no usable CPU in the
 * mask), ENOMEM, or EAGAIN (a worker could not be created); then nothing has changed.
 */
CMWQ_API int cmwq_apply_workqueue_attrs(struct cmwq_workqueue *wq,
                                        const struct cmwq_workqueue_attrs *attrs);

/*
 * CPUs that unbound queues may use (kernel: workqueue_unbound_exclude_cpumask and the cpumask file);
 * every unbound queue is changed, or none. Null: all CPUs of the process. Errors as above.
 */
CMWQ_API int cmwq_workqueue_set_unbound_cpumask(const void *cpumask, size_t size);

/*
 * CPUs that cmwq may use at all, bound queues and unbound ones; null: those of the calling thread's
 * affinity mask. For programs that give CPUs away, or change their affinity while they run. What the
 * process has when the runtime starts is used without this call.
 * Items that were queued to a CPU that is left are executed, by workers that run anywhere; those that are
 * queued to it afterwards go to another CPU. When it is used again its workers are bound to it again.
 * Unbound queues are mapped to what is left; one whose cpumask has nothing left uses all that is. May
 * create threads.
 * Returns 0, or -1 with errno EINVAL (no CPU in the mask that the process may use; nothing has changed),
 * ENOMEM or EAGAIN (a CPU could not be taken into use, or a queue could not be mapped and keeps its
 * workers: it is tried again, with cpu_watch_ms between two attempts, while there is work).
 */
CMWQ_API int cmwq_workqueue_set_cpumask(const void *cpumask, size_t size);

/*
 * Attributes by name, as the kernel's files below /sys/devices/virtual/workqueue: per_cpu (read only),
 * max_active; for unbound queues min_active, nice, cpumask ("0-3,8"), affinity_scope ("cache", ...),
 * affinity_strict ("0", "1").
 * show: writes the value and a NUL, cut to `size`; returns its length, or -1 with errno EINVAL (null,
 * size 0, no such attribute). store: returns 0, or -1 with errno EINVAL (null, no such attribute, read
 * only, bad value) or an error of the function that sets it; a final newline is allowed.
 */
CMWQ_API int cmwq_workqueue_attr_show(struct cmwq_workqueue *wq, const char *attribute, char *value,
                                      size_t size);
CMWQ_API int cmwq_workqueue_attr_store(struct cmwq_workqueue *wq, const char *attribute,
                                       const char *value);

/*
 * The queue of that name which has CMWQ_SYSFS, or null. Of several the oldest. The caller must know that
 * it is not being destroyed.
 */
CMWQ_API struct cmwq_workqueue *cmwq_find_workqueue(const char *name);

#ifdef __cplusplus
}
#endif

#endif /* CMWQ_ATTRS_H_ */
