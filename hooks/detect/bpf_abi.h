/* What the BPF program, its loader and the library share: the memory that both sides see and the
 * message that hands it over. C, for the program's compiler too.
 *
 * The library writes these maps through its mapping: nothing in them may be trusted by the program,
 * and nothing in them concerns another process, for each process has a program and maps of its own.
 * */

#ifndef CMWQ_HOOKS_DETECT_BPF_ABI_H_
#define CMWQ_HOOKS_DETECT_BPF_ABI_H_

#define CMWQ_BPF_VERSION 1
#define CMWQ_BPF_SLOTS 4096   /* threads; a power of two, found by hash of the thread id */
#define CMWQ_BPF_PROBES 8     /* places tried for one thread */
#define CMWQ_BPF_MAX_CPUS 240 /* with a doorbell: a message takes 253 descriptors at most */
#define CMWQ_BPF_GONE 0xffffffffu /* in tid: was used, may be used again; 0 ends a search */

#ifdef __cplusplus
extern "C" {
#endif

/* One thread. Found by its id in its own pid namespace. */
struct cmwq_bpf_slot {
  unsigned int tid;     /* the thread: claims and releases it */
  unsigned int phase;   /* the thread: pool::Phase */
  unsigned int cpu;     /* the thread: whose doorbell rings for it */
  unsigned int blocked; /* the program: 1 from a voluntary switch out to the next switch in */
  unsigned long long slept[3];  /* the program: voluntary switches by phase */
  unsigned long long preempted; /* the program */
  unsigned long long reserved;
};

/* One CPU, for the exact mode. */
struct cmwq_bpf_control {
  unsigned int armed; /* the library: ring when a worker of this CPU sleeps without a word */
  unsigned int rung;  /* the program, a count */
  unsigned int reserved[14];
};

/* The message over the socket, with the descriptors: slots, controls, link, doorbells. */
struct cmwq_bpf_hello {
  unsigned int version;
  unsigned int nr_doorbells; /* ring buffers, of CPUs 0, 1, ... */
  unsigned int slots;        /* CMWQ_BPF_SLOTS of the loader */
  unsigned int error;        /* errno: there are no descriptors, the loader was refused something */
};

#ifdef __cplusplus
}
#endif

#endif /* CMWQ_HOOKS_DETECT_BPF_ABI_H_ */
