/*
 * The default queues, and calls on given CPUs that are built on them.
 *
 * The rules of cmwq.h for threads, signals, fork and errors hold.
 */
#ifndef CMWQ_SYSTEM_WQ_H_
#define CMWQ_SYSTEM_WQ_H_

#include <cmwq/cmwq.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Default queues, for callers that need no limits of their own. Created on first use, never destroyed;
 * flushing, draining or destroying one is reported and does nothing, because nobody can know whose items
 * it would wait for: flush the item. Null with errno as cmwq_alloc_workqueue.
 */
CMWQ_API struct cmwq_workqueue *cmwq_system_percpu_wq(void);  /* short items, on the queueing CPU */
CMWQ_API struct cmwq_workqueue *cmwq_system_highpri_wq(void); /* the same, high-priority workers */
CMWQ_API struct cmwq_workqueue *cmwq_system_long_wq(void);    /* items that may take long */
CMWQ_API struct cmwq_workqueue *cmwq_system_freezable_wq(void);
CMWQ_API struct cmwq_workqueue *cmwq_system_dfl_wq(void);     /* unbound, not concurrency-managed */
CMWQ_API struct cmwq_workqueue *cmwq_system_dfl_long_wq(void);

/*
 * Calls fn(arg) in a worker of `cpu` and waits for its result (kernel: work_on_cpu). Returns it, or
 * -1 with errno EINVAL (null, no such CPU), ENODEV (it has left the process, see
 * cmwq_workqueue_set_cpumask) or as cmwq_alloc_workqueue. If it leaves during the call, fn may run on
 * another one. Not from an item that the function waits for.
 */
CMWQ_API long cmwq_work_on_cpu(int cpu, long (*fn)(void *arg), void *arg);

/*
 * Calls fn once on each CPU that is usable at the moment and waits until all have returned (kernel: schedule_on_each_cpu).
 * Slow. Returns 0, or -1 with errno EINVAL (null), ENOMEM, or as cmwq_alloc_workqueue.
 */
CMWQ_API int cmwq_schedule_on_each_cpu(cmwq_work_fn fn);

#ifdef __cplusplus
}
#endif

#endif /* CMWQ_SYSTEM_WQ_H_ */
