/* Waiting: a short adaptive spin, then a sleep on a futex, under a deadline and with interrupts. */
#ifndef NPIPE_WAIT_H
#define NPIPE_WAIT_H

#include "platform.h"

/* How a caller waits. */
struct np_wait {
    int64_t deadline; /* np_now's clock; NP_FOREVER; NP_TRY returns NP_WOULD_WAIT instead of waiting */
    /* Asked before the first sleep and after every signal; not zero ends the wait with NP_INTERRUPTED. */
    int (*interrupted)(void *context);
    void *context;
};

/* What one kind of waiting on one link has learnt about its peer. Guarded by nothing: a lost update only
 * makes the next guess a little worse. */
struct np_spin {
    _Atomic uint32_t failures; /* spins in a row that ended in a sleep */
    _Atomic uint32_t skip;     /* waits that shall not spin */
    _Atomic int64_t off_until; /* a spin was preempted: others need this processor */
};

typedef bool (*np_ready_fn)(const void *what);

/* Spins until ready(what), unless that has not been worth it lately. Whether it is ready. */
bool np_spin(struct np_spin *spin, np_ready_fn ready, const void *what, int64_t deadline);

/* Sleeps on *word, of which `seen` was read before the caller found nothing ready. NP_OK means look again. */
uint32_t np_sleep(_Atomic uint32_t *word, uint32_t seen, uint32_t bits, const struct np_wait *wait);

static inline bool np_expired(const struct np_wait *wait)
{
    return wait->deadline != NP_FOREVER && (wait->deadline == NP_TRY || np_now() >= wait->deadline);
}

#endif
