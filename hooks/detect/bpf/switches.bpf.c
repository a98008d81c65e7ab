/* What the scheduler does with the registered threads of one process: counted by phase, and a
 * doorbell for sleeps that nobody announced.
 *
 * Only sched_switch is used: it runs under the run queue's lock on the CPU of both threads, so a
 * thread's slot has one writer. Counting at wake-ups as well drifts (tasks that never left the run
 * queue).
 *
 * Needs Linux 5.18 (prev_state). No header of one kernel: what is read is relocated by BTF. */

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "hooks/detect/bpf_abi.h"

#define PHASE_ITEM 1
#define PHASES 3

struct upid {
  int nr;
} __attribute__((preserve_access_index));

struct pid {
  unsigned int level;
  struct upid numbers[1];
} __attribute__((preserve_access_index));

struct task_struct {
  int pid;
  int tgid;
  struct pid *thread_pid;
} __attribute__((preserve_access_index));

/* Set by the loader: the process, by its number in the first pid namespace. */
const volatile int target_tgid = 0;
/* Set by the loader: the process is in another namespace, where its threads have other numbers. */
const volatile int target_nested = 0;

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, CMWQ_BPF_SLOTS);
  __type(key, __u32);
  __type(value, struct cmwq_bpf_slot);
} slots SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, CMWQ_BPF_MAX_CPUS);
  __type(key, __u32);
  __type(value, struct cmwq_bpf_control);
} controls SEC(".maps");

struct doorbell {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4096);
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, CMWQ_BPF_MAX_CPUS);
  __type(key, __u32);
  __array(values, struct doorbell);
} doorbells SEC(".maps");

/* The thread's number in its own namespace, which is the one it knows. */
static __always_inline __u32 own_tid(struct task_struct *task) {
  if (!target_nested)
    return task->pid;
  struct pid *pid = BPF_CORE_READ(task, thread_pid);
  unsigned int level = 0;
  int nr = 0;

  if (!pid || bpf_core_read(&level, sizeof(level), &pid->level))
    return 0;
  const char *first = (const char *)__builtin_preserve_access_index(&pid->numbers[0]);
  const char *number = first + level * bpf_core_type_size(struct upid) +
                       bpf_core_field_offset(struct upid, nr);
  if (bpf_probe_read_kernel(&nr, sizeof(nr), number))
    return 0;
  return nr;
}

static __always_inline struct cmwq_bpf_slot *find_slot(struct task_struct *task) {
  __u32 tid = own_tid(task);

  if (!tid)
    return 0;
#pragma unroll
  for (int i = 0; i < CMWQ_BPF_PROBES; i++) {
    __u32 key = (tid + i) & (CMWQ_BPF_SLOTS - 1);
    struct cmwq_bpf_slot *slot = bpf_map_lookup_elem(&slots, &key);
    if (!slot || slot->tid == 0)
      return 0;
    if (slot->tid == tid)
      return slot;
  }
  return 0;
}

static __always_inline void ring(__u32 cpu) {
  struct cmwq_bpf_control *control = bpf_map_lookup_elem(&controls, &cpu);
  void *doorbell;
  __u64 nothing = 0;

  if (!control || !control->armed)
    return;
  doorbell = bpf_map_lookup_elem(&doorbells, &cpu);
  if (!doorbell)
    return;
  control->rung++;
  /* A full one has a wake-up on its way. */
  bpf_ringbuf_output(doorbell, &nothing, sizeof(nothing), BPF_RB_FORCE_WAKEUP);
}

static __always_inline void switched_out(struct task_struct *prev, int slept) {
  struct cmwq_bpf_slot *slot = find_slot(prev);
  __u32 phase;

  if (!slot)
    return;
  if (!slept) {
    slot->preempted++;
    return;
  }
  phase = slot->phase;
  if (phase >= PHASES)
    return;
  slot->slept[phase]++;
  /* A full barrier between the bit and `armed`: the library sets `armed` and then looks at the
   * bits. One of the two sees the other. */
  __sync_lock_test_and_set(&slot->blocked, 1);
  if (phase == PHASE_ITEM)
    ring(slot->cpu);
}

SEC("tp_btf/sched_switch")
int on_sched_switch(__u64 *ctx) {
  int preempt = (int)ctx[0];
  struct task_struct *prev = (struct task_struct *)ctx[1];
  struct task_struct *next = (struct task_struct *)ctx[2];
  unsigned int prev_state = (unsigned int)ctx[3];

  if (prev->tgid == target_tgid)
    switched_out(prev, !preempt && prev_state != 0);
  if (next->tgid == target_tgid) {
    struct cmwq_bpf_slot *slot = find_slot(next);
    if (slot)
      slot->blocked = 0;
  }
  return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
