/*
 * Attributes of an unbound queue: in one step, by name, and the CPUs of all unbound queues.
 *
 * Prints:
 *   applied: 1
 *   nice 5, scope numa
 *   scope system
 *   bad value refused: 1
 *   found by name: 1
 *   an unknown name: 1
 *   all CPUs allowed: 1
 *   all CPUs of this thread used: 1
 *   executed: 1
 */
#include <cmwq/attrs.h>
#include <errno.h>
#include <stdio.h>

static int executed;

static void execute(struct cmwq_work *work) {
  (void)work;
  executed++;
}

int main(void) {
  struct cmwq_workqueue *wq = cmwq_alloc_workqueue("attributes", CMWQ_UNBOUND | CMWQ_SYSFS, 0);
  if (wq == NULL) {
    perror("cmwq_alloc_workqueue");
    return 1;
  }

  struct cmwq_workqueue_attrs attrs = {.nice = 5, .affinity_scope = CMWQ_AFFN_NUMA};
  printf("applied: %d\n", cmwq_apply_workqueue_attrs(wq, &attrs) == 0);

  char nice[16], scope[16];
  cmwq_workqueue_attr_show(wq, "nice", nice, sizeof(nice));
  cmwq_workqueue_attr_show(wq, "affinity_scope", scope, sizeof(scope));
  printf("nice %s, scope %s\n", nice, scope);
  cmwq_workqueue_attr_store(wq, "affinity_scope", "system");
  cmwq_workqueue_attr_show(wq, "affinity_scope", scope, sizeof(scope));
  printf("scope %s\n", scope);
  bool refused = cmwq_workqueue_attr_store(wq, "nice", "high") == -1 && errno == EINVAL;
  printf("bad value refused: %d\n", refused);

  printf("found by name: %d\n", cmwq_find_workqueue("attributes") == wq);
  printf("an unknown name: %d\n", cmwq_find_workqueue("no such queue") == NULL);
  printf("all CPUs allowed: %d\n", cmwq_workqueue_set_unbound_cpumask(NULL, 0) == 0);

  printf("all CPUs of this thread used: %d\n", cmwq_workqueue_set_cpumask(NULL, 0) == 0);

  struct cmwq_work work;
  cmwq_work_init(&work, execute);
  cmwq_queue_work_node(0, wq, &work); /* near the memory of node 0 */
  cmwq_flush_work(&work);
  printf("executed: %d\n", executed);

  cmwq_destroy_workqueue(wq);
  return 0;
}
