/* Turns: threads of one process that wait for messages and run one at a time, as those of an interpreter with a lock.
 *
 *   - One that finds the next message whenever it looks never sleeps, and has the lock again before those have woken up
 *     to whom it was given. So after some messages in a row it lets one of them have it (np_turn_pass).
 *   - While more of them have work than there are processors, a spin would take one from them (np_turn_wait).
 *
 * Whoever calls from a program without such a lock need not know of any of it. */
#ifndef NPIPE_TURN_H
#define NPIPE_TURN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define NP_TURN_READS 32 /* in a row: some tens of microseconds, against one system call */

struct np_turns {
    _Atomic uint32_t waiting; /* threads that wait, or have waited and want the lock */
    _Atomic uint32_t wanting; /* of these, the latter */
    _Atomic uint32_t given; /* how often one of them has got it */
    _Atomic uint32_t passing; /* threads that sleep until then */
};
extern struct np_turns np_turns;

/* What one handle's reads know of it. Two threads may read from one handle where there is no lock: an update that is
 * lost costs a turn more or less. */
struct np_run {
    _Atomic uint16_t reads; /* since the last one that has waited, or let others go first */
    _Atomic uint16_t alone; /* turns in a row at whose ends nobody else had work, as far as that matters */
    _Atomic uint32_t given; /* as it was then */
};

/* All that these look at and change is relaxed, unless they say otherwise: hints, which publish nothing. */
static inline bool np_turn_is_wanted(void)
{
    return atomic_load_explicit(&np_turns.wanting, memory_order_relaxed) != 0;
}

static inline uint32_t np_turn_given(void)
{
    return atomic_load_explicit(&np_turns.given, memory_order_relaxed);
}

/* At the end of a turn: whether there are others to go first. */
bool np_turn_end(struct np_run *run);

/* With the lock, at each read: whether it is time to let others go first, and there are any. */
static inline bool np_turn_is_over(struct np_run *run)
{
    uint16_t reads = (uint16_t)(atomic_load_explicit(&run->reads, memory_order_relaxed) + 1);
    atomic_store_explicit(&run->reads, reads, memory_order_relaxed);
    return reads > NP_TURN_READS << atomic_load_explicit(&run->alone, memory_order_relaxed) && np_turn_end(run);
}

/* With the lock, before a wait: whether a spin would take the processor from others. They have been at work since this
 * one's last wait, and there are more of them, with this thread and the one that it waits for, than processors. */
bool np_turn_has_work(const struct np_run *run, uint32_t waiting);
static inline bool np_turn_is_crowd(const struct np_run *run)
{
    uint32_t waiting = atomic_load_explicit(&np_turns.waiting, memory_order_relaxed);
    return waiting && np_turn_has_work(run, waiting);
}

/* Around a wait: before it, with the lock; after it, before the lock is asked for; and with the lock. */
void np_turn_wait(void);
void np_turn_want(void);
void np_turn_got(struct np_run *run);
/* The last of them behind a spin, which is no wait: the turn goes on. */
void np_turn_got_again(struct np_run *run);

/* Between np_turn_wait and np_turn_want: waits until another thread has got the lock since it was given so many times,
 * for a moment at most; or, where none wants it, lets go of the processor. */
void np_turn_pass(uint32_t given);

/* In a forked child, where the others do not exist. */
void np_turns_after_fork(void);

#endif
