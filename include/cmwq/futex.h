/*
 * cmwq: waiting for words of memory in work functions. C interface.
 *
 * The calls of futex(2). A wait looks first: where the word has changed, or the time is over, it
 * returns at once and nobody is told. Only then does the worker leave the count of running ones, so
 * that the next worker of its CPU starts; the kernel compares the word once more as it begins the
 * wait, and the worker comes back when the wait is over. On a thread that is no worker only the
 * telling is left out. Waits announced here need no cmwq_block_begin.
 *
 * Who changes a word and then wakes is never missed, whenever the change comes: before the look,
 * between look and wait (the kernel's comparison), or after. Who wakes without changing it can be.
 *
 * How a wait ended is told by the result, and by errno where that is -1:
 *    0, or the index (cmwq_futex_waitv)   woken
 *   -1 with errno CMWQ_FUTEX_CHANGED      the word was different from what was expected
 *   -1 with errno CMWQ_FUTEX_TIMEOUT      the time passed first
 *   -1 with errno CMWQ_FUTEX_INTERRUPTED  a signal handler ran
 *   -1 with another errno                 the call was wrong; said at each function
 * A waiter that a wake has counted returns "woken" and nothing else, though its time passes or a
 * signal comes meanwhile: whoever sees one of the others has eaten no wake. "Woken" does not say
 * that the word has changed, nor by whom it was woken: memory that was somebody else's may still be
 * woken by them. All waits belong in a loop that looks at the word.
 *
 * Threads: all may be called from any thread, with any locks held. Nothing is allocated.
 * Signals: all may be called in signal handlers; they change errno as every call does. Workers run
 * with all signals blocked. After a handler, a wait without a time goes on if the handler was
 * installed with SA_RESTART; every other one ends (signal(7)). Cancellation: none is a cancellation
 * point; pthread_cancel does not end a wait. Fork: nothing is kept between calls: a child of fork
 * may use all of them. A wait of the parent's thread does not exist in the child. Words that both
 * use are in shared memory, and CMWQ_FUTEX_SHARED is given. A time costs: the kernel's timer delays
 * the beginning of a wait by some microseconds on most machines, and fires up to the thread's timer
 * slack late (50 us; PR_SET_TIMERSLACK). Nothing else is armed. Memory order: what a thread wrote
 * before it changed the word with release order is seen by who reads that value with acquire order,
 * as the wait's own look does. Being woken orders nothing by itself.
 */
#ifndef CMWQ_FUTEX_H_
#define CMWQ_FUTEX_H_

#include <cmwq/cmwq.h>
#include <errno.h>

/* As a time: wait for as long as it takes. */
#define CMWQ_NO_TIMEOUT UINT64_MAX

/* Values of errno, see above. */
#define CMWQ_FUTEX_CHANGED EAGAIN
#define CMWQ_FUTEX_TIMEOUT ETIMEDOUT
#define CMWQ_FUTEX_INTERRUPTED EINTR

/* The word may be in memory shared with other processes; both sides must say so. */
#define CMWQ_FUTEX_SHARED 0x1u
/*
 * The time is a point of CLOCK_MONOTONIC, or of CLOCK_REALTIME (which moves with the system's clock
 * when that is set), in nanoseconds. Without either it is a duration, measured by CLOCK_MONOTONIC.
 */
#define CMWQ_FUTEX_AT_MONOTONIC 0x2u
#define CMWQ_FUTEX_AT_REALTIME 0x4u

/* All bits: waits for, and wakes, whatever the other side has chosen. */
#define CMWQ_FUTEX_ANY UINT32_MAX

/* Words that one cmwq_futex_waitv waits for at most. */
#define CMWQ_FUTEX_WAITV_MAX 128

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Waits while *word == expected, at most timeout_ns: cmwq_futex_wait_bitset with CMWQ_FUTEX_ANY and
 * no flags. timeout_ns 0 only looks.
 */
CMWQ_API int cmwq_futex_wait(uint32_t* word, uint32_t expected, uint64_t timeout_ns);

/*
 * Waits while *word == expected until a wake with a bit of `bitset` comes. time_ns: how long or
 * until when, by `flags` (CMWQ_FUTEX_SHARED, CMWQ_FUTEX_AT_MONOTONIC or CMWQ_FUTEX_AT_REALTIME);
 * CMWQ_NO_TIMEOUT: for as long as it takes. `word` must point to memory that can be read.
 * EINVAL: word is null or not aligned to 4 bytes, bitset is 0, flags that do not exist or both
 * clocks.
 */
CMWQ_API int cmwq_futex_wait_bitset(uint32_t* word, uint32_t expected, uint32_t bitset,
                                    uint64_t time_ns, unsigned flags);

/* One of the words that cmwq_futex_waitv waits for. flags: 0 or CMWQ_FUTEX_SHARED. */
struct cmwq_futex_waiter {
  uint32_t* word;
  uint32_t expected;
  unsigned flags;
};

/*
 * Waits while each of `count` words is as expected (futex_waitv(2)). Returns the index of a word
 * whose wake ended the wait; several may have been woken. CMWQ_FUTEX_CHANGED: at least one was
 * different; the caller finds out which. time_ns and flags as above, but CMWQ_FUTEX_SHARED is of
 * each word. Woken by every wake, whatever its bits. EINVAL: as above, or count is 0 or above
 * CMWQ_FUTEX_WAITV_MAX. ENOSYS: the kernel has no such call (it came with 5.16), or a seccomp
 * filter refuses it, and count is above 1; a single word is waited for in any case. Nothing was
 * waited for. Instead, let those who change one of the words also change and wake a word common to
 * all, and wait for that one.
 */
CMWQ_API int cmwq_futex_waitv(const struct cmwq_futex_waiter* waiters, unsigned count,
                              uint64_t time_ns, unsigned flags);

/*
 * Wakes up to `count` threads that wait for `word`, in no particular order; INT32_MAX: all. Returns
 * how many, or -1 with errno. `word` need not be readable any more. EINVAL: word is null or not
 * aligned, count is negative.
 */
CMWQ_API int cmwq_futex_wake(uint32_t* word, int count);

/*
 * The same for those whose bitset has a bit in common with `bitset`. flags: 0 or CMWQ_FUTEX_SHARED.
 * EINVAL: also if bitset is 0, or flags that do not exist.
 */
CMWQ_API int cmwq_futex_wake_bitset(uint32_t* word, uint32_t bitset, int count, unsigned flags);

#ifdef __cplusplus
}
#endif

#endif /* CMWQ_FUTEX_H_ */
